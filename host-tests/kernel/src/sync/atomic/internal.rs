// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/atomic/internal.rs: what the CPU can do, by `core`'s atomics.

#[cfg(not(models))]
use core::sync::atomic::{
    compiler_fence,
    fence, //
};
use core::sync::atomic::{
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicI8,
    AtomicPtr,
    Ordering, //
};

use super::ordering;
use crate::ffi::c_void;
#[cfg(models)]
use crate::models;

mod private {
    pub trait Sealed {}
}

/// The operations that there are.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Load,
    Store,
    Xchg,
    Cmpxchg,
    Fetch,
}

#[cfg(models)]
impl Operation {
    fn bug(self) -> models::Bug {
        match self {
            Operation::Load => models::Bug::Load,
            Operation::Store => models::Bug::Store,
            Operation::Xchg => models::Bug::Xchg,
            Operation::Cmpxchg => models::Bug::Cmpxchg,
            Operation::Fetch => models::Bug::Fetch,
        }
    }
}

/// Returns the ordering of an operation: in a model it may be broken on purpose.
#[inline(always)]
pub(super) fn ordered(operation: Operation, ordering: Ordering) -> Ordering {
    #[cfg(models)]
    return models::ordering(operation.bug(), ordering);
    #[cfg(not(models))]
    {
        let _ = operation;
        ordering
    }
}

#[inline(always)]
pub(super) fn fence_if_full<O: ordering::Ordering>(operation: Operation) {
    if O::IS_FULL {
        #[cfg(models)]
        if !models::has(operation.bug()) {
            models::fence(Ordering::SeqCst);
        }
        #[cfg(not(models))]
        {
            let _ = operation;
            if cfg!(target_arch = "x86_64") {
                // A locked instruction, which each operation is that may be `Full`, orders
                // everything.
                compiler_fence(Ordering::SeqCst);
            } else {
                fence(Ordering::SeqCst);
            }
        }
    }
}

/// What a failing comparison orders: nothing that the kernel promises, but the fences of `Full`
/// make up for it.
#[inline(always)]
fn on_failure(ordering: Ordering) -> Ordering {
    match ordering {
        Ordering::Acquire | Ordering::AcqRel => Ordering::Acquire,
        _ => Ordering::Relaxed,
    }
}

/// A representation that the CPU accesses atomically.
///
/// All pointers passed here are aligned, valid, and accessed atomically by everybody.
pub trait AtomicImpl: Sized + Copy + private::Sealed {
    /// What is added.
    type Delta;

    #[doc(hidden)]
    unsafe fn load(at: *mut Self, ordering: Ordering) -> Self;
    #[doc(hidden)]
    unsafe fn store(at: *mut Self, v: Self, ordering: Ordering);
    #[doc(hidden)]
    unsafe fn swap(at: *mut Self, v: Self, ordering: Ordering) -> Self;
    #[doc(hidden)]
    unsafe fn compare_exchange(
        at: *mut Self,
        old: Self,
        new: Self,
        ordering: Ordering,
    ) -> Result<Self, Self>;
}

/// A representation that can be added to.
pub trait AtomicArithmeticOps: AtomicImpl {
    #[doc(hidden)]
    unsafe fn fetch_add(at: *mut Self, v: Self::Delta, ordering: Ordering) -> Self;
    #[doc(hidden)]
    unsafe fn fetch_sub(at: *mut Self, v: Self::Delta, ordering: Ordering) -> Self;
}

