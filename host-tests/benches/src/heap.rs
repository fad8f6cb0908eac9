// SPDX-License-Identifier: GPL-2.0

//! What a workload asks of an allocator.

use core::ptr::NonNull;

/// An allocator.
pub trait Heap: Sync {
    /// What it is called in figures.
    const NAME: &'static str;

    /// An allocated object, freed when it is dropped, by any thread.
    type Object: Object;

    /// Allocates.
    ///
    /// # Panics
    ///
    /// If there is no memory, or `size_bytes` is 0 or more than the heap goes up to.
    fn alloc(&self, size_bytes: usize) -> Self::Object;
}

/// An allocated object.
///
/// # Safety
///
/// [`start`](Self::start) is the start of as many bytes as were asked for, which are the holder's
/// until it is dropped.
pub unsafe trait Object: Send + 'static {
    /// Returns where it is.
    fn start(&self) -> NonNull<u8>;
}

/// Writes the first word, as whoever allocates does at least.
///
/// # Safety
///
/// The object has 8 bytes or more.
#[inline(always)]
pub(crate) unsafe fn write_first<O: Object>(object: &O, value: u64) {
    // SAFETY: the holder's, and big enough, says the caller.
    unsafe { object.start().cast::<u64>().write_unaligned(value) };
}

/// Writes the first `len` bytes.
///
/// # Safety
///
/// The object has as many.
#[inline(always)]
pub(crate) unsafe fn fill<O: Object>(object: &O, byte: u8, len: usize) {
    // SAFETY: the holder's, and big enough, says the caller.
    unsafe { object.start().write_bytes(byte, len) };
}
