// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync.rs.

mod arc;
pub mod atomic;
pub mod barrier;
mod condvar;
pub mod lock;
mod set_once;

pub use arc::{
    Arc,
    ArcBorrow, //
};
pub use condvar::{
    new_condvar,
    CondVar, //
};
pub use lock::mutex::{
    new_mutex,
    Mutex,
    MutexGuard, //
};
pub use lock::spinlock::{
    new_spinlock,
    SpinLock,
    SpinLockGuard, //
};
pub use set_once::SetOnce;

/// What lockdep knows a lock by; nothing here.
#[derive(Debug)]
pub struct LockClassKey(());

impl LockClassKey {
    /// Makes a key for a static.
    ///
    /// # Safety
    ///
    /// None here; in the kernel the key must be a static.
    pub const unsafe fn new_static() -> Self {
        Self(())
    }
}

/// Makes a lock class for the place where it stands.
#[macro_export]
macro_rules! static_lock_class {
    () => {{
        // SAFETY: it is a static.
        static CLASS: $crate::sync::LockClassKey =
            unsafe { $crate::sync::LockClassKey::new_static() };
        ::core::pin::Pin::new(&CLASS)
    }};
}
pub use static_lock_class;

#[doc(hidden)]
#[macro_export]
macro_rules! optional_name {
    () => {
        $crate::c_str!(::core::concat!(::core::file!(), ":", ::core::line!()))
    };
    ($name:literal) => {
        $crate::c_str!($name)
    };
}
