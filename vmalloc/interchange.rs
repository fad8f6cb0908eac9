// SPDX-License-Identifier: GPL-2.0

//! Areas as `struct kho_vmalloc`, which is what code in C knows of preserved vmalloc memory.
//!
//! [`Area::into_kho_vmalloc`](crate::Area::into_kho_vmalloc) makes one of an area: the next kernel's `kho_restore_vmalloc()` turns
//! it into a vmalloc area of its own. [`Area::take_kho_vmalloc`](crate::Area::take_kho_vmalloc) takes what the previous kernel's
//! `kho_preserve_vmalloc()` left. Pages are neither copied nor moved either way.
//!
//! The formats are mainline's: `include/linux/kho/abi/kexec_handover.h`. Blocks of one order are
//! listed in a chain of pages, each entry a KHO key of its own. An area has runs of several orders;
//! those that are larger than the smallest are therefore listed, and preserved, block by block.

use kernel::prelude::*;

use kpreserve_kho::Preservable;

mod give;
mod take;

pub use give::KhoVmalloc;

/// Entries of a page of the list (`struct kho_vmalloc_chunk`): its first word is the address of the next
/// page, the others are those of blocks; 0 where there is none.
const NR_ENTRIES: usize = 511;

const _: () = assert!((1 + NR_ENTRIES) * size_of::<u64>() == kpreserve_kho::phys::PAGE_SIZE_BYTES);

/// `KHO_VMALLOC_ALLOC`: as of `vmalloc()`.
const FLAG_ALLOC: u16 = 1;
/// `KHO_VMALLOC_HUGE_VMAP`: blocks may be mapped as huge pages.
const FLAG_HUGE_VMAP: u16 = 2;

/// `struct kho_vmalloc`: names preserved memory to the next kernel's `kho_restore_vmalloc()`.
#[derive(Clone, Copy, Debug, Eq, FromBytes, IntoBytes, PartialEq)]
#[repr(C)]
pub struct KhoVmallocSer {
    /// Physical address of the first page of the list; 0 if there is none.
    pub first: u64,
    /// Pages that the memory has.
    pub total_pages: u32,
    /// How it is to be mapped.
    pub flags: u16,
    /// Order of each block of the list.
    pub order: u16,
}

const _: () = assert!(size_of::<KhoVmallocSer>() == 16);

impl KhoVmallocSer {
    /// Names nothing.
    pub const NONE: KhoVmallocSer = KhoVmallocSer {
        first: 0,
        total_pages: 0,
        flags: 0,
        order: 0,
    };
}

// SAFETY: integers without padding, as the derives prove; any bit pattern is valid; the layout is
// mainline's.
unsafe impl Preservable for KhoVmallocSer {
    const COMPATIBLE: &'static str = "kho-vmalloc";
    const VERSION: u32 = 1;
    const FINGERPRINT: u64 = kpreserve_kho::hash::fnv1a(0, b"kho-vmalloc");
}
