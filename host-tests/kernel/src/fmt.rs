// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/fmt.rs.

pub use core::fmt::{
    Arguments,
    Debug,
    Display,
    Error,
    Formatter,
    LowerHex,
    Result,
    UpperHex,
    Write, //
};

/// Formats like `format_args!`.
#[macro_export]
macro_rules! __kernel_fmt {
    ($($arg:tt)*) => {
        ::core::format_args!($($arg)*)
    };
}

pub use crate::__kernel_fmt as fmt;
