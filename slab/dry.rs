// SPDX-License-Identifier: GPL-2.0

//! What a search for free slots leaves to the next one: that there are none.
//!
//! A search that has looked into all runs and found nothing says so, and until a slot comes back to
//! a slab that was noted as full the next search looks into the run of the cursor only. So a cache
//! that grows run by run does not go through all of them for each.
//!
//! What makes it right: a cache is *dry at* `n` if `nr_reopened` was `n` when a search began that
//! found each slab full. Slots come back, and runs come to be, while the search goes on and after
//! it. Then
//!
//! - who gives a slot back to a slab that is noted as full raises `nr_reopened` after the note is
//!   gone. A search that saw the note began before that, and the mark that it leaves is void;
//! - who adds a run sets the cursor to it, so that the next search finds it there. It does so after
//!   a search of its own; if somebody else has added one since, and the cursor leaves a run that
//!   nobody has found full, `nr_reopened` goes up;
//! - who moves the cursor otherwise does so only if nobody has since it looked;
//! - whoever passes by a run or a slab that another one has just then raises `nr_reopened`.
//!
//! A mark that is void costs a search, one that is too good an allocation: the cache grows beside a
//! free slot, or an allocation that cannot sleep fails.

use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed,
    Release, //
};

use kpreserve_kho::ordered::Loads as _;

use crate::raw::RawCache;
use crate::slots::Slab;
use crate::words;

/// Whether a cache is dry.
pub struct Dry {
    /// How often there has been a free slot where a search may not have looked for it.
    nr_reopened: Atomic<u64>,
    /// What that was when a search began that found nothing.
    dry_at: Atomic<u64>,
}

impl Dry {
    /// Makes one of a cache that is not dry.
    pub const fn new() -> Self {
        Self {
            nr_reopened: Atomic::new(0),
            dry_at: Atomic::new(u64::MAX),
        }
    }

    /// Returns what a search is to remember when it begins, and whether the cache is dry.
    pub fn look(&self) -> (u64, bool) {
        let nr_reopened = self.nr_reopened.load_acquire();
        (nr_reopened, self.dry_at.load_acquire() == nr_reopened)
    }

    /// Notes that a search that began at `nr_reopened` has found each slab full.
    pub fn note_dry(&self, nr_reopened: u64) {
        self.dry_at.store(nr_reopened, Release);
    }

    /// Notes that there may be a free slot where a search has not looked for it.
    pub fn note_reopened(&self) {
        self.nr_reopened.fetch_add(1, Full);
    }
}

impl Default for Dry {
    fn default() -> Self {
        Self::new()
    }
}

impl RawCache {
    /// Notes that there may be a free slot where a search has not looked for it.
    #[cold]
    pub(crate) fn note_reopened(&self) {
        self.fixed.dry.note_reopened();
    }

    /// Notes that a slab of a run has a free slot, which it had not.
    #[cold]
    pub(crate) fn note_reopened_at(&self, place: u32) {
        let cursor = self.fixed.cursor.load_relaxed();
        self.note_reopened();
        if place < cursor {
            self.move_cursor(cursor, place);
        }
    }

    /// Lets searches begin at another run, unless the cursor has been moved since it was `seen`.
    pub(crate) fn move_cursor(&self, seen: u32, place: u32) {
        let _ = self.fixed.cursor.cmpxchg(seen, place, Relaxed);
    }

    /// Lets searches begin at a run that has just come into use, after the caller found nothing in
    /// a search that began when `nr_runs_added` runs had come.
    pub(crate) fn note_added(&self, place: u32, nr_runs_added: u32) {
        // First the cursor: who sees the number looks there.
        self.fixed.cursor.store(place, Relaxed);
        if self.fixed.nr_runs_added.fetch_add(1, Full) != nr_runs_added {
            // The cursor may have been at a run that nobody has found full.
            self.note_reopened();
        }
    }

    /// Notes that a slab has no free slot; returns whether it has none.
    pub(crate) fn note_full(&self, slab: &Slab<'_>) -> bool {
        let is_full = words::note_full(&slab.full(), slab.index(), &slab.occupancy());
        if !is_full {
            self.note_reopened();
        }
        is_full
    }
}
