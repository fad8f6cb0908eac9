// SPDX-License-Identifier: GPL-2.0

//! Looking over what was inherited, in the background.
//!
//! Nothing is known of an inherited slab until it is touched, and adoption touches none. If nobody
//! else does, the worker does: so runs that the previous kernel left empty, or whose last object is
//! claimed and freed, are seen to be empty and go, and a search for free slots knows which slabs
//! are full.

use kernel::processor::cpu_relax;
use kernel::sync::atomic::Relaxed;

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::phys::PAGE_SIZE_BYTES;

use crate::raw::RawCache;
use crate::slots::Slab;
use crate::touch::is_clean;
use crate::words;

impl RawCache {
    /// Looks into inherited slabs that nobody has looked into yet, up to `nr_pages_max` pages of
    /// them; returns how many pages it went through. If they are fewer, nothing is left. For tasks.
    ///
    /// Cost: a few instructions a slot, and a pass over the bytes of free slots.
    pub fn look_over(&self, nr_pages_max: usize) -> usize {
        let geometry = self.geometry();
        let seen = self.fixed.looked_over.load_relaxed();
        let (mut place, mut index) = ((seen >> 32) as u32, seen as u32);
        let mut nr_pages = 0;
        let begins_unfinished = place < self.fixed.nr_inherited;
        while place < self.fixed.nr_inherited && nr_pages < nr_pages_max {
            let run = self.fixed.directory.get(place);
            // A run that somebody decides about just then has been seen to be empty.
            let run = run.and_then(|run| run.get(place, true).ok().flatten());
            // Where a run of the previous kernel has gone another one may be.
            let run = run.filter(|run| run.is_inherited());
            let slab = run.as_ref().and_then(|run| run.slab(index, geometry));
            match slab {
                Some(slab) => {
                    self.look_into(&slab);
                    index += 1;
                    nr_pages += geometry.slab_bytes() / PAGE_SIZE_BYTES;
                }
                None => {
                    place += 1;
                    index = 0;
                    nr_pages += 1;
                }
            }
        }
        // Of two at once the slower one may put it back: then some are looked into twice.
        let next = (u64::from(place) << 32) | u64::from(index);
        self.fixed.looked_over.store(next, Relaxed);
        if begins_unfinished && place >= self.fixed.nr_inherited {
            self.note_news();
        }
        nr_pages
    }

    /// Returns whether there are inherited slabs that nobody has looked into yet.
    pub(crate) fn has_unknown(&self) -> bool {
        (self.fixed.looked_over.load_relaxed() >> 32) < u64::from(self.fixed.nr_inherited)
    }

    /// Readies an inherited slab, and notes if it is full.
    fn look_into(&self, slab: &Slab<'_>) {
        while !is_clean(slab) && !self.is_quarantined(slab) {
            if !self.prepare(slab) {
                // Another task, which is pinned, or a CPU that allocates from it.
                cpu_relax();
            }
        }
        if words::is_full(&slab.occupancy()) && !words::test(&slab.full(), slab.index()) {
            self.note_full(slab);
        }
    }
}
