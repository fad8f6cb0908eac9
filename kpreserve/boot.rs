// SPDX-License-Identifier: GPL-2.0

//! Init, freeze by reboot notifier, worker, shrinker, CPUs that go. Kernel only.
//!
//! C header: `helpers.h`.

use kernel::error::to_result;
use kernel::prelude::*;
use kpreserve_kho::kho::KHO;

use crate::framework::{
    Framework,
    IfRefused, //
};
use crate::global::{
    framework,
    set_failed,
    set_framework, //
};

mod bindings {
    use super::{
        c_int,
        c_void, //
    };

    extern "C" {
        pub(super) fn kpreserve_begin_init() -> c_int;
        pub(super) fn kpreserve_end_init(is_up: bool);
        pub(super) fn kpreserve_pin_module(module: *mut c_void);
    }
}

/// Brings the framework up. Called once, when kpreserve.ko is loaded or at boot.
///
/// # Errors
///
/// Those of [`Framework::boot`]; [`framework`] returns the same from then on.
pub fn init(module: &'static ThisModule, begin_anew: bool) -> Result {
    // SAFETY: no requirements; ended below, on each way.
    to_result(unsafe { bindings::kpreserve_begin_init() })?;
    let up = bring_up(module, begin_anew);
    // SAFETY: begun above.
    unsafe { bindings::kpreserve_end_init(up.is_ok()) };
    up
}

fn bring_up(module: &'static ThisModule, begin_anew: bool) -> Result {
    let if_refused = if begin_anew {
        IfRefused::BeginAnew
    } else {
        IfRefused::Fail
    };
    let framework = Framework::boot(&KHO, if_refused).inspect_err(|&error| set_failed(error))?;
    // SAFETY: `ThisModule` holds this module, or NULL when built in, which is what the callee
    // takes.
    unsafe { bindings::kpreserve_pin_module(module.as_ptr().cast()) };
    set_framework(framework);
    Ok(())
}

/// The last reboot notifier: kexec or not, no more structure is changed.
#[no_mangle]
extern "C" fn kpreserve_on_reboot() {
    if let Ok(framework) = framework() {
        framework.freeze();
        framework.say_what_is_handed_on();
    }
}

/// The worker, in a context that may sleep. Returns whether caches are to be settled a while later.
#[no_mangle]
extern "C" fn kpreserve_do_work() -> bool {
    framework().is_ok_and(Framework::work)
}

/// Begins to bring to rest what is in use.
#[no_mangle]
extern "C" fn kpreserve_begin_settling() {
    if let Ok(framework) = framework() {
        framework.begin_settling();
    }
}

/// The shrinker's count, in pages. In reclaim: takes no lock.
#[no_mangle]
extern "C" fn kpreserve_nr_pages_reclaimable() -> c_ulong {
    framework().map_or(0, Framework::nr_pages_reclaimable)
}

/// The shrinker's scan: condemns up to `nr_pages`. In reclaim: takes no lock.
#[no_mangle]
extern "C" fn kpreserve_reclaim(nr_pages: c_ulong) -> c_ulong {
    framework().map_or(0, |framework| framework.reclaim(nr_pages))
}

/// What the worker has still to give back, in pages. In reclaim: takes no lock.
#[no_mangle]
extern "C" fn kpreserve_nr_pages_condemned() -> c_ulong {
    framework().map_or(0, Framework::nr_pages_condemned)
}

/// Gives back what this CPU holds.
#[no_mangle]
extern "C" fn kpreserve_drain_here() {
    if let Ok(framework) = framework() {
        framework.drain_here();
    }
}

/// Gives back what a CPU held; it is offline, and hotplug keeps it so meanwhile.
#[no_mangle]
extern "C" fn kpreserve_on_cpu_dead(cpu: c_uint) {
    if let Ok(framework) = framework() {
        // SAFETY: called for a CPU that has gone down (helpers.c), by who took it down and has seen
        // it idle for good; CPUs come and go one at a time.
        unsafe { framework.drain_cpu(cpu as usize) };
    }
}
