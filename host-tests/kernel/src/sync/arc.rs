// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/arc.rs.

use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::pin::Pin;

use pin_init::{
    Init,
    PinInit, //
};

use crate::alloc::{
    admit_allocation,
    AllocError,
    Flags, //
};
use crate::init::InPlaceInit;

/// A reference-counted value, always pinned, whose allocation may fail.
pub struct Arc<T: ?Sized>(std::sync::Arc<T>);

impl<T> Arc<T> {
    /// Allocates one for `contents`.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn new(contents: T, flags: Flags) -> Result<Self, AllocError> {
        admit_allocation(flags)?;
        Ok(Self(std::sync::Arc::new(contents)))
    }

    /// Takes back what [`into_raw`](Self::into_raw) gave away.
    ///
    /// # Safety
    ///
    /// `ptr` came from `into_raw`, once for each call.
    pub unsafe fn from_raw(ptr: *const T) -> Self {
        // SAFETY: by the caller's promise.
        Self(unsafe { std::sync::Arc::from_raw(ptr) })
    }
}

impl<T: ?Sized> Arc<T> {
    /// Gives up the reference without dropping it.
    pub fn into_raw(self) -> *const T {
        std::sync::Arc::into_raw(self.0)
    }

    /// Returns a pointer to the value.
    pub fn as_ptr(this: &Self) -> *const T {
        std::sync::Arc::as_ptr(&this.0)
    }

    /// Borrows the reference.
    pub fn as_arc_borrow(&self) -> ArcBorrow<'_, T> {
        ArcBorrow(self)
    }

    /// Returns whether both refer to the same value.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&this.0, &other.0)
    }
}

impl<T> InPlaceInit<T> for Arc<T> {
    type PinnedSelf = Self;

    #[track_caller]
    fn try_pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self, E>
    where
        E: From<AllocError>,
    {
        admit_allocation(flags)?;
        let mut arc = std::sync::Arc::<T>::new_uninit();
        let slot = match std::sync::Arc::get_mut(&mut arc) {
            Some(slot) => MaybeUninit::as_mut_ptr(slot),
            None => unreachable!("nobody else refers to it yet"),
        };
        // SAFETY: `slot` is valid for writes, and the value never moves again; on an error only
        // the memory is freed.
        unsafe { init.__pinned_init(slot) }?;
        // SAFETY: the initialiser succeeded.
        Ok(Self(unsafe { arc.assume_init() }))
    }

    #[track_caller]
    fn try_init<E>(init: impl Init<T, E>, flags: Flags) -> Result<Self, E>
    where
        E: From<AllocError>,
    {
        Self::try_pin_init(init, flags)
    }
}

impl<T: ?Sized> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> AsRef<T> for Arc<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> From<Pin<Arc<T>>> for Arc<T> {
    fn from(pinned: Pin<Arc<T>>) -> Self {
        // SAFETY: an `Arc` keeps its value pinned anyway.
        unsafe { Pin::into_inner_unchecked(pinned) }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A borrowed [`Arc`].
pub struct ArcBorrow<'a, T: ?Sized>(&'a Arc<T>);

impl<T: ?Sized> Clone for ArcBorrow<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for ArcBorrow<'_, T> {}

impl<T: ?Sized> Deref for ArcBorrow<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}

impl<T: ?Sized> From<ArcBorrow<'_, T>> for Arc<T> {
    fn from(b: ArcBorrow<'_, T>) -> Self {
        b.0.clone()
    }
}
