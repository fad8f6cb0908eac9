// SPDX-License-Identifier: GPL-2.0

//! Runs come: growth, the reserve. How they go is in excess.rs.

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
    RunUse, //
};

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
        if self.use_condemned(nr_runs_added) {
            return Ok(());
        }
        let place = self.add_run(&pass, &mut ground, RunUse::Live)?;
        self.note_added(place, nr_runs_added);
        Ok(())
    }

    /// Adds a run; returns its place.
    fn add_run(&self, pass: &GatePass<'_>, ground: &mut Ground, to: RunUse) -> Result<u32> {
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
            Ok(place)
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

    /// Takes a run out of the reserve into use, or one that was condemned, after a search that
    /// began when `nr_runs_added` runs had come found nothing; returns whether there was one. From
    /// any context.
    #[cold]
    pub(crate) fn open_reserve(&self, nr_runs_added: u32) -> bool {
        if self.use_condemned(nr_runs_added) {
            return true;
        }
        let opened = self.fixed.nr_reserved.load_acquire() != 0
            && self.use_one(RunUse::Reserve, nr_runs_added);
        if opened {
            self.fixed.nr_reserved.fetch_sub(1, Full);
            self.machine().kick_worker();
        }
        opened
    }

    /// Takes a condemned run into use; returns whether there was one.
    fn use_condemned(&self, nr_runs_added: u32) -> bool {
        let used = self.fixed.nr_condemned.load_acquire() != 0
            && self.use_one(RunUse::Condemned, nr_runs_added);
        if used {
            self.fixed.nr_condemned.fetch_sub(1, Full);
        }
        used
    }

    /// Takes a run into use that is in the state `from`; returns whether there was one.
    fn use_one(&self, from: RunUse, nr_runs_added: u32) -> bool {
        let Some(place) = self.move_one(from, RunUse::Live) else {
            return false;
        };
        self.note_added(place, nr_runs_added);
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
    pub(crate) fn shed_reserve(&self) -> bool {
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
            if self.condemn_from(run, RunUse::Reserve, || true) {
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

    /// Puts condemned runs in reserve as far as it lacks any.
    pub(crate) fn keep_as_reserve(&self) {
        while self.fixed.nr_reserved.load_acquire() < self.fixed.nr_reserved_wanted.load_relaxed() {
            // As in `fill_reserve`.
            self.fixed.nr_reserved.fetch_add(1, Full);
            let is_kept = self.fixed.nr_condemned.load_acquire() != 0
                && self.move_one(RunUse::Condemned, RunUse::Reserve).is_some();
            if !is_kept {
                self.fixed.nr_reserved.fetch_sub(1, Full);
                break;
            }
            self.fixed.nr_condemned.fetch_sub(1, Full);
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
