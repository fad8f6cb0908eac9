// SPDX-License-Identifier: GPL-2.0
/*
 * What of LUO's clients is C: whether a module is in use, and the memory of a
 * struct liveupdate_flb, which holds locks whose size depends on the
 * configuration. The way back to its Rust side stands behind it.
 */

#include <linux/container_of.h>
#include <linux/errno.h>
#include <linux/liveupdate.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "clients.h"

/*
 * A state that files shared, which an earlier kernel left, and which is finished.
 * LUO knows that by its struct liveupdate_flb, which goes with the module. A
 * second module that asks for the same would be told of files that are no more,
 * and be held for them. There are as many as the earlier kernel left, for ever.
 */
struct kpreserve_luo_finished {
	struct list_head list;
	char compatible[LIVEUPDATE_FLB_COMPAT_LENGTH];
};

static LIST_HEAD(kpreserve_luo_finished_list);
static DEFINE_MUTEX(kpreserve_luo_finished_lock);

struct kpreserve_luo_flb {
	struct liveupdate_flb flb;
	void *known;
	/* Made before it is needed: to finish cannot fail. NULL from then on. */
	struct kpreserve_luo_finished *finished;
};

/* `compatible` has at most LIVEUPDATE_FLB_COMPAT_LENGTH bytes with the NUL. */
struct liveupdate_flb *kpreserve_luo_new_flb(const struct liveupdate_flb_ops *ops,
					     const char *compatible, void *known)
{
	struct kpreserve_luo_flb *new = kzalloc_obj(*new);

	if (!new)
		return NULL;
	new->finished = kzalloc_obj(*new->finished);
	if (!new->finished) {
		kfree(new);
		return NULL;
	}
	new->flb.ops = ops;
	/* const in the struct: written before anybody reads it */
	strscpy((char *)new->flb.compatible, compatible, sizeof(new->flb.compatible));
	new->known = known;
	return &new->flb;
}

void *kpreserve_luo_known_of_flb(struct liveupdate_flb *flb)
{
	return container_of(flb, struct kpreserve_luo_flb, flb)->known;
}

/* No handler depends on it any more. */
void kpreserve_luo_free_flb(struct liveupdate_flb *flb)
{
	struct kpreserve_luo_flb *ours = container_of(flb, struct kpreserve_luo_flb, flb);

	kfree(ours->finished);
	kfree(ours);
}

/* Whether the state that an earlier kernel left has been finished in this boot. */
bool kpreserve_luo_is_finished(struct liveupdate_flb *flb)
{
	struct kpreserve_luo_finished *iter;

	guard(mutex)(&kpreserve_luo_finished_lock);
	list_for_each_entry(iter, &kpreserve_luo_finished_list, list) {
		if (!strcmp(iter->compatible, flb->compatible))
			return true;
	}
	return false;
}

/* LUO does that once for each: a second one is not retrieved, see above. */
void kpreserve_luo_set_finished(struct liveupdate_flb *flb)
{
	struct kpreserve_luo_flb *ours = container_of(flb, struct kpreserve_luo_flb, flb);
	struct kpreserve_luo_finished *new = ours->finished;

	if (!new)
		return;
	ours->finished = NULL;
	strscpy(new->compatible, flb->compatible);
	guard(mutex)(&kpreserve_luo_finished_lock);
	list_add(&new->list, &kpreserve_luo_finished_list);
}

/* Whether one more line about files may be logged: there may be many of them. */
bool kpreserve_luo_may_log(void)
{
	static DEFINE_RATELIMIT_STATE(state, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&state);
}

/*
 * Whether LUO has no file of this module's: it holds the module for each. That
 * the module is held while it is initialized does not count, nor do the
 * nr_holds that LUO has for states that files share; that it is held by others
 * does, to be on the safe side.
 */
bool kpreserve_luo_is_unused(struct module *owner, unsigned int nr_holds)
{
#ifdef CONFIG_MODULE_UNLOAD
	return owner && module_refcount(owner) <=
			(int)nr_holds + (owner->state == MODULE_STATE_COMING);
#else
	return false;
#endif
}

/* Whether its init has not returned. If that fails it goes, whoever holds it. */
bool kpreserve_luo_is_coming(struct module *owner)
{
#ifdef CONFIG_MODULES
	return owner && owner->state == MODULE_STATE_COMING;
#else
	return false;
#endif
}

/*
 * What LUO finds of a module that has gone, as one may whose init fails: its
 * files cannot be retrieved, and those that are to be preserved stop an update.
 */
static bool gone_can_preserve(struct liveupdate_file_handler *handler, struct file *file)
{
	return false;
}

static int gone_retrieve(struct liveupdate_file_op_args *args)
{
	return -ENODEV;
}

static int gone_freeze(struct liveupdate_file_op_args *args)
{
	return -EBUSY;
}

static bool gone_can_finish(struct liveupdate_file_op_args *args)
{
	return true;
}

static void gone_nothing(struct liveupdate_file_op_args *args)
{
}

static const struct liveupdate_file_ops gone_ops = {
	.can_preserve	= gone_can_preserve,
	.preserve	= gone_retrieve,
	.unpreserve	= gone_nothing,
	.freeze		= gone_freeze,
	.unfreeze	= gone_nothing,
	.retrieve	= gone_retrieve,
	.can_finish	= gone_can_finish,
	.finish		= gone_nothing,
};

void kpreserve_luo_set_gone(struct liveupdate_file_handler *handler)
{
	WRITE_ONCE(handler->ops, &gone_ops);
}

/* It stays for ever. */
void kpreserve_luo_pin(struct module *owner)
{
	__module_get(owner);
}
