// SPDX-License-Identifier: GPL-2.0

//! For a consumer's own tests: kpreserve on a machine that reboots.
//!
//! ```
//! # extern crate kernel;
//! use kpreserve::prelude::*;
//! use kpreserve_testing::Kernel;
//!
//! kpreserve::preservable! {
//!     pub struct CountSer { pub value: u64 }
//!     compatible = "testing-count", version = 1
//! }
//!
//! fn count() -> Result<u64> {
//!     let init = CountSer { value: 0 };
//!     let mut count = Named::<CountSer>::open(c"count", init, GFP_KERNEL)?;
//!     count.value += 1;
//!     Ok(count.value)
//! }
//!
//! let first = Kernel::boot();
//! assert_eq!(count(), Ok(1));
//! let second = first.kexec();
//! assert_eq!(count(), Ok(2));
//! second.assert_sound();
//! ```

use kernel::error::Result;
use kpreserve::global::{
    set_failed,
    set_framework, //
};
use kpreserve::{
    Framework,
    IfRefused, //
};

pub use kpreserve_sim as sim;
pub use kpreserve_sim::{
    Config,
    SimMachine, //
};

/// A kernel with kpreserve on it; [`framework`](kpreserve::global::framework) of this thread.
#[derive(Clone, Copy)]
pub struct Kernel {
    machine: &'static SimMachine,
    framework: &'static Framework,
}

impl core::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Kernel").field(&self.machine).finish()
    }
}

impl Kernel {
    /// Boots a machine of 4 MiB that holds nothing yet.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn boot() -> Self {
        Self::boot_with(Config::default())
    }

    /// The same, on another machine.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn boot_with(config: Config) -> Self {
        match Self::on(SimMachine::boot(config)) {
            Ok(kernel) => kernel,
            Err(error) => panic!("the framework does not come up: {error:?}"),
        }
    }

    /// Brings the framework up on a machine that was booted.
    ///
    /// # Errors
    ///
    /// Those of [`Framework::boot`]; whoever opens something on this thread gets the same.
    pub fn on(machine: &'static SimMachine) -> Result<Self> {
        Self::on_with(machine, IfRefused::Fail)
    }

    /// The same, and says what becomes of an image that is refused.
    ///
    /// # Errors
    ///
    /// Those of [`Framework::boot`]; whoever opens something on this thread gets the same.
    pub fn on_with(machine: &'static SimMachine, if_refused: IfRefused) -> Result<Self> {
        set_framework(None);
        let framework =
            Framework::boot(machine, if_refused).inspect_err(|&error| set_failed(error))?;
        set_framework(Some(framework));
        Ok(Self { machine, framework })
    }

    /// Returns the machine.
    pub fn machine(&self) -> &'static SimMachine {
        self.machine
    }

    /// Returns the framework.
    pub fn framework(&self) -> &'static Framework {
        self.framework
    }

    /// Freezes, as the reboot notifier does, and boots the next kernel: the same memory at another
    /// address. Owners (caches, areas, objects) of the old kernel have been dropped or forgotten.
    ///
    /// # Panics
    ///
    /// If the next kernel refuses what this one left, or if this one did what a kernel would have
    /// complained about.
    pub fn kexec(self) -> Self {
        self.framework.freeze();
        self.framework.say_what_is_handed_on();
        self.stop()
    }

    /// The same without the freeze: the machine stops in the middle.
    ///
    /// # Panics
    ///
    /// As [`kexec`](Self::kexec).
    pub fn stop(self) -> Self {
        self.assert_sound();
        match Self::on(self.machine.reboot()) {
            Ok(kernel) => kernel,
            Err(error) => panic!("the next kernel refuses what this one left: {error:?}"),
        }
    }

    /// Checks that a kernel would not have complained.
    ///
    /// # Panics
    ///
    /// If it would.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.machine.assert_sound();
    }
}
