// SPDX-License-Identifier: GPL-2.0

//! Taking slots: from the CPU's sheaf first, from the occupancy words behind it.

use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::processor::cpu_relax;

use kpreserve_kho::context;
use kpreserve_kho::ordered::Loads as _;

use crate::bulk::FreeWord;
use crate::owner::Vacant;
use crate::raw::RawCache;
use crate::run::{
    Dying,
    RunRef, //
};
use crate::sheaf::{
    FreeSlot,
    Sheaf, //
};
use crate::slots::Slab;
use crate::words::{
    self,
    Taken,
    Words, //
};

/// How many stretches of a search who cannot sleep makes before the reserve is opened, and how many
/// searches for what was passed by when there is none.
const NR_STRETCHES_ATOMIC: u32 = 3;
const NR_ROUNDS_LAST: u32 = 64;

/// How many slabs, and how many runs, are looked into before the CPU is let go for a moment: an
/// inherited slab that turns out to be full costs a few instructions a slot.
const NR_LOOKS_MAX: u32 = 32;
const NR_RUNS_MAX: u32 = 256;

/// A search for free slots: once through all runs, in stretches; or, in a cache that is dry,
/// through one.
pub(crate) struct Search {
    /// The next run to look into; `None` before the first.
    place: Option<u32>,
    /// What `nr_reopened` was when it began, if it goes through all runs.
    whole_at: Option<u64>,
    nr_runs_left: u32,
    nr_looks_left: u32,
    nr_runs_of_stretch: u32,
    /// Somebody else had a run or a slab just then, which may have free slots.
    passed_by: bool,
}

impl Search {
    fn new() -> Self {
        Self {
            place: None,
            whole_at: None,
            nr_runs_left: 0,
            nr_looks_left: NR_LOOKS_MAX,
            nr_runs_of_stretch: NR_RUNS_MAX,
            passed_by: false,
        }
    }

    /// Returns whether there is more to look into; then the next stretch begins.
    fn goes_on(&mut self) -> bool {
        self.nr_looks_left = NR_LOOKS_MAX;
        self.nr_runs_of_stretch = NR_RUNS_MAX;
        self.is_cut()
    }

    /// Returns whether it has ended before everything was looked into.
    fn is_cut(&self) -> bool {
        self.nr_runs_left > 0
    }
}

impl RawCache {
    /// Takes a slot: zeros, and free to the next kernel until it is published.
    ///
    /// With GFP_KERNEL it may sleep, and the cache grows; with any other flags it takes from what
    /// is there and from the reserve, from any context, and asks for the reserve to be refilled.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no slot and no memory; EBUSY if there is no slot and the framework is
    /// frozen, so that the cache may not grow.
    #[inline]
    pub fn alloc_slot(&'static self, flags: Flags) -> Result<Vacant> {
        context::check_alloc(flags);
        match self.pop() {
            Some(free) => Ok(Vacant::new(free, self)),
            None => self.alloc_slot_slow(flags),
        }
    }

