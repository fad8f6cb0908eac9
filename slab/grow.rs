// SPDX-License-Identifier: GPL-2.0

//! Runs come and go: growth, the reserve, the worker.

use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::atomic::{
    Full,
    Relaxed, //
};

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::{
    GatePass,
    Phys,
    Pinned,
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
    NewRun,
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
    /// Adds a run, or takes back one that was condemned. May sleep. Returns without doing so if
    /// another was added since the caller saw `nr_runs_added`.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM.
    #[cold]
    pub(crate) fn grow(&self, nr_runs_added: u32) -> Result {
        let pass = self.ledger().gate().enter()?;
        let mut ground = self.ground.lock();
        if self.fixed.nr_runs_added.load_acquire() != nr_runs_added {
            return Ok(());
        }
        if self.use_one(RunUse::Condemned) {
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
        self.note(run);
        let entered = words.and_then(|(place, words)| {
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
            unsafe { state.enter(&new_run(run, words, false, self.geometry()), to) };
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
        if self.fixed.nr_reserved_wanted.load_relaxed() == 0 {
            let _ = self.fixed.nr_reserved_wanted.cmpxchg(0, 1, Relaxed);
        }
        if self.fixed.nr_reserved.load_relaxed() < self.fixed.nr_reserved_wanted.load_relaxed() {
            self.machine().kick_worker();
        }
    }

    /// Takes a run out of the reserve into use, or one that was condemned; returns whether there was
    /// one. From any context.
    #[cold]
    pub(crate) fn open_reserve(&self) -> bool {
        if self.use_one(RunUse::Condemned) {
            return true;
        }
        let opened = self.fixed.nr_reserved.load_acquire() != 0 && self.use_one(RunUse::Reserve);
        if opened {
            self.fixed.nr_reserved.fetch_sub(1, Full);
            self.machine().kick_worker();
        }
        opened
    }

    /// Takes a run into use that is in the state `from`; returns whether there was one.
    fn use_one(&self, from: RunUse) -> bool {
        let Some(place) = self.move_one(from, RunUse::Live) else {
            return false;
        };
        self.fixed.nr_runs_added.fetch_add(1, Full);
        self.fixed.cursor.store(place, Relaxed);
        true
    }

    /// Moves a run from one state to another; returns its place, `None` if there is none.
    fn move_one(&self, from: RunUse, to: RunUse) -> Option<u32> {
        (0..self.fixed.directory.nr_places()).find(|&place| {
            let run = self.fixed.directory.get(place);
            run.is_some_and(|run| run.is(from) && run.transit(from, to))
        })
    }

    /// Keeps `nr_runs` runs in reserve for those who cannot sleep: fills it up, or has the worker
    /// give back what is too much. May sleep.
    ///
    /// A cache has none until this is called, or somebody has allocated without GFP_KERNEL and
    /// found nothing; then it is one run.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM; the worker tries again when it is next asked.
    pub fn set_reserve(&self, nr_runs: u32) -> Result {
        self.fixed.nr_reserved_wanted.store(nr_runs, Relaxed);
        if self.shed_reserve() {
            self.machine().kick_worker();
        }
        self.fill_reserve()
    }

    /// Condemns reserved runs that are too many; returns whether there were any.
    fn shed_reserve(&self) -> bool {
        let mut has_shed = false;
        for place in (0..self.fixed.directory.nr_places()).rev() {
            let nr_wanted = self.fixed.nr_reserved_wanted.load_relaxed();
            if self.fixed.nr_reserved.load_acquire() <= nr_wanted {
                break;
            }
            let Some(run) = self.fixed.directory.get(place) else {
                continue;
            };
            let _pinned = Pinned::new(self.machine());
            // Nobody has taken anything from it, so it is empty; but some task may look into it.
            if run.condemn(RunUse::Reserve, || true) {
                self.fixed.nr_reserved.fetch_sub(1, Full);
                has_shed = true;
            }
        }
        has_shed
    }

    /// The part of [`work`](Self::work) that allocates: fills the reserve. May sleep.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM.
    pub fn fill_reserve(&self) -> Result {
        self.keep_as_reserve();
        while self.fixed.nr_reserved.load_acquire() < self.fixed.nr_reserved_wanted.load_relaxed() {
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

    /// What the framework's worker does for a cache: fills the reserve, of empty runs first, and gives
    /// the others back. May sleep.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, EAGAIN if somebody grows the cache just then, ENOMEM if the
    /// reserve could not be filled.
    pub fn work(&self) -> Result {
        let released = self.release_empty();
        self.fill_reserve().and(released)
    }

    /// The part of [`work`](Self::work) that gives back. Whoever works for several caches does this for
    /// all of them before [`fill_reserve`](Self::fill_reserve): what one of them lacks another may have too
    /// much of. May sleep.
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

    /// Puts condemned runs in reserve as far as it lacks any.
    fn keep_as_reserve(&self) {
        while self.fixed.nr_reserved.load_acquire() < self.fixed.nr_reserved_wanted.load_relaxed() {
            // As in `fill_reserve`.
            self.fixed.nr_reserved.fetch_add(1, Full);
            if self.move_one(RunUse::Condemned, RunUse::Reserve).is_none() {
                self.fixed.nr_reserved.fetch_sub(1, Full);
                break;
            }
        }
    }

    /// Counts the pages of empty runs, the reserve not included. Slots that a CPU holds are in use
    /// ([`drain_here`](Self::drain_here)). From any context but NMI.
    ///
    /// Inherited runs that nobody has looked into yet count as in use until the worker has been
    /// there.
    ///
    /// Cost: goes with the runs, and with the slabs of those that are empty.
    pub fn nr_pages_empty(&self) -> usize {
        self.nr_pages().empty
    }

    /// Counts the pages of runs that were condemned, and that the worker has not given back yet. From any
    /// context. Cost: goes with the runs.
    pub fn nr_pages_condemned(&self) -> usize {
        (0..self.fixed.directory.nr_places())
            .filter_map(|place| self.fixed.directory.get(place))
            .filter(|run| run.is(RunUse::Condemned))
            .map(RunState::nr_pages)
            .sum()
    }

    /// Takes empty runs of `nr_pages` pages together out of use, or a little more as runs go whole, and
    /// has the worker give them back; returns their pages. From any context but NMI: takes no lock,
    /// calls nobody. What a shrinker may do.
    ///
    /// Until the worker has come they are taken into use again rather than that an allocation
    /// fails.
    ///
    /// Cost: as [`nr_pages_empty`](Self::nr_pages_empty).
    pub fn condemn_empty(&self, nr_pages: usize) -> usize {
        self.condemn_runs(nr_pages, |_| true)
    }

    /// Condemns empty runs until they are `nr_pages` pages together, of those that `fits` finds good for
    /// the pages that are left to go.
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
        let _pinned = Pinned::new(self.machine());
        run.condemn(RunUse::Live, || {
            // SAFETY: the place is `Dying`, so nobody empties it.
            let held = unsafe { run.look(place) };
            is_empty(&held, self.geometry())
        })
    }

    /// Takes empty runs out of use, if they are many.
    fn condemn_excess(&self) {
        self.for_each_run(|run| self.scrub_dirty(run));
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
    /// EAGAIN if somebody grows it: who does so may wait for memory, and this is to provide some; EBUSY
    /// while the framework is frozen.
    fn release_condemned(&self) -> Result {
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
                index.remove(phys);
                drop(index);
                run.leave();
                ground.places.put_back(place);
                self.release(&pass, &mut ground, phys);
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

/// Pages of runs.
struct NrPages {
    used: usize,
    empty: usize,
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
    unsafe { state.enter(&new_run(run, words, true, geometry), RunUse::Live) };
    Ok(())
}

fn new_run(run: &Run, words: NonNull<u64>, is_inherited: bool, geometry: &Geometry) -> NewRun {
    NewRun {
        base: run.pages.memory(),
        phys: run.pages.phys(),
        order: run.pages.order(),
        is_inherited,
        nr_slabs: geometry.nr_slabs(run.pages.size_bytes()),
        words,
    }
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
                        .is_some_and(|bits| bits.load_acquire() & mask == 0)
                })
        })
    })
}
