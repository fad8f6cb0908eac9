// SPDX-License-Identifier: GPL-2.0
/*
 * What shmem, the page cache and KHO offer only as inlines, macros or to mm/
 * itself, for shmem.rs. Loops over pages are here; what happens with which
 * page is decided in Rust.
 */

#include <linux/bitops.h>
#include <linux/count_zeros.h>
#include <linux/cred.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kexec_handover.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/memfd.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>
#include <uapi/linux/memfd.h>

/* shmem_add_to_page_cache() and the accounting, as mm/memfd_luo.c has them. */
#include <../mm/internal.h>

#include "helpers.h"

/* kho/helpers.c; the order of an incoming block, or a negative number. */
int kpreserve_probe(u64 phys);

/* shmem.rs knows these. */
#define KPRESERVE_MEMFD_DONE	0
#define KPRESERVE_MEMFD_MORE	1
#define KPRESERVE_MEMFD_SLOW	2

/* Pages that are looked at with interrupts off: some 20 microseconds. */
#define KPRESERVE_MEMFD_BATCH	1024

/* Folios that are pinned at once on the slow path. */
#define KPRESERVE_MEMFD_SLOW_BATCH	64

/* Bits of f_flags that fcntl(F_SETFL) can set. */
#define KPRESERVE_MEMFD_FLAGS	(O_APPEND | O_NONBLOCK | O_NDELAY | O_DIRECT | \
				 O_NOATIME)

/* The seals that user space can see today; more come with a new format. */
#define KPRESERVE_MEMFD_SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | \
				 F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | \
				 F_SEAL_EXEC)

static bool kpreserve_memfd_enabled = true;
module_param_named(memfd, kpreserve_memfd_enabled, bool, 0644);
MODULE_PARM_DESC(memfd, "Preserve memfds, before mainline's handler is asked (files that are preserved already stay with who has them)");

bool kpreserve_memfd_is_ours(struct file *file)
{
	return READ_ONCE(kpreserve_memfd_enabled) && shmem_file(file) &&
	       !file_inode(file)->i_nlink;
}

unsigned long kpreserve_memfd_id(struct file *file)
{
	return (unsigned long)file_inode(file);
}

void kpreserve_memfd_lock(struct file *file)
{
	inode_lock(file_inode(file));
}

void kpreserve_memfd_unlock(struct file *file)
{
	inode_unlock(file_inode(file));
}

void kpreserve_memfd_freeze(struct file *file, bool freeze)
{
	shmem_freeze(file_inode(file), freeze);
}

int kpreserve_memfd_look(struct file *file,
			 struct kpreserve_memfd_attributes *attributes)
{
	struct inode *inode = file_inode(file);
	struct timespec64 mtime = inode_get_mtime(inode);
	int seals = memfd_get_seals(file);

	if (seals < 0)
		return seals;
	if (seals & ~KPRESERVE_MEMFD_SEALS)
		return -EOPNOTSUPP;
	*attributes = (struct kpreserve_memfd_attributes) {
		.size_bytes = i_size_read(inode),
		.pos = file->f_pos,
		.mtime_ns = timespec64_to_ns(&mtime),
		.seals = seals,
		.flags = file->f_flags & (KPRESERVE_MEMFD_FLAGS | O_ACCMODE),
		.uid = from_kuid(&init_user_ns, inode->i_uid),
		.gid = from_kgid(&init_user_ns, inode->i_gid),
		.mode = inode->i_mode & 07777,
	};
	return 0;
}

int kpreserve_memfd_deny_writable(struct file *file)
{
	return mapping_deny_writable(file->f_mapping);
}

void kpreserve_memfd_allow_writable(struct file *file)
{
	mapping_allow_writable(file->f_mapping);
}

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

