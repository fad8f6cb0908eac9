// SPDX-License-Identifier: GPL-2.0

//! Owning a slot: first without an object for the next kernel, then with one.
//!
//! ```text
//!   RawCache::alloc_slot -> Vacant --publish--> Slot --free--> (free)
//!                             \--drop--> (free)   \--park--> handle --claim--> Slot
//! ```

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kpreserve_kho::ordered::write_barrier;
use kpreserve_kho::Handle;

use crate::abi::HEADER_BYTES;
use crate::raw::RawCache;
use crate::sheaf::FreeSlot;
use crate::tag::Tag;

/// A slot that was taken and holds nothing yet: all zeros, and free to the next kernel.
///
/// Dropping it zeroes the slot again and gives it back.
///
/// It becomes an object once:
///
/// ```
/// # fn f(vacant: kpreserve_slab::Vacant) {
/// let slot = vacant.publish();
/// # slot.free();
/// # }
/// ```
///
/// ```compile_fail,E0382
/// # fn f(vacant: kpreserve_slab::Vacant) {
/// let slot = vacant.publish();
/// let other = vacant.publish();
/// # }
/// ```
///
/// # Invariants
///
/// The slot is of `cache`, its tag is even, and this value is its only owner.
#[must_use = "a slot that is not published is given back"]
pub struct Vacant {
    start: NonNull<u8>,
    tag: NonNull<u8>,
    cache: &'static RawCache,
}

/// A slot with a live object, and the only owner of it.
///
/// Dropping it frees the object, once:
///
/// ```compile_fail,E0382
/// # fn f(slot: kpreserve_slab::Slot) {
/// slot.free();
/// slot.free();
/// # }
/// ```
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
    /// Makes an owner of a slot of `cache`.
    #[inline(always)]
    pub(crate) fn new(free: FreeSlot, cache: &'static RawCache) -> Self {
        // INVARIANT: by those of `FreeSlot`.
        Self {
            start: free.start,
            tag: free.tag,
            cache,
        }
    }

    /// Returns where the slot is: `stride_bytes` bytes, zeros, the owner's to write.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Gives the slot up for its address, from which [`Owner::from_raw`] makes an owner again.
    #[inline]
    pub fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).start
    }

    /// Makes the slot an object: the next kernel will find it. Everything written to the slot
    /// before is part of it.
    #[inline]
    pub fn publish(self) -> Slot {
        let vacant = ManuallyDrop::new(self);
        // SAFETY: the tag of a slot that this value owns.
        let tag = unsafe { Tag::load(vacant.tag) };
        // SAFETY: as above.
        unsafe { tag.next().store(vacant.tag) };
        // INVARIANT: the tag was even, so now it is odd.
        Slot {
            start: vacant.start,
            cache: vacant.cache,
        }
    }
}

/// What the owner of a slot's address owns.
pub enum Owner {
    /// A slot that is free to the next kernel, whatever has been written to it.
    Vacant(Vacant),
    /// A slot with a live object.
    Live(Slot),
}

impl Owner {
    /// Takes back what [`Vacant::into_raw`] or [`Slot::into_raw`] gave up.
    ///
    /// # Safety
    ///
    /// `start` came from there, from a slot of `cache`, and is taken back once.
    #[inline]
    pub unsafe fn from_raw(start: NonNull<u8>, cache: &'static RawCache) -> Self {
        // SAFETY: the slot has an owner, says the caller.
        let tag = unsafe { tag_of(start, cache) };
        // SAFETY: as above.
        if unsafe { Tag::load(tag) }.is_live() {
            // SAFETY: the tag is odd, and the ownership the caller's.
            Owner::Live(unsafe { Slot::new(start, cache) })
        } else {
            // INVARIANT: the tag is even, and the ownership the caller's.
            Owner::Vacant(Vacant { start, tag, cache })
        }
    }
}

