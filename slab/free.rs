// SPDX-License-Identifier: GPL-2.0

//! Giving slots back: to the CPU's sheaf first, to the occupancy words behind it.

use core::ptr::NonNull;

use kernel::sync::atomic::Relaxed;

use kpreserve_kho::Refusal;

use crate::abi::HEADER_BYTES;
use crate::geometry::Geometry;
use crate::raw::RawCache;
use crate::sheaf::{
    FreeSlot,
    Sheaf, //
};
use crate::slots::{
    Slab,
    SlabMemory, //
};
use crate::touch::freed_twice;
use crate::words::{
    self,
    Taken, //
};

impl RawCache {
    /// Gives a slot back that is zeros already.
    #[inline(always)]
    pub(crate) fn push(&self, free: FreeSlot) {
        if let Err(free) = self.try_push(free) {
            self.push_slow(free);
        }
    }

    #[inline(always)]
    fn try_push(&self, free: FreeSlot) -> Result<(), FreeSlot> {
        let Some(mut here) = self.cpus().enter(self.machine()) else {
            return Err(free);
        };
        // As in `pop`.
        match here.sheaf().push(free) {
            Ok(()) => {
                drop(here);
                Ok(())
            }
            Err(free) => {
                drop(here);
                Err(free)
            }
        }
    }

    /// The main row is full, or somebody who was interrupted works on it.
    #[cold]
    #[inline(never)]
    fn push_slow(&self, free: FreeSlot) {
        let left = match self.cpus().enter(self.machine()) {
            Some(mut here) => {
                let sheaf = here.sheaf();
                if !sheaf.make_room() {
                    self.flush_spare(sheaf);
                    sheaf.make_room();
                }
                sheaf.push(free)
            }
            None => Err(free),
        };
        if let Err(free) = left {
            Batch::new(self).add(free);
        }
    }

    fn flush_spare(&self, sheaf: &mut Sheaf) {
        let mut batch = Batch::new(self);
        while let Some(free) = sheaf.pop_spare() {
            batch.add(free);
        }
    }

    fn flush(&self, sheaf: &mut Sheaf) {
        let mut batch = Batch::new(self);
        while let Some(free) = sheaf.pop_any() {
            batch.add(free);
        }
    }

    /// Gives back to their slabs what this CPU holds. From any context but NMI.
    ///
    /// Cost: a few instructions a slot, an atomic operation for each word that they are of.
    pub fn drain_here(&self) {
        // Whoever is busy is not idle, and goes on using what there is.
        if let Some(mut here) = self.cpus().enter(self.machine()) {
            self.flush(here.sheaf());
        }
    }

    /// Gives back to their slabs what a CPU holds that is gone. From any context but NMI.
    ///
    /// # Safety
    ///
    /// The CPU is not running, all that it did is visible here, and it stays off until this
    /// returns; nobody else calls this for it meanwhile.
    pub unsafe fn drain_cpu(&self, cpu: usize) {
        // SAFETY: says the caller.
        unsafe { self.cpus().with_gone(cpu, |sheaf| self.flush(sheaf)) };
    }

    /// Gives taken slots of one word back; `base` is the start of their slab.
    pub(crate) fn give_word(&self, base: NonNull<u8>, taken: Taken, given_twice: bool) {
        // SAFETY: slots of the slab are owned, and their bits still set; nothing but the words is
        // used once they are cleared.
        match unsafe { self.slab_of_owner(base) } {
            Some(slab) if given_twice => {
                self.quarantine(&slab, freed_twice(&slab, taken.word() * 64));
            }
            Some(slab) => self.give_taken(&slab, taken),
            None => {}
        }
    }

    /// Quarantines the slab of a slot, in which `at` is.
    ///
    /// # Safety
    ///
    /// The caller owns the slot.
    #[cold]
    pub(crate) unsafe fn quarantine_at(&self, at: NonNull<u8>, why: Refusal) {
        let within = self.geometry().offset_of(at.addr().get());
        // SAFETY: inside a slab, which is aligned to its size.
        let base = unsafe { at.sub(within) };
        // SAFETY: says the caller.
        if let Some(slab) = unsafe { self.slab_of_owner(base) } {
            self.quarantine(&slab, why);
        }
    }

