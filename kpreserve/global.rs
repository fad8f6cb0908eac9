// SPDX-License-Identifier: GPL-2.0

//! The framework of this boot.
//!
//! In the kernel there is one, from the load of kpreserve.ko on. On the host, where machines reboot
//! inside one process, each thread names the one it runs on.

use kernel::prelude::*;

use crate::framework::Framework;

#[cfg(CONFIG_RUST)]
static FRAMEWORK: kernel::sync::SetOnce<Result<&'static Framework>> = kernel::sync::SetOnce::new();

#[cfg(not(CONFIG_RUST))]
std::thread_local! {
    static FRAMEWORK: core::cell::Cell<Option<Result<&'static Framework>>> =
        const { core::cell::Cell::new(None) };
}

/// Returns the framework of this boot.
///
/// # Errors
///
/// EPROBE_DEFER before it is up; if it will never be, what [`Framework::boot`] has failed with.
pub fn framework() -> Result<&'static Framework> {
    #[cfg(CONFIG_RUST)]
    let framework = FRAMEWORK.copy();
    #[cfg(not(CONFIG_RUST))]
    let framework = FRAMEWORK.get();
    framework.unwrap_or(Err(EPROBE_DEFER))
}

/// Says which one it is; in the kernel, once.
#[cfg(CONFIG_RUST)]
pub(crate) fn set_framework(framework: &'static Framework) {
    FRAMEWORK.populate(Ok(framework));
}

/// Says that there will be none: those that ask again need not wait for it. A module that failed
/// goes away, and its next copy begins anew; what is built in is tried once.
#[cfg(CONFIG_RUST)]
pub(crate) fn set_failed(error: Error) {
    FRAMEWORK.populate(Err(error));
}

/// Says which framework this thread runs on: a simulated machine has just booted.
#[cfg(not(CONFIG_RUST))]
pub fn set_framework(framework: Option<&'static Framework>) {
    FRAMEWORK.set(framework.map(Ok));
}

/// Says that this thread's framework has failed to come up.
#[cfg(not(CONFIG_RUST))]
pub fn set_failed(error: Error) {
    FRAMEWORK.set(Some(Err(error)));
}
