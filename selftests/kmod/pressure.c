// SPDX-License-Identifier: GPL-2.0
/*
 * Memory pressure that reaches KHO: takes all memory there is, and lets KHO
 * allocate under its mutex. For reclaim.rs.
 */

#include <linux/gfp.h>
#include <linux/kho_radix_tree.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include "helpers.h"

static DEFINE_MUTEX(selftest_hog_lock);
static LIST_HEAD(selftest_hog);

/*
 * Takes every page that can be had without reclaim, so that the next one who
 * allocates has to reclaim; returns how many.
 */
unsigned long selftest_take_memory(void)
{
	gfp_t gfp = (GFP_KERNEL & ~__GFP_RECLAIM) | __GFP_NOWARN;
	unsigned long nr_pages = 0;
	struct page *page;

	mutex_lock(&selftest_hog_lock);
	while ((page = alloc_page(gfp))) {
		list_add(&page->lru, &selftest_hog);
		nr_pages++;
		cond_resched();
	}
	mutex_unlock(&selftest_hog_lock);
	return nr_pages;
}

/*
 * Leaves no block larger than 2^order pages: takes memory as above, and gives
 * back every other aligned block of so many pages. Returns how many pages stay
 * taken; selftest_give_memory() gives them back, too.
 */
unsigned long selftest_fragment_memory(unsigned int order)
{
	gfp_t gfp = (GFP_KERNEL & ~__GFP_RECLAIM) | __GFP_NOWARN;
	struct page *page, *next;
	unsigned long nr_taken = 0;
	LIST_HEAD(free);

	mutex_lock(&selftest_hog_lock);
	/* Both halves of a block go to one of two lists by the number of their block. */
	while ((page = alloc_page(gfp))) {
		if ((page_to_pfn(page) >> order) & 1) {
			list_add(&page->lru, &selftest_hog);
			nr_taken++;
		} else {
			list_add(&page->lru, &free);
		}
		cond_resched();
	}
	list_for_each_entry_safe(page, next, &free, lru) {
		list_del(&page->lru);
		__free_page(page);
		cond_resched();
	}
	mutex_unlock(&selftest_hog_lock);
	return nr_taken;
}

void selftest_give_memory(void)
{
	struct page *page, *next;

	mutex_lock(&selftest_hog_lock);
	list_for_each_entry_safe(page, next, &selftest_hog, lru) {
		list_del(&page->lru);
		__free_page(page);
		cond_resched();
	}
	mutex_unlock(&selftest_hog_lock);
}

/*
 * Lets KHO allocate under its mutex: a tree like that of preserved memory, with
 * a mutex of the same lockdep class. Keys are far apart, so that each takes
 * pages of its own.
 */
int selftest_grow_tree(unsigned int nr_keys)
{
	struct kho_radix_tree tree = {};
	unsigned long i;
	int err;

	err = kho_radix_init_tree(&tree, NULL);
	for (i = 1; i <= nr_keys && !err; i++)
		err = kho_radix_add_key(&tree, (i * 0x9e3779b97f4a7c15UL) >> 16);
	kho_radix_destroy_tree(&tree);
	return err;
}
