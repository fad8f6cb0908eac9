// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is handed over as mainline does it, for interchange.rs. This file
 * knows nothing of kpreserve.
 */

#include <linux/errno.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/vmalloc.h>

#include "helpers.h"

/* As in interchange.rs. */
static u64 selftest_word(size_t index, u64 seed)
{
	return (index + 1) * 0x9e3779b97f4a7c15ULL ^ seed;
}

/* The memory is the next kernel's: it is not freed. */
int selftest_give_vmalloc(size_t size, bool huge, u64 seed,
			  struct kho_vmalloc *given)
{
	u64 *words = huge ? vmalloc_huge(size, GFP_KERNEL) : vmalloc(size);
	size_t i;
	int err;

	if (!words)
		return -ENOMEM;
	for (i = 0; i < size / sizeof(*words); i++)
		words[i] = selftest_word(i, seed);
	err = kho_preserve_vmalloc(words, given);
	if (err)
		vfree(words);
	return err;
}

int selftest_take_vmalloc(const struct kho_vmalloc *given, size_t size,
			  u64 seed)
{
	size_t i, nr_words = size / sizeof(u64);
	size_t nr_all = (size_t)given->total_pages * (PAGE_SIZE / sizeof(u64));
	u64 *words = kho_restore_vmalloc(given);
	int err = 0;

	if (!words) {
		pr_err("kho_restore_vmalloc() does not take it\n");
		return -EBADMSG;
	}
	for (i = 0; i < nr_all && !err; i++) {
		u64 expected = i < nr_words ? selftest_word(i, seed) : 0;

		if (words[i] != expected) {
			pr_err("word %zu is %llx, expected %llx\n", i, words[i],
			       expected);
			err = -EBADMSG;
		}
	}
	if (nr_all < nr_words) {
		pr_err("%zu words, expected %zu\n", nr_all, nr_words);
		err = -EBADMSG;
	}
	vfree(words);
	return err;
}
