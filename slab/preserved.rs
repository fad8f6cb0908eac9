// SPDX-License-Identifier: GPL-2.0

//! An object that is preserved, and owned.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{
    Deref,
    DerefMut, //
};
use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::types::ForeignOwnable;

use kpreserve_kho::{
    Handle,
    Preservable, //
};

use crate::geometry::STRIDE_MIN_BYTES;
use crate::owner::Slot;

/// An owned object in a preservable cache: a `KBox` that the next kernel finds.
///
/// The object is preserved while this lives, whatever happens to the kernel; dropping this frees
/// it. To keep the object without owning it, [`park`](Self::park) it.
///
/// It has neither lifetime nor reference count: caches live for ever.
///
/// # Misuse
///
/// Owners are values, so the compiler sees who uses them wrongly. This is fine:
///
/// ```
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// object[1] = 5;
/// let first = &object[0];
/// let sum = *first + object[1];
/// let handle = object.park();
/// # let _ = (sum, cache.claim(handle));
/// # }
/// ```
///
/// Use after free:
///
/// ```compile_fail,E0382
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// drop(object);
/// object[1] = 5;
/// # }
/// ```
///
/// Freeing twice:
///
/// ```compile_fail,E0382
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// drop(object);
/// drop(object);
/// # }
/// ```
///
/// Use after it was given up:
///
/// ```compile_fail,E0382
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// let handle = object.park();
/// object[1] = 5;
/// # }
/// ```
///
/// Giving up twice:
///
/// ```compile_fail,E0382
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// let handle = object.park();
/// let again = object.park();
/// # }
/// ```
///
/// A second owner:
///
/// ```compile_fail,E0277
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// let other = Preserved::clone(&object);
/// # }
/// ```
///
/// Writing while somebody looks:
///
/// ```compile_fail,E0502
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// let first = &object[0];
/// object[1] = 5;
/// let sum = *first + object[1];
/// # }
/// ```
///
/// A reference that outlives the owner:
///
/// ```compile_fail,E0505
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, mut object: Preserved<[u64; 4]>) {
/// let first = &object[0];
/// drop(object);
/// let copy = *first;
/// # }
/// ```
///
/// The handle of an object of another type:
///
/// ```compile_fail,E0308
/// # use kpreserve_slab::{Cache, Preserved};
/// # fn f(cache: &Cache<[u64; 4]>, object: Preserved<[u64; 5]>) {
/// let other = cache.claim(object.park());
/// # }
/// ```
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

/// The object stays where it is when its owner is moved.
impl<T: Preservable> Unpin for Preserved<T> {}

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

    /// Gives up the ownership as [`park`](Self::park) does, but of an object that is taken for one that nobody has
    /// claimed: [`Cache::unclaimed`](crate::Cache::unclaimed) and [`Cache::finish`](crate::Cache::finish) find it again. For tasks.
    pub fn unclaim(self) {
        self.into_slot().put_down(true);
    }

    #[inline(always)]
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
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

/// The private data of a file, a device or a queue: C has the address of the object. The way back to
/// the cache is noted on the run that the object is in ([`kpreserve_kho::note`]), so a second word is
/// not missed, and nothing is allocated.
///
/// An object that C owns is preserved like any other; what the next kernel needs to find it is its
/// [`handle`](Preserved::handle), stored before.
///
/// Taking it back and borrowing: a few instructions, from any context.
// SAFETY: the address of an object is not null, and slots are aligned as the constant says.
unsafe impl<T: Preservable> ForeignOwnable for Preserved<T> {
    const FOREIGN_ALIGN: usize = if align_of::<T>() > STRIDE_MIN_BYTES {
        align_of::<T>()
    } else {
        STRIDE_MIN_BYTES
    };

    type Borrowed<'a> = &'a T;
    type BorrowedMut<'a> = &'a mut T;

    fn into_foreign(self) -> *mut c_void {
        self.into_slot().into_raw().as_ptr().cast()
    }

    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        // SAFETY: what `into_foreign` returned is not null.
        let start = unsafe { NonNull::new_unchecked(ptr.cast()) };
        // SAFETY: from `into_raw` by way of `into_foreign`, and taken back once, says the caller. There
        // was an object, so the cache has been opened.
        let slot = unsafe { Slot::from_raw(start) };
        // SAFETY: the slot of a value of this type.
        unsafe { Self::from_slot(slot) }
    }

    unsafe fn borrow<'a>(ptr: *mut c_void) -> &'a T {
        // SAFETY: the object of a value that is not taken back during `'a`, says the caller; aligned,
        // and any bytes are a `T`.
        unsafe { &*ptr.cast() }
    }

    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> &'a mut T {
        // SAFETY: as above, and nobody else borrows it, says the caller.
        unsafe { &mut *ptr.cast() }
    }
}
