// SPDX-License-Identifier: GPL-2.0
/* What a contiguous view is made of, for views.rs. */

#include <linux/errno.h>
#include <linux/kconfig.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/uaccess.h>

#include <asm/processor.h>

#include "helpers.h"

/* Whether reading a byte there faults, as it must behind the end of a mapping. */
bool selftest_faults(const void *address)
{
	char byte;

	return copy_from_kernel_nofault(&byte, address, 1) == -EFAULT;
}

/*
 * The bytes that the page table maps at once there: of a page, or of a huge
 * one. By way of the page table in use, since the kernel's own is not for
 * modules; what is above user space is the same in all.
 */
unsigned long selftest_mapped_bytes(const void *address)
{
	unsigned long at = (unsigned long)address;
	pgd_t *pgd = (pgd_t *)__va(read_cr3_pa()) + pgd_index(at);
	pud_t *pud = pud_offset(p4d_offset(pgd, at), at);
	pmd_t *pmd;

	if (pud_leaf(*pud))
		return PUD_SIZE;
	pmd = pmd_offset(pud, at);
	return pmd_leaf(*pmd) ? PMD_SIZE : PAGE_SIZE;
}

/* Whether views are made of huge pages: vmap(), which is for modules, has none. */
bool selftest_maps_huge(void)
{
	return IS_BUILTIN(CONFIG_KPRESERVE);
}
