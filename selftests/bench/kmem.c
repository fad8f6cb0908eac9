// SPDX-License-Identifier: GPL-2.0
/*
 * What slab caches are measured against: kmem_cache, called directly, in loops
 * that do what those of slabs.rs do and nothing else. And two CPUs at once.
 */

#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched/clock.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "kmem.h"
#include "peers.h"

#define NR_BATCH 64

static struct kmem_cache *cache;

int kpreserve_bench_kmem_open(size_t size)
{
	/* Ours are never merged either. */
	cache = kmem_cache_create("kpreserve_bench", size, 0, SLAB_NO_MERGE,
				  NULL);
	return cache ? 0 : -ENOMEM;
}

void kpreserve_bench_kmem_close(void)
{
	kmem_cache_destroy(cache);
	cache = NULL;
}

static void kmem_pairs(u64 n, gfp_t gfp)
{
	while (n--) {
		void *object = kmem_cache_alloc(cache, gfp);

		if (!object)
			return;
		kmem_cache_free(cache, object);
	}
}

u64 kpreserve_bench_kmem_pairs(u64 n, bool zero, bool atomic)
{
	gfp_t gfp = (atomic ? GFP_ATOMIC : GFP_KERNEL) | (zero ? __GFP_ZERO : 0);
	struct kpreserve_bench_section section;

	kmem_pairs(NR_BATCH, gfp);
	kpreserve_bench_start(&section);
	kmem_pairs(n, gfp);
	return kpreserve_bench_stop(&section);
}

int kpreserve_bench_kmem_row(void **objects, const u32 *order, size_t nr,
			     u64 *alloc_ns, u64 *free_ns)
{
	struct kpreserve_bench_section section;
	size_t i;

	kpreserve_bench_start(&section);
	for (i = 0; i < nr; i++) {
		void *object = kmem_cache_alloc(cache, GFP_KERNEL);

		if (!object)
			break;
		objects[i] = object;
	}
	*alloc_ns = kpreserve_bench_stop(&section);
	if (i < nr) {
		while (i--)
			kmem_cache_free(cache, objects[i]);
		return -ENOMEM;
	}

	kpreserve_bench_start(&section);
	for (i = 0; i < nr; i++)
		kmem_cache_free(cache, objects[order[i]]);
	*free_ns = kpreserve_bench_stop(&section);
	return 0;
}

u64 kpreserve_bench_kmem_bulk(void **objects, size_t nr, u64 n)
{
	struct kpreserve_bench_section section;

	kpreserve_bench_start(&section);
	while (n--) {
		if (!kmem_cache_alloc_bulk(cache, GFP_KERNEL, nr, objects))
			return 0;
		kmem_cache_free_bulk(cache, nr, objects);
	}
	return kpreserve_bench_stop(&section);
}

/* Those on the CPU's lists as well. */
u64 kpreserve_bench_nr_free_pages(void)
{
	/* One CPU here. */
	drain_local_pages(NULL);
	return global_zone_page_state(NR_FREE_PAGES);
}

/*
 * Two CPUs. Wall clock: one CPU cannot count for the other.
 */

void kpreserve_bench_kmem_pair_loop(u64 n)
{
	kmem_pairs(n, GFP_KERNEL);
}

void kpreserve_bench_kmem_batch_loop(u64 n)
{
	void *objects[NR_BATCH];
	int i;

	for (; n >= NR_BATCH; n -= NR_BATCH) {
		for (i = 0; i < NR_BATCH; i++)
			objects[i] = kmem_cache_alloc(cache, GFP_KERNEL);
		for (i = 0; i < NR_BATCH; i++)
			if (objects[i])
				kmem_cache_free(cache, objects[i]);
	}
}

void kpreserve_bench_kmem_give(void **object)
{
	*object = kmem_cache_alloc(cache, GFP_KERNEL);
}

void kpreserve_bench_kmem_take(void *object)
{
	kmem_cache_free(cache, object);
}

#define NR_RING 1024

/* What the threads of a run share; one run at a time. */
static struct {
	kpreserve_bench_loop_t loop;
	void (*give)(void **object);
	void (*take)(void *object);
	u64 n;
	atomic_t nr_ready;
	void *ring[NR_RING];
	struct completion done[2];
	u64 ns[2];
} run;