macro_rules! basic {
    ($repr:ty, $delta:ty, $atomic:ty, $into:expr, $from:expr, $number:expr, $value:expr) => {
        impl private::Sealed for $repr {}

        impl AtomicImpl for $repr {
            type Delta = $delta;

            #[inline(always)]
            unsafe fn load(at: *mut Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                #[cfg(models)]
                if let Some(shadow) = shadow(at, || $number($from(atomic.load(Ordering::SeqCst)))) {
                    return $value(shadow.load(ordering));
                }
                $from(atomic.load(ordering))
            }

            #[inline(always)]
            unsafe fn store(at: *mut Self, v: Self, ordering: Ordering) {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                #[cfg(models)]
                if let Some(shadow) = shadow(at, || $number($from(atomic.load(Ordering::SeqCst)))) {
                    shadow.store($number(v), ordering);
                }
                atomic.store($into(v), ordering);
            }

            #[inline(always)]
            unsafe fn swap(at: *mut Self, v: Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                #[cfg(models)]
                if let Some(shadow) = shadow(at, || $number($from(atomic.load(Ordering::SeqCst)))) {
                    let old = shadow.swap($number(v), ordering);
                    atomic.store($into(v), Ordering::SeqCst);
                    return $value(old);
                }
                #[cfg(models)]
                if models::has(models::Bug::Torn) {
                    let old = atomic.load(Ordering::SeqCst);
                    models::step();
                    atomic.store($into(v), Ordering::SeqCst);
                    return $from(old);
                }
                $from(atomic.swap($into(v), ordering))
            }

            #[inline(always)]
            unsafe fn compare_exchange(
                at: *mut Self,
                old: Self,
                new: Self,
                ordering: Ordering,
            ) -> Result<Self, Self> {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                #[cfg(models)]
                if let Some(shadow) = shadow(at, || $number($from(atomic.load(Ordering::SeqCst)))) {
                    let failure = on_failure(ordering);
                    let result =
                        shadow.compare_exchange($number(old), $number(new), ordering, failure);
                    if result.is_ok() {
                        atomic.store($into(new), Ordering::SeqCst);
                    }
                    return result.map($value).map_err($value);
                }
                #[cfg(models)]
                if models::has(models::Bug::Torn) {
                    let found = atomic.load(Ordering::SeqCst);
                    if found != $into(old) {
                        return Err($from(found));
                    }
                    models::step();
                    atomic.store($into(new), Ordering::SeqCst);
                    return Ok(old);
                }
                atomic
                    .compare_exchange($into(old), $into(new), ordering, on_failure(ordering))
                    .map($from)
                    .map_err($from)
            }
        }
    };
}

/// Returns what stands for an atomic under loom.
#[cfg(models)]
fn shadow<T>(at: *mut T, value: impl FnOnce() -> i64) -> Option<models::Shadow> {
    models::shadow(at.addr(), size_of::<T>(), value)
}

macro_rules! arithmetic {
    ($($repr:ty, $atomic:ty;)*) => {$(
        impl AtomicArithmeticOps for $repr {
            #[inline(always)]
            unsafe fn fetch_add(at: *mut Self, v: Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at) };
                #[cfg(models)]
                if let Some(shadow) = shadow(at, || i64::from(atomic.load(Ordering::SeqCst))) {
                    let old = shadow.fetch_add(i64::from(v), ordering) as $repr;
                    atomic.store(old.wrapping_add(v), Ordering::SeqCst);
                    return old;
                }
                atomic.fetch_add(v, ordering)
            }

            #[inline(always)]
            unsafe fn fetch_sub(at: *mut Self, v: Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at) };
                #[cfg(models)]
                if let Some(shadow) = shadow(at, || i64::from(atomic.load(Ordering::SeqCst))) {
                    let old = shadow.fetch_add(-i64::from(v), ordering) as $repr;
                    atomic.store(old.wrapping_sub(v), Ordering::SeqCst);
                    return old;
                }
                atomic.fetch_sub(v, ordering)
            }
        }
    )*};
}

basic!(
    i8,
    (),
    AtomicI8,
    core::convert::identity,
    core::convert::identity,
    i64::from,
    |number: i64| number as i8
);
basic!(
    i16,
    (),
    AtomicI16,
    core::convert::identity,
    core::convert::identity,
    i64::from,
    |number: i64| number as i16
);
basic!(
    i32,
    i32,
    AtomicI32,
    core::convert::identity,
    core::convert::identity,
    i64::from,
    |number: i64| number as i32
);
basic!(
    i64,
    i64,
    AtomicI64,
    core::convert::identity,
    core::convert::identity,
    core::convert::identity,
    core::convert::identity
);
basic!(
    *const c_void,
    isize,
    AtomicPtr<c_void>,
    <*const c_void>::cast_mut,
    <*mut c_void>::cast_const,
    |at: *const c_void| at.expose_provenance() as i64,
    |number: i64| core::ptr::with_exposed_provenance::<c_void>(number as usize)
);

arithmetic! {
    i32, AtomicI32;
    i64, AtomicI64;
}