    /// Takes a slot out of this CPU's main row.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<FreeSlot> {
        let mut here = self.cpus().enter(self.machine())?;
        // Left on each way apart, so that nothing has to be told from the other afterwards.
        match here.sheaf().pop() {
            Some(free) => {
                drop(here);
                self.is_untouched(&free).then_some(free)
            }
            None => {
                drop(here);
                None
            }
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn alloc_slot_slow(&'static self, flags: Flags) -> Result<Vacant> {
        let can_sleep = context::may_grow(flags);
        let nr_stretches = if can_sleep {
            u32::MAX
        } else {
            NR_STRETCHES_ATOMIC
        };
        loop {
            let nr_runs_added = self.fixed.nr_runs_added.load_acquire();
            let mut search = Search::new();
            if let Some(free) = self.take_slot(&mut search, nr_stretches) {
                return Ok(Vacant::new(free, self));
            }
            if search.is_cut() {
                // The reserve is nearer than what has not been looked into; but if there is none,
                // all is, once: what is full is noted.
                if self.open_reserve(nr_runs_added) {
                    continue;
                }
                if let Some(free) = self.take_slot(&mut search, u32::MAX) {
                    return Ok(Vacant::new(free, self));
                }
            }
            let grown = if can_sleep {
                self.grow(nr_runs_added)
            } else {
                self.want_reserve();
                Err(ENOMEM)
            };
            let Err(error) = grown else {
                continue;
            };
            if !self.open_reserve(nr_runs_added) {
                return self.take_last(error);
            }
        }
    }

    /// Takes a slot when there is nothing left to grow by: what others opened, let go of or gave back
    /// since the search.
    ///
    /// # Errors
    ///
    /// `error`, if there is nothing.
    fn take_last(&'static self, error: Error) -> Result<Vacant> {
        for _ in 0..NR_ROUNDS_LAST {
            let nr_runs_added = self.fixed.nr_runs_added.load_acquire();
            let mut search = Search::new();
            if let Some(free) = self.take_slot(&mut search, u32::MAX) {
                return Ok(Vacant::new(free, self));
            }
            // Others hold what was passed by for a moment only; but this may be an interrupt of theirs.
            let may_be_more =
                search.passed_by || self.fixed.nr_runs_added.load_acquire() != nr_runs_added;
            if !self.open_reserve(nr_runs_added) && !may_be_more {
                break;
            }
            cpu_relax();
        }
        Err(error)
    }

    /// Takes a slot from what is there.
    fn take_slot(&self, search: &mut Search, nr_stretches: u32) -> Option<FreeSlot> {
        for _ in 0..nr_stretches {
            let taken = match self.cpus().enter(self.machine()) {
                Some(mut here) => match here.sheaf().pop_any() {
                    Some(free) => Some(free),
                    None => self.refill(here.sheaf(), search),
                },
                None => self.take_nested(search),
            };
            match taken {
                Some(free) if self.is_untouched(&free) => return Some(free),
                // It stays taken: one less each time.
                Some(_) => {}
                None if search.goes_on() => {}
                None => return None,
            }
        }
        None
    }

    /// Takes up to `nr_max` slots of one word from what is there; `None` if there are none, or too many
    /// slabs had to be looked into.
    pub(crate) fn take_word(&self, nr_max: usize) -> Option<FreeWord<'_>> {
        self.find(&mut Search::new(), nr_max, |slab, taken| {
            Some(FreeWord::new(self, slab.base(), taken))
        })
    }

    /// Takes no more than there is room for: what is given back again others may have missed meanwhile.
    fn refill(&self, sheaf: &mut Sheaf, search: &mut Search) -> Option<FreeSlot> {
        sheaf.open();
        // As in `push_slow`.
        self.note_use();
        let nr_max = match sheaf.room() {
            // A whole word takes one exchange, without a loop.
            room if self.geometry().nr_slots() as usize <= room => usize::MAX,
            room => room,
        };
        self.find(search, nr_max, |slab, mut taken| {
            sheaf.fill(slab, &mut taken);
            self.give_taken(slab, taken);
            sheaf.pop()
        })
    }

    /// In an interrupt of somebody who works on the sheaf: one slot.
    #[cold]
    fn take_nested(&self, search: &mut Search) -> Option<FreeSlot> {
        self.find(search, 1, |slab, mut taken| slab.free_slot(taken.pop()?))
    }

