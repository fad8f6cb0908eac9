// SPDX-License-Identifier: GPL-2.0
/*
 * Contexts that the kernel crate has no types for: interrupts, timers, scopes
 * of allocation. For contexts.rs.
 */

#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/debug_locks.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched/mm.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/timer.h>

#include "helpers.h"

struct selftest_call {
	void (*work)(void *data);
	void *data;
	struct irq_work irq;
	struct timer_list timer;
	struct completion done;
};

static void selftest_in_hardirq(struct irq_work *irq)
{
	struct selftest_call *call = container_of(irq, struct selftest_call, irq);

	call->work(call->data);
}

static void selftest_in_softirq(struct timer_list *timer)
{
	struct selftest_call *call = timer_container_of(call, timer, timer);

	call->work(call->data);
	complete(&call->done);
}

static DEFINE_SPINLOCK(selftest_lock);

/* contexts.rs has the same numbers. */
int selftest_run_in(unsigned int context, void (*work)(void *data), void *data)
{
	struct selftest_call call = { .work = work, .data = data };
	unsigned int scope;

	switch (context) {
	case 0:
		preempt_disable();
		work(data);
		preempt_enable();
		return 0;
	case 1:
		spin_lock(&selftest_lock);
		work(data);
		spin_unlock(&selftest_lock);
		return 0;
	case 2:
		local_irq_disable();
		work(data);
		local_irq_enable();
		return 0;
	case 3:
		init_completion(&call.done);
		timer_setup_on_stack(&call.timer, selftest_in_softirq, 0);
		mod_timer(&call.timer, jiffies + 1);
		wait_for_completion(&call.done);
		timer_delete_sync(&call.timer);
		timer_destroy_on_stack(&call.timer);
		return 0;
	case 4:
		call.irq = IRQ_WORK_INIT_HARD(selftest_in_hardirq);
		irq_work_queue(&call.irq);
		irq_work_sync(&call.irq);
		return 0;
	case 5:
		scope = memalloc_nofs_save();
		work(data);
		memalloc_nofs_restore(scope);
		return 0;
	case 6:
		scope = memalloc_noio_save();
		work(data);
		memalloc_noio_restore(scope);
		return 0;
	case 7:
		scope = memalloc_noreclaim_save();
		work(data);
		memalloc_noreclaim_restore(scope);
		return 0;
	}
	return -EPROTO;
}

static DEFINE_PER_CPU(struct hrtimer, selftest_timer);
static void (*selftest_tick)(void);
static u64 selftest_period_ns;

static enum hrtimer_restart selftest_on_timer(struct hrtimer *timer)
{
	selftest_tick();
	hrtimer_forward_now(timer, ns_to_ktime(selftest_period_ns));
	return HRTIMER_RESTART;
}

static void selftest_start_timer(void *unused)
{
	hrtimer_start(this_cpu_ptr(&selftest_timer),
		      ns_to_ktime(selftest_period_ns), HRTIMER_MODE_REL_PINNED_HARD);
}

/* Calls tick() from a hard interrupt, on each CPU, until it is stopped. */
int selftest_start_storm(u64 period_ns, void (*tick)(void))
{
	unsigned int cpu;

	if (selftest_tick)
		return -EBUSY;
	selftest_period_ns = period_ns;
	selftest_tick = tick;
	for_each_possible_cpu(cpu)
		hrtimer_setup(per_cpu_ptr(&selftest_timer, cpu),
			      selftest_on_timer, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
	on_each_cpu(selftest_start_timer, NULL, 1);
	return 0;
}

void selftest_stop_storm(void)
{
	unsigned int cpu;

	if (!selftest_tick)
		return;
	for_each_possible_cpu(cpu)
		hrtimer_cancel(per_cpu_ptr(&selftest_timer, cpu));
	selftest_tick = NULL;
}

/* 1: it watches; 0: it has found something, and stopped; -1: there is none. */
int selftest_lockdep_is_on(void)
{
	return IS_ENABLED(CONFIG_LOCKDEP) ? debug_locks : -1;
}

static DEFINE_MUTEX(selftest_first);
static DEFINE_MUTEX(selftest_second);

/* What a debug kernel must complain about. */
void selftest_provoke(bool sleep_in_atomic)
{
	if (sleep_in_atomic) {
		preempt_disable();
		might_sleep();
		preempt_enable();
		return;
	}
	mutex_lock(&selftest_first);
	mutex_lock(&selftest_second);
	mutex_unlock(&selftest_second);
	mutex_unlock(&selftest_first);
	mutex_lock(&selftest_second);
	mutex_lock(&selftest_first);
	mutex_unlock(&selftest_first);
	mutex_unlock(&selftest_second);
}