/* Whether a folio may be pinned for long is the same for a whole page block. */
static bool kpreserve_memfd_look_at_block(struct kpreserve_memfd_list *list,
					  struct folio *folio,
					  unsigned long pfn)
{
	unsigned long block = pfn >> pageblock_order;

	if (likely(block == list->block))
		return true;
	if (!folio_is_longterm_pinnable(folio))
		return false;
	if (folio_nid(folio) != list->nid) {
		kpreserve_memfd_count_pins(list);
		list->nid = folio_nid(folio);
		/* KHO cuts, and restores, blocks of one node. */
		list->next_pfn = KPRESERVE_MEMFD_NOWHERE;
	}
	list->block = block;
	return true;
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
 * locked, without contents yet, or in memory where it cannot stay.
 */
int kpreserve_memfd_pin(struct file *file, u32 *index, u32 end,
			bool skip_holes, struct kpreserve_memfd_run *runs,
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
		if (!kpreserve_memfd_look_at_block(&list, folio, pfn)) {
			ret = KPRESERVE_MEMFD_SLOW;
			break;
		}
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

/*
 * The same for some folios from *index on, as mainline does it: what is not
 * there is allocated or read in, what cannot stay is moved.
 */
int kpreserve_memfd_pin_slow(struct file *file, u32 *index, u32 end,
			     struct kpreserve_memfd_run *runs, u32 max_runs,
			     u32 *nr_runs)
{
	struct folio *folios[KPRESERVE_MEMFD_SLOW_BATCH];
	struct kpreserve_memfd_list list;
	loff_t start = (loff_t)*index << PAGE_SHIFT;
	long i, nr_pinned;
	pgoff_t offset;
	loff_t last;
	int err = 0;

	kpreserve_memfd_list_init(&list, runs, max_runs);
	end = min_t(u64, end, (u64)*index + KPRESERVE_MEMFD_SLOW_BATCH);
	last = min((loff_t)end << PAGE_SHIFT, i_size_read(file_inode(file))) - 1;
	nr_pinned = memfd_pin_folios(file, start, last, folios,
				     ARRAY_SIZE(folios), &offset);
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
		if (!kpreserve_memfd_look_at_block(&list, folio, pfn)) {
			err = -EAGAIN;
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

int kpreserve_memfd_create(const struct kpreserve_memfd_attributes *attributes,
			   struct file **filep)
{
	struct file *file;
	struct inode *inode;
	kuid_t uid;
	kgid_t gid;
	int err;

	if (attributes->seals & ~KPRESERVE_MEMFD_SEALS)
		return -EOPNOTSUPP;
	uid = make_kuid(&init_user_ns, attributes->uid);
	gid = make_kgid(&init_user_ns, attributes->gid);
	if (!uid_valid(uid) || !gid_valid(gid))
		return -EINVAL;
	file = memfd_alloc_file("", MFD_ALLOW_SEALING);
	if (IS_ERR(file))
		return PTR_ERR(file);
	inode = file_inode(file);
	/* Before the seals: F_SEAL_EXEC means more for what can be executed. */
	inode->i_mode = (inode->i_mode & ~07777) | (attributes->mode & 07777);
	inode->i_uid = uid;
	inode->i_gid = gid;
	/* Before the contents: it looks at each page. */
	err = memfd_add_seals(file, attributes->seals);
	if (err) {
		fput(file);
		return err;
	}
	i_size_write(inode, attributes->size_bytes);
	*filep = file;
	return 0;
}

/* Accounts for pages that are to come. */
int kpreserve_memfd_reserve(struct file *file, u64 nr_pages)
{
	return shmem_inode_acct_blocks(file_inode(file), nr_pages);
}

/* Ends that: for pages that have not come nothing stays accounted. */
void kpreserve_memfd_settle(struct file *file, u64 nr_pages)
{
	shmem_recalc_inode(file_inode(file), nr_pages, 0);
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
			i = kpreserve_memfd_insert_pages(mapping, page,
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

/* The last touch: what writing the contents would have changed, and how it was opened. */
int kpreserve_memfd_finish_open(struct file **filep,
				const struct kpreserve_memfd_attributes *attributes)
{
	u32 access = attributes->flags & O_ACCMODE;
	struct file *file = *filep;

	inode_set_mtime_to_ts(file_inode(file),
			      ns_to_timespec64(attributes->mtime_ns));
	if (access != O_RDWR) {
		struct file *again;

		again = dentry_open(&file->f_path, access | O_LARGEFILE,
				    current_cred());
		if (IS_ERR(again))
			return PTR_ERR(again);
		fput(file);
		file = again;
		*filep = file;
	}
	spin_lock(&file->f_lock);
	file->f_flags |= attributes->flags & KPRESERVE_MEMFD_FLAGS;
	spin_unlock(&file->f_lock);
	vfs_setpos(file, attributes->pos, MAX_LFS_FILESIZE);
	return 0;
}
