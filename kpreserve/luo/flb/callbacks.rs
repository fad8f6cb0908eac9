// SPDX-License-Identifier: GPL-2.0

//! From LUO's callbacks to the trait.
//!
//! What LUO promises (kernel/liveupdate/luo_flb.c): `flb` is the one it was given, and the callbacks of one FLB come
//! one at a time, those of either side under a mutex of its own.

use kernel::prelude::*;

use super::{
    FlbHandler,
    Known, //
};
use crate::luo::bindings::{
    FlbOpArgs,
    NotifierBlock,
    NOTIFY_DONE, //
};
use crate::luo::raw;

/// # Safety
///
/// LUO calls it, for an FLB of a `Known<F>`.
pub(super) unsafe extern "C" fn preserve<F: FlbHandler>(args: *mut FlbOpArgs) -> c_int {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: says the caller.
    let known = unsafe { Known::<F>::of(args) };
    match known
        .cache()
        .and_then(|cache| known.handler.preserve(cache))
    {
        Ok(state) => {
            args.data = state.handle().into_raw();
            // LUO takes NULL for "there is none".
            args.obj = args.flb.cast();
            *known.outgoing.lock() = Some(state);
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// As [`preserve`].
pub(super) unsafe extern "C" fn unpreserve<F: FlbHandler>(args: *mut FlbOpArgs) {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &*args };
    // SAFETY: says the caller.
    let known = unsafe { Known::<F>::of(args) };
    let state = known.outgoing.lock().take();
    if let Some(state) = state {
        known.handler.unpreserve(state);
    }
}

/// # Safety
///
/// As [`preserve`].
pub(super) unsafe extern "C" fn retrieve<F: FlbHandler>(args: *mut FlbOpArgs) -> c_int {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: says the caller.
    let known = unsafe { Known::<F>::of(args) };
    // Its files are gone with the module that had them: nobody would finish it a second time, and
    // it would hold this module. The object is gone, too.
    // SAFETY: LUO's, from `raw::new_flb`.
    if unsafe { raw::is_finished(args.flb) } {
        return ENODATA.to_errno();
    }
    args.obj = args.flb.cast();
    *known.incoming.lock() = Some(known.claim(args.data));
    0
}

/// # Safety
///
/// As [`preserve`].
pub(super) unsafe extern "C" fn finish<F: FlbHandler>(args: *mut FlbOpArgs) {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &*args };
    // SAFETY: says the caller.
    let known = unsafe { Known::<F>::of(args) };
    // SAFETY: LUO's, from `raw::new_flb`; it calls one of these at a time.
    unsafe { raw::set_finished(args.flb) };
    let state = known.incoming.lock().take();
    // What cannot be claimed is not ours to free.
    if let Some(Ok(state)) = state {
        known.handler.finish(state);
    }
}

/// The kernel goes: what was left to us and never finished does not go on.
///
/// # Safety
///
/// For the notifier of a `Known<F>`.
pub(super) unsafe extern "C" fn on_reboot<F: FlbHandler>(
    notifier: *mut NotifierBlock,
    _action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    let offset = core::mem::offset_of!(Known<F>, notifier);
    // SAFETY: says the caller: both are in one allocation.
    let start = unsafe { notifier.byte_sub(offset) };
    // SAFETY: says the caller.
    let known = unsafe { &*start.cast::<Known<F>>() };
    let state = known.incoming.lock().take();
    if let Some(Ok(state)) = state {
        known.handler.forget(state);
    }
    if let Ok(cache) = known.cache() {
        for state in cache.unclaimed() {
            known.handler.forget(state);
        }
    }
    NOTIFY_DONE
}
