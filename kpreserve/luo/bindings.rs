// SPDX-License-Identifier: GPL-2.0

//! LUO's structs (include/linux/liveupdate.h), for which the kernel has no Rust bindings. layout.c
//! compares each with the header, and a test of the host compares layout.c with this.
//!
//! Their names are C's, as bindgen would have them, and that is no matter of taste. A kernel with
//! control-flow integrity (CONFIG_CFI) compares, before it calls through a pointer, a hash of the
//! type that it expects with one that stands before the function. What rustc hashes of a `repr(C)`
//! struct is its name, of an `extern "C"` function its arguments' and its result's types. Another
//! name in a `use` does not show.

use kernel::bindings::{
    file,
    file_operations,
    list_head, //
};
use kernel::prelude::*;

// What Rust's code calls them.
pub(super) use self::{
    liveupdate_file_handler as FileHandler,
    liveupdate_file_op_args as FileOpArgs,
    liveupdate_file_ops as FileOps,
    liveupdate_flb as Flb,
    liveupdate_flb_op_args as FlbOpArgs,
    liveupdate_flb_ops as FlbOps, //
};
pub(super) use kernel::bindings::notifier_block as NotifierBlock;

/// `LIVEUPDATE_HNDL_COMPAT_LENGTH`, with the NUL.
pub(super) const COMPATIBLE_SIZE_BYTES: usize = 48;

/// `NOTIFY_DONE`.
pub(super) const NOTIFY_DONE: c_int = 0;

/// What LUO calls a handler for, and with.
#[repr(C)]
pub(super) struct liveupdate_file_op_args {
    pub(super) handler: *mut liveupdate_file_handler,
    pub(super) retrieve_status: c_int,
    pub(super) file: *mut file,
    pub(super) serialized_data: u64,
    pub(super) private_data: *mut c_void,
}

/// The callbacks of a handler. What LUO does without is an `Option`.
#[repr(C)]
pub(super) struct liveupdate_file_ops {
    pub(super) can_preserve: unsafe extern "C" fn(*mut liveupdate_file_handler, *mut file) -> bool,
    pub(super) preserve: unsafe extern "C" fn(*mut liveupdate_file_op_args) -> c_int,
    pub(super) unpreserve: unsafe extern "C" fn(*mut liveupdate_file_op_args),
    pub(super) freeze: Option<unsafe extern "C" fn(*mut liveupdate_file_op_args) -> c_int>,
    pub(super) unfreeze: Option<unsafe extern "C" fn(*mut liveupdate_file_op_args)>,
    pub(super) retrieve: unsafe extern "C" fn(*mut liveupdate_file_op_args) -> c_int,
    pub(super) can_finish: Option<unsafe extern "C" fn(*mut liveupdate_file_op_args) -> bool>,
    pub(super) finish: unsafe extern "C" fn(*mut liveupdate_file_op_args),
    pub(super) get_id: Option<unsafe extern "C" fn(*mut file) -> c_ulong>,
    pub(super) owner: *mut c_void,
}

/// A handler, as LUO lists it.
#[repr(C)]
pub(super) struct liveupdate_file_handler {
    pub(super) ops: *const liveupdate_file_ops,
    pub(super) compatible: [u8; COMPATIBLE_SIZE_BYTES],
    pub(super) list: list_head,
    pub(super) flb_list: list_head,
}

/// What LUO calls the owner of a shared state for, and with.
#[repr(C)]
pub(super) struct liveupdate_flb_op_args {
    pub(super) flb: *mut liveupdate_flb,
    pub(super) data: u64,
    pub(super) obj: *mut c_void,
}

/// The callbacks of a shared state.
#[repr(C)]
pub(super) struct liveupdate_flb_ops {
    pub(super) preserve: unsafe extern "C" fn(*mut liveupdate_flb_op_args) -> c_int,
    pub(super) unpreserve: unsafe extern "C" fn(*mut liveupdate_flb_op_args),
    pub(super) retrieve: unsafe extern "C" fn(*mut liveupdate_flb_op_args) -> c_int,
    pub(super) finish: unsafe extern "C" fn(*mut liveupdate_flb_op_args),
    pub(super) owner: *mut c_void,
}

/// A shared state. Its size depends on the configuration: made and freed by clients.c.
#[repr(C)]
pub(super) struct liveupdate_flb {
    _c: [u8; 0],
}

// Without lockdep `struct file` has a part without fields.
#[allow(improper_ctypes)]
extern "C" {
    pub(super) fn liveupdate_register_file_handler(handler: *mut FileHandler) -> c_int;
    pub(super) fn liveupdate_unregister_file_handler(handler: *mut FileHandler);
    pub(super) fn liveupdate_register_flb(handler: *mut FileHandler, flb: *mut Flb) -> c_int;
    pub(super) fn liveupdate_flb_get_incoming(flb: *mut Flb, object: *mut *mut c_void) -> c_int;
    pub(super) fn liveupdate_flb_put_incoming(flb: *mut Flb);
    pub(super) fn kpreserve_luo_new_flb(
        ops: *const FlbOps,
        compatible: *const c_char,
        known: *const c_void,
    ) -> *mut Flb;
    pub(super) fn kpreserve_luo_known_of_flb(flb: *mut Flb) -> *mut c_void;
    pub(super) fn kpreserve_luo_free_flb(flb: *mut Flb);
    pub(super) fn kpreserve_luo_is_finished(flb: *mut Flb) -> bool;
    pub(super) fn kpreserve_luo_set_finished(flb: *mut Flb);
    pub(super) fn kpreserve_luo_may_log() -> bool;
    pub(super) fn kpreserve_luo_is_unused(owner: *mut c_void, nr_holds: c_uint) -> bool;
    pub(super) fn kpreserve_luo_is_coming(owner: *mut c_void) -> bool;
    pub(super) fn kpreserve_luo_set_gone(handler: *mut FileHandler);
    pub(super) fn kpreserve_luo_pin(owner: *mut c_void);
    pub(super) fn anon_inode_getfile(
        name: *const c_char,
        ops: *const file_operations,
        private_data: *mut c_void,
        flags: c_int,
    ) -> *mut file;
    pub(super) fn register_reboot_notifier(notifier: *mut NotifierBlock) -> c_int;
    pub(super) fn unregister_reboot_notifier(notifier: *mut NotifierBlock) -> c_int;
}
