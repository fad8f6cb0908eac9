// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/ffi.rs: the C types as the kernel has them, `char` unsigned.

pub use core::ffi::{
    c_void,
    CStr, //
};

macro_rules! alias {
    ($($name:ident = $ty:ty),* $(,)?) => {$(
        #[doc = concat!("C's type, as the kernel has it: `", stringify!($ty), "`.")]
        #[allow(non_camel_case_types)]
        pub type $name = $ty;
    )*};
}

alias! {
    c_char = u8,
    c_schar = i8,
    c_uchar = u8,
    c_short = i16,
    c_ushort = u16,
    c_int = i32,
    c_uint = u32,
    c_long = isize,
    c_ulong = usize,
    c_longlong = i64,
    c_ulonglong = u64,
}
