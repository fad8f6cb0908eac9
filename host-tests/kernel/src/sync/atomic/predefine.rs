// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/atomic/predefine.rs: the types that the kernel has, and no other.

use super::{
    AtomicAdd,
    AtomicType, //
};
use crate::ffi::c_void;

macro_rules! types {
    ($($ty:ty as $repr:ty),* $(,)?) => {$(
        const _: () = assert!(size_of::<$ty>() == size_of::<$repr>());
        const _: () = assert!(align_of::<$ty>() == align_of::<$repr>());

        // SAFETY: same size and alignment (above); values round-trip between integers of a size.
        unsafe impl AtomicType for $ty {
            type Repr = $repr;
        }
    )*};
}

macro_rules! addable {
    ($($ty:ty as $repr:ty),* $(,)?) => {$(
        // SAFETY: any integer is a value.
        unsafe impl AtomicAdd<$ty> for $ty {
            fn rhs_into_delta(rhs: $ty) -> $repr {
                rhs as $repr
            }
        }
    )*};
}

types! {
    bool as i8, i8 as i8, i16 as i16,
    i32 as i32, u32 as i32, i64 as i64, u64 as i64, isize as i64, usize as i64,
}

addable! {
    i32 as i32, u32 as i32, i64 as i64, u64 as i64, isize as i64, usize as i64,
}

// SAFETY: thin pointers have one size and alignment, and round-trip through a cast.
unsafe impl<T: Sized> AtomicType for *mut T {
    type Repr = *const c_void;
}

// SAFETY: as above.
unsafe impl<T: Sized> AtomicType for *const T {
    type Repr = *const c_void;
}
