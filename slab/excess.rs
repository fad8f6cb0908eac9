// SPDX-License-Identifier: GPL-2.0

//! Runs go: empty ones that are too many, or that memory pressure asks for.
//!
//! A run goes in two steps. It is *condemned* by atomic operations, from any context, if it is
//! empty and nobody looks into it; until the worker has come an allocation may take it into use
//! again. The worker, where sleeping is fine, gives it back.
//!
//! Who frees does not look for runs that have become empty. It leaves a note that something came
//! back (a store, when a row of slots does), and the worker looks when the cache comes to rest
//! (rest.rs).

use kernel::prelude::*;
use kernel::sync::atomic::Full;

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::{
    GatePass,
    Phys,
    Pinned, //
};

use crate::geometry::Geometry;
use crate::raw::{
    Ground,
    RawCache, //
};
use crate::run::{
    RunRef,
    RunState,
    RunUse, //
};
use crate::touch::is_clean;
use crate::words::Words;

/// Empty runs are given back once they hold more than this part of the pages in use, down to half
/// of it; but never is less kept than a small cache grows by over and over.
const EMPTY_DIVISOR: usize = 4;
const NR_PAGES_KEPT_MIN: usize = 16;

impl RawCache {
    /// What the framework's worker does for a cache, all at once: looks over what was inherited,
    /// fills the reserve, of empty runs first, and gives the others back. May sleep.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, EAGAIN if somebody grows the cache just then, ENOMEM if
    /// the reserve could not be filled.
    pub fn work(&self) -> Result {
        self.look_over(usize::MAX);
        let released = self.release_empty();
        self.fill_reserve().and(released)
    }

    /// The part of [`work`](Self::work) that gives back. Whoever works for several caches does this
    /// for all of them before [`fill_reserve`](Self::fill_reserve): what one of them lacks another
    /// may have too much of. May sleep.
    ///
    /// Cost: goes with the runs, and the slabs of those that are empty, if slots have come back
    /// since it was last called; else next to nothing.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen; EAGAIN if somebody grows the cache just then.
    pub fn release_empty(&self) -> Result {
        self.condemn_excess();
        self.shed_reserve();
        self.keep_as_reserve();
        self.release_condemned()
    }

    /// Condemns a run, and counts it: before it is, as who finds nothing else looks for it only if
    /// there is one.
    pub(crate) fn condemn_from(
        &self,
        run: &RunState,
        from: RunUse,
        is_empty: impl FnOnce() -> bool,
    ) -> bool {
        self.fixed.nr_condemned.fetch_add(1, Full);
        let goes = run.condemn(from, is_empty);
        if !goes {
            self.fixed.nr_condemned.fetch_sub(1, Full);
        }
        goes
    }

    /// Counts the pages of empty runs, the reserve not included. Slots that a CPU holds are in use
    /// ([`drain_here`](Self::drain_here)). From any context but NMI.
    ///
    /// Inherited runs that nobody has looked into yet count as in use until the worker has been
    /// there ([`look_over`](Self::look_over)).
    ///
    /// Cost: goes with the runs, and with the slabs of those that are empty.
    pub fn nr_pages_empty(&self) -> usize {
        self.nr_pages().empty
    }

    /// Counts the pages of runs that were condemned, and that the worker has not given back yet.
    /// From any context. Cost: goes with the runs.
    pub fn nr_pages_condemned(&self) -> usize {
        (0..self.fixed.directory.nr_places())
            .filter_map(|place| self.fixed.directory.get(place))
            .filter(|run| run.is(RunUse::Condemned))
            .map(RunState::nr_pages)
            .sum()
    }

    /// Takes empty runs of `nr_pages` pages together out of use, or a little more as runs go whole,
    /// and has the worker give them back; returns their pages. From any context but NMI: takes no
    /// lock, calls nobody. What a shrinker may do.
    ///
    /// Until the worker has come they are taken into use again rather than that an allocation
    /// fails.
    ///
    /// Cost: as [`nr_pages_empty`](Self::nr_pages_empty).
    pub fn condemn_empty(&self, nr_pages: usize) -> usize {
        self.condemn_runs(nr_pages, |_| true)
    }

    /// Condemns empty runs until they are `nr_pages` pages together, of those that `fits` finds
    /// good for the pages that are left to go.
    fn condemn_runs(&self, nr_pages: usize, fits: impl Fn((usize, usize)) -> bool) -> usize {
        let mut nr_condemned = 0;
        // The last places first: they are the last that are allocated from.
        for place in (0..self.fixed.directory.nr_places()).rev() {
            let nr_left = nr_pages.saturating_sub(nr_condemned);
            if nr_left == 0 {
                break;
            }
            let Some(run) = self.fixed.directory.get(place) else {
                continue;
            };
            let nr_pages_here = run.nr_pages();
            if fits((nr_pages_here, nr_left)) && self.condemn(run, place) {
                nr_condemned += nr_pages_here;
            }
        }
        if nr_condemned > 0 {
            self.machine().kick_worker();
        }
        nr_condemned
    }

