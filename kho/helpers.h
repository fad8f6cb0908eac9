/* SPDX-License-Identifier: GPL-2.0 */
/* What kho.rs calls; its extern block must agree with this, line by line. */
#ifndef KPRESERVE_KHO_HELPERS_H
#define KPRESERVE_KHO_HELPERS_H

#include <linux/types.h>

struct kpreserve_run {
	u64 phys;
	u64 order;
};

void kpreserve_window(unsigned long *virt_base, u64 *size_bytes);

/* How a run is allocated. */
#define KPRESERVE_ALLOC_ZERO		0x01
#define KPRESERVE_ALLOC_LIGHT		0x02
#define KPRESERVE_ALLOC_FREE_ONLY	0x04
#define KPRESERVE_ALLOC_LOW		0x08
#define KPRESERVE_ALLOC_ONLY_NODE	0x10

int kpreserve_alloc_run(unsigned int order, int nid, unsigned int how, u64 *phys);
bool kpreserve_is_early(u64 phys);
void kpreserve_met_added_memory(u64 phys);
unsigned int kpreserve_nr_nodes(void);
unsigned long kpreserve_nr_low_pages(void);
void kpreserve_free_run(u64 phys);
unsigned long kpreserve_nr_pages_available(void);
int kpreserve_preserve_run(u64 phys, unsigned int order);
void kpreserve_unpreserve_run(u64 phys, unsigned int order);
int kpreserve_probe(u64 phys);
int kpreserve_restore_run(u64 phys, unsigned int order);
int kpreserve_add_subtree(const char *name, u64 phys, size_t size);
void kpreserve_remove_subtree(u64 phys);
int kpreserve_map_runs(const struct kpreserve_run *runs, size_t nr_runs,
		       unsigned long nr_pages, void **start);
bool kpreserve_may_reclaim(void);
void kpreserve_debug_alloc_context(bool can_sleep);
void kpreserve_debug_task_context(void);
unsigned int kpreserve_nr_cpus(void);
unsigned int kpreserve_pin_cpu(void);
void kpreserve_unpin_cpu(void);
unsigned long kpreserve_alloc_percpu(size_t size, size_t align);
void kpreserve_free_percpu(unsigned long base);
void *kpreserve_percpu_ptr(unsigned long base, unsigned int cpu);
void kpreserve_note_run(const void *start, unsigned long note);
unsigned long kpreserve_run_note(const void *address);
u64 kpreserve_random_u64(void);

#endif
