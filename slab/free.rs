// SPDX-License-Identifier: GPL-2.0

//! Giving slots back: to the CPU's sheaf first, to the occupancy words behind it.

use core::ptr::NonNull;

use kpreserve_kho::Refusal;

use crate::abi::HEADER_BYTES;
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
                let was_closed = sheaf.open();
                // Also if it was open: nobody closes that of a CPU which is to be left alone.
                self.note_use();
                if !was_closed && !sheaf.make_room() {
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
        batch.add_all(sheaf.take_spare());
    }

    fn flush(&self, sheaf: &mut Sheaf) {
        self.flush_spare(sheaf);
        sheaf.make_room();
        self.flush_spare(sheaf);
    }

    /// Gives back to their slabs what this CPU holds, and closes its sheaf (rest.rs). From any
    /// context but NMI.
    ///
    /// Cost: a few instructions a slot, an atomic operation for each word that they are of.
    pub fn drain_here(&self) {
        // Whoever is busy is not idle, and goes on using what there is.
        if let Some(mut here) = self.cpus().enter(self.machine()) {
            self.flush(here.sheaf());
            here.sheaf().close();
        }
    }

    /// Gives back to their slabs what a CPU holds that is gone. From any context but NMI.
    ///
    /// # Safety
    ///
    /// The CPU is not running, all that it did is visible here, and it stays off until this
    /// returns; nobody else calls this for it meanwhile.
    pub unsafe fn drain_cpu(&self, cpu: usize) {
        let empty = |sheaf: &mut Sheaf| {
            self.flush(sheaf);
            sheaf.close();
        };
        // SAFETY: the CPU is gone, by the requirements.
        unsafe { self.cpus().with_gone(cpu, empty) };
    }

    /// Gives taken slots of one word back; `base` is the start of their slab.
    #[inline(never)]
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
        // SAFETY: says the caller.
        if let Some(slab) = unsafe { self.slab_around(at) } {
            self.quarantine(&slab, why);
        }
    }

    /// Returns whether the slab of a slot, in which `at` is, is quarantined.
    ///
    /// # Safety
    ///
    /// The caller owns the slot.
    pub(crate) unsafe fn is_quarantined_at(&self, at: NonNull<u8>) -> bool {
        // SAFETY: says the caller.
        let slab = unsafe { self.slab_around(at) };
        slab.is_some_and(|slab| self.is_quarantined(&slab))
    }

    /// Returns the slab of a slot, in which `at` is.
    ///
    /// # Safety
    ///
    /// As for [`slab_of_owner`](Self::slab_of_owner).
    unsafe fn slab_around(&self, at: NonNull<u8>) -> Option<Slab<'_>> {
        let within = self.geometry().offset_of(at.addr().get());
        // SAFETY: inside a slab, which is aligned to its size.
        let base = unsafe { at.sub(within) };
        // SAFETY: says the caller.
        unsafe { self.slab_of_owner(base) }
    }

    /// Returns the slab that begins at `base`.
    ///
    /// # Safety
    ///
    /// The caller owns a slot of it, and uses the slab only until it has given the slot back, its words
    /// also right after.
    #[inline(always)]
    unsafe fn slab_of_owner(&self, base: NonNull<u8>) -> Option<Slab<'_>> {
        // SAFETY: a slab with a slot that was taken, so its run stays.
        let place = unsafe { SlabMemory::new(self.geometry(), base) }.noted_place();
        let run = self.fixed.directory.get(place)?;
        // SAFETY: says the caller.
        unsafe { run.slab_of_owner(place, base, self.geometry()) }
    }

    /// Gives taken slots back to their slab.
    #[inline(always)]
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
        if words::note_free(&slab.full(), slab.index()) {
            self.note_reopened_at(slab.place());
        }
    }
}

/// Collects slots of one word before it gives them back, in one atomic operation. Dropping it gives
/// back what is left.
///
/// # Invariants
///
/// The slots whose tags are `first_tag` and what `free` says behind it are free, and this value's.
pub(crate) struct Batch<'a> {
    cache: &'a RawCache,
    /// Address of the first tag of the word; 0 if there is none.
    first_tag: usize,
    free: u64,
    /// Start of the slab, and number of the word in it.
    base: NonNull<u8>,
    word: u32,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(cache: &'a RawCache) -> Self {
        Self {
            cache,
            first_tag: 0,
            free: 0,
            base: NonNull::dangling(),
            word: 0,
        }
    }

    /// Adds a slot.
    #[inline]
    pub(crate) fn add(&mut self, free: FreeSlot) {
        // The tags of a word's slots stand side by side, and nobody else's there.
        if free.tag.addr().get().wrapping_sub(self.first_tag) >= 64 {
            self.turn_to(&free);
        }
        self.put(1 << (free.tag.addr().get().wrapping_sub(self.first_tag) % 64));
    }

    /// Adds slots, those of a word that follow each other at once.
    fn add_all(&mut self, mut slots: &[FreeSlot]) {
        while let Some(first) = slots.first() {
            if first.tag.addr().get().wrapping_sub(self.first_tag) >= 64 {
                self.turn_to(first);
            }
            let (mut free, mut nr) = (0u64, 0);
            for slot in slots {
                let bit = slot.tag.addr().get().wrapping_sub(self.first_tag);
                if bit >= 64 {
                    break;
                }
                free |= 1 << bit;
                nr += 1;
            }
            self.put(free);
            if free.count_ones() as usize != nr {
                // One of them is there twice.
                self.put(free);
            }
            slots = slots.get(nr..).unwrap_or_default();
        }
    }

    /// Adds `nr` slots of one slab, side by side; the others are as free as the first.
    pub(crate) fn add_row(&mut self, first: FreeSlot, nr: usize) {
        let mut tag = first.tag;
        let mut nr_left = nr;
        while nr_left > 0 {
            if tag.addr().get().wrapping_sub(self.first_tag) >= 64 {
                // INVARIANT: of the same slab.
                let start = first.start;
                self.turn_to(&FreeSlot { start, tag });
            }
            let bit = tag.addr().get().wrapping_sub(self.first_tag) % 64;
            let nr_here = nr_left.min(64 - bit);
            self.put((u64::MAX >> (64 - nr_here)) << bit);
            // SAFETY: to the tag of the next slot, or behind the last one.
            tag = unsafe { tag.add(nr_here) };
            nr_left -= nr_here;
        }
    }

    #[inline]
    fn put(&mut self, free: u64) {
        if self.free & free != 0 {
            let taken = Taken::of_mask(self.word, free);
            self.cache.give_word(self.base, taken, true);
        }
        self.free |= free;
    }

    /// Gives back what there is, and goes on with the word of a slot.
    #[inline(never)]
    fn turn_to(&mut self, free: &FreeSlot) {
        self.give();
        let within = self.cache.geometry().offset_of(free.start.addr().get());
        // SAFETY: slabs are aligned to their size, so its start is `within` bytes before the slot.
        self.base = unsafe { free.start.sub(within) };
        let tags = self.base.addr().get() + HEADER_BYTES;
        // By the invariants of `FreeSlot`: tags stand behind the header, one a slot.
        let slot = free.tag.addr().get().wrapping_sub(tags);
        self.word = (slot / 64) as u32;
        self.first_tag = tags + slot / 64 * 64;
    }

    fn give(&mut self) {
        let free = core::mem::replace(&mut self.free, 0);
        if free != 0 {
            let taken = Taken::of_mask(self.word, free);
            self.cache.give_word(self.base, taken, false);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.first_tag != 0 {
            self.give();
            self.cache.note_news();
        }
    }
}
