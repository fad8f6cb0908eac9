// SPDX-License-Identifier: GPL-2.0

//! A lock that readers share.

use core::cell::UnsafeCell;
use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::prelude::*;
use kernel::sync::{
    CondVar,
    Mutex, //
};
use kernel::{
    new_condvar,
    new_mutex, //
};

/// Who is inside, and who waits.
#[derive(Default)]
struct State {
    nr_readers: usize,
    has_writer: bool,
    nr_waiting_writers: usize,
}

/// A lock that any number of readers hold at once, or one writer. Sleeps. A reader that comes while a
/// writer waits goes behind it, so that readers cannot keep writers out; hence it does not nest, not
/// even for reading.
///
/// Cost when nobody waits: a mutex and a few instructions, at each end.
///
/// # Invariants
///
/// `state` counts the guards: there are `nr_readers` for reading, and one for writing if and only if
/// `has_writer`, in which case there are none for reading.
#[pin_data]
pub(crate) struct RwLock<T> {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
    value: UnsafeCell<T>,
}

// SAFETY: the value goes where the lock goes.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: readers share the value, and a writer may take it out; by the type invariants never both.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// Makes a lock.
    pub(crate) fn new(value: T) -> impl PinInit<Self> {
        // INVARIANT: no guards, and nobody is counted.
        pin_init!(Self {
            state <- new_mutex!(State::default(), "kpreserve_names"),
            changed <- new_condvar!("kpreserve_names_changed"),
            value: UnsafeCell::new(value),
        })
    }

    /// Waits until no writer is inside, and none waits. May sleep.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        let mut state = self.state.lock();
        while state.has_writer || state.nr_waiting_writers > 0 {
            self.changed.wait(&mut state);
        }
        state.nr_readers += 1;
        // INVARIANT: counted, and no writer is inside.
        ReadGuard { lock: self }
    }

    /// Waits until nobody is inside. May sleep.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        let mut state = self.state.lock();
        state.nr_waiting_writers += 1;
        while state.has_writer || state.nr_readers > 0 {
            self.changed.wait(&mut state);
        }
        state.nr_waiting_writers -= 1;
        state.has_writer = true;
        // INVARIANT: counted, and nobody else is inside.
        WriteGuard { lock: self }
    }
}

/// The right to read.
///
/// # Invariants
///
/// Counted in `nr_readers` of the lock's state.
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: by the invariants of guard and lock there is no guard for writing.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        let mut state = self.lock.state.lock();
        state.nr_readers -= 1;
        if state.nr_readers == 0 {
            self.lock.changed.notify_all();
        }
    }
}

/// The right to write.
///
/// # Invariants
///
/// `has_writer` of the lock's state, for this guard.
pub(crate) struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: by the invariants of guard and lock there is no other guard; this one is borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by the invariants of guard and lock there is no other guard; this one is borrowed
        // mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.state.lock().has_writer = false;
        self.lock.changed.notify_all();
    }
}

#[cfg(all(test, not(CONFIG_RUST)))]
mod tests {
    use super::*;

    use std::boxed::Box;
    use std::sync::atomic::{
        AtomicBool,
        AtomicUsize,
        Ordering, //
    };
    use std::sync::mpsc;
    use std::time::Duration;
    use std::vec::Vec;

    /// Long enough for a thread to come to where it waits, short enough to be waited for in vain.
    const A_WHILE: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn lock() -> &'static RwLock<u64> {
        let lock = KBox::pin_init(RwLock::new(0), GFP_KERNEL).unwrap();
        Box::leak(Box::new(lock)).as_ref().get_ref()
    }

    #[test]
    fn readers_are_inside_at_once() {
        let lock = lock();
        let first = lock.read();
        let (entered, has_entered) = mpsc::channel();
        let other = std::thread::spawn(move || entered.send(*lock.read()));
        assert_eq!(has_entered.recv_timeout(LONG), Ok(0));
        other.join().unwrap().unwrap();
        drop(first);
    }

    #[test]
    fn a_writer_waits_for_readers_and_those_who_come_later_for_it() {
        let lock = lock();
        let reader = lock.read();
        let (wrote, has_written) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            *lock.write() = 7;
            wrote.send(()).unwrap();
        });
        assert!(has_written.recv_timeout(A_WHILE).is_err());
        // It waits; who comes now goes behind it.
        let (read, has_read) = mpsc::channel();
        let later = std::thread::spawn(move || read.send(*lock.read()));
        assert!(has_read.recv_timeout(A_WHILE).is_err());
        assert_eq!(*reader, 0);
        drop(reader);
        has_written.recv_timeout(LONG).unwrap();
        assert_eq!(has_read.recv_timeout(LONG), Ok(7));
        writer.join().unwrap();
        later.join().unwrap().unwrap();
    }

    #[test]
    fn nobody_is_inside_with_a_writer() {
        static IS_WRITING: AtomicBool = AtomicBool::new(false);
        static NR_READING: AtomicUsize = AtomicUsize::new(0);
        let lock = lock();
        let threads: Vec<_> = (0..4u64)
            .map(|i| {
                std::thread::spawn(move || {
                    for n in 0..2000 {
                        if (n + i) % 3 == 0 {
                            let mut value = lock.write();
                            assert!(!IS_WRITING.swap(true, Ordering::SeqCst));
                            assert_eq!(NR_READING.load(Ordering::SeqCst), 0);
                            *value += 1;
                            std::thread::yield_now();
                            IS_WRITING.store(false, Ordering::SeqCst);
                        } else {
                            let value = lock.read();
                            NR_READING.fetch_add(1, Ordering::SeqCst);
                            assert!(!IS_WRITING.load(Ordering::SeqCst));
                            let before = *value;
                            std::thread::yield_now();
                            assert_eq!(*value, before);
                            NR_READING.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let nr_written = (0..4u64).flat_map(|i| (0..2000).map(move |n| n + i));
        assert_eq!(
            *lock.read(),
            nr_written.filter(|n| n % 3 == 0).count() as u64
        );
    }
}
