// SPDX-License-Identifier: GPL-2.0
/*
 * kpreserve_flip: changes bits of a root page that the previous kernel handed
 * over, whatever it holds, before kpreserve is loaded or after it has refused
 * it. It needs nothing of kpreserve, so it loads where kpreserve does not.
 *
 *   insmod kpreserve_flip.ko at=OFFSET bits=MASK
 *
 * The word of eight bytes at that offset changes.
 */

#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/module.h>
#include <linux/sizes.h>

static unsigned int at;
module_param(at, uint, 0);
MODULE_PARM_DESC(at, "Offset of the word in the root page, in bytes");

static unsigned long bits;
module_param(bits, ulong, 0);
MODULE_PARM_DESC(bits, "The bits that change");

static int __init kpreserve_flip_init(void)
{
	phys_addr_t phys;
	size_t size;
	u64 *word;
	int err;

	err = kho_retrieve_subtree("kpreserve-root-v1", &phys, &size);
	if (err)
		return err;
	if (at > SZ_4K - sizeof(*word) || at % sizeof(*word))
		return -EINVAL;
	word = phys_to_virt(phys) + at;
	WRITE_ONCE(*word, READ_ONCE(*word) ^ bits);
	pr_info("the word at %u of the root page is %#llx now\n", at, *word);
	return 0;
}
module_init(kpreserve_flip_init);

static void __exit kpreserve_flip_exit(void)
{
}
module_exit(kpreserve_flip_exit);

MODULE_DESCRIPTION("Damages or mends the root page of an image that kpreserve refuses");
MODULE_LICENSE("GPL");
