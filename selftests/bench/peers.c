// SPDX-License-Identifier: GPL-2.0
/*
 * What kpreserve is measured against, called directly; the clock; and the page
 * that carries figures and the peers' addresses from kernel to kernel.
 *
 * Linked into the kernel before kpreserve, so that its device_initcall() runs
 * right before kpreserve's.
 */

#include <linux/init.h>
#include <linux/initrd.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho/abi/luo.h>
#include <linux/kho_block.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "peers.h"

/*
 * The clock, the raw one: it is there before the first initcall. On a machine
 * that counts instructions (QEMU's -icount) its nanoseconds are instructions.
 */

static u64 nr_sleeps, nr_preemptions;
/* What an empty section takes. */
static u64 empty_ns;

void kpreserve_bench_start(struct kpreserve_bench_section *section)
{
	section->nr_sleeps = current->nvcsw;
	section->nr_preemptions = current->nivcsw;
	barrier();
	section->start = sched_clock();
}

/*
 * A task that does not sleep is runnable, and a CPU with a runnable task does
 * not idle: with one CPU, no sleep here means that the idle time did not move.
 */
u64 kpreserve_bench_stop(const struct kpreserve_bench_section *section)
{
	u64 ns = sched_clock() - section->start;

	barrier();
	nr_sleeps += current->nvcsw - section->nr_sleeps;
	nr_preemptions += current->nivcsw - section->nr_preemptions;
	return ns > empty_ns ? ns - empty_ns : 0;
}

static int __init kpreserve_bench_measure_empty(void)
{
	struct kpreserve_bench_section section;
	u64 least = U64_MAX;
	int i;

	for (i = 0; i < 16; i++) {
		kpreserve_bench_start(&section);
		least = min(least, kpreserve_bench_stop(&section));
	}
	empty_ns = least;
	return 0;
}
late_initcall(kpreserve_bench_measure_empty);

/* How often somebody slept inside a section since the last call. */
u64 kpreserve_bench_nr_sleeps(void)
{
	u64 nr = nr_sleeps;

	nr_sleeps = 0;
	return nr;
}

u64 kpreserve_bench_nr_preemptions(void)
{
	u64 nr = nr_preemptions;

	nr_preemptions = 0;
	return nr;
}

/* How long that many instructions take (an even number of them). */
u64 kpreserve_bench_known_loop(u64 nr_instructions)
{
	struct kpreserve_bench_section section;
	u64 n = nr_instructions / 2;

	kpreserve_bench_start(&section);
	asm volatile("1: dec %0\n\tjnz 1b" : "+r" (n) : : "cc");
	return kpreserve_bench_stop(&section);
}

/* What it takes to make zeros of a page; 0 if there is none. */
u64 kpreserve_bench_clear_page_ns(void)
{
	struct kpreserve_bench_section section;
	unsigned long page = __get_free_page(GFP_KERNEL);
	u64 ns;

	if (!page)
		return 0;
	kpreserve_bench_start(&section);
	clear_page((void *)page);
	ns = kpreserve_bench_stop(&section);
	free_page(page);
	return ns;
}

/*
 * When this kernel was ready for its initcalls: all that KHO does at boot is
 * done, the struct pages are there, the page allocator works. Counted from
 * where the scheduler clock starts, in setup_arch().
 */

static u64 boot_ns, before_ns, after_ns, initrd_bytes;

static int __init kpreserve_bench_at_core(void)
{
	boot_ns = sched_clock();
	initrd_bytes = initrd_end - initrd_start;
	return 0;
}
core_initcall(kpreserve_bench_at_core);

static int __init kpreserve_bench_before(void)
{
	before_ns = sched_clock();
	return 0;
}
device_initcall(kpreserve_bench_before);

u64 kpreserve_bench_boot_ns(void)
{
	return boot_ns;
}

/* Called by the initcall that is linked right behind kpreserve's. */
void kpreserve_bench_after(void)
{
	after_ns = sched_clock();
}

/* How long kpreserve's initcall took: it adopts what the last kernel left. */
u64 kpreserve_bench_init_ns(void)
{
	return after_ns - before_ns;
}

