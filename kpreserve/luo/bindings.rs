// SPDX-License-Identifier: GPL-2.0

//! LUO's structs (include/linux/liveupdate.h), for which the kernel has no Rust bindings. layout.c
//! compares each with the header.

use kernel::bindings::{
    file,
    file_operations,
    list_head, //
};
use kernel::prelude::*;

/// `LIVEUPDATE_HNDL_COMPAT_LENGTH`, with the NUL.
pub(super) const COMPATIBLE_SIZE_BYTES: usize = 48;

/// `NOTIFY_DONE`.
pub(super) const NOTIFY_DONE: c_int = 0;

/// `struct liveupdate_file_op_args`.
#[repr(C)]
pub(super) struct FileOpArgs {
    pub(super) handler: *mut FileHandler,
    pub(super) retrieve_status: c_int,
    pub(super) file: *mut file,
    pub(super) serialized_data: u64,
    pub(super) private_data: *mut c_void,
}

/// `struct liveupdate_file_ops`.
#[repr(C)]
pub(super) struct FileOps {
    pub(super) can_preserve: unsafe extern "C" fn(*mut FileHandler, *mut file) -> bool,
    pub(super) preserve: unsafe extern "C" fn(*mut FileOpArgs) -> c_int,
    pub(super) unpreserve: unsafe extern "C" fn(*mut FileOpArgs),
    pub(super) freeze: unsafe extern "C" fn(*mut FileOpArgs) -> c_int,
    pub(super) unfreeze: unsafe extern "C" fn(*mut FileOpArgs),
    pub(super) retrieve: unsafe extern "C" fn(*mut FileOpArgs) -> c_int,
    pub(super) can_finish: unsafe extern "C" fn(*mut FileOpArgs) -> bool,
    pub(super) finish: unsafe extern "C" fn(*mut FileOpArgs),
    pub(super) get_id: unsafe extern "C" fn(*mut file) -> c_ulong,
    pub(super) owner: *mut c_void,
}

/// `struct liveupdate_file_handler`.
#[repr(C)]
pub(super) struct FileHandler {
    pub(super) ops: *const FileOps,
    pub(super) compatible: [u8; COMPATIBLE_SIZE_BYTES],
    pub(super) list: list_head,
    pub(super) flb_list: list_head,
}

/// `struct liveupdate_flb_op_args`.
#[repr(C)]
pub(super) struct FlbOpArgs {
    pub(super) flb: *mut Flb,
    pub(super) data: u64,
    pub(super) obj: *mut c_void,
}

/// `struct liveupdate_flb_ops`.
#[repr(C)]
pub(super) struct FlbOps {
    pub(super) preserve: unsafe extern "C" fn(*mut FlbOpArgs) -> c_int,
    pub(super) unpreserve: unsafe extern "C" fn(*mut FlbOpArgs),
    pub(super) retrieve: unsafe extern "C" fn(*mut FlbOpArgs) -> c_int,
    pub(super) finish: unsafe extern "C" fn(*mut FlbOpArgs),
    pub(super) owner: *mut c_void,
}

/// `struct liveupdate_flb`, whose size depends on the configuration: made and freed by clients.c.
#[repr(C)]
pub(super) struct Flb {
    _c: [u8; 0],
}

/// `struct notifier_block`.
#[repr(C)]
pub(super) struct NotifierBlock {
    pub(super) notifier_call:
        unsafe extern "C" fn(*mut NotifierBlock, c_ulong, *mut c_void) -> c_int,
    pub(super) next: *mut NotifierBlock,
    pub(super) priority: c_int,
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
