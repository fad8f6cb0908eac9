// SPDX-License-Identifier: GPL-2.0
/*
 * Blocks of KHO's, for shmem.rs: runs of folios are preserved by them, and go back
 * into the page cache, or to the page allocator.
 */

#include <linux/bitops.h>
#include <linux/count_zeros.h>
#include <linux/fs.h>
#include <linux/kexec_handover.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/quotaops.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

/*
 * shmem_add_to_page_cache(), shmem_inode_acct_blocks() and shmem_recalc_inode(),
 * as mm/memfd_luo.c has them.
 */
#include <../mm/internal.h>

#include "../kho/page.h"
#include "shmem.h"

/* kho/helpers.c; the order of an incoming block, or a negative number. */
int kpreserve_probe(u64 phys);

/*
 * The order of the block of KHO's that begins at pfn: that of a folio; of
 * pages, what their place and their number allow, but no more than the page
 * allocator has.
 */
static u32 kpreserve_memfd_block_order(u64 pfn, u32 nr_pages, u32 order)
{
	if (order || nr_pages == 1)
		return order;
	order = min_t(u32, ilog2(nr_pages), MAX_PAGE_ORDER);
	return pfn ? min_t(u32, count_trailing_zeros(pfn), order) : order;
}

/* A key a block. */
int kpreserve_memfd_preserve(u64 pfn, u32 nr_pages, u32 order)
{
	u32 done = 0;

	while (done < nr_pages) {
		u32 block = kpreserve_memfd_block_order(pfn + done,
							nr_pages - done, order);
		int err = kho_preserve_pages(pfn_to_page(pfn + done),
					     1UL << block);

		if (err) {
			kpreserve_memfd_unpreserve(pfn, nr_pages, order, done);
			return err;
		}
		done += 1U << block;
	}
	return 0;
}

/* The blocks of a run up to page `end`, which a block ends at. */
void kpreserve_memfd_unpreserve(u64 pfn, u32 nr_pages, u32 order, u32 end)
{
	u32 done = 0;

	while (done < end) {
		u32 block = kpreserve_memfd_block_order(pfn + done,
							nr_pages - done, order);

		kho_unpreserve_pages(pfn_to_page(pfn + done), 1UL << block);
		done += 1U << block;
	}
}

/* Pages that are accounted at once. */
#define KPRESERVE_MEMFD_ACCOUNT_BATCH	1024

/* Calls no OOM killer. */
#define KPRESERVE_MEMFD_NO_OOM		(__GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* Pages that a group that is full is not asked about before it is asked again. */
#define KPRESERVE_MEMFD_UNASKED		1024

/* Pages that a group keeps for who goes on in it, or a quarter of all if less. */
#define KPRESERVE_MEMFD_LEFT_TO_GROUP	1024

/* How often a group is asked to swap out what stands in the way. */
#define KPRESERVE_MEMFD_RECLAIMS	8

/*
 * Accounts for pages that are in the file: no earlier, since neither
 * totalram_pages() nor the commit limit counts what is still preserved.
 *
 * Who refuses them has nothing of it, they are there. And LUO would not ask for
 * the file again: so they are accounted beyond the limit, and the log says that.
 */
void kpreserve_memfd_account(struct file *file,
			     struct kpreserve_memfd_filling *filling)
{
	struct inode *inode = file_inode(file);
	long nr_pages = filling->unaccounted;

	if (!nr_pages)
		return;
	if (filling->beyond_commit || shmem_inode_acct_blocks(inode, nr_pages)) {
		vm_acct_memory(nr_pages);
		dquot_alloc_block_nofail(inode, nr_pages);
		filling->beyond_commit += nr_pages;
	}
	shmem_recalc_inode(inode, nr_pages, 0);
	filling->unaccounted = 0;
}

