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
#include <linux/pagemap.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

/* shmem_add_to_page_cache(), as mm/memfd_luo.c has it. */
#include <../mm/internal.h>

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
	if (order)
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

static int kpreserve_memfd_insert_folio(struct address_space *mapping,
					struct folio *folio, u32 index)
{
	gfp_t gfp = mapping_gfp_mask(mapping);
	int err;

	__folio_set_locked(folio);
	__folio_set_swapbacked(folio);
	err = mem_cgroup_charge(folio, NULL, gfp);
	if (!err)
		err = shmem_add_to_page_cache(folio, mapping, index, NULL, gfp);
	if (!err) {
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
 * Returns how many it took; the rest stays with the caller.
 */
static u32 kpreserve_memfd_insert_pages(struct address_space *mapping,
					struct page *page, u32 index,
					u32 nr_pages, int *err)
{
	XA_STATE(xas, &mapping->i_pages, index);
	gfp_t gfp = mapping_gfp_mask(mapping);
	u32 charged, done = 0, i;

	*err = 0;
	for (charged = 0; charged < nr_pages; charged++) {
		struct folio *folio = page_folio(page + charged);

		*err = mem_cgroup_charge(folio, NULL, gfp);
		if (*err)
			break;
		__folio_set_swapbacked(folio);
		__folio_mark_uptodate(folio);
		folio_set_dirty(folio);
		folio->mapping = mapping;
		folio->index = index + charged;
	}
	do {
		u32 counted = done;

		xas_lock_irq(&xas);
		while (done < charged) {
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
	} while (xas_nomem(&xas, gfp & GFP_RECLAIM_MASK));
	if (xas_error(&xas))
		*err = xas_error(&xas);
	for (i = 0; i < done; i++)
		folio_add_lru(page_folio(page + i));
	for (i = done; i < charged; i++)
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
					u32 nr_pages, int *err)
{
	u32 done = 0, nr, taken;

	*err = 0;
	while (!*err && done < nr_pages) {
		nr = XA_CHUNK_SIZE - (index + done) % XA_CHUNK_SIZE;
		nr = min(nr, nr_pages - done);
		taken = kpreserve_memfd_insert_pages(mapping, page + done,
						     index + done, nr, err);
		done += taken;
		/* With an error, says the callee. */
		if (taken < nr)
			break;
	}
	return done;
}

/*
 * Restores a run and puts it into the file. *nr_taken is how many pages are no
 * longer KHO's, whatever became of them.
 */
int kpreserve_memfd_insert(struct file *file, u64 pfn, u32 index, u32 nr_pages,
			   u32 order, u32 *nr_taken)
{
	struct address_space *mapping = file->f_mapping;
	bool as_folios = order && order <= mapping_max_folio_order(mapping);
	u32 done = 0;
	int err = 0;

	while (!err && done < nr_pages) {
		u32 block = kpreserve_memfd_block_order(pfn + done,
							nr_pages - done, order);
		phys_addr_t phys = PFN_PHYS(pfn + done);

		*nr_taken = done;
		if (kpreserve_probe(phys) != block)
			return -EINVAL;
		if (as_folios) {
			struct folio *folio = kho_restore_folio(phys);

			if (!folio)
				return -EIO;
			err = kpreserve_memfd_insert_folio(mapping, folio,
							   index + done);
		} else {
			struct page *page = kho_restore_pages(phys, 1UL << block);
			u32 i, nr = 1U << block;

			if (!page)
				return -EIO;
			i = kpreserve_memfd_insert_block(mapping, page,
							 index + done, nr, &err);
			for (; i < nr; i++)
				put_page(page + i);
		}
		done += 1U << block;
	}
	*nr_taken = done;
	return err;
}

/* Frees what was never retrieved, or the rest of what could not be. */
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