impl Drop for Vacant {
    fn drop(&mut self) {
        // SAFETY: by the type invariants, the slot is this value's, which ends here.
        unsafe { give(self.start, self.tag, self.cache, 0) };
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

    /// Returns where the slot is.
    #[inline(always)]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns where the tag of the slot is.
    #[inline(always)]
    pub(crate) fn tag(&self) -> NonNull<u8> {
        // SAFETY: by the type invariants.
        unsafe { tag_of(self.start, self.cache) }
    }

    /// Returns the handle of the object, as a number; it can be claimed once the object is parked,
    /// or in the next kernel.
    pub fn handle(&self) -> u64 {
        // SAFETY: the tag of a slot that this value owns.
        let tag = unsafe { Tag::load(self.tag()) };
        match self.cache.window().phys(self.start) {
            Some(phys) => Handle::<()>::new(phys, tag.0).into_raw(),
            // By the type invariants, never.
            None => 0,
        }
    }

    /// Gives the slot up for its address, from which [`Owner::from_raw`] makes an owner again.
    #[inline]
    pub fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).start
    }

    /// Takes back what [`into_raw`](Self::into_raw) gave up.
    ///
    /// # Safety
    ///
    /// `start` came from there, and is taken back once.
    #[inline]
    pub(crate) unsafe fn from_raw(start: NonNull<u8>) -> Self {
        // SAFETY: the slot had an owner, who gave it up for this one.
        let cache = unsafe { RawCache::of(start) };
        // SAFETY: by the invariants of the one that was given up.
        unsafe { Self::new(start, cache) }
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
        self.free_sized(0);
    }

    /// Frees the object, of `size_bytes`, which is a constant, or 0 if not known.
    #[inline(always)]
    pub(crate) fn free_sized(self, size_bytes: usize) {
        let slot = ManuallyDrop::new(self);
        let at = slot.tag();
        // SAFETY: the tag of a slot that this value owns.
        let tag = unsafe { Tag::load(at) };
        if !slot.cache.is_owned(slot.start, tag) {
            // Whose it is now is not known.
            return;
        }
        // Retract first: no live tag ever stands on zeroed bytes.
        // SAFETY: as above.
        unsafe { tag.retracted().store(at) };
        // SAFETY: by the type invariants, the slot is this value's, which ends here.
        unsafe { give(slot.start, at, slot.cache, size_bytes) };
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: as the invariants of `self`, which is not used again.
        let slot = unsafe { Slot::new(self.start, self.cache) };
        slot.free_sized(0);
    }
}

/// Up to here, zeroing is a row of stores, if the size is a constant.
const SIZE_INLINE_MAX_BYTES: usize = 128;

/// Returns where the tag of a slot is.
///
/// # Safety
///
/// `start` is the start of a slot of `cache` that has an owner.
#[inline(always)]
unsafe fn tag_of(start: NonNull<u8>, cache: &RawCache) -> NonNull<u8> {
    let geometry = cache.geometry();
    let offset = geometry.offset_of(start.addr().get());
    // SAFETY: the slot is `offset` bytes into its slab, which is inside one run.
    let base = unsafe { start.sub(offset) };
    // SAFETY: tags follow the header, one a slot; there is a slot, says the caller.
    unsafe { base.add(HEADER_BYTES + geometry.slot_of(offset)) }
}

/// Zeroes a slot whose tag is even, and gives it back. `size_bytes` is the size of the objects, if it
/// is a constant, or 0.
///
/// # Safety
///
/// The caller owns the slot at `start`, of `cache`, and not any more; its tag is at `tag`.
#[inline(always)]
unsafe fn give(start: NonNull<u8>, tag: NonNull<u8>, cache: &'static RawCache, size_bytes: usize) {
    // Retracted first, then zeroed, for whoever finds the slot after a cut.
    write_barrier();
    let rounded = size_bytes.next_multiple_of(8);
    // INVARIANT: the tag is even, the slot nobody else's.
    let free = FreeSlot { start, tag };
    if !cache.is_redzone_intact(start, size_bytes) {
        // It stays taken.
        return free.zero(cache);
    }
    if size_bytes == 0
        || rounded > SIZE_INLINE_MAX_BYTES
        || rounded != cache.geometry().stride_bytes()
    {
        return zero_and_push(free, cache);
    }
    // SAFETY: a whole slot, which the caller owns.
    unsafe { start.as_ptr().write_bytes(0, rounded) };
    cache.push(free);
}

/// The same for a slot of any size.
#[inline(never)]
fn zero_and_push(free: FreeSlot, cache: &'static RawCache) {
    free.zero(cache);
    cache.push(free);
}

impl FreeSlot {
    /// Zeroes the slot, of `cache`.
    pub(crate) fn zero(&self, cache: &RawCache) {
        let stride_bytes = cache.geometry().stride_bytes();
        // SAFETY: a whole slot, by the type invariants the caller's.
        unsafe { self.start.as_ptr().write_bytes(0, stride_bytes) };
    }
}
