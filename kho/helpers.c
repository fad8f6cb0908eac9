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
#include <linux/vmstat.h>

/* What is no module's to call, where this kernel declares it. */
#if !defined(MODULE) && __has_include(<../mm/vmalloc.h>)
#include <../mm/vmalloc.h>
#define KPRESERVE_MAPS_HUGE
#endif

#include "helpers.h"
#include "page.h"

/* The formats are built on pages of 4 KiB, and on folios of up to 4 MiB. */
static_assert(PAGE_SIZE == 4096);
static_assert(MAX_PAGE_ORDER >= 10);

void kpreserve_window(unsigned long *virt_base, u64 *size_bytes)
{
	*virt_base = (unsigned long)__va(0);
	*size_bytes = 1ULL << MAX_PHYSMEM_BITS;
}

int kpreserve_alloc_run(unsigned int order, int nid, unsigned int how, u64 *phys)
{
	gfp_t gfp = GFP_KERNEL | __GFP_COMP | __GFP_NOWARN;
	bool has_node = nid >= 0 && nid < nr_node_ids && node_online(nid);
	struct folio *folio = NULL;

	if (how & KPRESERVE_ALLOC_ZERO)
		gfp |= __GFP_ZERO;
	/*
	 * Owners can grow without bound, and are told ENOMEM: no task is to be
	 * killed for them.
	 */
	if (how & KPRESERVE_ALLOC_FREE_ONLY)
		gfp = (gfp & ~__GFP_RECLAIM) | __GFP_NOMEMALLOC;
	else
		gfp |= how & KPRESERVE_ALLOC_LIGHT ? __GFP_NORETRY :
						     __GFP_RETRY_MAYFAIL;
	if (how & KPRESERVE_ALLOC_LOW)
		gfp |= GFP_DMA32;
	if (how & KPRESERVE_ALLOC_ONLY_NODE)
		gfp |= __GFP_THISNODE;
	if (has_node)
		folio = __folio_alloc_node(gfp, order, nid);
	else if (!(how & KPRESERVE_ALLOC_ONLY_NODE))
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
 * Added memory is added in whole sections, and a section that was there at boot
 * is in the map of the next kernel.
 */
bool kpreserve_is_early(u64 phys)
{
#ifdef CONFIG_MEMORY_HOTPLUG
	return early_section(__pfn_to_section(PHYS_PFN(phys)));
#else
	return true;
#endif
}

void kpreserve_met_added_memory(u64 phys)
{
	pr_warn_once("kpreserve: memory at %#llx was added after boot, and is none of the next kernel's: nothing that crosses is put there. KHO's own tables may be, and then that kernel does not start: online such memory as movable (memhp_default_state=online_movable)\n",
		     phys);
}

unsigned int kpreserve_nr_nodes(void)
{
	return nr_node_ids;
}

/*
 * The lower zone, as who can use the usual one finds it: less what is kept for
 * those that cannot.
 */
unsigned long kpreserve_nr_low_pages(void)
{
	unsigned long nr_pages = 0;
#ifdef CONFIG_ZONE_DMA32
	int nid;

	for_each_online_node(nid) {
		struct zone *zone = &NODE_DATA(nid)->node_zones[ZONE_DMA32];
		long nr = zone_page_state(zone, NR_FREE_PAGES) +
			  zone_page_state(zone, NR_ZONE_INACTIVE_FILE) +
			  zone_page_state(zone, NR_ZONE_ACTIVE_FILE);

		nr -= zone_page_state(zone, NR_FREE_CMA_PAGES) +
		      high_wmark_pages(zone) + zone->lowmem_reserve[ZONE_NORMAL];
		nr_pages += max(nr, 0L);
	}
#endif
	return nr_pages;
}

/* KHO's scratch, which is CMA, is for others: the owners' pages cannot be moved. */
unsigned long kpreserve_nr_pages_available(void)
{
	long nr_pages = si_mem_available();

	nr_pages -= global_zone_page_state(NR_FREE_CMA_PAGES);
	return max(nr_pages, 0L);
}

/*
 * An aligned power of two of pages of one node is one key, the same for a folio
 * and for pages: what comes from the previous kernel has not been put together
 * again yet.
 */
int kpreserve_preserve_run(u64 phys, unsigned int order)
{
	struct page *page = pfn_to_page(PHYS_PFN(phys));

	if (PageHead(page) && folio_order(page_folio(page)) == order)
		return kho_preserve_folio(page_folio(page));
	return kho_preserve_pages(page, 1UL << order);
}

void kpreserve_unpreserve_run(u64 phys, unsigned int order)
{
	kho_unpreserve_pages(pfn_to_page(PHYS_PFN(phys)), 1UL << order);
}

int kpreserve_probe(u64 phys)
{
	struct page *page = pfn_to_online_page(PHYS_PFN(phys));

	return page ? kpreserve_kho_order(page) : KPRESERVE_NOT_MEMORY;
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

void kpreserve_remove_subtree(u64 phys)
{
	kho_remove_subtree(phys_to_virt(phys));
}

#ifndef KPRESERVE_MAPS_HUGE
/* vmap() is what there is for modules: an array of all pages, and a small one each. */
static void *kpreserve_map(const struct kpreserve_run *runs, size_t nr_runs,
			   unsigned long nr_pages)
{
	unsigned long i, n = 0;
	struct page **pages;
	void *start;
	size_t r;

	pages = kvmalloc_array(nr_pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;
	for (r = 0; r < nr_runs; r++) {
		struct page *page = pfn_to_page(PHYS_PFN(runs[r].phys));

		for (i = 0; i < (1UL << runs[r].order) && n < nr_pages; i++)
			pages[n++] = page + i;
	}
	start = vmap(pages, n, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return start;
}
#else
/*
 * No array, and huge pages wherever a run and its place are aligned to them.
 * Runs that happen to be neighbours are mapped as one. The guard page is the
 * one behind the last page, as vmap() has it.
 */
static void *kpreserve_map(const struct kpreserve_run *runs, size_t nr_runs,
			   unsigned long nr_pages)
{
	unsigned long size = nr_pages << PAGE_SHIFT;
	struct vm_struct *area;
	unsigned long at, end;
	size_t r = 0;

	area = __get_vm_area_node(size, size < PMD_SIZE ? PAGE_SIZE : PMD_SIZE,
				  PAGE_SHIFT, VM_MAP, VMALLOC_START,
				  VMALLOC_END, NUMA_NO_NODE, GFP_KERNEL,
				  __builtin_return_address(0));
	if (!area)
		return NULL;
	at = (unsigned long)area->addr;
	end = at + size;
	while (r < nr_runs) {
		u64 phys = runs[r].phys, next = phys;

		do
			next += PAGE_SIZE << runs[r++].order;
		while (r < nr_runs && runs[r].phys == next);
		if (next - phys > end - at ||
		    vmap_page_range(at, at + (next - phys), phys, PAGE_KERNEL)) {
			vunmap(area->addr);
			return NULL;
		}
		at += next - phys;
	}
	return area->addr;
}
#endif

int kpreserve_map_runs(const struct kpreserve_run *runs, size_t nr_runs,
		       unsigned long nr_pages, void **start)
{
	*start = kpreserve_map(runs, nr_runs, nr_pages);
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
