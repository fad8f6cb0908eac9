// SPDX-License-Identifier: GPL-2.0

//! Runs come and go: growth, the reserve, the worker.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Full,
    Relaxed, //
};

use kpreserve_kho::{
    GatePass,
    Phys,
    Run, //
};

use crate::directory::{
    Directory,
    Entry,
    Index,
    Places, //
};
use crate::geometry::Geometry;
use crate::raw::{
    Ground,
    RawCache, //
};
use crate::run::{
    nr_words,
    RunRef,
    RunState,
    RunUse, //
};
use crate::touch::{
    is_clean,
    is_dirty, //
};
use crate::words::Words;

/// Empty runs are given back once they hold more than this part of the pages in use, down to half of
/// it; but never is less kept than a small cache grows by over and over.
const EMPTY_DIVISOR: usize = 4;
const NR_PAGES_KEPT_MIN: usize = 16;

impl RawCache {
    /// Adds a run. May sleep. Returns without doing so if another was added since the caller saw
    /// `nr_runs_added`.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM.
    #[cold]
    pub(crate) fn grow(&self, nr_runs_added: u32) -> Result {
        let pass = self.ledger().gate().enter()?;
        let mut ground = self.ground.lock();
        if self.fixed.nr_runs_added.load(Acquire) != nr_runs_added {
            return Ok(());
        }
        self.add_run(&pass, &mut ground, RunUse::Live)?;
        self.fixed.nr_runs_added.fetch_add(1, Full);
        Ok(())
    }

    fn add_run(&self, pass: &GatePass<'_>, ground: &mut Ground, to: RunUse) -> Result {
        self.make_index_room()?;
        let Ground { arena, places } = ground;
        let run = arena.grow(pass, self.geometry().slab_order(), 0)?;
        let (phys, order) = (run.pages.phys(), run.pages.order());
        let words = places.find(
            &self.fixed.directory,
            nr_words(self.geometry(), run.pages.size_bytes()),
        );
        let entered = words.and_then(|(place, words)| {
            let base = run.pages.memory();
            let Some(state) = self.fixed.directory.get(place) else {
                places.put_back(place);
                return Err(ENOMEM);
            };
            if let Err(error) = self.index.lock().insert(Entry { phys, order, place }) {
                places.put_back(place);
                return Err(error);
            }
            // SAFETY: the run is ours, preserved, and stays until `release` has emptied the place;
            // the words are as many as it needs.
            unsafe { state.enter(base, phys, order, false, words, to) };
            Ok(())
        });
        if entered.is_err() {
            // SAFETY: nobody has seen the run yet.
            unsafe { arena.release_last(pass) };
        }
        entered
    }

    fn make_index_room(&self) -> Result {
        let wanted = self.index.lock().room_wanted();
        if let Some(nr_entries) = wanted {
            let room = KVVec::with_capacity(nr_entries, GFP_KERNEL)?;
            let old = self.index.lock().move_into(room);
            drop(old);
        }
        Ok(())
    }

    /// Notes that somebody allocates who cannot sleep, and asks for a reserve.
    #[cold]
    pub(crate) fn want_reserve(&self) {
        if self.fixed.nr_reserved_wanted.load(Relaxed) == 0 {
            let _ = self.fixed.nr_reserved_wanted.cmpxchg(0, 1, Relaxed);
        }
        if self.fixed.nr_reserved.load(Relaxed) < self.fixed.nr_reserved_wanted.load(Relaxed) {
            self.machine().kick_worker();
        }
    }

    /// Takes a run out of the reserve into use; returns whether there was one. From any context.
    #[cold]
    pub(crate) fn open_reserve(&self) -> bool {
        if self.fixed.nr_reserved.load(Acquire) == 0 {
            return false;
        }
        for place in 0..self.fixed.directory.nr_places() {
            let Some(run) = self.fixed.directory.get(place) else {
                break;
            };
            if run.is(RunUse::Reserve) && run.transit(RunUse::Reserve, RunUse::Live) {
                self.fixed.nr_reserved.fetch_sub(1, Full);
                self.fixed.nr_runs_added.fetch_add(1, Full);
                self.fixed.cursor.store(place, Relaxed);
                self.machine().kick_worker();
                return true;
            }
        }
        false
    }

    /// Keeps `nr_runs` runs in reserve for those who cannot sleep, and fills it up. May sleep.
    ///
    /// A cache has none until this is called, or somebody has allocated without GFP_KERNEL and
    /// found nothing; then it is one run.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM; the worker tries again when it is next asked.
    pub fn set_reserve(&self, nr_runs: u32) -> Result {
        self.fixed.nr_reserved_wanted.store(nr_runs, Relaxed);
        self.refill_reserve()
    }

