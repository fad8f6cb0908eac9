// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/atomic/internal.rs: what the CPU can do, by `core`'s atomics.

use core::sync::atomic::{
    fence,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicI8,
    AtomicPtr,
    Ordering, //
};

use super::ordering;
use crate::ffi::c_void;

mod private {
    pub trait Sealed {}
}

pub(super) fn fence_if_full<O: ordering::Ordering>() {
    if O::IS_FULL {
        fence(Ordering::SeqCst);
    }
}

/// What a failing comparison orders: nothing that the kernel promises, but the fences of `Full`
/// make up for it.
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
    ($repr:ty, $delta:ty, $atomic:ty, $into:expr, $from:expr) => {
        impl private::Sealed for $repr {}

        impl AtomicImpl for $repr {
            type Delta = $delta;

            unsafe fn load(at: *mut Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                $from(atomic.load(ordering))
            }

            unsafe fn store(at: *mut Self, v: Self, ordering: Ordering) {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                atomic.store($into(v), ordering);
            }

            unsafe fn swap(at: *mut Self, v: Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                $from(atomic.swap($into(v), ordering))
            }

            unsafe fn compare_exchange(
                at: *mut Self,
                old: Self,
                new: Self,
                ordering: Ordering,
            ) -> Result<Self, Self> {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                atomic
                    .compare_exchange($into(old), $into(new), ordering, on_failure(ordering))
                    .map($from)
                    .map_err($from)
            }
        }
    };
}

macro_rules! arithmetic {
    ($($repr:ty, $atomic:ty;)*) => {$(
        impl AtomicArithmeticOps for $repr {
            unsafe fn fetch_add(at: *mut Self, v: Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at) };
                atomic.fetch_add(v, ordering)
            }

            unsafe fn fetch_sub(at: *mut Self, v: Self, ordering: Ordering) -> Self {
                // SAFETY: by the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at) };
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
    core::convert::identity
);
basic!(
    i16,
    (),
    AtomicI16,
    core::convert::identity,
    core::convert::identity
);
basic!(
    i32,
    i32,
    AtomicI32,
    core::convert::identity,
    core::convert::identity
);
basic!(
    i64,
    i64,
    AtomicI64,
    core::convert::identity,
    core::convert::identity
);
basic!(
    *const c_void,
    isize,
    AtomicPtr<c_void>,
    <*const c_void>::cast_mut,
    <*mut c_void>::cast_const
);

arithmetic! {
    i32, AtomicI32;
    i64, AtomicI64;
}
