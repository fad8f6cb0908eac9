// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/condvar.rs.

use core::ffi::CStr;
use core::pin::Pin;
use std::sync::PoisonError;

use pin_init::PinInit;

use super::lock::{
    Backend,
    Guard, //
};
use super::LockClassKey;
use crate::context;

/// Makes a [`CondVar`].
#[macro_export]
macro_rules! new_condvar {
    ($($name:literal)?) => {
        $crate::sync::CondVar::new($crate::optional_name!($($name)?), $crate::static_lock_class!())
    };
}
pub use new_condvar;

/// A condition to wait for.
#[derive(Debug, Default)]
pub struct CondVar {
    nr_notified: std::sync::Mutex<u64>,
    wakeup: std::sync::Condvar,
}

impl CondVar {
    /// Makes a condition.
    pub fn new(_name: &'static CStr, _key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        // A value is an initialiser of itself.
        Self::default()
    }

    /// Unlocks, waits for a notification, locks again. May wake up without reason.
    pub fn wait<T: ?Sized, B: Backend>(&self, guard: &mut Guard<'_, T, B>) {
        let seen = *self
            .nr_notified
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        guard.do_unlocked(|| {
            context::might_sleep("CondVar::wait()");
            let mut now = self
                .nr_notified
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            while *now == seen {
                now = self
                    .wakeup
                    .wait(now)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        });
    }

    /// Wakes one waiter, or more.
    pub fn notify_one(&self) {
        self.notify_all();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        *self
            .nr_notified
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        self.wakeup.notify_all();
    }
}
