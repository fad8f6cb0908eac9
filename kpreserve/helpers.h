/* SPDX-License-Identifier: GPL-2.0 */
/* What boot.rs calls, and what it gives to be called. */
#ifndef KPRESERVE_HELPERS_H
#define KPRESERVE_HELPERS_H

#include <linux/types.h>

struct module;

void kpreserve_kick_worker(void);
int kpreserve_begin_init(void);
void kpreserve_end_init(bool is_up);
void kpreserve_pin_module(struct module *module);

/* In Rust: */
void kpreserve_on_reboot(void);
bool kpreserve_do_work(void);
void kpreserve_begin_settling(void);
unsigned long kpreserve_nr_pages_reclaimable(void);
unsigned long kpreserve_nr_pages_condemned(void);
unsigned long kpreserve_reclaim(unsigned long nr_pages);
void kpreserve_drain_here(void);
void kpreserve_on_cpu_dead(unsigned int cpu);

#endif