/*
 * Whether the groups of this task have room for some pages more, and a little
 * beyond: a group that is filled to the last page has the next fault in it call
 * its OOM killer, which takes who retrieves, and with it LUO's session and all
 * that is not retrieved yet. What can be swapped out is. gfp has
 * KPRESERVE_MEMFD_NO_OOM.
 */
static bool kpreserve_memfd_groups_have_room(u32 nr_pages, gfp_t gfp)
{
	bool has_room = true;
#ifdef CONFIG_MEMCG
	struct mem_cgroup *group = get_mem_cgroup_from_mm(current->mm);
	struct mem_cgroup *iter;

	for (iter = group; has_room && iter && !mem_cgroup_is_root(iter);
	     iter = parent_mem_cgroup(iter)) {
		unsigned long max = READ_ONCE(iter->memory.max);
		unsigned long wanted = nr_pages +
			min_t(unsigned long, max / 4, KPRESERVE_MEMFD_LEFT_TO_GROUP);
		u32 left = KPRESERVE_MEMFD_RECLAIMS;

		for (;;) {
			unsigned long used = page_counter_read(&iter->memory);

			has_room = used + wanted <= max;
			if (has_room || !left--)
				break;
			if (!try_to_free_mem_cgroup_pages(iter,
							  min(used + wanted - max, wanted),
							  gfp, MEMCG_RECLAIM_MAY_SWAP,
							  NULL))
				break;
		}
	}
	mem_cgroup_put(group);
#endif
	return has_room;
}

/* Before some pages are charged. */
static void kpreserve_memfd_ask(u32 nr_pages, gfp_t gfp,
				struct kpreserve_memfd_filling *filling)
{
	if (!filling->unasked && !kpreserve_memfd_groups_have_room(nr_pages, gfp))
		filling->unasked = KPRESERVE_MEMFD_UNASKED;
}

/*
 * Charges a folio that the group of who retrieves it has no room for to the
 * root: it is there, whoever has it. The group stays below its limit.
 */
static noinline void kpreserve_memfd_charge_beyond(struct folio *folio, u32 nr_pages,
						   struct kpreserve_memfd_filling *filling)
{
	struct mem_cgroup *group = set_active_memcg(root_mem_cgroup);

	if (!filling->unasked)
		filling->unasked = KPRESERVE_MEMFD_UNASKED;
	/* Neither waits nor fails; the active group is that of no mm. */
	mem_cgroup_charge(folio, NULL, GFP_NOWAIT | __GFP_NOFAIL);
	set_active_memcg(group);
	filling->unasked -= min(filling->unasked, nr_pages);
	filling->beyond_group += nr_pages;
}

/* gfp has KPRESERVE_MEMFD_NO_OOM. */
static __always_inline void kpreserve_memfd_charge(struct folio *folio, u32 nr_pages,
						   gfp_t gfp,
						   struct kpreserve_memfd_filling *filling)
{
	if (unlikely(filling->unasked) ||
	    unlikely(mem_cgroup_charge(folio, current->mm, gfp)))
		kpreserve_memfd_charge_beyond(folio, nr_pages, filling);
}

/*
 * xas_nomem() that does not fail: a node of the page cache that there is no room
 * for in the group is the root's. Calls no OOM killer of the group either.
 */
static bool kpreserve_memfd_nomem(struct xa_state *xas, gfp_t gfp,
				  struct kpreserve_memfd_filling *filling)
{
	struct mem_cgroup *group;
	bool again;

	if (likely(xas_error(xas) != -ENOMEM))
		return xas_nomem(xas, gfp);
	if (!filling->unasked && xas_nomem(xas, gfp | KPRESERVE_MEMFD_NO_OOM))
		return true;
	group = set_active_memcg(root_mem_cgroup);
	again = xas_nomem(xas, gfp | __GFP_NOFAIL);
	set_active_memcg(group);
	return again;
}

/* The same for a folio. */
static int kpreserve_memfd_add_folio(struct address_space *mapping,
				     struct folio *folio, u32 index, gfp_t gfp,
				     struct kpreserve_memfd_filling *filling)
{
	struct mem_cgroup *group;
	int err = -ENOMEM;