    /// Returns the slab that begins at `base`.
    ///
    /// # Safety
    ///
    /// The caller owns a slot of it, and uses the slab only until it has given the slot back, its words
    /// also right after.
    unsafe fn slab_of_owner(&self, base: NonNull<u8>) -> Option<Slab<'_>> {
        // SAFETY: a slab with a slot that was taken, so its run stays.
        let place = unsafe { SlabMemory::new(self.geometry(), base) }.noted_place();
        let phys = self.window().phys(base)?;
        let run = self.fixed.directory.get(place)?;
        // SAFETY: says the caller.
        unsafe { run.slab_of_owner(place, phys, self.geometry()) }
    }

    /// Gives taken slots back to their slab.
    pub(crate) fn give_taken(&self, slab: &Slab<'_>, taken: Taken) {
        if taken.is_empty() || self.is_quarantined(slab) {
            // What a quarantined slab has is not given out again.
            return;
        }
        let first = taken.word() * 64;
        if words::give_back(&slab.occupancy(), taken).is_err() {
            self.quarantine(slab, freed_twice(slab, first));
            return;
        }
        if words::note_free(&slab.full(), slab.index())
            && slab.place() < self.fixed.cursor.load(Relaxed)
        {
            self.fixed.cursor.store(slab.place(), Relaxed);
        }
    }
}

/// Collects slots of one word before it gives them back, in one atomic operation. Dropping it gives
/// back what is left.
pub(crate) struct Batch<'a> {
    cache: &'a RawCache,
    /// Start of the slab, and the slots: all of one word.
    word: Option<(NonNull<u8>, Taken)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(cache: &'a RawCache) -> Self {
        Self { cache, word: None }
    }

    /// Adds a slot.
    pub(crate) fn add(&mut self, free: FreeSlot) {
        let (base, slot) = place_of(self.cache.geometry(), &free);
        if let Some((at, taken)) = &mut self.word {
            if *at == base && taken.word() == slot / 64 {
                if taken.put(slot).is_err() {
                    self.cache.give_word(base, Taken::of_slot(slot), true);
                }
                return;
            }
        }
        self.give();
        self.word = Some((base, Taken::of_slot(slot)));
    }

    /// Adds `nr` slots of one slab, side by side; the others are as free as the first.
    pub(crate) fn add_row(&mut self, first: FreeSlot, nr: usize) {
        let (base, mut slot) = place_of(self.cache.geometry(), &first);
        let mut nr_left = nr as u32;
        while nr_left > 0 {
            let (word, bit) = (slot / 64, slot % 64);
            let nr_here = nr_left.min(64 - bit);
            let mask = (u64::MAX >> (64 - nr_here)) << bit;
            match &mut self.word {
                Some((at, taken)) if *at == base && taken.word() == word => {
                    if taken.put_mask(mask).is_err() {
                        self.cache.give_word(base, Taken::of_mask(word, mask), true);
                    }
                }
                _ => {
                    self.give();
                    self.word = Some((base, Taken::of_mask(word, mask)));
                }
            }
            slot += nr_here;
            nr_left -= nr_here;
        }
    }

    fn give(&mut self) {
        if let Some((base, taken)) = self.word.take() {
            self.cache.give_word(base, taken, false);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.give();
    }
}

/// Returns the start of the slab that a slot is of, and the slot's number.
fn place_of(geometry: &Geometry, free: &FreeSlot) -> (NonNull<u8>, u32) {
    let within = free.start.addr().get() & (geometry.slab_bytes() - 1);
    // SAFETY: slabs are aligned to their size, so its start is `within` bytes before the slot.
    let base = unsafe { free.start.sub(within) };
    // By the invariants of `FreeSlot`: tags stand behind the header, one a slot.
    let first_tag = base.addr().get() + HEADER_BYTES;
    (base, free.tag.addr().get().wrapping_sub(first_tag) as u32)
}
