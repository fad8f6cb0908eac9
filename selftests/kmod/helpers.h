/* SPDX-License-Identifier: GPL-2.0 */
/* What the Rust files call; their extern blocks must agree with this. */
#ifndef KPRESERVE_SELFTEST_HELPERS_H
#define KPRESERVE_SELFTEST_HELPERS_H

#include <linux/types.h>

/* contexts.c */
int selftest_run_in(unsigned int context, void (*work)(void *data), void *data);
int selftest_start_storm(u64 period_ns, void (*tick)(void));
void selftest_stop_storm(void);
int selftest_lockdep_is_on(void);
void selftest_provoke(bool sleep_in_atomic);

/* threads.c */
int selftest_start_threads(unsigned int nr_per_cpu,
			   int (*body)(unsigned int number));
int selftest_stop_threads(void);
bool selftest_goes_on(void);
int selftest_stay_on(unsigned int cpu);
void selftest_stay_nowhere(void);

/* mainline.c */
struct kho_vmalloc;

int selftest_give_vmalloc(size_t size, bool huge, u64 seed,
			  struct kho_vmalloc *given);
int selftest_take_vmalloc(const struct kho_vmalloc *given, size_t size,
			  u64 seed);

/* pressure.c */
unsigned long selftest_take_memory(void);
void selftest_give_memory(void);
int selftest_grow_tree(unsigned int nr_keys);
unsigned long selftest_fragment_memory(unsigned int order);

/* sessions.c */
int selftest_look_at_sessions(void);

/* views.c */
bool selftest_faults(const void *address);
unsigned long selftest_mapped_bytes(const void *address);
bool selftest_maps_huge(void);

#endif
