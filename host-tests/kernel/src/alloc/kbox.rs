// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/kbox.rs.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{
    ManuallyDrop,
    MaybeUninit, //
};
use core::ops::{
    Deref,
    DerefMut, //
};
use core::pin::Pin;
use core::ptr::NonNull;

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
use super::flags::__GFP_ZERO;
use super::{
    AllocError,
    Allocator,
    Flags,
    NumaNode, //
};
use crate::ffi::c_void;
use crate::init::InPlaceInit;
use crate::types::ForeignOwnable;

/// An owned value on the heap, whose allocation may fail.
///
/// # Invariants
///
/// An aligned allocation of `A` that holds a `T` and is this value's, or dangling if a `T` has no
/// size.
pub struct Box<T: ?Sized, A: Allocator>(NonNull<T>, PhantomData<A>);

// SAFETY: it owns a `T`.
unsafe impl<T: Send + ?Sized, A: Allocator> Send for Box<T, A> {}
// SAFETY: a shared reference gives a shared reference to a `T`.
unsafe impl<T: Sync + ?Sized, A: Allocator> Sync for Box<T, A> {}

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
    pub const unsafe fn from_raw(raw: *mut T) -> Self {
        // INVARIANT: by the caller's promise.
        // SAFETY: what came from `into_raw` is not null.
        Self(unsafe { NonNull::new_unchecked(raw) }, PhantomData)
    }

    /// Gives up the box; the value stays.
    pub fn into_raw(b: Self) -> *mut T {
        ManuallyDrop::new(b).0.as_ptr()
    }

    /// Gives up the box for a reference that stays valid.
    pub fn leak<'a>(b: Self) -> &'a mut T {
        // SAFETY: an aligned pointer to a `T` (type invariants), which nobody frees any more.
        unsafe { &mut *Self::into_raw(b) }
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
        Ok(Self::new_uninit(flags)?.write(x))
    }

    /// Allocates a box for a value to come.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn new_uninit(flags: Flags) -> Result<Box<MaybeUninit<T>, A>, AllocError> {
        let ptr = A::alloc(Layout::new::<MaybeUninit<T>>(), flags, NumaNode::NO_NODE)?;
        // INVARIANT: just allocated; a `MaybeUninit` may hold anything.
        Ok(Box(ptr.cast(), PhantomData))
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
        let b = Self::new_uninit(flags | __GFP_ZERO)?;
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
        // SAFETY: there is a `T` (type invariants), which is not used any more below.
        let value = unsafe { b.0.read() };
        drop(Self::forget_contents(b));
        value
    }

    /// Drops the value, and keeps the memory.
    pub fn drop_contents(this: Self) -> Box<MaybeUninit<T>, A> {
        // SAFETY: there is a `T` (type invariants), which is not used any more below.
        unsafe { this.0.drop_in_place() };
        Self::forget_contents(this)
    }

    fn forget_contents(this: Self) -> Box<MaybeUninit<T>, A> {
        // SAFETY: from `into_raw`.
        unsafe { Box::from_raw(Self::into_raw(this).cast()) }
    }
}

impl<T, A: Allocator> Box<MaybeUninit<T>, A> {
    /// Says that the value is there.
    ///
    /// # Safety
    ///
    /// It is.
    pub unsafe fn assume_init(self) -> Box<T, A> {
        // SAFETY: from `into_raw`; there is a `T`, by the caller's promise.
        unsafe { Box::from_raw(Self::into_raw(self).cast()) }
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
        // SAFETY: by the type invariants.
        unsafe { self.0.as_ref() }
    }
}

impl<T: ?Sized, A: Allocator> DerefMut for Box<T, A> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by the type invariants.
        unsafe { self.0.as_mut() }
    }
}

impl<T: ?Sized + fmt::Debug, A: Allocator> fmt::Debug for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, A: Allocator> fmt::Display for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized, A: Allocator> Drop for Box<T, A> {
    fn drop(&mut self) {
        let layout = Layout::for_value::<T>(self);
        // SAFETY: there is a `T` (type invariants).
        unsafe { self.0.drop_in_place() };
        // SAFETY: allocated for this layout (type invariants).
        unsafe { A::free(self.0.cast(), layout) };
    }
}

// SAFETY: the pointer is aligned and not null.
unsafe impl<T, A: Allocator> ForeignOwnable for Box<T, A> {
    const FOREIGN_ALIGN: usize = if align_of::<T>() < A::MIN_ALIGN {
        A::MIN_ALIGN
    } else {
        align_of::<T>()
    };

    type Borrowed<'a>
        = &'a T
    where
        Self: 'a;
    type BorrowedMut<'a>
        = &'a mut T
    where
        Self: 'a;

    fn into_foreign(self) -> *mut c_void {
        Box::into_raw(self).cast()
    }

    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        // SAFETY: from `into_foreign`, by the caller's promise.
        unsafe { Box::from_raw(ptr.cast()) }
    }

    unsafe fn borrow<'a>(ptr: *mut c_void) -> &'a T {
        // SAFETY: by the caller's promise.
        unsafe { &*ptr.cast() }
    }

    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> &'a mut T {
        // SAFETY: by the caller's promise.
        unsafe { &mut *ptr.cast() }
    }
}
