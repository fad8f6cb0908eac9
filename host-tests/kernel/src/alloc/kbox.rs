// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/kbox.rs.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{
    Deref,
    DerefMut, //
};
use core::pin::Pin;

use pin_init::{
    InPlaceWrite,
    Init,
    PinInit,
    Zeroable, //
};

use super::allocator::{
    KVmalloc,
    Kmalloc,
    Vmalloc, //
};
use super::{
    admit,
    AllocError,
    Allocator,
    Flags, //
};
use crate::init::InPlaceInit;

/// An owned value on the heap, whose allocation may fail.
pub struct Box<T: ?Sized, A: Allocator>(std::boxed::Box<T>, PhantomData<fn() -> A>);

/// A [`Box`] from kmalloc().
pub type KBox<T> = Box<T, Kmalloc>;
/// A [`Box`] from vmalloc().
pub type VBox<T> = Box<T, Vmalloc>;
/// A [`Box`] from kvmalloc().
pub type KVBox<T> = Box<T, KVmalloc>;

impl<T: ?Sized, A: Allocator> Box<T, A> {
    /// Takes back what [`into_raw`](Self::into_raw) gave away.
    ///
    /// # Safety
    ///
    /// `raw` came from `into_raw` of a box of the same allocator, and is used for nothing else.
    pub unsafe fn from_raw(raw: *mut T) -> Self {
        // SAFETY: by the caller's promise it came from `std::boxed::Box::into_raw`.
        Self(unsafe { std::boxed::Box::from_raw(raw) }, PhantomData)
    }

    /// Gives up the box; the value stays.
    pub fn into_raw(b: Self) -> *mut T {
        std::boxed::Box::into_raw(b.0)
    }

    /// Gives up the box for a reference that stays valid.
    pub fn leak<'a>(b: Self) -> &'a mut T {
        std::boxed::Box::leak(b.0)
    }

    /// Pins the value.
    pub fn into_pin(this: Self) -> Pin<Self> {
        // SAFETY: the value is on the heap, and the box never moves it.
        unsafe { Pin::new_unchecked(this) }
    }
}

impl<T, A: Allocator> Box<T, A> {
    /// Allocates a box for `x`.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn new(x: T, flags: Flags) -> Result<Self, AllocError> {
        admit(flags)?;
        Ok(Self(std::boxed::Box::new(x), PhantomData))
    }

    /// Allocates a box for a value to come.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn new_uninit(flags: Flags) -> Result<Box<MaybeUninit<T>, A>, AllocError> {
        admit(flags)?;
        Ok(Box(std::boxed::Box::new_uninit(), PhantomData))
    }

    /// Allocates a box of zeroes.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn zeroed(flags: Flags) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        let mut b = Self::new_uninit(flags)?;
        *b = MaybeUninit::zeroed();
        // SAFETY: all zeroes are a value, since `T` is `Zeroable`.
        Ok(unsafe { b.assume_init() })
    }

    /// Allocates a pinned box for `x`.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn pin(x: T, flags: Flags) -> Result<Pin<Box<T, A>>, AllocError> {
        Ok(Self::into_pin(Self::new(x, flags)?))
    }

    /// Returns the value; the memory is freed.
    pub fn into_inner(b: Self) -> T {
        *b.0
    }
}

impl<T, A: Allocator> Box<MaybeUninit<T>, A> {
    /// Says that the value is there.
    ///
    /// # Safety
    ///
    /// It is.
    pub unsafe fn assume_init(self) -> Box<T, A> {
        // SAFETY: by the caller's promise.
        Box(unsafe { self.0.assume_init() }, PhantomData)
    }

    /// Puts the value in.
    pub fn write(mut self, value: T) -> Box<T, A> {
        (*self).write(value);
        // SAFETY: just written.
        unsafe { self.assume_init() }
    }
}

impl<T, A: Allocator> InPlaceWrite<T> for Box<MaybeUninit<T>, A> {
    type Initialized = Box<T, A>;

    fn write_init<E>(mut self, init: impl Init<T, E>) -> Result<Self::Initialized, E> {
        let slot = self.as_mut_ptr();
        // SAFETY: `slot` is valid for writes; on an error the box frees the memory only.
        unsafe { init.__init(slot) }?;
        // SAFETY: the initialiser succeeded.
        Ok(unsafe { self.assume_init() })
    }

    fn write_pin_init<E>(mut self, init: impl PinInit<T, E>) -> Result<Pin<Self::Initialized>, E> {
        let slot = self.as_mut_ptr();
        // SAFETY: `slot` is valid for writes and pinned from here on; on an error the box frees
        // the memory only.
        unsafe { init.__pinned_init(slot) }?;
        // SAFETY: the initialiser succeeded.
        Ok(Box::into_pin(unsafe { self.assume_init() }))
    }
}

impl<T, A: Allocator> InPlaceInit<T> for Box<T, A> {
    type PinnedSelf = Pin<Self>;

    #[track_caller]
    fn try_pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Pin<Self>, E>
    where
        E: From<AllocError>,
    {
        Self::new_uninit(flags)?.write_pin_init(init)
    }

    #[track_caller]
    fn try_init<E>(init: impl Init<T, E>, flags: Flags) -> Result<Self, E>
    where
        E: From<AllocError>,
    {
        Self::new_uninit(flags)?.write_init(init)
    }
}

impl<T: ?Sized, A: Allocator> From<Box<T, A>> for Pin<Box<T, A>> {
    fn from(b: Box<T, A>) -> Self {
        Box::into_pin(b)
    }
}

impl<T: ?Sized, A: Allocator> Deref for Box<T, A> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized, A: Allocator> DerefMut for Box<T, A> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized + fmt::Debug, A: Allocator> fmt::Debug for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, A: Allocator> fmt::Display for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
