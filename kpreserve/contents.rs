// SPDX-License-Identifier: GPL-2.0

//! What an arena or a named object is of, for who has no type at hand.

use kpreserve_kho::Preservable;

/// What the elements of something are: what is compared when it is opened.
#[derive(Clone, Copy)]
pub(crate) struct Contents {
    pub(crate) compatible: &'static str,
    pub(crate) version: u32,
    pub(crate) fingerprint: u64,
    pub(crate) size_bytes: usize,
}

impl Contents {
    /// Values of `T`.
    pub(crate) const fn of<T: Preservable>() -> Self {
        Self {
            compatible: T::COMPATIBLE,
            version: T::VERSION,
            fingerprint: T::FINGERPRINT,
            size_bytes: size_of::<T>(),
        }
    }
}
