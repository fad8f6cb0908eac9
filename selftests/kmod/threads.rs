// SPDX-License-Identifier: GPL-2.0

//! Kernel threads, and staying on a CPU.
//!
//! C header: `helpers.h`.

use kernel::error::to_result;
use kernel::prelude::*;

mod bindings {
    use super::{
        c_int,
        c_uint, //
    };

    extern "C" {
        pub(super) fn selftest_start_threads(
            nr_per_cpu: c_uint,
            body: extern "C" fn(c_uint) -> c_int,
        ) -> c_int;
        pub(super) fn selftest_stop_threads() -> c_int;
        pub(super) fn selftest_goes_on() -> bool;
        pub(super) fn selftest_stay_on(cpu: c_uint) -> c_int;
        pub(super) fn selftest_stay_nowhere();
    }
}

/// Starts threads, `nr_per_cpu` bound to each CPU; `body` gets their number, and returns when
/// [`goes_on`] is false, or at an error.
///
/// # Errors
///
/// EBUSY if there are threads already, ENOMEM.
pub(crate) fn start(nr_per_cpu: u32, body: extern "C" fn(c_uint) -> c_int) -> Result {
    // SAFETY: `body` is there as long as the module, which lives as long as the machine wherever
    // threads are not stopped.
    to_result(unsafe { bindings::selftest_start_threads(nr_per_cpu, body) })
}

/// Stops the threads.
///
/// # Errors
///
/// What the first of them that failed has returned.
pub(crate) fn stop() -> Result {
    // SAFETY: no requirements.
    to_result(unsafe { bindings::selftest_stop_threads() })
}

/// Lets others run, and returns whether the thread is to go on. For bodies of threads.
pub(crate) fn goes_on() -> bool {
    // SAFETY: called by threads that `start` has made.
    unsafe { bindings::selftest_goes_on() }
}

/// The current task stays on a CPU until this is dropped.
pub(crate) struct OnCpu(());

impl OnCpu {
    /// # Errors
    ///
    /// EINVAL if the CPU is not online.
    pub(crate) fn new(cpu: u32) -> Result<Self> {
        // SAFETY: no requirements.
        to_result(unsafe { bindings::selftest_stay_on(cpu) })?;
        Ok(Self(()))
    }
}

impl Drop for OnCpu {
    fn drop(&mut self) {
        // SAFETY: no requirements.
        unsafe { bindings::selftest_stay_nowhere() }
    }
}
