// SPDX-License-Identifier: GPL-2.0
/*
 * Pinning the contents of a memfd, for shmem.rs. Loops over pages are here; what
 * happens with the runs is decided in Rust.
 */

#include <linux/bitops.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include "../kho/helpers.h"
#include "shmem.h"

/* shmem.rs knows these. */
#define KPRESERVE_MEMFD_DONE	0
#define KPRESERVE_MEMFD_MORE	1
#define KPRESERVE_MEMFD_SLOW	2

/* Pages that are looked at with interrupts off: some 20 microseconds. */
#define KPRESERVE_MEMFD_BATCH	1024

/* Folios that are pinned at once on the slow path. */
#define KPRESERVE_MEMFD_SLOW_BATCH	64

/*
 * The runs that were found so far, what continues the last one, and what is
 * known of the last page block.
 */
struct kpreserve_memfd_list {
	struct kpreserve_memfd_run *runs;
	u32 max_runs;
	u32 nr_runs;
	unsigned long next_pfn;
	u32 next_index;
	u32 order;
	unsigned long block;
	int nid;
	long nr_pins;
};

/* No page frame, and no page block. */
#define KPRESERVE_MEMFD_NOWHERE	ULONG_MAX

static void kpreserve_memfd_list_init(struct kpreserve_memfd_list *list,
				      struct kpreserve_memfd_run *runs,
				      u32 max_runs)
{
	*list = (struct kpreserve_memfd_list) {
		.runs = runs,
		.max_runs = max_runs,
		.next_pfn = KPRESERVE_MEMFD_NOWHERE,
		.block = KPRESERVE_MEMFD_NOWHERE,
		.nid = NUMA_NO_NODE,
	};
}

/* As try_grab_folio() counts them, but many at a time. */
static void kpreserve_memfd_count_pins(struct kpreserve_memfd_list *list)
{
	if (list->nr_pins)
		mod_node_page_state(NODE_DATA(list->nid), NR_FOLL_PIN_ACQUIRED,
				    list->nr_pins);
	list->nr_pins = 0;
}

/*
 * Whether a folio may be pinned for long is the same for a whole page block, and
 * so is whether the next kernel has its memory. What can be moved is moved by
 * the slow path, so that is asked first. Returns DONE, SLOW or -EOPNOTSUPP.
 */
static int kpreserve_memfd_look_at_block(struct kpreserve_memfd_list *list,
					 struct folio *folio, unsigned long pfn)
{
	unsigned long block = pfn >> pageblock_order;

	if (likely(block == list->block))
		return KPRESERVE_MEMFD_DONE;
	if (!folio_is_longterm_pinnable(folio))
		return KPRESERVE_MEMFD_SLOW;
	if (!kpreserve_is_early(PFN_PHYS(pfn)))
		return -EOPNOTSUPP;
	if (folio_nid(folio) != list->nid) {
		kpreserve_memfd_count_pins(list);
		list->nid = folio_nid(folio);
		/* KHO cuts, and restores, blocks of one node. */
		list->next_pfn = KPRESERVE_MEMFD_NOWHERE;
	}
	list->block = block;
	return KPRESERVE_MEMFD_DONE;
}

/* Returns whether there was room. */
static __always_inline bool kpreserve_memfd_add(struct kpreserve_memfd_list *list,
						unsigned long pfn, u32 index,
						u32 order)
{
	u32 nr_pages = 1U << order;

	if (pfn == list->next_pfn && index == list->next_index &&
	    order == list->order) {
		list->runs[list->nr_runs - 1].nr_pages += nr_pages;
	} else {
		if (list->nr_runs == list->max_runs)
			return false;
		list->runs[list->nr_runs++] = (struct kpreserve_memfd_run) {
			.pfn = pfn,
			.index = index,
			.nr_pages = nr_pages,
			.order = order,
			.nid = list->nid,
		};
		list->order = order;
	}
	list->next_pfn = pfn + nr_pages;
	list->next_index = index + nr_pages;
	return true;
}

static void kpreserve_memfd_grab(struct folio *folio)
{
	if (folio_has_pincount(folio)) {
		folio_ref_inc(folio);
		atomic_inc(&folio->_pincount);
	} else {
		folio_ref_add(folio, GUP_PIN_COUNTING_BIAS);
	}
}

