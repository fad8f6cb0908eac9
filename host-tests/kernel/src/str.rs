// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/str.rs.

pub use core::ffi::CStr;

use crate::ffi::c_char;

/// What the kernel adds to [`CStr`].
pub trait CStrExt {
    /// Wraps a C string.
    ///
    /// # Safety
    ///
    /// `ptr` points to a NUL-terminated string that lives and does not change for `'a`.
    unsafe fn from_char_ptr<'a>(ptr: *const c_char) -> &'a Self;

    /// Returns the pointer that C wants.
    fn as_char_ptr(&self) -> *const c_char;
}

impl CStrExt for CStr {
    unsafe fn from_char_ptr<'a>(ptr: *const c_char) -> &'a Self {
        // SAFETY: by the caller's promise.
        unsafe { CStr::from_ptr(ptr.cast()) }
    }

    fn as_char_ptr(&self) -> *const c_char {
        self.as_ptr().cast()
    }
}

/// Makes a `&'static CStr` of a string literal.
#[macro_export]
macro_rules! c_str {
    ($str:expr) => {{
        const S: &::core::primitive::str = ::core::concat!($str, "\0");
        const C: &::core::ffi::CStr = match ::core::ffi::CStr::from_bytes_with_nul(S.as_bytes()) {
            ::core::result::Result::Ok(v) => v,
            ::core::result::Result::Err(_) => ::core::panic!("string contains interior NUL"),
        };
        C
    }};
}

pub use crate::c_str;
