// SPDX-License-Identifier: GPL-2.0

//! Owning a slot: first without an object for the next kernel, then with one.
//!
//! ```text
//!   RawCache::alloc_slot -> Vacant --publish--> Slot --free--> (free)
//!                             \--drop--> (free)   \--park--> handle --claim--> Slot
//! ```

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kpreserve_kho::Handle;

use crate::raw::RawCache;
use crate::slots::SlabMemory;

/// A slot that was taken and holds nothing yet: all zeros, and free to the next kernel.
///
/// Dropping it zeroes the slot again and gives it back.
///
/// # Invariants
///
/// `start` is the start of a slot of `cache`, its tag is even, and this value is its only owner.
#[must_use = "a slot that is not published is given back"]
pub struct Vacant {
    start: NonNull<u8>,
    cache: &'static RawCache,
}

/// A slot with a live object, and the only owner of it.
///
/// Dropping it frees the object.
///
/// # Invariants
///
/// `start` is the start of a slot of `cache`, its tag is odd, and this value is its only owner.
pub struct Slot {
    start: NonNull<u8>,
    cache: &'static RawCache,
}

// SAFETY: a slot is memory that this value owns, whatever the task or CPU.
unsafe impl Send for Vacant {}
// SAFETY: a shared reference gives nothing but the address.
unsafe impl Sync for Vacant {}
// SAFETY: as above.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Vacant {
    /// Makes an owner.
    ///
    /// # Safety
    ///
    /// As the type invariants say.
    #[inline]
    pub(crate) unsafe fn new(start: NonNull<u8>, cache: &'static RawCache) -> Self {
        // INVARIANT: by the safety requirements.
        Self { start, cache }
    }

    /// Returns where the slot is: `stride_bytes` bytes, zeros, the owner's to write.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Makes the slot an object: the next kernel will find it. Everything written to the slot
    /// before is part of it.
    #[inline]
    pub fn publish(self) -> Slot {
        let vacant = ManuallyDrop::new(self);
        let (start, cache) = (vacant.start, vacant.cache);
        // SAFETY: by the type invariants, this is an owner of a slot of the cache.
        if let Some((slab, slot)) = unsafe { memory_of(start, cache) } {
            slab.set_tag(slot, slab.tag(slot).next());
        }
        // INVARIANT: the tag was even, so now it is odd.
        Slot { start, cache }
    }
}

impl Drop for Vacant {
    fn drop(&mut self) {
        // SAFETY: by the type invariants, this is an owner of a slot of the cache; it ends here.
        unsafe { give(self.start, self.cache) };
    }
}

impl Slot {
    /// Makes an owner.
    ///
    /// # Safety
    ///
    /// As the type invariants say.
    #[inline]
    pub(crate) unsafe fn new(start: NonNull<u8>, cache: &'static RawCache) -> Self {
        // INVARIANT: by the safety requirements.
        Self { start, cache }
    }

    /// Returns where the object is: `stride_bytes` bytes, the owner's to read and write.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the cache.
    #[inline]
    pub fn cache(&self) -> &'static RawCache {
        self.cache
    }

    /// Returns the handle of the object, as a number; it can be claimed once the object is parked,
    /// or in the next kernel.
    pub fn handle(&self) -> u64 {
        // SAFETY: by the type invariants, this is an owner of a slot of the cache.
        let memory = unsafe { memory_of(self.start, self.cache) };
        match (memory, self.cache.window().phys(self.start)) {
            (Some((slab, slot)), Some(phys)) => {
                Handle::<()>::new(phys, slab.tag(slot).0).into_raw()
            }
            // By the type invariants, never.
            _ => 0,
        }
    }

    /// Gives up the ownership and keeps the object: returns its handle. For tasks.
    pub fn park(self) -> u64 {
        let handle = self.handle();
        let slot = ManuallyDrop::new(self);
        slot.cache.park_slot(Handle::<()>::from_raw(handle).phys());
        handle
    }

    /// Gives up the ownership, as if it had never been claimed.
    pub(crate) fn put_down(self, incoming: bool) {
        let slot = ManuallyDrop::new(self);
        if let Some(phys) = slot.cache.window().phys(slot.start) {
            slot.cache.put_down(phys, incoming);
        }
    }

    /// Frees the object: its tag turns even, its bytes become zeros, the slot is free. From any
    /// context.
    #[inline]
    pub fn free(self) {
        drop(self);
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the type invariants, this is an owner of a slot of the cache.
        let Some((slab, slot)) = (unsafe { memory_of(self.start, self.cache) }) else {
            return;
        };
        let tag = slab.tag(slot);
        if tag.is_live() {
            // Retract first: no live tag ever stands on zeroed bytes.
            slab.set_tag(slot, tag.next());
        }
        // SAFETY: as above; the ownership ends here.
        unsafe { give(self.start, self.cache) };
    }
}

/// Returns the slab of a slot, and the slot's number.
///
/// # Safety
///
/// The caller owns the slot at `start`, of `cache`, and uses the memory only as long.
#[inline]
unsafe fn memory_of(
    start: NonNull<u8>,
    cache: &'static RawCache,
) -> Option<(SlabMemory<'static>, u32)> {
    let geometry = cache.geometry();
    // Slabs are aligned to their size, as physical addresses.
    let offset = cache.window().phys(start)?.get() as usize & (geometry.slab_bytes() - 1);
    let slot = geometry.slot_at(offset)?;
    // SAFETY: the slot is `offset` bytes into its slab, which is inside one run.
    let base = unsafe { start.sub(offset) };
    // SAFETY: a run that has an owner stays.
    Some((unsafe { SlabMemory::new(geometry, base) }, slot))
}

/// Zeroes a slot whose tag is even, and gives it back.
///
/// # Safety
///
/// The caller owns the slot at `start`, of `cache`, and not any more.
#[inline]
unsafe fn give(start: NonNull<u8>, cache: &'static RawCache) {
    // SAFETY: says the caller.
    if let Some((slab, slot)) = unsafe { memory_of(start, cache) } {
        slab.zero_slot(slot);
        cache.give_slot(&slab, start, slot);
    }
}
