// SPDX-License-Identifier: GPL-2.0

//! Looking for misuse of memory where it can be seen: poison and redzones. Debug builds only
//! (CONFIG_KPRESERVE_DEBUG, or debug assertions on the host); elsewhere all of it is nothing.
//!
//! Both are zeros, so that images of kernels with and without it are the same:
//!
//! - a free slot is zeros: whoever wrote to it after it was freed is found when it is allocated;
//! - so is what is behind an object up to the next slot, of which a new cache has at least
//!   [`REDZONE_BYTES`]: whoever wrote there is found when the object is freed.
//!
//! An owner who frees what has been freed is found by the tag, as long as nobody else has got the
//! slot meanwhile.
//!
//! The slab is quarantined then, the slot not handed out again in this boot, and the address of the
//! first wrong byte logged. Here no slot of a quarantined slab is handed out any more, wherever it was:
//! other builds do not look whose slots a CPU holds, and what is freed to it.

use core::ptr::NonNull;

use kpreserve_kho::refusal::Relation;
use kpreserve_kho::Refusal;

use crate::raw::RawCache;
use crate::sheaf::FreeSlot;
use crate::tag::Tag;

/// Whether this is a debug build.
const IS_ON: bool = cfg!(any(debug_assertions, CONFIG_KPRESERVE_DEBUG));

/// Bytes that a new cache's slots have at least behind the object.
pub(crate) const REDZONE_BYTES: usize = if cfg!(CONFIG_KPRESERVE_DEBUG) { 8 } else { 0 };

impl RawCache {
    /// Returns whether a slot that is about to be handed out is as it has to be. If not, it must not
    /// be, nor given back.
    #[inline(always)]
    pub(crate) fn is_untouched(&self, free: &FreeSlot) -> bool {
        !IS_ON || self.look_at_free(free)
    }

    /// Returns whether nobody has written behind an object of `size_bytes` that is about to be freed.
    /// If somebody has, the slot must not be given back.
    #[inline(always)]
    pub(crate) fn is_redzone_intact(&self, start: NonNull<u8>, size_bytes: usize) -> bool {
        !IS_ON || size_bytes == 0 || self.look_at_redzone(start, size_bytes)
    }

    /// Returns whether the tag of a slot that is about to be freed says that there is an object. If
    /// not, it has been freed before, and must not be again.
    #[inline(always)]
    pub(crate) fn is_owned(&self, start: NonNull<u8>, tag: Tag) -> bool {
        !IS_ON || tag.is_live() || self.report_freed(start, tag)
    }

    /// [`is_untouched`](Self::is_untouched) of `nr` slots side by side.
    #[inline(always)]
    pub(crate) fn are_untouched(&self, first: &FreeSlot, nr: usize) -> bool {
        !IS_ON
            || (0..nr).all(|at| {
                // SAFETY: one of the slots.
                let start = unsafe { first.start.add(at * self.geometry().stride_bytes()) };
                // SAFETY: its tag; tags stand side by side as well.
                let tag = unsafe { first.tag.add(at) };
                // INVARIANT: as `first`.
                self.look_at_free(&FreeSlot { start, tag })
            })
    }

    /// [`is_owned`](Self::is_owned) and [`is_redzone_intact`](Self::is_redzone_intact) of `nr` objects
    /// side by side.
    #[inline(always)]
    pub(crate) fn is_row_intact(
        &self,
        start: NonNull<u8>,
        tag: NonNull<u8>,
        nr: usize,
        size_bytes: usize,
    ) -> bool {
        !IS_ON
            || (0..nr).all(|at| {
                // SAFETY: one of the slots.
                let start = unsafe { start.add(at * self.geometry().stride_bytes()) };
                // SAFETY: its tag; tags stand side by side as well.
                let tag = unsafe { tag.add(at) };
                // SAFETY: the tag of a slot that the caller owns.
                let tag = unsafe { Tag::load(tag) };
                self.is_owned(start, tag) && self.look_at_redzone(start, size_bytes)
            })
    }

    fn look_at_free(&self, free: &FreeSlot) -> bool {
        // SAFETY: the slot is the caller's.
        if unsafe { self.is_quarantined_at(free.start) } {
            return false;
        }
        // SAFETY: the tag of a slot that the caller owns.
        let tag = unsafe { Tag::load(free.tag) };
        if tag.is_live() {
            // SAFETY: the slot is the caller's.
            unsafe { self.report(free.start, "tag", u64::from(tag.0), 0) };
            return false;
        }
        // SAFETY: the slot is the caller's.
        unsafe { self.expect_zeros(free.start, 0, "free bytes") }
    }

    #[cold]
    fn report_freed(&self, start: NonNull<u8>, tag: Tag) -> bool {
        // SAFETY: the caller was its owner, and the run has slots that are in use or held by a CPU: at
        // worst it has been given back, and the cache knows no slab there any more.
        unsafe { self.report(start, "tag", tag.0.into(), u64::from(tag.0 | 1)) };
        false
    }

    fn look_at_redzone(&self, start: NonNull<u8>, size_bytes: usize) -> bool {
        // SAFETY: the slot is the caller's.
        unsafe { self.expect_zeros(start, size_bytes, "redzone") }
    }

    /// Looks for a byte of a slot, from `from` on, that is not 0.
    ///
    /// # Safety
    ///
    /// The caller owns the slot.
    unsafe fn expect_zeros(&self, start: NonNull<u8>, from: usize, field: &'static str) -> bool {
        for offset in from..self.geometry().stride_bytes() {
            // SAFETY: inside the slot.
            let at = unsafe { start.add(offset) };
            // SAFETY: the caller's; volatile, since whoever it is looking for writes behind the
            // compiler's back.
            let byte = unsafe { at.as_ptr().read_volatile() };
            if byte != 0 {
                // SAFETY: inside the slot.
                unsafe { self.report(at, field, u64::from(byte), 0) };
                return false;
            }
        }
        true
    }

    /// # Safety
    ///
    /// The caller owns the slot that `at` is in.
    #[cold]
    unsafe fn report(&self, at: NonNull<u8>, field: &'static str, found: u64, expected: u64) {
        let why = Refusal {
            structure: "Slot",
            field,
            at: self.window().phys(at).map_or(0, |phys| phys.get()),
            found,
            expected,
            relation: Relation::Equal,
        };
        // SAFETY: says the caller.
        unsafe { self.quarantine_at(at, why) };
    }
}
