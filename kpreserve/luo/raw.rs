// SPDX-License-Identifier: GPL-2.0

//! What of LUO is called. Not generic, for the rest is compiled into the modules that have a client, and those
//! cannot call LUO.

use core::ffi::CStr;

use kernel::error::to_result;
use kernel::prelude::*;

use super::bindings::{
    self,
    FlbOps,
    NotifierBlock, //
};

/// # Safety
///
/// Both stay valid, and where they are, until [`unregister`].
#[inline(never)]
pub(super) unsafe fn register(
    raw: *mut bindings::FileHandler,
    notifier: *mut bindings::NotifierBlock,
) -> Result {
    // SAFETY: says the caller.
    to_result(unsafe { bindings::register_reboot_notifier(notifier) })?;
    // SAFETY: says the caller.
    let registered = to_result(unsafe { bindings::liveupdate_register_file_handler(raw) });
    if registered.is_err() {
        // SAFETY: registered above.
        unsafe { bindings::unregister_reboot_notifier(notifier) };
    }
    registered
}

/// Makes the files of a handler depend on a shared state, and has LUO count those of the previous kernel.
///
/// # Safety
///
/// The handler is registered; the state outlives that.
#[inline(never)]
pub(super) unsafe fn depend(raw: *mut bindings::FileHandler, flb: *mut bindings::Flb) -> Result {
    // SAFETY: says the caller.
    to_result(unsafe { bindings::liveupdate_register_flb(raw, flb) })?;
    let mut object = core::ptr::null_mut();
    // SAFETY: says the caller.
    if unsafe { bindings::liveupdate_flb_get_incoming(flb, &mut object) } == 0 {
        // SAFETY: got above.
        unsafe { bindings::liveupdate_flb_put_incoming(flb) };
    }
    Ok(())
}

/// What has become of a handler that LUO does not find any more.
pub(super) enum Unregistered {
    /// Nobody has it.
    Gone,
    /// LUO may have files of it. The notifier stays, and the module for ever.
    Stays,
    /// The same, but the module has not come up, and may not: nothing can make it stay. Nobody is called any more.
    Leaked,
}

/// Has LUO forget a handler, and what its files depend on: none can become its any more.
///
/// # Safety
///
/// It was registered.
#[inline(never)]
pub(super) unsafe fn unregister(raw: *mut bindings::FileHandler) {
    // SAFETY: says the caller.
    unsafe { bindings::liveupdate_unregister_file_handler(raw) };
}

/// Returns whether LUO has no file of a module's whose handler was unregistered: it holds the module for each, and `nr_holds`
/// times for states that files share.
///
/// # Safety
///
/// `owner` is a module, whose code runs, or null if that is built in.
#[inline(never)]
pub(super) unsafe fn is_unused(owner: *mut c_void, nr_holds: c_uint) -> bool {
    // SAFETY: says the caller.
    unsafe { bindings::kpreserve_luo_is_unused(owner, nr_holds) }
}

/// Undoes the rest of [`register`], as far as that can be, if the handler is unused or not.
///
/// # Safety
///
/// Both were registered, and [`unregister`] has been called; `owner` is the module that the handler names, null if it is built in.
#[inline(never)]
pub(super) unsafe fn settle(
    raw: *mut bindings::FileHandler,
    notifier: *mut bindings::NotifierBlock,
    owner: *mut c_void,
    is_unused: bool,
) -> Unregistered {
    // SAFETY: says the caller.
    let is_coming = unsafe { bindings::kpreserve_luo_is_coming(owner) };
    if !is_unused && !is_coming {
        if !owner.is_null() {
            pr_warn!("a handler was dropped that files may need: its module stays for ever\n");
            // SAFETY: its code is what runs, so it is there.
            unsafe { bindings::kpreserve_luo_pin(owner) };
        }
        return Unregistered::Stays;
    }
    // SAFETY: says the caller.
    unsafe { unregister_notifier(notifier) };
    if is_unused {
        return Unregistered::Gone;
    }
    pr_warn!("a module does not come up that files need: they cannot be retrieved\n");
    // SAFETY: LUO has no other way to its callbacks.
    unsafe { bindings::kpreserve_luo_set_gone(raw) };
    Unregistered::Leaked
}

