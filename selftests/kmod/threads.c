// SPDX-License-Identifier: GPL-2.0
/* Kernel threads, for threads.rs: the kernel crate has none. */

#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include "helpers.h"

#define SELFTEST_NR_THREADS_MAX		64

static DEFINE_MUTEX(selftest_threads_lock);
static struct task_struct *selftest_threads[SELFTEST_NR_THREADS_MAX];
static unsigned int selftest_nr_threads;
static int (*selftest_body)(unsigned int number);

static int selftest_thread(void *number)
{
	int err = selftest_body((unsigned long)number);

	while (!kthread_should_stop()) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!kthread_should_stop())
			schedule();
		__set_current_state(TASK_RUNNING);
	}
	return err;
}

static int selftest_stop_threads_locked(void)
{
	int err = 0;

	while (selftest_nr_threads) {
		int ret = kthread_stop(selftest_threads[--selftest_nr_threads]);

		err = err ?: ret;
	}
	return err;
}

/* Starts threads that call body() with their numbers, and end only when they are told. */
int selftest_start_threads(unsigned int nr_per_cpu,
			   int (*body)(unsigned int number))
{
	unsigned int cpu, i;
	int err = 0;

	mutex_lock(&selftest_threads_lock);
	if (selftest_nr_threads) {
		mutex_unlock(&selftest_threads_lock);
		return -EBUSY;
	}
	selftest_body = body;
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		for (i = 0; i < nr_per_cpu && !err; i++) {
			unsigned long number = selftest_nr_threads;
			struct task_struct *task;

			if (number == SELFTEST_NR_THREADS_MAX) {
				err = -EPROTO;
				break;
			}
			task = kthread_create(selftest_thread, (void *)number,
					      "selftest/%lu", number);
			if (IS_ERR(task)) {
				err = PTR_ERR(task);
				break;
			}
			kthread_bind(task, cpu);
			selftest_threads[selftest_nr_threads++] = task;
			wake_up_process(task);
		}
	}
	cpus_read_unlock();
	if (err)
		selftest_stop_threads_locked();
	mutex_unlock(&selftest_threads_lock);
	return err;
}

/* Stops them, and returns the first error. */
int selftest_stop_threads(void)
{
	int err;

	mutex_lock(&selftest_threads_lock);
	err = selftest_stop_threads_locked();
	mutex_unlock(&selftest_threads_lock);
	return err;
}

/* Asked by a thread in each round. */
bool selftest_goes_on(void)
{
	cond_resched();
	return !kthread_should_stop();
}

/* Keeps the current task on a CPU, until selftest_stay_nowhere(). */
int selftest_stay_on(unsigned int cpu)
{
	if (cpu >= nr_cpu_ids)
		return -EINVAL;
	return set_cpus_allowed_ptr(current, cpumask_of(cpu));
}

void selftest_stay_nowhere(void)
{
	set_cpus_allowed_ptr(current, cpu_possible_mask);
}
