// SPDX-License-Identifier: GPL-2.0
/*
 * The reboot notifier, the worker, the shrinker and the CPU hotplug state, for
 * boot.rs: the kernel offers them as macros over static data, or as structs of
 * callbacks.
 */

#include <linux/cpuhotplug.h>
#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/sched/isolation.h>
#include <linux/shrinker.h>
#include <linux/swap.h>
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

static void kpreserve_settle_fn(struct work_struct *work);

static DECLARE_DELAYED_WORK(kpreserve_settle_work, kpreserve_settle_fn);

/* How long a cache may be idle before it gives back what it has too much of. */
#define KPRESERVE_SETTLE_DELAY HZ

static void kpreserve_work_fn(struct work_struct *work)
{
	/* If it is waiting already, that is soon enough. */
	if (kpreserve_do_work())
		queue_delayed_work(system_dfl_wq, &kpreserve_settle_work,
				   KPRESERVE_SETTLE_DELAY);
}

static DECLARE_WORK(kpreserve_work, kpreserve_work_fn);

void kpreserve_kick_worker(void)
{
	/* Not on this CPU, which may be one that is to be left alone. */
	queue_work(system_dfl_wq, &kpreserve_work);
}

static void kpreserve_drain_fn(struct work_struct *work)
{
	kpreserve_drain_here();
	/* What this has emptied. */
	kpreserve_kick_worker();
}

static DEFINE_PER_CPU(struct work_struct, kpreserve_drain_work);

/* Reclaim asks much more often than CPUs fill up again. */
#define KPRESERVE_DRAIN_INTERVAL (HZ / 10)

static unsigned long kpreserve_next_drain;

/* isolcpus=, an isolated partition of CPU sets, nohz_full=. Under RCU. */
static bool kpreserve_is_left_alone(unsigned int cpu)
{
	return cpu_is_isolated(cpu) ||
	       !housekeeping_test_cpu(cpu, HK_TYPE_KERNEL_NOISE);
}

/*
 * Lets each CPU give back what it holds, later: in reclaim nobody can wait for
 * other CPUs, nor hold off hotplug. The work of a CPU that goes away meanwhile
 * runs on another one, where it does no harm; what the CPU held is given back
 * when it is dead. CPUs that are to be left alone keep their few slots.
 */
static void kpreserve_drain_all(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu) {
		/* A CPU set that changes frees the old mask after a grace period. */
		guard(rcu)();
		if (!kpreserve_is_left_alone(cpu))
			queue_work_on(cpu, system_percpu_wq,
				      per_cpu_ptr(&kpreserve_drain_work, cpu));
	}
}

static void kpreserve_drain_for_reclaim(void)
{
	unsigned long next_drain = READ_ONCE(kpreserve_next_drain);

	if (time_before(jiffies, next_drain))
		return;
	/* Of several who come at once one is enough, but two do no harm. */
	WRITE_ONCE(kpreserve_next_drain, jiffies + KPRESERVE_DRAIN_INTERVAL);
	kpreserve_drain_all();
}

/*
 * The mark that a cache is in use goes first, then each CPU's sheaf: who opens
 * one in between sets the mark again, and this comes once more.
 */
static void kpreserve_settle_fn(struct work_struct *work)
{
	kpreserve_begin_settling();
	kpreserve_drain_all();
}

static unsigned long kpreserve_shrinker_count(struct shrinker *shrinker,
					      struct shrink_control *sc)
{
	/* Those that are condemned, too: there is something to come back for. */
	return (kpreserve_nr_pages_reclaimable() +
		kpreserve_nr_pages_condemned()) ?: SHRINK_EMPTY;
}

/*
 * What is condemned is not free yet. Whoever reclaims for himself looks for a
 * free page next and, if there is none, nor anything on the LRU lists, kills
 * somebody, whatever progress was reported: so give the worker the CPU for a
 * tick. Nobody waits longer, as the worker may be waiting for a lock of
 * theirs. Returns how many pages it has freed meanwhile.
 */
static unsigned long kpreserve_wait_for_worker(void)
{
	unsigned long before = kpreserve_nr_pages_condemned();
	unsigned long after;

	if (!before || current_is_kswapd())
		return 0;
	schedule_timeout_uninterruptible(1);
	after = kpreserve_nr_pages_condemned();
	return after < before ? before - after : 0;
}

static unsigned long kpreserve_shrinker_scan(struct shrinker *shrinker,
					     struct shrink_control *sc)
{
	unsigned long nr_pages = kpreserve_reclaim(sc->nr_to_scan);
	unsigned long nr_freed;

	if (nr_pages < sc->nr_to_scan)
		kpreserve_drain_for_reclaim();
	nr_freed = kpreserve_wait_for_worker();
	if (!nr_pages)
		nr_pages = nr_freed;
	/*
	 * The worker frees them in a moment. Without this, whoever waits for
	 * memory sees no progress, and goes on to kill somebody.
	 */
	mm_account_reclaimed_pages(nr_pages);
	return nr_pages ?: SHRINK_STOP;
}

static int kpreserve_cpu_dead(unsigned int cpu)
{
	kpreserve_on_cpu_dead(cpu);
	/* What this has emptied. */
	kpreserve_kick_worker();
	return 0;
}

/*
 * For good, like the module. What fails here costs memory that is not given
 * back; that is no reason not to come up.
 */
static void kpreserve_watch_memory(void)
{
	struct shrinker *shrinker = shrinker_alloc(0, "kpreserve");
	int err;

	if (shrinker) {
		shrinker->count_objects = kpreserve_shrinker_count;
		shrinker->scan_objects = kpreserve_shrinker_scan;
		shrinker_register(shrinker);
	} else {
		pr_warn("kpreserve: no shrinker: empty memory is kept under pressure\n");
	}
	err = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "kpreserve:dead",
					NULL, kpreserve_cpu_dead);
	WRITE_ONCE(kpreserve_next_drain, jiffies);
	if (err < 0)
		pr_warn("kpreserve: what a CPU holds stays there when it goes offline: %d\n",
			err);
}

/*
 * From here on a reboot waits: between the first run that is preserved again
 * and the announcement of the root page, the image would not be found by the
 * next kernel. Nothing is begun that a reboot would overtake.
 */
int kpreserve_begin_init(void)
{
	unsigned int cpu;
	int err;

	/* Caches are used from here on. */
	for_each_possible_cpu(cpu)
		INIT_WORK(per_cpu_ptr(&kpreserve_drain_work, cpu),
			  kpreserve_drain_fn);
	err = register_reboot_notifier(&kpreserve_reboot_nb);
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
	if (is_up) {
		kpreserve_watch_memory();
		/* For those who woke it before there was a framework. */
		kpreserve_kick_worker();
		return;
	}
	unregister_reboot_notifier(&kpreserve_reboot_nb);
	/* The module goes. Without a framework the worker asks for nothing more. */
	cancel_work_sync(&kpreserve_work);
	cancel_delayed_work_sync(&kpreserve_settle_work);
}

/*
 * Registry and slabs live until the machine stops, so the module stays too:
 * unloading would leave a second copy of it to adopt the same memory again.
 */
void kpreserve_pin_module(struct module *module)
{
	__module_get(module);
}
