// SPDX-License-Identifier: GPL-2.0

//! The store that the device and the cursors share.
//!
//! It is open as long as one of them is: opening is exclusive in kpreserve.

use kpreserve::prelude::*;

use crate::store::Store;

#[cfg(CONFIG_KPRESERVE_LUO)]
use crate::abi::CursorSer;

/// What the module has one of.
pub struct Shared {
    store: Option<Store>,
    nr_users: usize,
    is_device_open: bool,
    /// Where cursors are made; `None` where LUO is off.
    #[cfg(CONFIG_KPRESERVE_LUO)]
    pub cursors: Option<Cache<CursorSer>>,
}

kernel::sync::global_lock! {
    // SAFETY: the module initializes it before it makes the device and the handler.
    /// The store, for whoever needs it.
    pub unsafe(uninit) static SHARED: Mutex<Shared> = Shared {
        store: None,
        nr_users: 0,
        is_device_open: false,
        #[cfg(CONFIG_KPRESERVE_LUO)]
        cursors: None,
    };
}

/// Keeps the store open.
pub struct StoreRef {
    is_device: bool,
}

impl StoreRef {
    /// Opens the store, unless it is open.
    ///
    /// # Errors
    ///
    /// Those of [`Store::open`].
    pub fn new() -> Result<Self> {
        Self::open(false)
    }

    /// The same for the device, of which there is one.
    ///
    /// # Errors
    ///
    /// EBUSY if it is open; those of [`Store::open`].
    pub fn of_device() -> Result<Self> {
        Self::open(true)
    }

    fn open(is_device: bool) -> Result<Self> {
        let mut shared = SHARED.lock();
        if is_device && shared.is_device_open {
            return Err(EBUSY);
        }
        if shared.store.is_none() {
            shared.store = Some(Store::open()?);
        }
        shared.nr_users += 1;
        shared.is_device_open |= is_device;
        Ok(Self { is_device })
    }

    /// Does something with the store, alone.
    ///
    /// # Errors
    ///
    /// What `work` returns.
    pub fn with<R>(&self, work: impl FnOnce(&mut Store) -> Result<R>) -> Result<R> {
        // There is one as long as this lives.
        work(SHARED.lock().store.as_mut().ok_or(EIO)?)
    }
}

impl Drop for StoreRef {
    fn drop(&mut self) {
        let mut shared = SHARED.lock();
        if self.is_device {
            shared.is_device_open = false;
        }
        shared.nr_users -= 1;
        if shared.nr_users == 0 {
            // Closing gives nothing up: the store stays under its name.
            shared.store = None;
        }
    }
}
