// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/atomic.rs.
//!
//! `Full` is a sequentially consistent fence, the operation, and another fence: what the kernel's
//! value-returning operations promise by default. On x86 the operation is all of that, as it is in
//! the kernel.

mod internal;
pub mod ordering;
mod predefine;

pub use internal::AtomicImpl;
pub use ordering::{
    Acquire,
    Full,
    Relaxed,
    Release, //
};

use core::cell::UnsafeCell;
use internal::{
    fence_if_full,
    ordered,
    AtomicArithmeticOps,
    Operation, //
};

/// A value that is accessed atomically.
#[repr(transparent)]
pub struct Atomic<T: AtomicType>(UnsafeCell<T>);

// SAFETY: every access is atomic.
unsafe impl<T: AtomicType> Send for Atomic<T> {}

// SAFETY: every access is atomic.
unsafe impl<T: AtomicType> Sync for Atomic<T> {}

/// Types that an [`Atomic`] can hold.
///
/// # Safety
///
/// The size and the alignment are those of `Repr`, and the value round-trips through it.
pub unsafe trait AtomicType: Sized + Copy {
    /// What the CPU knows it as.
    type Repr: AtomicImpl;
}

/// Types that an `Rhs` can be added to.
///
/// # Safety
///
/// Adding the delta to any value, wrapping around, gives a value.
pub unsafe trait AtomicAdd<Rhs = Self>: AtomicType {
    /// Turns what is added into the representation.
    fn rhs_into_delta(rhs: Rhs) -> <Self::Repr as AtomicImpl>::Delta;
}

#[inline(always)]
fn into_repr<T: AtomicType>(v: T) -> T::Repr {
    // SAFETY: by the contract of `AtomicType` the sizes agree and the value round-trips.
    unsafe { core::mem::transmute_copy(&v) }
}

/// # Safety
///
/// `r` came from [`into_repr`], or by adding to such a one.
#[inline(always)]
unsafe fn from_repr<T: AtomicType>(r: T::Repr) -> T {
    // SAFETY: by the caller's promise and the contract of `AtomicType`.
    unsafe { core::mem::transmute_copy(&r) }
}

impl<T: AtomicType> Atomic<T> {
    /// Makes one.
    pub const fn new(v: T) -> Self {
        Self(UnsafeCell::new(v))
    }

    /// Views memory as atomic.
    ///
    /// # Safety
    ///
    /// - `ptr` is aligned and valid for reads and writes for `'a`;
    /// - meanwhile nobody accesses it other than atomically.
    #[inline]
    pub unsafe fn from_ptr<'a>(ptr: *mut T) -> &'a Self {
        // SAFETY: by the caller's promise; the type is transparent.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns a pointer to the value.
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }

    /// Returns the value for access that need not be atomic.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    #[inline]
    fn repr(&self) -> *mut T::Repr {
        self.as_ptr().cast()
    }

    #[inline(always)]
    fn announce<O: ordering::Ordering>(&self) {
        #[cfg(feature = "observe")]
        crate::observe::before_store(self.as_ptr(), size_of::<T>(), O::ACQUIRES);
        #[cfg(models)]
        crate::models::step();
    }

    /// Loads.
    #[inline]
    pub fn load<O: ordering::AcquireOrRelaxed>(&self, _: O) -> T {
        #[cfg(models)]
        crate::models::step();
        let order = ordered(Operation::Load, O::LOAD);
        // SAFETY: the pointer is valid and aligned, every access is atomic.
        let v = unsafe { T::Repr::load(self.repr(), order) };
        // SAFETY: only representations of values are stored.
        unsafe { from_repr(v) }
    }

    /// Stores.
    #[inline]
    pub fn store<O: ordering::ReleaseOrRelaxed>(&self, v: T, _: O) {
        self.announce::<O>();
        let order = ordered(Operation::Store, O::STORE);
        // SAFETY: the pointer is valid and aligned, every access is atomic.
        unsafe { T::Repr::store(self.repr(), into_repr(v), order) };
    }

    /// Stores, and returns the value from before.
    #[inline]
    pub fn xchg<O: ordering::Ordering>(&self, v: T, _: O) -> T {
        self.announce::<O>();
        fence_if_full::<O>(Operation::Xchg);
        let order = ordered(Operation::Xchg, O::RMW);
        // SAFETY: the pointer is valid and aligned, every access is atomic.
        let old = unsafe { T::Repr::swap(self.repr(), into_repr(v), order) };
        fence_if_full::<O>(Operation::Xchg);
        // SAFETY: only representations of values are stored.
        unsafe { from_repr(old) }
    }

    /// Stores `new` if the value is `old`; returns the value from before, `Err` if it was another.
    /// A comparison that fails orders nothing.
    ///
    /// # Errors
    ///
    /// The value that was found.
    #[inline]
    pub fn cmpxchg<O: ordering::Ordering>(&self, old: T, new: T, _: O) -> Result<T, T> {
        self.announce::<O>();
        fence_if_full::<O>(Operation::Cmpxchg);
        let (old, new) = (into_repr(old), into_repr(new));
        let order = ordered(Operation::Cmpxchg, O::RMW);
        // SAFETY: the pointer is valid and aligned, every access is atomic.
        let result = unsafe { T::Repr::compare_exchange(self.repr(), old, new, order) };
        fence_if_full::<O>(Operation::Cmpxchg);
        match result {
            // SAFETY: only representations of values are stored.
            Ok(v) => Ok(unsafe { from_repr(v) }),
            // SAFETY: only representations of values are stored.
            Err(v) => Err(unsafe { from_repr(v) }),
        }
    }
}

impl<T: AtomicType> Atomic<T>
where
    T::Repr: AtomicArithmeticOps,
{
    /// Adds, wrapping around.
    #[inline]
    pub fn add<Rhs>(&self, v: Rhs, o: ordering::Relaxed)
    where
        T: AtomicAdd<Rhs>,
    {
        self.fetch_add(v, o);
    }

    /// Adds, wrapping around, and returns the value from before.
    #[inline]
    pub fn fetch_add<Rhs, O: ordering::Ordering>(&self, v: Rhs, _: O) -> T
    where
        T: AtomicAdd<Rhs>,
    {
        self.announce::<O>();
        fence_if_full::<O>(Operation::Fetch);
        let order = ordered(Operation::Fetch, O::RMW);
        // SAFETY: the pointer is valid and aligned, every access is atomic.
        let old = unsafe { T::Repr::fetch_add(self.repr(), T::rhs_into_delta(v), order) };
        fence_if_full::<O>(Operation::Fetch);
        // SAFETY: only representations of values are stored.
        unsafe { from_repr(old) }
    }

    /// Subtracts, wrapping around, and returns the value from before.
    #[inline]
    pub fn fetch_sub<Rhs, O: ordering::Ordering>(&self, v: Rhs, _: O) -> T
    where
        T: AtomicAdd<Rhs>,
    {
        self.announce::<O>();
        fence_if_full::<O>(Operation::Fetch);
        let order = ordered(Operation::Fetch, O::RMW);
        // SAFETY: the pointer is valid and aligned, every access is atomic.
        let old = unsafe { T::Repr::fetch_sub(self.repr(), T::rhs_into_delta(v), order) };
        fence_if_full::<O>(Operation::Fetch);
        // SAFETY: only representations of values are stored.
        unsafe { from_repr(old) }
    }
}

impl<T: AtomicType + core::fmt::Debug> core::fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(&self.load(Relaxed), f)
    }
}
