/* SPDX-License-Identifier: GPL-2.0 */
/* What peers.rs calls; its extern block must agree with this, line by line. */
#ifndef KPRESERVE_BENCH_PEERS_H
#define KPRESERVE_BENCH_PEERS_H

#include <linux/types.h>

/* A measured section. */
struct kpreserve_bench_section {
	u64 start;
	unsigned long nr_sleeps;
	unsigned long nr_preemptions;
};

void kpreserve_bench_start(struct kpreserve_bench_section *section);
u64 kpreserve_bench_stop(const struct kpreserve_bench_section *section);
u64 kpreserve_bench_known_loop(u64 nr_instructions);
u64 kpreserve_bench_clear_page_ns(void);
u64 kpreserve_bench_nr_sleeps(void);
u64 kpreserve_bench_nr_preemptions(void);

u64 kpreserve_bench_boot_ns(void);
void kpreserve_bench_after(void);
u64 kpreserve_bench_init_ns(void);
u64 kpreserve_bench_initrd_bytes(void);
bool kpreserve_bench_is_dma(void);

int kpreserve_bench_note(const char *key, u64 value);
int kpreserve_bench_find(const char *key, u64 *value);

int kpreserve_bench_live_make(size_t nr, u64 *alloc_ns, u64 *loop_ns);
void kpreserve_bench_live_drop(void);
int kpreserve_bench_live_check(size_t nr);

int kpreserve_bench_blocks_fill(u64 *grow_ns, u64 *fill_ns);
u64 kpreserve_bench_blocks_head(void);
void kpreserve_bench_blocks_drop(void);
int kpreserve_bench_blocks_adopt(u64 head_pa, size_t nr, u64 *ns);

int kpreserve_bench_records_fill(u64 *fill_ns, u64 *preserve_ns);
void kpreserve_bench_records_where(u64 where[2]);
void kpreserve_bench_records_drop(void);
int kpreserve_bench_records_adopt(const u64 where[2], size_t nr, u64 *ns);

int kpreserve_bench_naive_make(size_t nr, bool scattered, u64 *ns);
u64 kpreserve_bench_naive_head(void);
void kpreserve_bench_naive_drop(void);
int kpreserve_bench_naive_adopt(u64 head_pa, size_t nr, u64 *ns);

int kpreserve_bench_area_make(size_t size, bool huge, u64 *alloc_ns,
			      u64 *preserve_ns);
void kpreserve_bench_area_where(u64 where[2]);
u64 kpreserve_bench_area_order(void);
void kpreserve_bench_area_drop(void);
int kpreserve_bench_area_adopt(const u64 where[2], size_t size, u64 *ns);
int kpreserve_bench_area_map(size_t size, u64 *ns);

u64 kpreserve_bench_fragment(unsigned int order);
void kpreserve_bench_give(void);

#endif
