// SPDX-License-Identifier: GPL-2.0

//! A claim ticket for a box that was kept.

use core::marker::PhantomData;

use kernel::prelude::*;
use kpreserve_kho::{
    hash::{
        fnv1a,
        fnv1a_u64, //
    },
    Preservable,
    SharedU64, //
};

/// A claim ticket for a box in a preserved pool: 128 bits, the handle of the slot and a seal.
///
/// A pool has slots of many types, so the slot alone does not say what is in it. The *seal* does: it is
/// made of the fingerprint and the version of `T`. A handle that a kernel with another `T` has left, or
/// that was stored as one of another type, is refused. As with a [`Handle`](crate::Handle), what was
/// forged is caught as far as it does not hit the tag of a live slot of the right size; then somebody's
/// bytes are taken for a `T`, which is wrong but, since any bytes are a `T`, not undefined.
#[derive(FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct BoxHandle<T>([u64; 2], PhantomData<fn() -> T>);

impl<T> BoxHandle<T> {
    /// The handle that no box has.
    pub const NULL: Self = Self([0; 2], PhantomData);

    /// Makes a handle of two numbers; taking the box checks them.
    pub const fn from_raw(raw: [u64; 2]) -> Self {
        Self(raw, PhantomData)
    }

    /// Returns the handle as two numbers: that of the slot, and the seal.
    pub const fn into_raw(self) -> [u64; 2] {
        self.0
    }

    /// Returns whether this is a handle that no box has, sealed or not.
    pub const fn is_null(self) -> bool {
        let [object, _] = self.0;
        object == 0
    }
}

impl<T: Preservable> BoxHandle<T> {
    const SEAL: u64 = fnv1a_u64(T::FINGERPRINT, T::VERSION as u64);

    /// Makes the handle of a slot with a `T`.
    pub(crate) const fn seal(object: u64) -> Self {
        Self([object, Self::SEAL], PhantomData)
    }

    /// Returns the handle of the slot.
    ///
    /// # Errors
    ///
    /// EINVAL if the seal is not that of `T`.
    pub(crate) fn open(self) -> Result<u64> {
        let [object, seal] = self.0;
        if seal != Self::SEAL {
            return Err(EINVAL);
        }
        Ok(object)
    }
}

impl<T> Clone for BoxHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for BoxHandle<T> {}

impl<T> PartialEq for BoxHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for BoxHandle<T> {}

impl<T> core::fmt::Debug for BoxHandle<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [object, seal] = self.0;
        write!(f, "BoxHandle({object:#x}, seal {seal:#x})")
    }
}

// SAFETY: two transparent numbers, of which any value is valid; what they name is checked at each use.
unsafe impl<T: Preservable> Preservable for BoxHandle<T> {
    const COMPATIBLE: &'static str = "kpreserve-box-handle-v1";
    const VERSION: u32 = 1;
    // Only the name of `T` goes in, so that a type may hold handles to itself.
    const FINGERPRINT: u64 = fnv1a(fnv1a_u64(0, 24), T::COMPATIBLE.as_bytes());
}

/// A [`BoxHandle`] in a preserved object that is changed by one store, and shared by reference.
///
/// A handle is two words; a kexec that comes between them would leave half of one. Here the seal is
/// written first, and only if it is not there yet: wherever the kernel stops, the next one finds the old
/// handle or the new one.
#[derive(FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct BoxLink<T>([SharedU64; 2], PhantomData<fn() -> T>);

impl<T> BoxLink<T> {
    /// Makes a link.
    pub const fn new(handle: BoxHandle<T>) -> Self {
        let [object, seal] = handle.0;
        Self([SharedU64::new(object), SharedU64::new(seal)], PhantomData)
    }

    /// Loads the handle; what was written before it was [stored](Self::store) is visible.
    pub fn load(&self) -> BoxHandle<T> {
        let [object, seal] = &self.0;
        let object = object.load();
        BoxHandle([object, seal.load()], PhantomData)
    }

    /// Stores a handle, after everything that was written before (release): this publishes.
    pub fn store(&self, handle: BoxHandle<T>) {
        let [object, seal] = &self.0;
        let [new_object, new_seal] = handle.0;
        // All handles of a type but NULL have one seal, so what is linked never gets another one.
        if new_object != 0 && seal.load() != new_seal {
            object.store(0);
            seal.store(new_seal);
        }
        object.store(new_object);
    }
}

impl<T> core::fmt::Debug for BoxLink<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.load().fmt(f)
    }
}

// SAFETY: two transparent counters, of which any value is valid; laid out as the handle, whose
// fingerprint it has.
unsafe impl<T: Preservable> Preservable for BoxLink<T> {
    const COMPATIBLE: &'static str = <BoxHandle<T> as Preservable>::COMPATIBLE;
    const VERSION: u32 = <BoxHandle<T> as Preservable>::VERSION;
    const FINGERPRINT: u64 = <BoxHandle<T> as Preservable>::FINGERPRINT;
}
