// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/lock/spinlock.rs.

use core::ffi::CStr;

use crate::context;

/// Makes a [`SpinLock`].
#[macro_export]
macro_rules! new_spinlock {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::sync::SpinLock::new(
            $inner, $crate::optional_name!($($name)?), $crate::static_lock_class!())
    };
}
pub use new_spinlock;

/// A lock under which nobody sleeps.
pub type SpinLock<T> = super::Lock<T, SpinLockBackend>;

/// The guard of a [`SpinLock`].
pub type SpinLockGuard<'a, T> = super::Guard<'a, T, SpinLockBackend>;

/// `spinlock_t`.
#[derive(Debug)]
pub struct SpinLockBackend;

impl super::Backend for SpinLockBackend {
    fn before_lock(_name: &CStr) {}

    fn after_lock() {
        context::enter_atomic();
    }

    fn after_unlock() {
        context::leave_atomic();
    }
}