static void kpreserve_memfd_ungrab(struct folio *folio)
{
	if (folio_has_pincount(folio)) {
		atomic_dec(&folio->_pincount);
		folio_ref_dec(folio);
	} else {
		folio_ref_sub(folio, GUP_PIN_COUNTING_BIAS);
	}
}

/* Flags that are looked at together: most folios have two of them. */
#define KPRESERVE_MEMFD_AS_USUAL	(BIT(PG_uptodate) | BIT(PG_dirty))
#define KPRESERVE_MEMFD_LOOKED_AT	(KPRESERVE_MEMFD_AS_USUAL | \
					 BIT(PG_locked) | BIT(PG_head) | \
					 __PG_HWPOISON)

/*
 * Looks at a folio that was just pinned, and marks it dirty. Returns DONE, SLOW
 * if it has to be waited for, or -EHWPOISON.
 */
static __always_inline int kpreserve_memfd_look_at_flags(struct folio *folio)
{
	unsigned long flags = READ_ONCE(folio->flags.f);

	if (likely((flags & KPRESERVE_MEMFD_LOOKED_AT) == KPRESERVE_MEMFD_AS_USUAL))
		return KPRESERVE_MEMFD_DONE;
	if (folio_contain_hwpoisoned_page(folio))
		return -EHWPOISON;
	if (folio_test_locked(folio) || !folio_test_uptodate(folio))
		return KPRESERVE_MEMFD_SLOW;
	if (!folio_test_dirty(folio))
		folio_set_dirty(folio);
	return KPRESERVE_MEMFD_DONE;
}

/*
 * Pins the folios from *index on, and marks them dirty: as memfd_luo.c does, and
 * for its reasons. The lock of the page cache keeps each folio there until it
 * is pinned. Who writes folios out holds their lock and has looked for pins
 * after it got it, so a folio that is found unlocked once it is pinned stays;
 * one that is locked is for the slow path.
 *
 * Returns SLOW with *index at the first page that is not there, swapped out,
 * locked, without contents yet, or in memory where it cannot stay; -EOPNOTSUPP
 * with *index at the first page in memory that the next kernel does not have.
 */
static noinline int kpreserve_memfd_pin_batch(struct file *file, u32 *index,
					      u32 end, bool skip_holes,
					      struct kpreserve_memfd_run *runs,
					      u32 max_runs, u32 *nr_runs)
{
	XA_STATE(xas, &file->f_mapping->i_pages, *index);
	struct kpreserve_memfd_list list;
	int ret = KPRESERVE_MEMFD_DONE;
	u32 left = KPRESERVE_MEMFD_BATCH;
	u32 next = *index;
	struct folio *folio;

	kpreserve_memfd_list_init(&list, runs, max_runs);
	xas_lock_irq(&xas);
	xas_for_each(&xas, folio, end - 1) {
		unsigned long pfn;
		u32 order;

		/* What is swapped out is no hole. */
		if (xa_is_value(folio)) {
			if (skip_holes)
				next = xas.xa_index;
			ret = KPRESERVE_MEMFD_SLOW;
			break;
		}
		if (folio->index > next && !skip_holes) {
			ret = KPRESERVE_MEMFD_SLOW;
			break;
		}
		next = folio->index;
		if (!left--) {
			ret = KPRESERVE_MEMFD_MORE;
			break;
		}
		pfn = folio_pfn(folio);
		ret = kpreserve_memfd_look_at_block(&list, folio, pfn);
		if (unlikely(ret))
			break;
		kpreserve_memfd_grab(folio);
		/* The flags after the pin: see above. */
		smp_mb__after_atomic();
		ret = kpreserve_memfd_look_at_flags(folio);
		if (unlikely(ret)) {
			kpreserve_memfd_ungrab(folio);
			break;
		}
		order = folio_order(folio);
		if (unlikely(!kpreserve_memfd_add(&list, pfn, next, order))) {
			kpreserve_memfd_ungrab(folio);
			ret = KPRESERVE_MEMFD_MORE;
			break;
		}
		list.nr_pins++;
		next += 1U << order;
		if (order)
			xas_advance(&xas, next - 1);
	}
	xas_unlock_irq(&xas);
	/* The end is a hole. */
	if (ret == KPRESERVE_MEMFD_DONE && next < end) {
		if (skip_holes)
			next = end;
		else
			ret = KPRESERVE_MEMFD_SLOW;
	}
	kpreserve_memfd_count_pins(&list);
	*index = next;
	*nr_runs = list.nr_runs;
	return ret;
}