	if (!filling->unasked)
		err = shmem_add_to_page_cache(folio, mapping, index, NULL,
					      gfp | KPRESERVE_MEMFD_NO_OOM);
	if (err != -ENOMEM)
		return err;
	group = set_active_memcg(root_mem_cgroup);
	err = shmem_add_to_page_cache(folio, mapping, index, NULL,
				      gfp | __GFP_NOFAIL);
	set_active_memcg(group);
	return err;
}

static int kpreserve_memfd_insert_folio(struct address_space *mapping,
					struct folio *folio, u32 index,
					struct kpreserve_memfd_filling *filling)
{
	gfp_t gfp = mapping_gfp_mask(mapping);
	int err;

	__folio_set_locked(folio);
	__folio_set_swapbacked(folio);
	kpreserve_memfd_ask(folio_nr_pages(folio), gfp | KPRESERVE_MEMFD_NO_OOM,
			    filling);
	kpreserve_memfd_charge(folio, folio_nr_pages(folio),
			       gfp | KPRESERVE_MEMFD_NO_OOM, filling);
	err = kpreserve_memfd_add_folio(mapping, folio, index, gfp, filling);
	if (!err) {
		filling->unaccounted += folio_nr_pages(folio);
		folio_mark_uptodate(folio);
		folio_mark_dirty(folio);
		folio_add_lru(folio);
	}
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

/* Whether two pages were charged to the same. */
static bool kpreserve_memfd_same_charge(struct page *a, struct page *b)
{
#ifdef CONFIG_MEMCG
	return page_folio(a)->memcg_data == page_folio(b)->memcg_data;
#else
	return true;
#endif
}

/* The statistics of pages that the page cache has taken, of one control group. */
static void kpreserve_memfd_count_pages(struct page *first, u32 nr_pages)
{
	struct folio *folio = page_folio(first);

	if (!nr_pages)
		return;
	lruvec_stat_mod_folio(folio, NR_FILE_PAGES, nr_pages);
	lruvec_stat_mod_folio(folio, NR_SHMEM, nr_pages);
}

/*
 * Puts pages side by side into the page cache, which takes over the reference
 * of each. Nobody knows the file yet, nor the pages, so they need no lock.
 * Returns how many it took: all, unless the place is taken.
 */
static u32 kpreserve_memfd_insert_pages(struct address_space *mapping,
					struct page *page, u32 index,
					u32 nr_pages,
					struct kpreserve_memfd_filling *filling)
{
	XA_STATE(xas, &mapping->i_pages, index);
	gfp_t gfp = mapping_gfp_mask(mapping);
	u32 done = 0, i;

	kpreserve_memfd_ask(nr_pages, gfp | KPRESERVE_MEMFD_NO_OOM, filling);
	for (i = 0; i < nr_pages; i++) {
		struct folio *folio = page_folio(page + i);

		kpreserve_memfd_charge(folio, 1, gfp | KPRESERVE_MEMFD_NO_OOM,
				       filling);
		__folio_set_swapbacked(folio);
		__folio_mark_uptodate(folio);
		folio_set_dirty(folio);
		folio->mapping = mapping;
		folio->index = index + i;
	}
	do {
		u32 counted = done;

		xas_lock_irq(&xas);
		while (done < nr_pages) {
			struct folio *folio = page_folio(page + done);

			xas_store(&xas, folio);
			if (xas_error(&xas))
				break;
			if (!kpreserve_memfd_same_charge(page + counted,
							 page + done)) {
				kpreserve_memfd_count_pages(page + counted,
							    done - counted);
				counted = done;
			}
			mapping->nrpages++;
			done++;
			xas_next(&xas);
		}
		kpreserve_memfd_count_pages(page + counted, done - counted);
		xas_unlock_irq(&xas);
	} while (kpreserve_memfd_nomem(&xas, gfp & GFP_RECLAIM_MASK, filling));
	filling->unaccounted += done;
	for (i = 0; i < done; i++)
		folio_add_lru(page_folio(page + i));
	for (i = done; i < nr_pages; i++)
		page_folio(page + i)->mapping = NULL;
	return done;
}

/*
 * As above, a leaf of the page cache at a time. Until they are on the LRU lists,
 * reclaim cannot find the pages that were charged: a whole block of them would
 * fill a small control group, which has swap for them if it is given the time.
 */
static u32 kpreserve_memfd_insert_block(struct address_space *mapping,
					struct page *page, u32 index,
					u32 nr_pages,
					struct kpreserve_memfd_filling *filling)
{
	u32 done = 0, nr, taken;

