// SPDX-License-Identifier: GPL-2.0
/* What a contiguous view is made of, for views.rs. */

#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/uaccess.h>

#include "helpers.h"

/* Whether reading a byte there faults, as it must behind the end of a mapping. */
bool selftest_faults(const void *address)
{
	char byte;

	return copy_from_kernel_nofault(&byte, address, 1) == -EFAULT;
}

/*
 * The bytes that the page table maps at once there: of a page, or of a huge
 * one. 0 if nobody can say: the kernel's page table is not for modules.
 */
unsigned long selftest_mapped_bytes(const void *address)
{
#ifdef MODULE
	return 0;
#else
	unsigned long at = (unsigned long)address;
	p4d_t *p4d = p4d_offset(pgd_offset_k(at), at);
	pud_t *pud = pud_offset(p4d, at);
	pmd_t *pmd;

	if (pud_leaf(*pud))
		return PUD_SIZE;
	pmd = pmd_offset(pud, at);
	return pmd_leaf(*pmd) ? PMD_SIZE : PAGE_SIZE;
#endif
}
