// SPDX-License-Identifier: GPL-2.0

//! What may live in preserved memory.

use kernel::prelude::*;

use crate::abi::SharedU64;
use crate::hash::{
    fnv1a,
    fnv1a_u64, //
};
use crate::phys::Phys;

/// A type whose values may live in preserved memory: versioned plain data, the state of record.
///
/// Structs get it from [`preservable!`](crate::preservable!), which also computes the
/// fingerprint.
///
/// # Safety
///
/// - Any bit pattern is a valid value, the type has no padding, no reference, no pointer and no
///   drop glue: the next kernel, built from other sources, finds the bytes and uses them.
/// - [`FINGERPRINT`](Self::FINGERPRINT) differs between two types that differ in the name, the
///   offset or the type of a field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in preserved memory",
    label = "not `Preservable`",
    note = "declare the struct inside `preservable! {{ ... }}`",
    note = "use u8 for bool, an integer for an enum, `Handle<T>` for a reference or a `KBox<T>`, \
            `ArenaHandle<T>` for a vector: no pointer crosses a kexec"
)]
pub unsafe trait Preservable: FromBytes + IntoBytes + Send + 'static {
    /// The name of the format, lower-case, for instance `"kvm-vcpu"`.
    const COMPATIBLE: &'static str;
    /// Its version.
    const VERSION: u32;
    /// A hash of the layout, computed at compile time.
    const FINGERPRINT: u64;
}

/// Compile-time requirements that the traits cannot express; evaluated by whoever makes a
/// container for `T`.
pub const fn assert_preservable<T: Preservable>() {
    assert!(
        !core::mem::needs_drop::<T>(),
        "a preservable type has no destructor"
    );
    assert!(size_of::<T>() > 0, "a preservable type has a size");
    assert!(
        !T::COMPATIBLE.is_empty() && T::COMPATIBLE.len() <= 200,
        "a compatible string has 1 to 200 bytes"
    );
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: an integer: any bit pattern is valid, no padding; the name tells it from others.
        unsafe impl Preservable for $t {
            const COMPATIBLE: &'static str = stringify!($t);
            const VERSION: u32 = 1;
            const FINGERPRINT: u64 = fnv1a(0, stringify!($t).as_bytes());
        }
    )*};
}

plain!(u8, u16, u32, u64, i8, i16, i32, i64, SharedU64, Phys);

// SAFETY: an array of elements without padding has none itself; its length and its element go
// into the fingerprint.
unsafe impl<T: Preservable, const N: usize> Preservable for [T; N] {
    const COMPATIBLE: &'static str = T::COMPATIBLE;
    const VERSION: u32 = T::VERSION;
    const FINGERPRINT: u64 = fnv1a_u64(T::FINGERPRINT, N as u64);
}

/// Declares structs that may live in preserved memory.
///
/// Each gets `repr(C)`, the zerocopy derives (which refuse padding and types with invalid bit
/// patterns), and a fingerprint of the names, offsets and types of its fields.
///
/// # Examples
///
/// ```
/// use kpreserve_kho::{preservable, Handle, Preservable};
///
/// preservable! {
///     /// The state of one virtual CPU.
///     pub struct VcpuSer {
///         pub id: u32,
///         pub flags: u32,
///         pub next: Handle<VcpuSer>,
///     }
///     compatible = "kvm-vcpu", version = 2
/// }
///
/// assert_eq!(VcpuSer::COMPATIBLE, "kvm-vcpu");
/// ```
///
/// A field that could hold an invalid bit pattern does not compile:
///
/// ```compile_fail
/// kpreserve_kho::preservable! {
///     pub struct FlagSer { pub on: bool }
///     compatible = "flag", version = 1
/// }
/// ```
///
/// Nor does one that leaves padding:
///
/// ```compile_fail
/// kpreserve_kho::preservable! {
///     pub struct HoleSer { pub a: u8, pub b: u32 }
///     compatible = "hole", version = 1
/// }
/// ```
#[macro_export]
macro_rules! preservable {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$fmeta:meta])* $fvis:vis $field:ident : $fty:ty ),* $(,)?
        }
        compatible = $compatible:literal, version = $version:literal $(;)?
    )*) => {$(
        $(#[$meta])*
        #[derive($crate::__private::FromBytes, $crate::__private::IntoBytes)]
        #[repr(C)]
        $vis struct $name {
            $( $(#[$fmeta])* $fvis $field : $fty ),*
        }

        // SAFETY: the derives above prove that any bit pattern is valid and that there is no
        // padding; every field is `Preservable`, so none holds a pointer or has a destructor; the
        // fingerprint covers the name, the offset and the fingerprint of each field.
        unsafe impl $crate::Preservable for $name {
            const COMPATIBLE: &'static str = $compatible;
            const VERSION: u32 = $version;
            const FINGERPRINT: u64 = {
                let hash = $crate::hash::fnv1a(0, $compatible.as_bytes());
                let hash = $crate::hash::fnv1a_u64(hash, ::core::mem::size_of::<$name>() as u64);
                let hash = $crate::hash::fnv1a_u64(hash, ::core::mem::align_of::<$name>() as u64);
                $(
                    let hash = $crate::hash::fnv1a(hash, stringify!($field).as_bytes());
                    let hash = $crate::hash::fnv1a_u64(
                        hash,
                        ::core::mem::offset_of!($name, $field) as u64,
                    );
                    let hash = $crate::hash::fnv1a_u64(
                        hash,
                        <$fty as $crate::Preservable>::FINGERPRINT,
                    );
                )*
                hash
            };
        }
    )*};
}
