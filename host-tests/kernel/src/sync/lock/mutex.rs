// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/lock/mutex.rs.

use core::ffi::CStr;

use crate::context;

/// Makes a [`Mutex`].
#[macro_export]
macro_rules! new_mutex {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::sync::Mutex::new(
            $inner, $crate::optional_name!($($name)?), $crate::static_lock_class!())
    };
}
pub use new_mutex;

/// A lock that sleeps.
pub type Mutex<T> = super::Lock<T, MutexBackend>;

/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = super::Guard<'a, T, MutexBackend>;

/// `struct mutex`.
#[derive(Debug)]
pub struct MutexBackend;

impl super::Backend for MutexBackend {
    #[track_caller]
    fn before_lock(name: &CStr) {
        context::might_sleep(name.to_str().unwrap_or("a mutex"));
    }

    fn after_lock() {}

    fn after_unlock() {}
}