    /// Finds free slots, in the first run that has some; goes on where the last stretch of the search
    /// ended.
    fn find<R>(
        &self,
        search: &mut Search,
        nr_max: usize,
        mut found: impl FnMut(&Slab<'_>, Taken) -> Option<R>,
    ) -> Option<R> {
        let (nr_reopened, is_dry) = self.fixed.dry.look();
        let nr_places = self.fixed.directory.nr_places();
        let cursor = self.fixed.cursor.load_relaxed();
        let mut place = match search.place {
            Some(place) => place,
            None => {
                search.whole_at = (!is_dry).then_some(nr_reopened);
                search.nr_runs_left = if is_dry { nr_places.min(1) } else { nr_places };
                cursor
            }
        };
        while search.nr_runs_left > 0 && search.nr_runs_of_stretch > 0 {
            if place >= nr_places {
                place = 0;
            }
            // Again, if the stretch ends in it: what was full is noted by then.
            search.place = Some(place);
            let slots = self.find_at(place, search, nr_max, &mut found);
            if slots.is_some() {
                if place != cursor {
                    self.move_cursor(cursor, place);
                }
                return slots;
            }
            if search.nr_looks_left == 0 {
                return None;
            }
            place += 1;
            search.place = Some(place);
            search.nr_runs_left -= 1;
            search.nr_runs_of_stretch -= 1;
        }
        if search.nr_runs_left == 0 {
            if search.passed_by {
                self.note_reopened();
            } else if let Some(nr_reopened) = search.whole_at {
                self.fixed.dry.note_dry(nr_reopened);
            }
        }
        None
    }

    fn find_at<R>(
        &self,
        place: u32,
        search: &mut Search,
        nr_max: usize,
        found: &mut impl FnMut(&Slab<'_>, Taken) -> Option<R>,
    ) -> Option<R> {
        let state = self.fixed.directory.get(place)?;
        // One look: who finds a run that is being decided about has passed it by, whatever comes of
        // it.
        if state.is_live_or_dying()? {
            search.passed_by = true;
            return None;
        }
        match state.get(place, false) {
            Ok(run) => self.find_in(&run?, search, nr_max, found),
            Err(Dying) => {
                search.passed_by = true;
                None
            }
        }
    }

    fn find_in<R>(
        &self,
        run: &RunRef<'_>,
        search: &mut Search,
        nr_max: usize,
        found: &mut impl FnMut(&Slab<'_>, Taken) -> Option<R>,
    ) -> Option<R> {
        let nr_slabs = run.nr_slabs(self.geometry());
        let full = run.full(self.geometry())?;
        // What the previous kernel filled it filled from the front: in a run of its making the slabs
        // at the end are the ones to have free slots.
        let backwards = run.is_inherited();
        for word in 0..full.len() {
            let word = if backwards {
                full.len() - 1 - word
            } else {
                word
            };
            let mut open = !full.get(word)?.load_relaxed() & bits_below(nr_slabs, word);
            while open != 0 {
                let bit = if backwards {
                    63 - open.leading_zeros()
                } else {
                    open.trailing_zeros()
                };
                open &= !(1 << bit);
                let index = word * 64 + bit;
                let slab = run.slab(index, self.geometry())?;
                search.nr_looks_left = search.nr_looks_left.checked_sub(1)?;
                if !self.prepare(&slab) {
                    if self.is_quarantined(&slab) {
                        // Who gave back just then may have taken the note away.
                        words::set(&slab.full(), slab.index());
                    } else {
                        search.passed_by = true;
                    }
                    continue;
                }
                if let Some(taken) = take_any(&slab, nr_max) {
                    return found(&slab, taken);
                }
                search.passed_by |= !self.note_full(&slab);
            }
        }
        None
    }
}

/// Returns the bits of word `word` that stand for numbers below `nr`.
const fn bits_below(nr: u32, word: u32) -> u64 {
    match nr.saturating_sub(word.saturating_mul(64)) {
        0 => 0,
        nr @ 1..64 => (1 << nr) - 1,
        _ => u64::MAX,
    }
}

fn take_any(slab: &Slab<'_>, nr_max: usize) -> Option<Taken> {
    (0..slab.geometry().nr_words())
        .find_map(|word| words::take_some(&slab.occupancy(), word, nr_max))
}
