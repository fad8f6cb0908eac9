// SPDX-License-Identifier: GPL-2.0

//! Taking slots: from the CPU's sheaf first, from the occupancy words behind it.

use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

use kpreserve_kho::context;
use kpreserve_kho::ordered::Loads as _;

use crate::bulk::FreeWord;
use crate::owner::Vacant;
use crate::raw::RawCache;
use crate::run::{
    RunRef,
    RunUse, //
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

/// How often who cannot sleep looks into as many more, before the reserve is opened.
const NR_ROUNDS_ATOMIC: u32 = 2;

/// How many slabs are looked into before the CPU is let go for a moment: an inherited slab that turns
/// out to be full costs a few instructions a slot.
const NR_LOOKS_MAX: u32 = 32;

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
        let mut nr_rounds = 0;
        loop {
            let nr_runs_added = self.fixed.nr_runs_added.load_acquire();
            let mut nr_looks = NR_LOOKS_MAX;
            let grown = if let Some(free) = self.take_slot(&mut nr_looks) {
                if !self.is_untouched(&free) {
                    // It stays taken: one less each time.
                    continue;
                }
                return Ok(Vacant::new(free, self));
            } else if nr_looks == 0 && (can_sleep || nr_rounds < NR_ROUNDS_ATOMIC) {
                // What was full is noted, so the search goes on behind it.
                nr_rounds = nr_rounds.saturating_add(1);
                continue;
            } else if can_sleep {
                self.grow(nr_runs_added)
            } else {
                self.want_reserve();
                Err(ENOMEM)
            };
            if let Err(error) = grown {
                if self.open_reserve() {
                    continue;
                }
                // Somebody else may have, after the search above.
                let is_new = self.fixed.nr_runs_added.load_acquire() != nr_runs_added;
                if !is_new || nr_rounds >= NR_ROUNDS_ATOMIC {
                    return Err(error);
                }
                nr_rounds = nr_rounds.saturating_add(1);
            }
        }
    }

    /// Takes a slot from what is there. `nr_looks` slabs may be looked into; if none are left over,
    /// there may be more.
    fn take_slot(&self, nr_looks: &mut u32) -> Option<FreeSlot> {
        match self.cpus().enter(self.machine()) {
            Some(mut here) => match here.sheaf().pop_any() {
                Some(free) => Some(free),
                None => self.refill(here.sheaf(), nr_looks),
            },
            None => self.take_nested(nr_looks),
        }
    }

    /// Takes up to `nr_max` slots of one word from what is there; `None` if there are none, or too many
    /// slabs had to be looked into.
    pub(crate) fn take_word(&self, nr_max: usize) -> Option<FreeWord<'_>> {
        self.find(&mut { NR_LOOKS_MAX }, nr_max, |slab, taken| {
            Some(FreeWord::new(self, slab.base(), taken))
        })
    }

    fn refill(&self, sheaf: &mut Sheaf, nr_looks: &mut u32) -> Option<FreeSlot> {
        self.find(nr_looks, usize::MAX, |slab, mut taken| {
            sheaf.fill(slab, &mut taken);
            self.give_taken(slab, taken);
            sheaf.pop()
        })
    }

    /// In an interrupt of somebody who works on the sheaf: one slot, the rest of its word goes back
    /// at once.
    #[cold]
    fn take_nested(&self, nr_looks: &mut u32) -> Option<FreeSlot> {
        self.find(nr_looks, usize::MAX, |slab, mut taken| {
            let slot = taken.pop()?;
            self.give_taken(slab, taken);
            slab.free_slot(slot)
        })
    }

    /// Finds free slots, in the first run that has some.
    fn find<R>(
        &self,
        nr_looks: &mut u32,
        nr_max: usize,
        mut found: impl FnMut(&Slab<'_>, Taken) -> Option<R>,
    ) -> Option<R> {
        let nr_places = self.fixed.directory.nr_places();
        let from = self.fixed.cursor.load_relaxed().min(nr_places);
        for place in Iterator::chain(from..nr_places, 0..from) {
            let Some(Ok(Some(run))) = self.fixed.directory.get(place).map(|run| {
                if run.is(RunUse::Live) {
                    run.get(place, false)
                } else {
                    Ok(None)
                }
            }) else {
                continue;
            };
            let slots = self.find_in(&run, nr_looks, nr_max, &mut found);
            if slots.is_some() || *nr_looks == 0 {
                if place != from {
                    self.fixed.cursor.store(place, Relaxed);
                }
                return slots;
            }
        }
        None
    }

    fn find_in<R>(
        &self,
        run: &RunRef<'_>,
        nr_looks: &mut u32,
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
                *nr_looks = nr_looks.checked_sub(1)?;
                if !self.prepare(&slab) {
                    continue;
                }
                if let Some(taken) = take_any(&slab, nr_max) {
                    return found(&slab, taken);
                }
                words::note_full(&slab.full(), slab.index(), &slab.occupancy());
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