/* The same, unless the task is being killed: -EINTR then. */
int kpreserve_memfd_pin(struct file *file, u32 *index, u32 end,
			bool skip_holes, struct kpreserve_memfd_run *runs,
			u32 max_runs, u32 *nr_runs)
{
	*nr_runs = 0;
	if (fatal_signal_pending(current))
		return -EINTR;
	return kpreserve_memfd_pin_batch(file, index, end, skip_holes, runs,
					 max_runs, nr_runs);
}

/*
 * What the machine has room for, but in CMA, which is for what can be moved. Each
 * page that is read in leaves its place in the swap to another.
 */
static u64 kpreserve_memfd_room(u64 swapped)
{
	u64 cma = global_zone_page_state(NR_FREE_CMA_PAGES);
	u64 anon = global_node_page_state(NR_INACTIVE_ANON) +
		   global_node_page_state(NR_ACTIVE_ANON);
	u64 available = si_mem_available();

	return available - min(available, cma) +
		min_t(u64, anon, max(get_nr_swap_pages(), 0L) + swapped);
}

/*
 * And what the control groups of this task have. Their sums may lag by a batch a
 * CPU even if they are flushed. That much is granted: to fill beyond what there
 * is calls no OOM killer, but ends in ENOMEM.
 */
static u64 kpreserve_memfd_room_in_groups(u64 swapped)
{
	u64 room = U64_MAX;
#ifdef CONFIG_MEMCG
	u64 lag = (u64)MEMCG_CHARGE_BATCH * num_online_cpus();
	struct mem_cgroup *group = get_mem_cgroup_from_mm(current->mm);
	struct mem_cgroup *iter;

	for (iter = group; iter && !mem_cgroup_is_root(iter);
	     iter = parent_mem_cgroup(iter)) {
		u64 used, max, file, anon;

		mem_cgroup_flush_stats(iter);
		used = page_counter_read(&iter->memory);
		max = READ_ONCE(iter->memory.max);
		file = memcg_page_state(iter, NR_INACTIVE_FILE) +
		       memcg_page_state(iter, NR_ACTIVE_FILE);
		anon = memcg_page_state(iter, NR_INACTIVE_ANON) +
		       memcg_page_state(iter, NR_ACTIVE_ANON);
		room = min(room, max - min(max, used) + file + lag +
			   min_t(u64, anon,
				 max(mem_cgroup_get_nr_swap_pages(iter), 0L) +
				 swapped));
	}
	mem_cgroup_put(group);
#endif
	return room;
}

/*
 * How many pages of a file have to be brought into memory to be pinned: what is
 * swapped out, and holes unless they stay. *room is how many there is room for.
 *
 * A hole is charged to who fills it. What is swapped out is charged to the group
 * that it was swapped out from, whoever reads it in: the groups of this task
 * have no say in that.
 */
u64 kpreserve_memfd_absent(struct file *file, u64 nr_pages, bool skip_holes,
			   u64 *room)
{
	struct address_space *mapping = file->f_mapping;
	u64 swapped = READ_ONCE(SHMEM_I(mapping->host)->swapped);
	u64 there = READ_ONCE(mapping->nrpages) + swapped;
	u64 holes = skip_holes ? 0 : nr_pages - min(nr_pages, there);

	*room = kpreserve_memfd_room(swapped);
	if (holes) {
		u64 in_groups = kpreserve_memfd_room_in_groups(swapped);

		if (in_groups < holes)
			*room = min(*room, in_groups + swapped);
	}
	return holes + swapped;
}

/*
 * Brings pages into memory, and calls no OOM killer, neither the machine's nor
 * the control group's: it would kill who preserves, and with it the session.
 *
 * Until they are pinned the references that are added to kept[] keep reclaim from
 * writing them out again: what pins them would read them in as it likes. But
 * what has to be moved before it is pinned must have no other reference.
 */