static void wait_for_the_other(void)
{
	atomic_inc(&run.nr_ready);
	while (atomic_read(&run.nr_ready) < 2)
		cpu_relax();
}

static int loop_thread(void *data)
{
	long which = (long)data;
	u64 start;

	wait_for_the_other();
	start = local_clock();
	run.loop(run.n);
	run.ns[which] = local_clock() - start;
	complete(&run.done[which]);
	return 0;
}

static int give_thread(void *data)
{
	u64 i, start;

	wait_for_the_other();
	start = local_clock();
	for (i = 0; i < run.n; i++) {
		void **place = &run.ring[i % NR_RING];
		void *object = NULL;

		while (!object)
			run.give(&object);
		while (smp_load_acquire(place))
			cpu_relax();
		smp_store_release(place, object);
	}
	run.ns[0] = local_clock() - start;
	complete(&run.done[0]);
	return 0;
}

static int take_thread(void *data)
{
	u64 i, start;

	wait_for_the_other();
	start = local_clock();
	for (i = 0; i < run.n; i++) {
		void **place = &run.ring[i % NR_RING];
		void *object;

		while (!(object = smp_load_acquire(place)))
			cpu_relax();
		smp_store_release(place, NULL);
		run.take(object);
	}
	run.ns[1] = local_clock() - start;
	complete(&run.done[1]);
	return 0;
}

static int run_two(int (*first)(void *), int (*second)(void *), u64 n, u64 *ns)
{
	int (*thread[2])(void *) = { first, second };
	struct task_struct *task[2];
	long i;

	if (num_online_cpus() < 2)
		return -ENODEV;
	run.n = n;
	atomic_set(&run.nr_ready, 0);
	memset(run.ring, 0, sizeof(run.ring));
	for (i = 0; i < 2; i++) {
		init_completion(&run.done[i]);
		task[i] = kthread_create_on_cpu(thread[i], (void *)i, i,
						"kpreserve-bench/%u");
		if (IS_ERR(task[i])) {
			while (i--)
				kthread_stop(task[i]);
			return -ENOMEM;
		}
	}
	for (i = 0; i < 2; i++)
		wake_up_process(task[i]);
	for (i = 0; i < 2; i++)
		wait_for_completion(&run.done[i]);
	*ns = max(run.ns[0], run.ns[1]);
	return 0;
}

/* Does something on CPU 1 over and over, while the caller is on CPU 0. */
static struct task_struct *beside;
static u64 nr_beside;

#define NR_BESIDE 1000

static int beside_thread(void *data)
{
	while (!kthread_should_stop()) {
		run.loop(NR_BESIDE);
		WRITE_ONCE(nr_beside, nr_beside + NR_BESIDE);
		cond_resched();
	}
	return 0;
}

int kpreserve_bench_beside_start(kpreserve_bench_loop_t loop)
{
	if (num_online_cpus() < 2)
		return -ENODEV;
	run.loop = loop;
	nr_beside = 0;
	beside = kthread_create_on_cpu(beside_thread, NULL, 1,
				       "kpreserve-bench/%u");
	if (IS_ERR(beside))
		return PTR_ERR(beside);
	set_cpus_allowed_ptr(current, cpumask_of(0));
	wake_up_process(beside);
	while (!READ_ONCE(nr_beside))
		cond_resched();
	return 0;
}

/* How often it has been done. */
u64 kpreserve_bench_beside_stop(void)
{
	kthread_stop(beside);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	return nr_beside;
}

/* How long it takes until both have done it n times. */
int kpreserve_bench_on_two_cpus(kpreserve_bench_loop_t loop, u64 n, u64 *ns)
{
	run.loop = loop;
	return run_two(loop_thread, loop_thread, n, ns);
}

/* One allocates, the other frees. */
int kpreserve_bench_remote(void (*give)(void **object),
			   void (*take)(void *object), u64 n, u64 *ns)
{
	run.give = give;
	run.take = take;
	return run_two(give_thread, take_thread, n, ns);
}
