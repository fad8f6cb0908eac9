// SPDX-License-Identifier: GPL-2.0
/*
 * What KHO and the page allocator offer only as inlines or macros, for kho.rs.
 * No policy here: no lists, no decisions.
 */

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>

#include "helpers.h"

/* kho.rs knows the first; any other negative number is the second. */
#define KPRESERVE_NOT_MEMORY		-1
#define KPRESERVE_NOT_PRESERVED		-2

/*
 * Private to KHO (union kho_page_info): what page->private of the first page
 * of an incoming block holds. Documentation/upstream.rst has the patch that
 * would replace this copy by a function.
 */
union kpreserve_kho_page {
	unsigned long private;
	struct {
		unsigned int order;
		unsigned int magic;
	};
};

#define KPRESERVE_KHO_MAGIC		0x4b484f50U

/* The formats are built on pages of 4 KiB, and on folios of up to 4 MiB. */
static_assert(PAGE_SIZE == 4096);
static_assert(MAX_PAGE_ORDER >= 10);

static_assert(sizeof(union kpreserve_kho_page) ==
	      sizeof(((struct page *)0)->private));

void kpreserve_window(unsigned long *virt_base, u64 *size_bytes)
{
	*virt_base = (unsigned long)__va(0);
	*size_bytes = 1ULL << MAX_PHYSMEM_BITS;
}

int kpreserve_alloc_run(unsigned int order, int nid, bool light, u64 *phys)
{
	gfp_t gfp = GFP_KERNEL | __GFP_ZERO | __GFP_COMP | __GFP_NOWARN;
	struct folio *folio;

	/*
	 * Owners can grow without bound, and are told ENOMEM: no task is to be
	 * killed for them.
	 */
	gfp |= light ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL;
	if (nid != NUMA_NO_NODE && nid >= 0 && nid < MAX_NUMNODES &&
	    node_online(nid))
		folio = __folio_alloc_node(gfp, order, nid);
	else
		folio = folio_alloc(gfp, order);
	if (!folio)
		return -ENOMEM;
	*phys = PFN_PHYS(folio_pfn(folio));
	return 0;
}

void kpreserve_free_run(u64 phys)
{
	folio_put(page_folio(pfn_to_page(PHYS_PFN(phys))));
}

/*
 * An aligned power of two of pages of one node is one key, the same that
 * kho_preserve_folio() would add; unlike the latter, this works before the
 * folio has been put together again.
 */
int kpreserve_preserve_run(u64 phys, unsigned int order)
{
	return kho_preserve_pages(pfn_to_page(PHYS_PFN(phys)), 1UL << order);
}

void kpreserve_unpreserve_run(u64 phys, unsigned int order)
{
	kho_unpreserve_pages(pfn_to_page(PHYS_PFN(phys)), 1UL << order);
}

int kpreserve_probe(u64 phys)
{
	struct page *page = pfn_to_online_page(PHYS_PFN(phys));
	union kpreserve_kho_page info;

	if (!page)
		return KPRESERVE_NOT_MEMORY;
	info.private = READ_ONCE(page->private);
	if (info.magic != KPRESERVE_KHO_MAGIC || info.order > MAX_PAGE_ORDER)
		return KPRESERVE_NOT_PRESERVED;
	return info.order;
}

int kpreserve_restore_run(u64 phys, unsigned int order)
{
	struct folio *folio = kho_restore_folio(phys);

	if (!folio || folio_order(folio) != order)
		return -EINVAL;
	return 0;
}

int kpreserve_add_subtree(const char *name, u64 phys, size_t size)
{
	return kho_add_subtree(name, phys_to_virt(phys), size);
}

int kpreserve_map_runs(const struct kpreserve_run *runs, size_t nr_runs,
		       unsigned long nr_pages, void **start)
{
	unsigned long i, n = 0;
	struct page **pages;
	size_t r;

	pages = kvmalloc_array(nr_pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	for (r = 0; r < nr_runs; r++) {
		struct page *page = pfn_to_page(PHYS_PFN(runs[r].phys));

		for (i = 0; i < (1UL << runs[r].order) && n < nr_pages; i++)
			pages[n++] = page + i;
	}
	*start = vmap(pages, n, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return *start ? 0 : -ENOMEM;
}

/* Whether the current task might call every kind of reclaim itself. */
bool kpreserve_may_reclaim(void)
{
	return current_gfp_context(GFP_KERNEL) == GFP_KERNEL &&
	       !(current->flags & PF_MEMALLOC);
}

/* For debug kernels, which call it for each allocation. */
void kpreserve_debug_alloc_context(bool can_sleep)
{
	WARN_ON_ONCE(in_nmi());
	might_alloc(current_gfp_context(can_sleep ? GFP_KERNEL : GFP_NOWAIT));
}

/* For debug kernels: spin locks that interrupts do not disable are taken. */
void kpreserve_debug_task_context(void)
{
	WARN_ON_ONCE(!in_task());
}

unsigned int kpreserve_nr_cpus(void)
{
	return nr_cpu_ids;
}

unsigned int kpreserve_pin_cpu(void)
{
	preempt_disable();
	return smp_processor_id();
}

void kpreserve_unpin_cpu(void)
{
	preempt_enable();
}

/* A per-CPU pointer is a number outside of this file: it is in no address space of C's. */
unsigned long kpreserve_alloc_percpu(size_t size, size_t align)
{
	return (__force unsigned long)__alloc_percpu(size, align);
}

void kpreserve_free_percpu(unsigned long base)
{
	free_percpu((__force void __percpu *)base);
}

void *kpreserve_percpu_ptr(unsigned long base, unsigned int cpu)
{
	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return NULL;
	return per_cpu_ptr((__force void __percpu *)base, cpu);
}

/*
 * folio->private is its owner's, and ours are no page cache. KHO uses it for
 * folios that have not been restored yet.
 */
void kpreserve_note_run(const void *start, unsigned long note)
{
	WRITE_ONCE(virt_to_folio(start)->private, (void *)note);
}

unsigned long kpreserve_run_note(const void *address)
{
	return (unsigned long)READ_ONCE(virt_to_folio(address)->private);
}

u64 kpreserve_random_u64(void)
{
	return get_random_u64();
}
