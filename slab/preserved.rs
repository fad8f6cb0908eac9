// SPDX-License-Identifier: GPL-2.0

//! An object that is preserved, and owned.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{
    Deref,
    DerefMut, //
};

use kpreserve_kho::{
    Handle,
    Preservable, //
};

use crate::owner::Slot;

/// An owned object in a preservable cache: a `KBox` that the next kernel finds.
///
/// The object is preserved while this lives, whatever happens to the kernel; dropping this frees
/// it. To keep the object without owning it, [`park`](Self::park) it.
///
/// It has neither lifetime nor reference count: caches live for ever.
///
/// # Invariants
///
/// The slot is of a cache whose slots hold a `T`, and holds one.
pub struct Preserved<T: Preservable> {
    slot: ManuallyDrop<Slot>,
    _object: PhantomData<T>,
}

// SAFETY: it owns a `T`.
unsafe impl<T: Preservable> Send for Preserved<T> {}
// SAFETY: a shared reference gives a shared reference to a `T`.
unsafe impl<T: Preservable + Sync> Sync for Preserved<T> {}

impl<T: Preservable> Preserved<T> {
    /// Makes one.
    ///
    /// # Safety
    ///
    /// The slots of the cache are big enough for a `T`, and aligned for it
    /// ([`Geometry::holds`](crate::Geometry::holds)).
    #[inline]
    pub(crate) unsafe fn from_slot(slot: Slot) -> Self {
        // INVARIANT: any bytes are a `T`; the rest says the caller.
        Self {
            slot: ManuallyDrop::new(slot),
            _object: PhantomData,
        }
    }

    /// Returns the handle of the object, to be stored where it will be looked for: the object can
    /// be claimed by it once it is parked, or in the next kernel.
    pub fn handle(&self) -> Handle<T> {
        Handle::from_raw(self.slot.handle())
    }

    /// Gives up the ownership without freeing. For tasks.
    pub fn park(self) -> Handle<T> {
        Handle::from_raw(self.into_slot().park())
    }

    #[inline(always)]
    pub(crate) fn into_slot(self) -> Slot {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, nor dropped.
        unsafe { ManuallyDrop::take(&mut this.slot) }
    }
}

impl<T: Preservable> Drop for Preserved<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this value is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.slot) };
        slot.free_sized(size_of::<T>());
    }
}

impl<T: Preservable> Deref for Preserved<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a live slot, owned by this value, big enough and aligned; any bytes are a `T`.
        unsafe { &*self.slot.as_ptr().cast::<T>() }
    }
}

impl<T: Preservable> DerefMut for Preserved<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and borrowed mutably.
        unsafe { &mut *self.slot.as_ptr().cast::<T>() }
    }
}

impl<T: Preservable + core::fmt::Debug> core::fmt::Debug for Preserved<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        T::fmt(self, f)
    }
}