    fn refill_reserve(&self) -> Result {
        while self.fixed.nr_reserved.load(Acquire) < self.fixed.nr_reserved_wanted.load(Relaxed) {
            let pass = self.ledger().gate().enter()?;
            let mut ground = self.ground.lock();
            // Counted before it is there: somebody may take it at once.
            self.fixed.nr_reserved.fetch_add(1, Full);
            if let Err(error) = self.add_run(&pass, &mut ground, RunUse::Reserve) {
                self.fixed.nr_reserved.fetch_sub(1, Full);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What the framework's worker does for a cache: fills the reserve, gives empty runs back. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM if the reserve could not be filled.
    pub fn work(&self) -> Result {
        let filled = self.refill_reserve();
        let shrunk = self.shrink();
        filled.and(shrunk)
    }

    /// Gives empty runs back, if they are many. The reserve does not count.
    fn shrink(&self) -> Result {
        let (mut nr_pages_used, mut nr_pages_empty) = (0, 0);
        for place in 0..self.fixed.directory.nr_places() {
            let run = self
                .fixed
                .directory
                .get(place)
                .map(|run| run.get(place, false));
            if let Some(Ok(Some(run))) = run {
                self.scrub_dirty(&run);
                if is_empty(&run, self.geometry()) {
                    nr_pages_empty += run.nr_pages();
                } else {
                    nr_pages_used += run.nr_pages();
                }
            }
        }
        let nr_pages_allowed = (nr_pages_used / EMPTY_DIVISOR).max(NR_PAGES_KEPT_MIN);
        if nr_pages_empty <= nr_pages_allowed {
            return Ok(());
        }
        let nr_pages_kept = nr_pages_allowed / 2;
        let pass = self.ledger().gate().enter()?;
        // The last places first: they are the last that are allocated from.
        for place in (0..self.fixed.directory.nr_places()).rev() {
            let Some(run) = self.fixed.directory.get(place) else {
                continue;
            };
            let Ok(Some(held)) = run.get(place, false) else {
                continue;
            };
            let (phys, nr_pages_here) = (run.phys(), held.nr_pages());
            let empty = is_empty(&held, self.geometry());
            drop(held);
            if empty && nr_pages_empty.saturating_sub(nr_pages_here) >= nr_pages_kept {
                let mut ground = self.ground.lock();
                if self.condemn(&mut ground, run, place) {
                    nr_pages_empty = nr_pages_empty.saturating_sub(nr_pages_here);
                    self.release(&pass, &mut ground, phys);
                }
            }
        }
        Ok(())
    }

    /// Readies the slabs that were inherited and have not been allocated from since, so that no old
    /// bytes leave with them.
    fn scrub_dirty(&self, run: &RunRef<'_>) {
        for index in 0..run.nr_slabs(self.geometry()) {
            if let Some(slab) = run.slab(index, self.geometry()) {
                if is_dirty(&slab) {
                    self.prepare(&slab);
                }
            }
        }
    }

    /// Takes a run out of use, if nobody uses it and nobody will; returns whether that is so.
    ///
    /// Pinned from the first step to the last: tasks spin while the place is `Dying`.
    fn condemn(&self, ground: &mut Ground, run: &RunState, place: u32) -> bool {
        // Before the CPU is held: under PREEMPT_RT the lock may sleep.
        let mut index = self.index.lock();
        self.machine().pin();
        let mut condemned = false;
        if run.transit(RunUse::Live, RunUse::Dying) {
            // Whoever takes a reference from here on lets go of it again; whoever took one before
            // is counted, and may still take slots. So first there must be none, and what is empty
            // then stays empty.
            if !run.is_referenced() {
                // SAFETY: the place is emptied a few lines below, by us, or by nobody.
                let held = unsafe { run.look(place) };
                condemned = is_empty(&held, self.geometry());
            }
            if condemned {
                index.remove(run.phys());
                run.leave();
                ground.places.put_back(place);
            } else {
                run.transit(RunUse::Dying, RunUse::Live);
            }
        }
        self.machine().unpin();
        condemned
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

    /// Looks at each run that is there.
    pub(crate) fn for_each_run(&self, mut look: impl FnMut(&RunRef<'_>)) {
        for place in 0..self.fixed.directory.nr_places() {
            if let Some(Ok(Some(run))) = self
                .fixed
                .directory
                .get(place)
                .map(|run| run.get(place, true))
            {
                look(&run);
            }
        }
    }
}

/// Takes a run of the arena into a cache that is being made.
pub(crate) fn inherit(
    geometry: &Geometry,
    directory: &Directory,
    places: &mut Places,
    index: &mut Index,
    run: &Run,
) -> Result {
    if run.pages.size_bytes() < geometry.slab_bytes() {
        return Err(too_small(run.pages.phys(), run.pages.order(), geometry));
    }
    let (phys, order) = (run.pages.phys(), run.pages.order());
    let (place, words) = places.find(directory, nr_words(geometry, run.pages.size_bytes()))?;
    index.append(Entry { phys, order, place })?;
    let state = directory.get(place).ok_or(ENOMEM)?;
    // SAFETY: the run is the arena's, preserved, and stays until `release` has emptied the place;
    // the words are as many as it needs.
    unsafe { state.enter(run.pages.memory(), phys, order, true, words, RunUse::Live) };
    Ok(())
}

fn too_small(phys: Phys, order: u8, geometry: &Geometry) -> Error {
    match kpreserve_kho::validate::expect_at_least(
        "RunSer",
        "order",
        phys.get(),
        u64::from(order),
        u64::from(geometry.slab_order()),
    ) {
        Ok(()) => EINVAL,
        Err(refusal) => refusal.report(),
    }
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
                        .is_some_and(|bits| bits.load(Acquire) & mask == 0)
                })
        })
    })
}