	while (done < nr_pages) {
		nr = XA_CHUNK_SIZE - (index + done) % XA_CHUNK_SIZE;
		nr = min(nr, nr_pages - done);
		taken = kpreserve_memfd_insert_pages(mapping, page + done,
						     index + done, nr, filling);
		done += taken;
		if (taken < nr)
			break;
	}
	return done;
}

/* Whether each block of a run is there; *bad is the first page that is not. */
bool kpreserve_memfd_is_there(u64 pfn, u32 nr_pages, u32 order, u64 *bad)
{
	u32 done = 0;

	while (done < nr_pages) {
		u32 block = kpreserve_memfd_block_order(pfn + done,
							nr_pages - done, order);

		if (kpreserve_probe(PFN_PHYS(pfn + done)) != block) {
			*bad = pfn + done;
			return false;
		}
		done += 1U << block;
	}
	return true;
}

/*
 * Restores a run whose blocks were all there, says kpreserve_memfd_is_there(),
 * and puts it into the file. Fails only if a block is named
 * twice, or cannot be restored: for no limit, nor for want of memory.
 */
int kpreserve_memfd_insert(struct file *file, u64 pfn, u32 index, u32 nr_pages,
			   u32 order, struct kpreserve_memfd_filling *filling)
{
	struct address_space *mapping = file->f_mapping;
	bool as_folios = order && order <= mapping_max_folio_order(mapping);
	u32 done = 0;
	int err = 0;

	while (!err && done < nr_pages) {
		u32 block = kpreserve_memfd_block_order(pfn + done,
							nr_pages - done, order);
		phys_addr_t phys = PFN_PHYS(pfn + done);

		/* Unless it has been restored by now, since it is named twice. */
		if (kpreserve_kho_order(pfn_to_page(pfn + done)) != block)
			return -EINVAL;
		if (as_folios) {
			struct folio *folio = kho_restore_folio(phys);

			if (!folio)
				return -EIO;
			err = kpreserve_memfd_insert_folio(mapping, folio,
							   index + done, filling);
		} else {
			struct page *page = kho_restore_pages(phys, 1UL << block);
			u32 i, nr = 1U << block;

			if (!page)
				return -EIO;
			i = kpreserve_memfd_insert_block(mapping, page,
							 index + done, nr, filling);
			if (i < nr)
				err = -EIO;
			for (; i < nr; i++)
				put_page(page + i);
		}
		if (filling->unaccounted >= KPRESERVE_MEMFD_ACCOUNT_BATCH)
			kpreserve_memfd_account(file, filling);
		done += 1U << block;
	}
	return err;
}

/* Frees what was never retrieved; what is not there is left alone. */
void kpreserve_memfd_discard(u64 pfn, u32 nr_pages, u32 order)
{
	u32 done = 0;

	while (done < nr_pages) {
		u32 block = kpreserve_memfd_block_order(pfn + done,
							nr_pages - done, order);
		phys_addr_t phys = PFN_PHYS(pfn + done);

		done += 1U << block;
		if (kpreserve_probe(phys) == block) {
			/* Freed as one, whatever it was. */
			struct folio *folio = kho_restore_folio(phys);

			if (folio)
				folio_put(folio);
		}
	}
}
