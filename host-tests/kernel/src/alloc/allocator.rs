// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/allocator.rs. On a host all memory comes from the same place.

/// Where memory comes from.
///
/// # Safety
///
/// None here; the kernel's trait allocates.
pub unsafe trait Allocator {}

macro_rules! declare {
    ($($name:ident $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        // SAFETY: there are no requirements.
        unsafe impl Allocator for $name {}
    )*};
}

declare! {
    Kmalloc "kmalloc().",
    Vmalloc "vmalloc().",
    KVmalloc "kvmalloc().",
}
