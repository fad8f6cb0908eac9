// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/build_assert.rs.

/// Fails the build if reached; here, at run time.
#[macro_export]
macro_rules! build_error {
    () => {
        ::core::panic!("build_error!")
    };
    ($msg:expr) => {
        ::core::panic!("build_error!: {}", $msg)
    };
}

/// Fails the build unless the optimiser proves the condition; here, at run time.
#[macro_export]
macro_rules! build_assert {
    ($($arg:tt)*) => {
        ::core::assert!($($arg)*)
    };
}

/// Asserts at compile time, in an item position.
#[macro_export]
macro_rules! static_assert {
    ($condition:expr $(, $arg:literal)?) => {
        const _: () = ::core::assert!($condition $(, $arg)?);
    };
}

/// Asserts at compile time, in a block.
#[macro_export]
macro_rules! const_assert {
    ($condition:expr $(, $arg:literal)?) => {
        const { ::core::assert!($condition $(, $arg)?) }
    };
}

pub use crate::{
    build_assert,
    build_error,
    const_assert,
    static_assert, //
};