/// Takes a notifier back; what is not in the chain is refused, no more.
///
/// # Safety
///
/// It is valid.
#[inline(never)]
pub(super) unsafe fn unregister_notifier(notifier: *mut NotifierBlock) {
    // SAFETY: says the caller.
    unsafe { bindings::unregister_reboot_notifier(notifier) };
}

/// # Safety
///
/// `ops` and `known` stay valid until [`free_flb`]; `compatible` fits.
#[inline(never)]
pub(super) unsafe fn new_flb(
    ops: *const FlbOps,
    compatible: &CStr,
    known: *const c_void,
) -> Result<*mut bindings::Flb> {
    // SAFETY: says the caller.
    let raw = unsafe { bindings::kpreserve_luo_new_flb(ops, compatible.as_ptr().cast(), known) };
    if raw.is_null() {
        Err(ENOMEM)
    } else {
        Ok(raw)
    }
}

/// Returns the `known` of an FLB.
///
/// # Safety
///
/// `raw` is from [`new_flb`].
#[inline(never)]
pub(super) unsafe fn known_of(raw: *mut bindings::Flb) -> *mut c_void {
    // SAFETY: says the caller.
    unsafe { bindings::kpreserve_luo_known_of_flb(raw) }
}

/// Returns whether the state that an earlier kernel left has been finished in this boot, by
/// whatever module.
///
/// # Safety
///
/// `raw` is from [`new_flb`].
#[inline(never)]
pub(super) unsafe fn is_finished(raw: *mut bindings::Flb) -> bool {
    // SAFETY: valid, as the caller ensures.
    unsafe { bindings::kpreserve_luo_is_finished(raw) }
}

/// Notes that it is.
///
/// # Safety
///
/// `raw` is from [`new_flb`], and LUO's callbacks of it come one at a time.
#[inline(never)]
pub(super) unsafe fn set_finished(raw: *mut bindings::Flb) {
    // SAFETY: valid, and nobody else changes it meanwhile, as the caller ensures.
    unsafe { bindings::kpreserve_luo_set_finished(raw) }
}

/// Returns whether one more line about files may be logged: there may be many of them.
#[inline(never)]
pub fn may_log() -> bool {
    // SAFETY: the callee looks at a state of its own.
    unsafe { bindings::kpreserve_luo_may_log() }
}

/// # Safety
///
/// It stays valid until [`free_flb`].
#[inline(never)]
pub(super) unsafe fn register_notifier(notifier: *mut NotifierBlock) -> Result {
    // SAFETY: says the caller.
    to_result(unsafe { bindings::register_reboot_notifier(notifier) })
}

/// # Safety
///
/// `raw` is from [`new_flb`], no handler depends on it, and it is not used again.
#[inline(never)]
pub(super) unsafe fn free_flb(raw: *mut bindings::Flb, notifier: *mut NotifierBlock) {
    // SAFETY: says the caller.
    unsafe { bindings::unregister_reboot_notifier(notifier) };
    // SAFETY: says the caller.
    unsafe { bindings::kpreserve_luo_free_flb(raw) };
}

/// # Safety
///
/// `raw` is valid.
#[inline(never)]
pub(super) unsafe fn get_incoming(raw: *mut bindings::Flb) -> Result {
    let mut object = core::ptr::null_mut();
    // SAFETY: says the caller.
    to_result(unsafe { bindings::liveupdate_flb_get_incoming(raw, &mut object) })
}

/// # Safety
///
/// `raw` is valid, and was got.
#[inline(never)]
pub(super) unsafe fn put_incoming(raw: *mut bindings::Flb) {
    // SAFETY: says the caller.
    unsafe { bindings::liveupdate_flb_put_incoming(raw) };
}
