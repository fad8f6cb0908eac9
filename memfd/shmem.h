/* SPDX-License-Identifier: GPL-2.0 */
/* What shmem.rs calls; its extern block must agree with this, line by line. */
#ifndef KPRESERVE_MEMFD_SHMEM_H
#define KPRESERVE_MEMFD_SHMEM_H

#include <linux/types.h>

struct file;

/* Folios of one order and one node, side by side in memory and in the file. */
struct kpreserve_memfd_run {
	u64 pfn;
	u32 index;
	u32 nr_pages;
	u32 order;
	s32 nid;
};

struct kpreserve_memfd_attributes {
	u64 size_bytes;
	u64 pos;
	s64 mtime_ns;
	u32 seals;
	u32 flags;
	u32 uid;
	u32 gid;
	u32 mode;
	u32 reserved;
};

/* Of a file that is being filled. All numbers are pages. */
struct kpreserve_memfd_filling {
	/* In the file, and not accounted for yet. */
	u64 unaccounted;
	/* Accounted for beyond the commit limit. */
	u64 beyond_commit;
	/* Charged to the root, since the control group has no room for them. */
	u64 beyond_group;
	/* The group is not asked about so many more. */
	u32 unasked;
	u32 reserved;
};

bool kpreserve_memfd_is_ours(struct file *file);
unsigned long kpreserve_memfd_id(struct file *file);
void kpreserve_memfd_lock(struct file *file);
void kpreserve_memfd_unlock(struct file *file);
void kpreserve_memfd_freeze(struct file *file, bool freeze);
int kpreserve_memfd_look(struct file *file,
			 struct kpreserve_memfd_attributes *attributes);
int kpreserve_memfd_deny_writable(struct file *file);
void kpreserve_memfd_allow_writable(struct file *file);
int kpreserve_memfd_pin(struct file *file, u32 *index, u32 end,
			bool skip_holes, struct kpreserve_memfd_run *runs,
			u32 max_runs, u32 *nr_runs);
u64 kpreserve_memfd_absent(struct file *file, u64 nr_pages, bool skip_holes,
			   u64 *room);
int kpreserve_memfd_pin_slow(struct file *file, u32 *index, u32 end,
			     struct kpreserve_memfd_run *runs, u32 max_runs,
			     u32 *nr_runs);
void kpreserve_memfd_unpin(u64 pfn, u32 nr_pages);
int kpreserve_memfd_preserve(u64 pfn, u32 nr_pages, u32 order);
void kpreserve_memfd_unpreserve(u64 pfn, u32 nr_pages, u32 order, u32 end);
bool kpreserve_memfd_can_keep_holes(void);
int kpreserve_memfd_create(const struct kpreserve_memfd_attributes *attributes,
			   struct file **file);
void kpreserve_memfd_account(struct file *file,
			     struct kpreserve_memfd_filling *filling);
bool kpreserve_memfd_is_there(u64 pfn, u32 nr_pages, u32 order, u64 *bad);
int kpreserve_memfd_insert(struct file *file, u64 pfn, u32 index, u32 nr_pages,
			   u32 order, struct kpreserve_memfd_filling *filling);
void kpreserve_memfd_discard(u64 pfn, u32 nr_pages, u32 order);
void kpreserve_memfd_finish_open(struct file *file,
				 const struct kpreserve_memfd_attributes *attributes);

#endif
