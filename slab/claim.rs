// SPDX-License-Identifier: GPL-2.0

//! From a handle to an owner, at most once; and what happens to what nobody claims.
//!
//! Handles are wild: they may be old, of another cache, or forged. No byte of a slab is read
//! before the address was found among the runs of the cache, and what decides is a
//! compare-and-swap on the `unclaimed` words, which this boot made itself.
//!
//! All of this is for tasks: it may wait, briefly, for a slab that another CPU takes into use.

use kernel::prelude::*;
use kernel::processor::cpu_relax;

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::{
    context,
    Handle,
    Phys, //
};

use crate::owner::Slot;
use crate::raw::RawCache;
use crate::run::{
    Dying,
    RunRef, //
};
use crate::slots::Slab;
use crate::tag::Tag;
use crate::touch::Touched;
use crate::words::{
    self,
    Words, //
};

impl RawCache {
    /// Takes the object of a handle: the caller is its owner, and the only one.
    ///
    /// # Errors
    ///
    /// - EINVAL if the handle is null, or not of a slot of this cache, or its slab is quarantined;
    /// - ENOENT if the slot is free;
    /// - ESTALE if another object has the slot now;
    /// - EBUSY if the object has an owner.
    pub fn claim(&'static self, handle: u64) -> Result<Slot> {
        Ok(self.claim_slot(handle)?.0)
    }

    /// Claims, and says whether the object was incoming.
    fn claim_slot(&'static self, handle: u64) -> Result<(Slot, bool)> {
        let phys = Handle::<()>::from_raw(handle).phys();
        let tag = Tag(Handle::<()>::from_raw(handle).tag());
        if phys.is_null() {
            return Err(EINVAL);
        }
        let run = self.run_of(phys)?;
        let slab = run.slab_of(phys, self.geometry()).ok_or(EINVAL)?;
        let offset = phys.get().checked_sub(slab.phys().get()).ok_or(EINVAL)?;
        let slot = self.geometry().slot_at(offset as usize).ok_or(EINVAL)?;
        if self.touch(&slab)? == Touched::Unformatted {
            return Err(ENOENT);
        }
        words::claim(&slab.unclaimed(), slot, || check_tag(&slab, slot, tag))?;
        let incoming = words::clear(&slab.incoming(), slot);
        Ok((self.own(&slab, slot)?, incoming))
    }

    /// Frees the object of a handle.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn discard(&'static self, handle: u64) -> Result {
        self.claim(handle)?.free();
        Ok(())
    }

    /// Looks at the object of a handle that nobody owns, and leaves it as it was.
    ///
    /// While `look` runs, others who claim the object get EBUSY.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn peek<R>(&'static self, handle: u64, look: impl FnOnce(&Slot) -> R) -> Result<R> {
        let (slot, incoming) = self.claim_slot(handle)?;
        let seen = look(&slot);
        slot.put_down(incoming);
        Ok(seen)
    }

    /// Goes through the objects that were unclaimed when the cache was opened and still are, and
    /// takes each. What was parked since is left alone.
    ///
    /// Cost: goes with the slots. Dropping an object that was yielded frees it; park it to keep it.
    pub fn unclaimed(&'static self) -> Unclaimed {
        Unclaimed {
            cache: self,
            place: 0,
            index: 0,
            slot: 0,
        }
    }

    /// Frees the objects that were unclaimed when the cache was opened and still are; returns how
    /// many. A second call has nothing left to do. May sleep.
    ///
    /// Cost: goes with the slabs, and the objects that are freed.
    pub fn finish(&'static self) -> usize {
        let nr_freed = self.unclaimed().map(Slot::free).count();
        // Also if it is none: what was inherited may be empty.
        self.note_news();
        self.machine().kick_worker();
        nr_freed
    }

    /// Makes a live slot claimable; its owner, who called, is none any more.
    pub(crate) fn park_slot(&self, phys: Phys) {
        self.put_down(phys, false);
    }

    pub(crate) fn put_down(&self, phys: Phys, incoming: bool) {
        let Ok(run) = self.run_of(phys) else {
            return;
        };
        let Some(slab) = run.slab_of(phys, self.geometry()) else {
            return;
        };
        let Some(slot) = self.slot_in(&slab, phys) else {
            return;
        };
        // The incoming bits must be of this opening before the object becomes claimable, lest it
        // be taken for one that was there before. In a quarantined slab the next kernel may find
        // the object.
        if self.touch(&slab).is_ok() {
            // An object of an earlier one may have stood here.
            if incoming {
                words::set(&slab.incoming(), slot);
            } else {
                words::clear(&slab.incoming(), slot);
            }
            words::set(&slab.unclaimed(), slot);
        }
    }

    fn slot_in(&self, slab: &Slab<'_>, phys: Phys) -> Option<u32> {
        let offset = phys.get().checked_sub(slab.phys().get())?;
        self.geometry().slot_at(offset as usize)
    }

    /// Finds the run that holds `phys`, without reading a byte of it.
    fn run_of(&self, phys: Phys) -> Result<RunRef<'_>> {
        context::check_task();
        loop {
            let place = self.index.lock().find(phys).ok_or(EINVAL)?;
            match self
                .fixed
                .directory
                .get(place)
                .ok_or(EINVAL)?
                .get(place, true)
            {
                Ok(Some(run)) if run.contains(phys) => return Ok(run),
                // It went between the two lines above.
                Ok(_) => return Err(EINVAL),
                // The worker makes up its mind, pinned.
                Err(Dying) => cpu_relax(),
            }
        }
    }

    /// Makes the owner of a slot whose `unclaimed` bit the caller has cleared.
    fn own(&'static self, slab: &Slab<'_>, slot: u32) -> Result<Slot> {
        let start = slab.slot(slot).ok_or(EINVAL)?;
        // SAFETY: `start` is a slot of this cache with an odd tag: its `unclaimed` bit was set,
        // and is set for live slots without an owner only; clearing it made the caller the only
        // owner.
        Ok(unsafe { Slot::new(start, self) })
    }
}

