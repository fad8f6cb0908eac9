// SPDX-License-Identifier: GPL-2.0

//! A word about a run, found from any address inside it: who is it that an object belongs to, when
//! the address is all that is left?
//!
//! The kernel answers this for its own slabs in `struct page`, and so do we: the word stands in
//! `folio->private`, which is the owner's, zero from the allocation (or the restore) on, and neither
//! handed over nor looked at by anybody else. On a host, where machines reboot inside one process,
//! it stands in a table of the process.
//!
//! The alternatives: a slab's header is found from an address only by who knows the size of the slab,
//! which differs from cache to cache, also between caches of one type; and an index over all runs
//! needs a lock, which a context might not have.

use core::ptr::NonNull;

#[cfg(CONFIG_RUST)]
use crate::kho::{
    note_run,
    run_note, //
};

/// Sets the word of a run; 0 is none.
///
/// # Safety
///
/// `start` is the start of a run of `size_bytes` that is the caller's: one folio, allocated or
/// restored.
pub(crate) unsafe fn set(start: NonNull<u8>, size_bytes: usize, note: usize) {
    // SAFETY: says the caller.
    unsafe { note_run(start, size_bytes, note) };
}

/// Returns the word of the run that an address lies in. A few instructions, from any context.
///
/// # Safety
///
/// The address lies in a run that was allocated or restored, and is not freed meanwhile.
#[inline]
pub unsafe fn of(address: NonNull<u8>) -> usize {
    // SAFETY: says the caller.
    unsafe { run_note(address) }
}

#[cfg(not(CONFIG_RUST))]
use host::{
    note_run,
    run_note, //
};

#[cfg(not(CONFIG_RUST))]
mod host {
    use core::ptr::NonNull;
    use std::collections::BTreeMap;
    use std::sync::{
        Mutex,
        MutexGuard,
        PoisonError, //
    };

    /// By start: end and word of each run that has one.
    type Notes = BTreeMap<usize, (usize, usize)>;

    static NOTES: Mutex<Notes> = Mutex::new(BTreeMap::new());

    fn notes() -> MutexGuard<'static, Notes> {
        NOTES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Safety
    ///
    /// None.
    pub(super) unsafe fn note_run(start: NonNull<u8>, size_bytes: usize, note: usize) {
        let (start, mut notes) = (start.addr().get(), notes());
        let end = start + size_bytes;
        // A machine that is gone may have left words about the same addresses; its runs were other
        // ones, but none was larger than a run can be.
        let first = start.saturating_sub(crate::phys::PAGE_SIZE_BYTES << crate::phys::MAX_ORDER);
        let stale: std::vec::Vec<_> = notes
            .range(first..end)
            .filter(|(_, &(stale_end, _))| stale_end > start)
            .map(|(&stale, _)| stale)
            .collect();
        for stale in stale {
            notes.remove(&stale);
        }
        if note != 0 {
            notes.insert(start, (end, note));
        }
    }

    /// # Safety
    ///
    /// None.
    pub(super) unsafe fn run_note(address: NonNull<u8>) -> usize {
        let address = address.addr().get();
        match notes().range(..=address).next_back() {
            Some((_, &(end, note))) if address < end => note,
            _ => 0,
        }
    }
}
