// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/lock.rs. A thread that locks twice panics, where the kernel would
//! hang.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::marker::PhantomData;
use core::pin::Pin;
#[cfg(not(models))]
use std::{
    sync::PoisonError,
    thread::ThreadId, //
};

use pin_init::{
    pin_init_from_closure,
    PinInit, //
};

use super::LockClassKey;
use crate::types::NotThreadSafe;

pub mod mutex;
pub mod spinlock;

/// What tells one kind of lock from another.
pub trait Backend {
    /// Called by a thread before it locks.
    fn before_lock(name: &CStr);

    /// Called by a thread once it holds the lock.
    fn after_lock();

    /// Called by a thread once it has unlocked.
    fn after_unlock();
}

/// A lock around a value.
pub struct Lock<T: ?Sized, B: Backend> {
    name: &'static CStr,
    holder: Holder,
    _backend: PhantomData<fn() -> B>,
    data: UnsafeCell<T>,
}

/// Who holds a lock.
#[cfg(not(models))]
struct Holder {
    state: std::sync::Mutex<HolderState>,
    released: std::sync::Condvar,
}

#[cfg(not(models))]
#[derive(Default)]
struct HolderState {
    thread: Option<ThreadId>,
    /// How many wait. To wake nobody is a system call, too.
    nr_waiting: usize,
}

#[cfg(not(models))]
impl Holder {
    fn new() -> Self {
        Self {
            state: std::sync::Mutex::default(),
            released: std::sync::Condvar::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HolderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_hold(&self) -> bool {
        let mut state = self.state();
        if state.thread.is_some() {
            return false;
        }
        state.thread = Some(std::thread::current().id());
        true
    }

    #[track_caller]
    fn hold(&self, name: &CStr) {
        let me = std::thread::current().id();
        let mut state = self.state();
        while let Some(other) = state.thread {
            if other == me {
                drop(state);
                panic!("deadlock: {name:?} is taken twice by the same thread");
            }
            state.nr_waiting += 1;
            state = self
                .released
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.nr_waiting -= 1;
        }
        state.thread = Some(me);
    }

    fn let_go(&self) {
        let mut state = self.state();
        state.thread = None;
        let is_awaited = state.nr_waiting > 0;
        drop(state);
        if is_awaited {
            self.released.notify_one();
        }
    }
}

/// Whether a lock is held. In a model, which runs all tasks on one thread, nobody may block that.
#[cfg(models)]
struct Holder(super::atomic::Atomic<u32>);

#[cfg(models)]
impl Holder {
    fn new() -> Self {
        Self(super::atomic::Atomic::new(0))
    }

    fn try_hold(&self) -> bool {
        crate::models::mended(|| self.0.cmpxchg(0, 1, super::atomic::Acquire).is_ok())
    }

    fn hold(&self, _name: &CStr) {
        while !self.try_hold() {
            crate::models::relax();
        }
    }

    fn let_go(&self) {
        crate::models::mended(|| self.0.store(0, super::atomic::Release));
    }
}

// SAFETY: the value is reached through the lock only, which goes where the value may go.
unsafe impl<T: ?Sized + Send, B: Backend> Send for Lock<T, B> {}

// SAFETY: one thread at a time reaches the value.
unsafe impl<T: ?Sized + Send, B: Backend> Sync for Lock<T, B> {}

impl<T, B: Backend> Lock<T, B> {
    /// Makes a lock.
    pub fn new(
        t: impl PinInit<T>,
        name: &'static CStr,
        _key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        let init = move |slot: *mut Self| {
            // SAFETY: `slot` is valid for writes; the projection stays inside it.
            let data = unsafe { &raw mut (*slot).data };
            // SAFETY: `data` is valid for writes and pinned with the lock.
            unsafe { t.__pinned_init(data.cast()) }?;
            // SAFETY: as for `data`.
            let at = unsafe { &raw mut (*slot).name };
            // SAFETY: valid for writes.
            unsafe { at.write(name) };
            // SAFETY: as for `data`.
            let at = unsafe { &raw mut (*slot).holder };
            // SAFETY: valid for writes.
            unsafe { at.write(Holder::new()) };
            Ok(())
        };
        // SAFETY: on success every field that has a size was written; the first write is the only
        // one that can fail.
        unsafe { pin_init_from_closure(init) }
    }
}

impl<T: ?Sized, B: Backend> Lock<T, B> {
    /// Locks.
    ///
    /// # Panics
    ///
    /// If this thread holds the lock, or if it must not sleep and the lock does.
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T, B> {
        self.acquire();
        Guard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Locks, unless somebody else holds the lock.
    pub fn try_lock(&self) -> Option<Guard<'_, T, B>> {
        if !self.holder.try_hold() {
            return None;
        }
        B::after_lock();
        Some(Guard {
            lock: self,
            _not_send: NotThreadSafe,
        })
    }

    #[track_caller]
    fn acquire(&self) {
        B::before_lock(self.name);
        self.holder.hold(self.name);
        B::after_lock();
    }

    fn release(&self) {
        self.holder.let_go();
        B::after_unlock();
    }
}

impl<T: ?Sized, B: Backend> core::fmt::Debug for Lock<T, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Lock").field(&self.name).finish()
    }
}

/// Proof that the lock is held.
#[must_use = "the lock unlocks immediately when the guard is unused"]
pub struct Guard<'a, T: ?Sized, B: Backend> {
    lock: &'a Lock<T, B>,
    _not_send: NotThreadSafe,
}

// SAFETY: a shared guard gives shared access to the value only.
unsafe impl<T: Sync + ?Sized, B: Backend> Sync for Guard<'_, T, B> {}

impl<'a, T: ?Sized, B: Backend> Guard<'a, T, B> {
    /// Returns the lock.
    pub fn lock_ref(&self) -> &'a Lock<T, B> {
        self.lock
    }

    /// Returns the value, pinned.
    pub fn as_mut(&mut self) -> Pin<&mut T> {
        // SAFETY: the guard proves that nobody else reaches the value.
        let data = unsafe { &mut *self.lock.data.get() };
        // SAFETY: the value never moves, since the lock does not.
        unsafe { Pin::new_unchecked(data) }
    }

    pub(super) fn do_unlocked<U>(&mut self, f: impl FnOnce() -> U) -> U {
        struct Relock<'b, T: ?Sized, B: Backend>(&'b Lock<T, B>);

        impl<T: ?Sized, B: Backend> Drop for Relock<'_, T, B> {
            fn drop(&mut self) {
                self.0.acquire();
            }
        }

        self.lock.release();
        let _relock = Relock(self.lock);
        f()
    }
}

impl<T: ?Sized, B: Backend> core::ops::Deref for Guard<'_, T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that nobody else reaches the value.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized + Unpin, B: Backend> core::ops::DerefMut for Guard<'_, T, B> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that nobody else reaches the value.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized, B: Backend> Drop for Guard<'_, T, B> {
    fn drop(&mut self) {
        self.lock.release();
    }
}