/* The initramfs is reserved memory, too: it has a part in the boot time. */
u64 kpreserve_bench_initrd_bytes(void)
{
	return initrd_bytes;
}

/*
 * And so has where the pages lie that KHO and LUO hand over in any case: they
 * are among the first that a kernel allocates, in turn above and below the end
 * of the DMA zone, as those of the last kernel are still taken.
 */
bool kpreserve_bench_is_dma(void)
{
	phys_addr_t phys;
	size_t size;

	if (kho_retrieve_subtree(LUO_KHO_ENTRY_NAME, &phys, &size))
		return false;
	return phys < SZ_16M;
}

/*
 * The page that crosses: names and numbers, in a KHO subtree of its own. Made
 * when it is first used, as a copy of the one that the previous kernel left;
 * that one stays as it is, a page that this boot does without.
 */

#define NOTES		"kpreserve-bench"
#define NOTES_MAGIC	0x6b70622d6e6f7465ULL

struct bench_note {
	char key[24];
	u64 value;
};

struct bench_notes {
	u64 magic;
	u64 nr;
	struct bench_note notes[127];
};

static_assert(sizeof(struct bench_notes) <= PAGE_SIZE);

static struct bench_notes *notes;

static int bench_notes_make(void)
{
	struct bench_notes *new, *old;
	phys_addr_t phys;
	size_t size;
	int err;

	if (notes)
		return 0;
	new = kho_alloc_preserve(PAGE_SIZE);
	if (IS_ERR(new))
		return PTR_ERR(new);
	if (!kho_retrieve_subtree(NOTES, &phys, &size)) {
		old = phys_to_virt(phys);
		if (size == sizeof(*old) && old->magic == NOTES_MAGIC &&
		    old->nr <= ARRAY_SIZE(old->notes))
			memcpy(new, old, sizeof(*old));
	}
	new->magic = NOTES_MAGIC;
	err = kho_add_subtree(NOTES, new, sizeof(*new));
	if (err) {
		kho_unpreserve_free(new);
		return err;
	}
	notes = new;
	return 0;
}

static struct bench_note *bench_notes_find(const char *key)
{
	u64 i;

	for (i = 0; i < notes->nr; i++)
		if (!strncmp(notes->notes[i].key, key, sizeof(notes->notes[i].key)))
			return &notes->notes[i];
	return NULL;
}

int kpreserve_bench_note(const char *key, u64 value)
{
	struct bench_note *note;
	int err;

	err = bench_notes_make();
	if (err)
		return err;
	note = bench_notes_find(key);
	if (!note) {
		if (notes->nr == ARRAY_SIZE(notes->notes) ||
		    strlen(key) >= sizeof(note->key))
			return -ENOSPC;
		note = &notes->notes[notes->nr++];
		strscpy_pad(note->key, key);
	}
	note->value = value;
	return 0;
}

int kpreserve_bench_find(const char *key, u64 *value)
{
	struct bench_note *note;
	int err;

	err = bench_notes_make();
	if (err)
		return err;
	note = bench_notes_find(key);
	if (!note)
		return -ENOENT;
	*value = note->value;
	return 0;
}

/*
 * Live objects in an ordinary cache: what a subsystem has, whose state is to
 * be serialized. The same bytes as ItemSer in objects.rs.
 */

struct bench_item {
	u64 number;
	u64 words[7];
};

static struct kmem_cache *live_cache;
static struct bench_item **live;
static size_t nr_live;

static __always_inline void bench_item_init(struct bench_item *item, u64 number)
{
	int i;

	item->number = number;
	for (i = 0; i < ARRAY_SIZE(item->words); i++)
		item->words[i] = number + i;
}

static int bench_live_prepare(size_t nr)
{
	live_cache = kmem_cache_create("kpreserve_bench",
				       sizeof(struct bench_item), 0,
				       SLAB_NO_MERGE, NULL);
	if (!live_cache)
		return -ENOMEM;
	live = kvmalloc_array(nr, sizeof(*live), GFP_KERNEL | __GFP_ZERO);
	if (!live) {
		kmem_cache_destroy(live_cache);
		return -ENOMEM;
	}
	nr_live = 0;
	return 0;
}

