// SPDX-License-Identifier: GPL-2.0
/*
 * The reboot notifier and the worker, for boot.rs: the kernel offers both as
 * macros over static data.
 */

#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/workqueue.h>

#include "helpers.h"

/*
 * Held while the framework comes up: a reboot waits for it. Taken inside the
 * notifier chain's own lock, hence never held when the notifier is registered.
 */
static DEFINE_MUTEX(kpreserve_init_lock);
static bool kpreserve_rebooting;

static int kpreserve_reboot(struct notifier_block *nb, unsigned long action,
			    void *data)
{
	mutex_lock(&kpreserve_init_lock);
	kpreserve_rebooting = true;
	kpreserve_on_reboot();
	mutex_unlock(&kpreserve_init_lock);
	return NOTIFY_DONE;
}

static struct notifier_block kpreserve_reboot_nb = {
	.notifier_call = kpreserve_reboot,
	/*
	 * Last: notifiers of consumers may still change structure, and tell
	 * their state to settle.
	 */
	.priority = INT_MIN,
};

static void kpreserve_work_fn(struct work_struct *work)
{
	kpreserve_do_work();
}

static DECLARE_WORK(kpreserve_work, kpreserve_work_fn);

void kpreserve_kick_worker(void)
{
	schedule_work(&kpreserve_work);
}

/*
 * From here on a reboot waits: between the first run that is preserved again
 * and the announcement of the root page, the image would not be found by the
 * next kernel. Nothing is begun that a reboot would overtake.
 */
int kpreserve_begin_init(void)
{
	int err = register_reboot_notifier(&kpreserve_reboot_nb);

	if (err)
		return err;
	mutex_lock(&kpreserve_init_lock);
	if (!kpreserve_rebooting)
		return 0;
	mutex_unlock(&kpreserve_init_lock);
	unregister_reboot_notifier(&kpreserve_reboot_nb);
	return -EBUSY;
}

void kpreserve_end_init(bool is_up)
{
	mutex_unlock(&kpreserve_init_lock);
	if (!is_up)
		unregister_reboot_notifier(&kpreserve_reboot_nb);
}

/*
 * Registry and slabs live until the machine stops, so the module stays too:
 * unloading would leave a second copy of it to adopt the same memory again.
 */
void kpreserve_pin_module(struct module *module)
{
	__module_get(module);
}
