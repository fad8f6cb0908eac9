// SPDX-License-Identifier: GPL-2.0

//! The framework of this boot.
//!
//! In the kernel there is one, from the load of kpreserve.ko on. On the host, where machines reboot
//! inside one process, each thread names the one it runs on.

use kernel::prelude::*;

use crate::framework::Framework;

#[cfg(CONFIG_RUST)]
static FRAMEWORK: kernel::sync::SetOnce<&'static Framework> = kernel::sync::SetOnce::new();

#[cfg(not(CONFIG_RUST))]
std::thread_local! {
    static FRAMEWORK: core::cell::Cell<Option<&'static Framework>> =
        const { core::cell::Cell::new(None) };
}

/// Returns the framework of this boot.
///
/// # Errors
///
/// EPROBE_DEFER before it is up.
pub fn framework() -> Result<&'static Framework> {
    #[cfg(CONFIG_RUST)]
    let framework = FRAMEWORK.copy();
    #[cfg(not(CONFIG_RUST))]
    let framework = FRAMEWORK.get();
    framework.ok_or(EPROBE_DEFER)
}

/// Says which one it is; in the kernel, once.
#[cfg(CONFIG_RUST)]
pub(crate) fn set_framework(framework: &'static Framework) {
    FRAMEWORK.populate(framework);
}

/// Says which framework this thread runs on: a simulated machine has just booted.
#[cfg(not(CONFIG_RUST))]
pub fn set_framework(framework: Option<&'static Framework>) {
    FRAMEWORK.set(framework);
}
