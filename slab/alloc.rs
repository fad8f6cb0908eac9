// SPDX-License-Identifier: GPL-2.0

//! Taking slots and giving them back: the CPU's current word first, the occupancy words behind it.

use core::ptr::NonNull;

use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Relaxed, //
};

use crate::cpu::Current;
use crate::owner::Vacant;
use crate::raw::RawCache;
use crate::run::{
    RunRef,
    RunUse, //
};
use crate::slots::{
    Slab,
    SlabMemory, //
};
use crate::touch::freed_twice;
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
        let mut nr_looks = NR_LOOKS_MAX;
        match self.take_slot(&mut nr_looks) {
            // SAFETY: the slot was just taken, so nobody else has it.
            Some(start) => Ok(unsafe { Vacant::new(start, self) }),
            None => self.alloc_slot_slow(flags),
        }
    }

    #[cold]
    fn alloc_slot_slow(&'static self, flags: Flags) -> Result<Vacant> {
        let can_sleep = flags.contains(GFP_KERNEL);
        let mut nr_rounds = 0;
        loop {
            let nr_runs_added = self.fixed.nr_runs_added.load(Acquire);
            let mut nr_looks = NR_LOOKS_MAX;
            let grown = if let Some(start) = self.take_slot(&mut nr_looks) {
                // SAFETY: the slot was just taken, so nobody else has it.
                return Ok(unsafe { Vacant::new(start, self) });
            } else if nr_looks == 0 && (can_sleep || nr_rounds < NR_ROUNDS_ATOMIC) {
                // What was full is noted, so the search goes on behind it.
                nr_rounds += 1;
                continue;
            } else if can_sleep {
                self.grow(nr_runs_added)
            } else {
                self.want_reserve();
                Err(ENOMEM)
            };
            if let Err(error) = grown {
                if !self.open_reserve() {
                    return Err(error);
                }
            }
        }
    }

    /// Takes a slot from what is there: its address. `nr_looks` slabs may be looked into; if none
    /// are left over, there may be more.
    #[inline]
    fn take_slot(&self, nr_looks: &mut u32) -> Option<NonNull<u8>> {
        let taken = self.cpus().with(self.machine(), |current| {
            match current.pop(self.geometry()) {
                Some(start) => Some(start),
                None => self.refill(current, nr_looks),
            }
        });
        match taken {
            Some(start) => start,
            None => self.take_nested(nr_looks),
        }
    }

    #[cold]
    fn refill(&self, current: &mut Current, nr_looks: &mut u32) -> Option<NonNull<u8>> {
        self.find(nr_looks, |slab, taken| {
            current.install(slab, taken);
            current.pop(self.geometry())
        })
    }

    /// In an interrupt of somebody who works on the current word: one slot, the rest of its word
    /// goes back at once.
    #[cold]
    fn take_nested(&self, nr_looks: &mut u32) -> Option<NonNull<u8>> {
        self.find(nr_looks, |slab, mut taken| {
            let slot = taken.pop()?;
            self.give_taken(slab, taken);
            slab.slot(slot)
        })
    }

    /// Finds free slots, in the first run that has some.
    fn find(
        &self,
        nr_looks: &mut u32,
        mut found: impl FnMut(&Slab<'_>, Taken) -> Option<NonNull<u8>>,
    ) -> Option<NonNull<u8>> {
        let nr_places = self.fixed.directory.nr_places();
        let from = self.fixed.cursor.load(Relaxed).min(nr_places);
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
            let start = self.find_in(&run, nr_looks, &mut found);
            if start.is_some() || *nr_looks == 0 {
                if place != from {
                    self.fixed.cursor.store(place, Relaxed);
                }
                return start;
            }
        }
        None
    }

    fn find_in(
        &self,
        run: &RunRef<'_>,
        nr_looks: &mut u32,
        found: &mut impl FnMut(&Slab<'_>, Taken) -> Option<NonNull<u8>>,
    ) -> Option<NonNull<u8>> {
        let nr_slabs = run.nr_slabs(self.geometry());
        let full = run.slab(0, self.geometry())?.full();
        for word in 0..full.len() {
            let mut open = !full.get(word)?.load(Relaxed);
            while open != 0 {
                let index = word * 64 + open.trailing_zeros();
                open &= open - 1;
                if index >= nr_slabs {
                    break;
                }
                let slab = run.slab(index, self.geometry())?;
                *nr_looks = nr_looks.checked_sub(1)?;
                if !self.prepare(&slab) {
                    continue;
                }
                if let Some(taken) = take_any(&slab) {
                    return found(&slab, taken);
                }
                note_full(&slab);
            }
        }
        None
    }

    /// Gives a slot back that is zeros already; the caller owned it.
    #[inline]
    pub(crate) fn give_slot(&self, slab: &SlabMemory<'_>, start: NonNull<u8>, slot: u32) {
        let address = start.as_ptr().expose_provenance();
        let put = self
            .cpus()
            .with(self.machine(), |current| current.put(address, slot));
        match put {
            Some(Ok(true)) => {}
            // It is in the current word, so it was given back already.
            Some(Err(_)) => self.give_slot_slow(slab, start, slot, true),
            _ => self.give_slot_slow(slab, start, slot, false),
        }
    }

    #[cold]
    fn give_slot_slow(
        &self,
        memory: &SlabMemory<'_>,
        start: NonNull<u8>,
        slot: u32,
        given_twice: bool,
    ) {
        let place = memory.noted_place();
        let slab = self.window().phys(start).and_then(|phys| {
            let run = self.fixed.directory.get(place)?;
            // SAFETY: the caller owned the slot at `phys`, and its bit is still set; nothing but
            // the words is used once it is cleared.
            unsafe { run.slab_of_owner(place, phys, self.geometry()) }
        });
        match slab {
            Some(slab) if given_twice => self.quarantine(&slab, freed_twice(&slab, slot)),
            Some(slab) => self.give_taken(&slab, Taken::of_slot(slot)),
            None => {}
        }
    }

    /// Gives taken slots back to their slab.
    fn give_taken(&self, slab: &Slab<'_>, taken: Taken) {
        if taken.is_empty() || self.is_quarantined(slab) {
            // What a quarantined slab has is not given out again.
            return;
        }
        let first = taken.word() * 64;
        if words::give_back(&slab.occupancy(), taken).is_err() {
            self.quarantine(slab, freed_twice(slab, first));
            return;
        }
        // After the slots, with a full barrier in between; `note_full` does the reverse.
        if words::test(&slab.full(), slab.index()) {
            words::clear(&slab.full(), slab.index());
            if slab.place() < self.fixed.cursor.load(Relaxed) {
                self.fixed.cursor.store(slab.place(), Relaxed);
            }
        }
    }
}

fn take_any(slab: &Slab<'_>) -> Option<Taken> {
    (0..slab.geometry().nr_words()).find_map(|word| words::take(&slab.occupancy(), word))
}

/// Notes that a slab is full, unless a slot has been given back meanwhile.
fn note_full(slab: &Slab<'_>) {
    words::set(&slab.full(), slab.index());
    let occupancy = slab.occupancy();
    let is_full = (0..occupancy.len()).all(|word| {
        occupancy
            .get(word)
            .is_none_or(|bits| bits.load(Relaxed) == u64::MAX)
    });
    if !is_full {
        words::clear(&slab.full(), slab.index());
    }
}
