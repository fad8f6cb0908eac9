// SPDX-License-Identifier: GPL-2.0

//! Host only: an observer that hears of each atomic store, and each barrier, of its thread before
//! it happens.
//!
//! This is how the simulated machine sees where a kernel could be cut.

use core::cell::RefCell;
use std::boxed::Box;

/// What an observer is told: where the store goes, and how many bytes it has.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// The address.
    pub address: usize,
    /// The size.
    pub size_bytes: usize,
    /// Whether stores that follow stay behind it (acquire or full).
    pub acquires: bool,
}

type Observer = Box<dyn FnMut(Store)>;

std::thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// Installs the observer of this thread; `None` takes it away. Returns the one before.
pub fn set_observer(observer: Option<Observer>) -> Option<Observer> {
    OBSERVER.with(|cell| cell.replace(observer))
}

/// Tells the observer of a barrier: a store of nothing, which all others stay behind.
pub(crate) fn barrier() {
    before_store(core::ptr::null::<u8>(), 0, true);
}

/// Tells the observer of a store to come. Stores of the observer itself are not observed.
pub(crate) fn before_store<T>(at: *const T, size_bytes: usize, acquires: bool) {
    // The thread may be past its thread-locals; nobody observes it then.
    let _ = OBSERVER.try_with(|cell| {
        if let Ok(mut observer) = cell.try_borrow_mut() {
            if let Some(observer) = observer.as_mut() {
                observer(Store {
                    address: at.addr(),
                    size_bytes,
                    acquires,
                });
            }
        }
    });
}