void kpreserve_bench_live_drop(void)
{
	size_t i;

	for (i = 0; i < nr_live; i++)
		kmem_cache_free(live_cache, live[i]);
	nr_live = 0;
	kvfree(live);
	live = NULL;
	kmem_cache_destroy(live_cache);
	live_cache = NULL;
}

/* Allocates and initialises; the loop and the store of the pointer apart. */
int kpreserve_bench_live_make(size_t nr, u64 *alloc_ns, u64 *loop_ns)
{
	struct kpreserve_bench_section section;
	struct bench_item *item;
	size_t i;
	int err;

	err = bench_live_prepare(nr);
	if (err)
		return err;

	kpreserve_bench_start(&section);
	for (i = 0; i < nr; i++)
		WRITE_ONCE(live[i], NULL);
	*loop_ns = kpreserve_bench_stop(&section);

	kpreserve_bench_start(&section);
	for (i = 0; i < nr; i++) {
		item = kmem_cache_alloc(live_cache, GFP_KERNEL);
		if (!item)
			break;
		bench_item_init(item, i);
		WRITE_ONCE(live[i], item);
	}
	*alloc_ns = kpreserve_bench_stop(&section);
	nr_live = i;
	if (i == nr)
		return 0;
	kpreserve_bench_live_drop();
	return -ENOMEM;
}

int kpreserve_bench_live_check(size_t nr)
{
	struct bench_item expected;
	size_t i;

	if (nr_live != nr)
		return -EBADMSG;
	for (i = 0; i < nr; i++) {
		bench_item_init(&expected, i);
		if (memcmp(live[i], &expected, sizeof(expected)))
			return -EBADMSG;
	}
	return 0;
}

/*
 * LUO's way: a block set, grown when state is preserved, filled from the live
 * objects at freeze; in the next kernel restored, read back into live objects,
 * and destroyed.
 */

static struct kho_block_set blocks;

int kpreserve_bench_blocks_fill(u64 *grow_ns, u64 *fill_ns)
{
	struct kpreserve_bench_section section;
	struct kho_block_set_it it;
	struct bench_item *entry;
	size_t i;
	int err;

	kho_block_set_init(&blocks, sizeof(struct bench_item));

	kpreserve_bench_start(&section);
	err = kho_block_set_grow(&blocks, nr_live);
	*grow_ns = kpreserve_bench_stop(&section);
	if (err)
		return err;

	kpreserve_bench_start(&section);
	kho_block_set_it_init(&it, &blocks);
	for (i = 0; i < nr_live; i++) {
		entry = kho_block_set_it_reserve_entry(&it);
		if (!entry)
			break;
		*entry = *live[i];
	}
	*fill_ns = kpreserve_bench_stop(&section);
	if (i == nr_live)
		return 0;
	kho_block_set_destroy(&blocks);
	return -ENOSPC;
}

u64 kpreserve_bench_blocks_head(void)
{
	return kho_block_set_head_pa(&blocks);
}

void kpreserve_bench_blocks_drop(void)
{
	kho_block_set_destroy(&blocks);
}

int kpreserve_bench_blocks_adopt(u64 head_pa, size_t nr, u64 *ns)
{
	struct kpreserve_bench_section section;
	struct bench_item *entry, *item;
	struct kho_block_set_it it;
	int err;

	err = bench_live_prepare(nr);
	if (err)
		return err;
	kho_block_set_init(&blocks, sizeof(struct bench_item));

	kpreserve_bench_start(&section);
	err = kho_block_set_restore(&blocks, head_pa);
	if (err)
		return err;
	kho_block_set_it_init(&it, &blocks);
	while ((entry = kho_block_set_it_read_entry(&it)) && nr_live < nr) {
		item = kmem_cache_alloc(live_cache, GFP_KERNEL);
		if (!item)
			return -ENOMEM;
		*item = *entry;
		live[nr_live++] = item;
	}
	kho_block_set_destroy(&blocks);
	*ns = kpreserve_bench_stop(&section);
	return 0;
}

/* An array of records, filled from the live objects and preserved. */

