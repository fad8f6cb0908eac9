/* SPDX-License-Identifier: GPL-2.0 */
/* What kmem.rs calls; its extern block must agree with this, line by line. */
#ifndef KPRESERVE_BENCH_KMEM_H
#define KPRESERVE_BENCH_KMEM_H

#include <linux/types.h>

/* What a CPU does, n times. */
typedef void (*kpreserve_bench_loop_t)(u64 n);

int kpreserve_bench_kmem_open(size_t size);
void kpreserve_bench_kmem_close(void);
u64 kpreserve_bench_kmem_pairs(u64 n, bool zero, bool atomic);
int kpreserve_bench_kmem_row(void **objects, const u32 *order, size_t nr,
			     u64 *alloc_ns, u64 *free_ns);
u64 kpreserve_bench_kmem_bulk(void **objects, size_t nr, u64 n);
u64 kpreserve_bench_nr_free_pages(void);

void kpreserve_bench_kmem_pair_loop(u64 n);
void kpreserve_bench_kmem_batch_loop(u64 n);
void kpreserve_bench_kmem_give(void **object);
void kpreserve_bench_kmem_take(void *object);

int kpreserve_bench_beside_start(kpreserve_bench_loop_t loop);
u64 kpreserve_bench_beside_stop(void);
int kpreserve_bench_on_two_cpus(kpreserve_bench_loop_t loop, u64 n, u64 *ns);
int kpreserve_bench_remote(void (*give)(void **object),
			   void (*take)(void *object), u64 n, u64 *ns);

#endif
