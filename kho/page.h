/* SPDX-License-Identifier: GPL-2.0 */
/* What KHO leaves in the struct page of an incoming block. */
#ifndef KPRESERVE_KHO_PAGE_H
#define KPRESERVE_KHO_PAGE_H

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/mm_types.h>
#include <linux/mmzone.h>

/* kho.rs knows the first; any other negative number is the second. */
#define KPRESERVE_NOT_MEMORY		-1
#define KPRESERVE_NOT_PRESERVED		-2

/*
 * Private to KHO (union kho_page_info): what page->private of the first page
 * of an incoming block holds. Documentation/upstream.rst has the patch that
 * would replace this copy by a function.
 */
union kpreserve_kho_page {
	unsigned long private;
	struct {
		unsigned int order;
		unsigned int magic;
	};
};

#define KPRESERVE_KHO_MAGIC		0x4b484f50U

static_assert(sizeof(union kpreserve_kho_page) ==
	      sizeof(((struct page *)0)->private));

/* The order of the incoming block that begins with a page, or NOT_PRESERVED. */
static inline int kpreserve_kho_order(const struct page *page)
{
	union kpreserve_kho_page info = { .private = READ_ONCE(page->private) };

	if (info.magic != KPRESERVE_KHO_MAGIC || info.order > MAX_PAGE_ORDER)
		return KPRESERVE_NOT_PRESERVED;
	return info.order;
}

#endif