static int kpreserve_memfd_fill(struct address_space *mapping, u32 index,
				u32 end, struct folio **kept, u32 *nr_kept)
{
	gfp_t gfp = mapping_gfp_mask(mapping) | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
	unsigned int flags = memalloc_pin_save();
	pgoff_t next = index;
	int err = 0;

	*nr_kept = 0;
	while (next < end) {
		struct folio *folio = filemap_get_folio(mapping, next);

		if (IS_ERR(folio))
			folio = shmem_read_folio_gfp(mapping, next, gfp);
		if (IS_ERR(folio)) {
			err = PTR_ERR(folio);
			break;
		}
		next = folio_next_index(folio);
		if (folio_is_longterm_pinnable(folio))
			kept[(*nr_kept)++] = folio;
		else
			folio_put(folio);
	}
	memalloc_pin_restore(flags);
	return err;
}

/*
 * The same for some folios from *index on: what is not there is allocated or
 * read in; then as mainline does it: what cannot stay is moved.
 */
int kpreserve_memfd_pin_slow(struct file *file, u32 *index, u32 end,
			     struct kpreserve_memfd_run *runs, u32 max_runs,
			     u32 *nr_runs)
{
	struct folio *folios[KPRESERVE_MEMFD_SLOW_BATCH];
	struct folio *kept[KPRESERVE_MEMFD_SLOW_BATCH];
	struct kpreserve_memfd_list list;
	loff_t start = (loff_t)*index << PAGE_SHIFT;
	long i, nr_pinned;
	pgoff_t offset;
	loff_t last;
	u32 nr_kept;
	int err;

	*nr_runs = 0;
	if (fatal_signal_pending(current))
		return -EINTR;
	kpreserve_memfd_list_init(&list, runs, max_runs);
	end = min_t(u64, end, (u64)*index + KPRESERVE_MEMFD_SLOW_BATCH);
	last = min((loff_t)end << PAGE_SHIFT, i_size_read(file_inode(file))) - 1;
	err = kpreserve_memfd_fill(file->f_mapping, *index, end, kept, &nr_kept);
	nr_pinned = err ?: memfd_pin_folios(file, start, last, folios,
					    ARRAY_SIZE(folios), &offset);
	while (nr_kept)
		folio_put(kept[--nr_kept]);
	if (nr_pinned < 0)
		return nr_pinned;
	for (i = 0; i < nr_pinned; i++) {
		struct folio *folio = folios[i];
		unsigned long pfn = folio_pfn(folio);

		folio_lock(folio);
		/* Written out, or poisoned, before it was pinned. */
		if (folio->mapping != file->f_mapping ||
		    folio_contain_hwpoisoned_page(folio)) {
			err = folio_contain_hwpoisoned_page(folio) ? -EHWPOISON : -EAGAIN;
			folio_unlock(folio);
			break;
		}
		/* Fallocated, and never used. */
		if (!folio_test_uptodate(folio)) {
			folio_zero_range(folio, 0, folio_size(folio));
			flush_dcache_folio(folio);
			folio_mark_uptodate(folio);
		}
		folio_mark_dirty(folio);
		folio_unlock(folio);
		err = kpreserve_memfd_look_at_block(&list, folio, pfn);
		if (err) {
			err = err < 0 ? err : -EAGAIN;
			break;
		}
		if (!kpreserve_memfd_add(&list, pfn, folio->index,
					 folio_order(folio)))
			break;
		*index = folio_next_index(folio);
	}
	if (i < nr_pinned)
		unpin_folios(folios + i, nr_pinned - i);
	*nr_runs = list.nr_runs;
	/* What was moved, or written out, meanwhile may be there the next time. */
	return list.nr_runs ? 0 : err ?: -EAGAIN;
}

void kpreserve_memfd_unpin(u64 pfn, u32 nr_pages)
{
	u64 end = pfn + nr_pages;

	/* These are the folios that were pinned, whatever they come back as. */
	while (pfn < end) {
		struct folio *folio = pfn_folio(pfn);

		pfn += folio_nr_pages(folio);
		unpin_folio(folio);
	}
}