    fn condemn(&self, run: &RunState, place: u32) -> bool {
        // A look first: who allocates meanwhile passes by a run that is being decided about.
        match run.get(place, false) {
            Ok(Some(held)) if is_empty(&held, self.geometry()) => {}
            _ => return false,
        }
        let goes = {
            let _pinned = Pinned::new(self.machine());
            self.condemn_from(run, RunUse::Live, || {
                // SAFETY: the place is `Dying`, so nobody empties it.
                let held = unsafe { run.look(place) };
                is_empty(&held, self.geometry())
            })
        };
        if !goes {
            // Somebody looks into it, or has just taken a slot of it: another look a while later.
            self.note_news();
            self.note_use();
        }
        goes
    }

    /// Takes empty runs out of use, if they are many. Looks for them only if something has come
    /// back since it last did.
    fn condemn_excess(&self) {
        if !self.take_news() {
            return;
        }
        let NrPages { used, empty } = self.nr_pages();
        let nr_pages_allowed = (used / EMPTY_DIVISOR).max(NR_PAGES_KEPT_MIN);
        if empty > nr_pages_allowed {
            // Not more than that, or a small cache would lose all at once; but a run that alone is
            // more than may be kept goes whole.
            self.condemn_runs(empty - nr_pages_allowed / 2, |(here, left)| {
                here <= left || here > nr_pages_allowed
            });
        }
    }

    /// Counts the pages of runs that are in use, and of those that are not.
    fn nr_pages(&self) -> NrPages {
        let mut nr_pages = NrPages { used: 0, empty: 0 };
        for place in 0..self.fixed.directory.nr_places() {
            let run = self.fixed.directory.get(place);
            if let Some(Ok(Some(run))) = run.map(|run| run.get(place, false)) {
                if is_empty(&run, self.geometry()) {
                    nr_pages.empty += run.nr_pages();
                } else {
                    nr_pages.used += run.nr_pages();
                }
            }
        }
        nr_pages
    }

    /// Gives back what was condemned. May sleep, but not for who grows the cache.
    ///
    /// # Errors
    ///
    /// EAGAIN if somebody grows it: who does so may wait for memory, and this is to provide some;
    /// EBUSY while the framework is frozen.
    fn release_condemned(&self) -> Result {
        if self.fixed.nr_condemned.load_acquire() == 0 {
            return Ok(());
        }
        for place in (0..self.fixed.directory.nr_places()).rev() {
            let Some(run) = self.fixed.directory.get(place) else {
                continue;
            };
            if !run.is(RunUse::Condemned) {
                continue;
            }
            let pass = self.ledger().gate().enter()?;
            let mut ground = self.ground.try_lock().ok_or(EAGAIN)?;
            let phys = run.phys();
            let mut index = self.index.lock();
            // Nobody may take it into use again from here on.
            if run.transit(RunUse::Condemned, RunUse::None) {
                self.fixed.nr_condemned.fetch_sub(1, Full);
                index.remove(phys);
                drop(index);
                run.leave();
                ground.places.put_back(place);
                self.release(&pass, &mut ground, phys);
            }
        }
        Ok(())
    }

    /// Gives a condemned run back. May sleep.
    fn release(&self, pass: &GatePass<'_>, ground: &mut Ground, phys: Phys) {
        let runs = ground.arena.runs();
        let position = runs.iter().position(|run| run.pages.phys() == phys);
        if let Some(position) = position {
            // SAFETY: the run is condemned: it is empty, and nobody can find it any more. What
            // handles say of it is checked at each use.
            unsafe { ground.arena.release_swap(pass, position) };
        }
    }
}

/// Pages of runs.
struct NrPages {
    used: usize,
    empty: usize,
}

/// Returns whether no slot of a run is taken or live, and all free ones are zeros.
fn is_empty(run: &RunRef<'_>, geometry: &Geometry) -> bool {
    (0..run.nr_slabs(geometry)).all(|index| {
        run.slab(index, geometry).is_some_and(|slab| {
            let occupancy = slab.occupancy();
            is_clean(&slab)
                && (0..occupancy.len()).all(|word| {
                    let mask = geometry.word_mask(word);
                    occupancy
                        .get(word)
                        .is_some_and(|bits| bits.load_acquire() & mask == 0)
                })
        })
    })
}