/// Compares the tag of a slot with a handle's.
fn check_tag(slab: &Slab<'_>, slot: u32, tag: Tag) -> Result {
    let found = slab.tag(slot);
    if !found.is_live() {
        return Err(ENOENT);
    }
    if found == Tag::FORWARD {
        // A newer kernel moved the object.
        return Err(EOPNOTSUPP);
    }
    if found != tag {
        return Err(ESTALE);
    }
    Ok(())
}

/// Goes through a cache; made by [`RawCache::unclaimed`].
pub struct Unclaimed {
    cache: &'static RawCache,
    place: u32,
    index: u32,
    slot: u32,
}

impl Unclaimed {
    /// Takes the next object of the slab that is being looked at.
    fn next_in(&mut self, slab: &Slab<'_>) -> Option<Slot> {
        if self.cache.touch(slab) != Ok(Touched::Known) {
            return None;
        }
        loop {
            // What is put back while this goes on is not met again.
            let (word, behind) = (self.slot / 64, u64::MAX << (self.slot % 64));
            if word >= slab.geometry().nr_words() {
                return None;
            }
            let incoming = slab.incoming();
            let unclaimed = slab.unclaimed();
            let mut left = match (incoming.get(word), unclaimed.get(word)) {
                (Some(incoming), Some(unclaimed)) => {
                    incoming.load_acquire() & unclaimed.load_acquire() & behind
                }
                _ => 0,
            };
            while left != 0 {
                let slot = word * 64 + left.trailing_zeros();
                left &= left - 1;
                self.slot = slot + 1;
                if !words::clear(&unclaimed, slot) {
                    continue;
                }
                // Claimed and parked again in between, it is not incoming any more.
                let tag = slab.tag(slot);
                let is_object = tag.is_live() && tag != Tag::FORWARD;
                if words::clear(&incoming, slot) && is_object {
                    if let Ok(owner) = self.cache.own(slab, slot) {
                        return Some(owner);
                    }
                }
                words::set(&unclaimed, slot);
            }
            self.slot = (word + 1) * 64;
        }
    }
}

impl Iterator for Unclaimed {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        context::check_task();
        let cache = self.cache;
        while let Some(run) = cache.fixed.directory.get(self.place) {
            match run.get(self.place, true) {
                Err(Dying) => {
                    cpu_relax();
                    continue;
                }
                Ok(Some(run)) => {
                    while let Some(slab) = run.slab(self.index, cache.geometry()) {
                        if let Some(slot) = self.next_in(&slab) {
                            return Some(slot);
                        }
                        self.slot = 0;
                        self.index += 1;
                    }
                }
                Ok(None) => {}
            }
            self.index = 0;
            self.slot = 0;
            self.place += 1;
        }
        None
    }
}