static struct bench_item *records;
static struct kho_vmalloc records_kho;

static_assert(sizeof(struct kho_vmalloc) == 2 * sizeof(u64));

int kpreserve_bench_records_fill(u64 *fill_ns, u64 *preserve_ns)
{
	struct kpreserve_bench_section section;
	size_t i;
	int err;

	kpreserve_bench_start(&section);
	records = vmalloc_array(nr_live, sizeof(*records));
	if (!records)
		return -ENOMEM;
	for (i = 0; i < nr_live; i++)
		records[i] = *live[i];
	*fill_ns = kpreserve_bench_stop(&section);

	kpreserve_bench_start(&section);
	err = kho_preserve_vmalloc(records, &records_kho);
	*preserve_ns = kpreserve_bench_stop(&section);
	if (err)
		vfree(records);
	return err;
}

void kpreserve_bench_records_where(u64 where[2])
{
	memcpy(where, &records_kho, sizeof(records_kho));
}

void kpreserve_bench_records_drop(void)
{
	kho_unpreserve_vmalloc(&records_kho);
	vfree(records);
	records = NULL;
}

int kpreserve_bench_records_adopt(const u64 where[2], size_t nr, u64 *ns)
{
	struct kpreserve_bench_section section;
	struct bench_item *item;
	size_t i;
	int err;

	memcpy(&records_kho, where, sizeof(records_kho));
	err = bench_live_prepare(nr);
	if (err)
		return err;

	kpreserve_bench_start(&section);
	records = kho_restore_vmalloc(&records_kho);
	if (!records)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		item = kmem_cache_alloc(live_cache, GFP_KERNEL);
		if (!item)
			return -ENOMEM;
		*item = records[i];
		live[nr_live++] = item;
	}
	vfree(records);
	*ns = kpreserve_bench_stop(&section);
	records = NULL;
	return 0;
}

/*
 * The naive way: a page of KHO's for each object, which is used in place. The
 * objects are linked by physical address.
 *
 * Scattered: every other page stays with this kernel, as on a machine that has
 * been up for a while; a fresh one gives out pages that lie side by side.
 */

struct bench_naive {
	struct bench_item item;
	u64 next;
};

static u64 naive_head;

void kpreserve_bench_naive_drop(void)
{
	while (naive_head) {
		struct bench_naive *naive = phys_to_virt(naive_head);

		naive_head = naive->next;
		kho_unpreserve_free(naive);
	}
}

int kpreserve_bench_naive_make(size_t nr, bool scattered, u64 *ns)
{
	struct kpreserve_bench_section section;
	struct bench_naive *naive = NULL;
	struct page *page;
	LIST_HEAD(between);
	size_t i;

	naive_head = 0;
	kpreserve_bench_start(&section);
	for (i = nr; i > 0; i--) {
		naive = kho_alloc_preserve(sizeof(*naive));
		if (IS_ERR(naive))
			break;
		bench_item_init(&naive->item, i - 1);
		naive->next = naive_head;
		naive_head = virt_to_phys(naive);
		if (scattered) {
			page = alloc_page(GFP_KERNEL);
			if (page)
				list_add(&page->lru, &between);
		}
	}
	*ns = kpreserve_bench_stop(&section);
	while (!list_empty(&between)) {
		page = list_first_entry(&between, struct page, lru);
		list_del(&page->lru);
		__free_page(page);
	}
	if (!i)
		return 0;
	kpreserve_bench_naive_drop();
	return PTR_ERR(naive);
}

u64 kpreserve_bench_naive_head(void)
{
	return naive_head;
}

int kpreserve_bench_naive_adopt(u64 head_pa, size_t nr, u64 *ns)
{
	struct kpreserve_bench_section section;
	struct bench_item expected;
	u64 phys;
	size_t i;
	int err = 0;

	kpreserve_bench_start(&section);
	for (phys = head_pa, i = 0; phys && i < nr; i++) {
		struct bench_naive *naive = phys_to_virt(phys);

		if (!kho_restore_folio(phys))
			return -EINVAL;
		phys = naive->next;
	}
	*ns = kpreserve_bench_stop(&section);

	for (phys = head_pa, i = 0; phys && i < nr; i++) {
		struct bench_naive *naive = phys_to_virt(phys);

		bench_item_init(&expected, i);
		if (memcmp(&naive->item, &expected, sizeof(expected)))
			err = -EBADMSG;
		phys = naive->next;
		folio_put(virt_to_folio(naive));
	}
	return phys || i != nr ? -EBADMSG : err;
}

