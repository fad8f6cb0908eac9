// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/prelude.rs.

#[doc(no_inline)]
pub use core::{
    mem::{
        align_of,
        align_of_val,
        size_of,
        size_of_val, //
    },
    pin::Pin, //
};

#[doc(no_inline)]
pub use crate::ffi::{
    c_char,
    c_int,
    c_long,
    c_longlong,
    c_schar,
    c_short,
    c_uchar,
    c_uint,
    c_ulong,
    c_ulonglong,
    c_ushort,
    c_void,
    CStr, //
};

#[doc(no_inline)]
pub use pin_init::{
    init,
    pin_data,
    pin_init,
    pinned_drop,
    InPlaceWrite,
    Init,
    PinInit,
    Zeroable, //
};

/// The traits. Where another crate asks zerocopy for its derives, too, they come along under the
/// same names; a glob import gives way to the ones below.
mod traits {
    pub use zerocopy::{
        FromBytes,
        IntoBytes, //
    };
}

#[doc(no_inline)]
pub use traits::*;

#[doc(no_inline)]
pub use zerocopy_derive::{
    FromBytes,
    IntoBytes, //
};

#[doc(no_inline)]
pub use super::{
    alloc::{
        flags::*,
        Box,
        KBox,
        KVBox,
        KVVec,
        KVec,
        VBox,
        VVec,
        Vec, //
    },
    build_assert::{
        build_assert,
        build_error,
        const_assert,
        static_assert, //
    },
    error::{
        code::*,
        Error,
        Result, //
    },
    fmt::fmt,
    init::InPlaceInit,
    pr_alert,
    pr_crit,
    pr_debug,
    pr_emerg,
    pr_err,
    pr_info,
    pr_notice,
    pr_warn,
    str::CStrExt as _,
    try_init,
    try_pin_init, //
};
