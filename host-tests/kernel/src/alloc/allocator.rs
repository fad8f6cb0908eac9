// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/allocator.rs. On a host all memory comes from the same place.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::{
    admit,
    dangling_from_layout,
    flags::__GFP_ZERO,
    AllocError,
    Flags,
    NumaNode, //
};

/// Where memory comes from.
///
/// # Safety
///
/// - An allocation stays until it is freed, and may be passed to the other functions of the same
///   type.
/// - Each function keeps what its documentation guarantees.
pub unsafe trait Allocator {
    /// All allocations are aligned to this, in bytes.
    const MIN_ALIGN: usize;

    /// Allocates.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    ///
    /// # Guarantees
    ///
    /// The memory is as large and as aligned as `layout` says, and nobody else's until it is freed.
    #[track_caller]
    fn alloc(layout: Layout, flags: Flags, nid: NumaNode) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: `None` asks for a new allocation.
        unsafe { Self::realloc(None, layout, Layout::new::<()>(), flags, nid) }
    }

    /// Allocates anew and copies, or changes the size in place; frees if the size is 0.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the old allocation is as it was.
    ///
    /// # Safety
    ///
    /// `ptr` is `None`, or an allocation of this allocator that was made for `old_layout`; if that
    /// has no size, it may be any pointer.
    ///
    /// # Guarantees
    ///
    /// As [`alloc`](Self::alloc), and the bytes that both have are the same.
    #[track_caller]
    unsafe fn realloc(
        ptr: Option<NonNull<u8>>,
        layout: Layout,
        old_layout: Layout,
        flags: Flags,
        nid: NumaNode,
    ) -> Result<NonNull<[u8]>, AllocError>;

    /// Frees.
    ///
    /// # Safety
    ///
    /// As [`realloc`](Self::realloc), and the memory is not used any more.
    unsafe fn free(ptr: NonNull<u8>, layout: Layout) {
        let none = Layout::new::<()>();
        // SAFETY: by the caller's promise; a size of 0 frees.
        let _ = unsafe { Self::realloc(Some(ptr), none, layout, Flags(0), NumaNode::NO_NODE) };
    }
}

/// What all three allocators of a host do.
///
/// # Safety
///
/// As [`Allocator::realloc`].
#[track_caller]
unsafe fn host_realloc(
    ptr: Option<NonNull<u8>>,
    layout: Layout,
    old_layout: Layout,
    flags: Flags,
) -> Result<NonNull<[u8]>, AllocError> {
    let old = ptr.filter(|_| old_layout.size() > 0);
    let new = if layout.size() == 0 {
        dangling_from_layout(layout)
    } else {
        // WARN_ON_ONCE() in kvmalloc(): an end, where warnings are.
        assert!(
            layout.size() <= i32::MAX as usize,
            "kvmalloc() of {} bytes",
            layout.size()
        );
        admit(flags)?;
        let new = if flags.contains(__GFP_ZERO) {
            // SAFETY: the size is not 0.
            unsafe { std::alloc::alloc_zeroed(layout) }
        } else {
            // SAFETY: the size is not 0.
            unsafe { std::alloc::alloc(layout) }
        };
        NonNull::new(new).ok_or(AllocError)?
    };
    if let Some(old) = old {
        let nr_bytes = old_layout.size().min(layout.size());
        // SAFETY: both allocations have that many bytes, and are apart; a dangling one has none.
        unsafe { new.copy_from_nonoverlapping(old, nr_bytes) };
        // SAFETY: allocated here, for this layout.
        unsafe { std::alloc::dealloc(old.as_ptr(), old_layout) };
    }
    Ok(NonNull::slice_from_raw_parts(new, layout.size()))
}

macro_rules! declare {
    ($($name:ident $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        // SAFETY: by the guarantees of the host's allocator; bytes are copied.
        unsafe impl Allocator for $name {
            const MIN_ALIGN: usize = 1;

            #[track_caller]
            unsafe fn realloc(
                ptr: Option<NonNull<u8>>,
                layout: Layout,
                old_layout: Layout,
                flags: Flags,
                _nid: NumaNode,
            ) -> Result<NonNull<[u8]>, AllocError> {
                // SAFETY: by the caller's promise.
                unsafe { host_realloc(ptr, layout, old_layout, flags) }
            }
        }
    )*};
}

declare! {
    Kmalloc "kmalloc().",
    Vmalloc "vmalloc().",
    KVmalloc "kvmalloc().",
}