/*
 * Areas. The word of a page is its number; every page is looked at once it is
 * restored, as on our side.
 */

static void *area;
static struct kho_vmalloc area_kho;

#define PAGE_WORD	0x6b70000000000000ULL

int kpreserve_bench_area_make(size_t size, bool huge, u64 *alloc_ns,
			      u64 *preserve_ns)
{
	struct kpreserve_bench_section section;
	size_t i;
	int err;

	kpreserve_bench_start(&section);
	area = huge ? vmalloc_huge(size, GFP_KERNEL | __GFP_ZERO) : vzalloc(size);
	*alloc_ns = kpreserve_bench_stop(&section);
	if (!area)
		return -ENOMEM;
	for (i = 0; i < size; i += PAGE_SIZE)
		*(u64 *)(area + i) = PAGE_WORD + i / PAGE_SIZE;

	kpreserve_bench_start(&section);
	err = kho_preserve_vmalloc(area, &area_kho);
	*preserve_ns = kpreserve_bench_stop(&section);
	if (err)
		vfree(area);
	return err;
}

void kpreserve_bench_area_where(u64 where[2])
{
	memcpy(where, &area_kho, sizeof(area_kho));
}

/* Whether there were huge pages to be had. */
u64 kpreserve_bench_area_order(void)
{
	return area_kho.order;
}

void kpreserve_bench_area_drop(void)
{
	kho_unpreserve_vmalloc(&area_kho);
	vfree(area);
	area = NULL;
}

/* vmap() of the pages of the area. */
int kpreserve_bench_area_map(size_t size, u64 *ns)
{
	size_t i, nr_pages = size / PAGE_SIZE;
	struct kpreserve_bench_section section;
	struct page **pages;
	void *start;

	pages = kvmalloc_array(nr_pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	for (i = 0; i < nr_pages; i++)
		pages[i] = vmalloc_to_page(area + i * PAGE_SIZE);
	kpreserve_bench_start(&section);
	start = vmap(pages, nr_pages, VM_MAP, PAGE_KERNEL);
	*ns = kpreserve_bench_stop(&section);
	kvfree(pages);
	if (!start)
		return -ENOMEM;
	vunmap(start);
	return 0;
}

int kpreserve_bench_area_adopt(const u64 where[2], size_t size, u64 *ns)
{
	struct kpreserve_bench_section section;
	u64 wrong = 0;
	size_t i;

	memcpy(&area_kho, where, sizeof(area_kho));

	kpreserve_bench_start(&section);
	area = kho_restore_vmalloc(&area_kho);
	if (!area)
		return -EINVAL;
	for (i = 0; i < size; i += PAGE_SIZE)
		wrong |= READ_ONCE(*(u64 *)(area + i)) ^
			 (PAGE_WORD + i / PAGE_SIZE);
	*ns = kpreserve_bench_stop(&section);

	vfree(area);
	area = NULL;
	return wrong ? -EBADMSG : 0;
}

/*
 * Memory as on a machine that has been up for long: of each two neighbouring
 * blocks of 2^order pages somebody has one.
 */

static LIST_HEAD(hog);

u64 kpreserve_bench_fragment(unsigned int order)
{
	gfp_t gfp = (GFP_KERNEL & ~__GFP_RECLAIM) | __GFP_NOWARN;
	struct page *page, *next;
	LIST_HEAD(free);
	u64 nr_pages = 0;

	while ((page = alloc_page(gfp))) {
		if ((page_to_pfn(page) >> order) & 1) {
			list_add(&page->lru, &hog);
			nr_pages++;
		} else {
			list_add(&page->lru, &free);
		}
	}
	list_for_each_entry_safe(page, next, &free, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
	return nr_pages;
}

void kpreserve_bench_give(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &hog, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
}
