// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/init.rs.

use pin_init::{
    init_from_closure,
    pin_init_from_closure,
    Init,
    PinInit, //
};

use crate::alloc::{
    AllocError,
    Flags, //
};
use crate::error::{
    self,
    Error, //
};

/// Smart pointers that initialise in place.
pub trait InPlaceInit<T>: Sized {
    /// What a pinned initialiser gives.
    type PinnedSelf;

    /// Allocates and initialises.
    ///
    /// # Errors
    ///
    /// The initialiser's, or that of the allocation.
    fn try_pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self::PinnedSelf, E>
    where
        E: From<AllocError>;

    /// Allocates and initialises.
    ///
    /// # Errors
    ///
    /// The initialiser's, or ENOMEM.
    fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> error::Result<Self::PinnedSelf>
    where
        Error: From<E>,
    {
        let inner = |slot: *mut T| {
            // SAFETY: `slot` is valid and pinned, as the caller of the closure promises.
            unsafe { init.__pinned_init(slot) }.map_err(|e| Error::from(e))
        };
        // SAFETY: `slot` is initialised if and only if the inner initialiser succeeded.
        let init = unsafe { pin_init_from_closure(inner) };
        Self::try_pin_init(init, flags)
    }

    /// Allocates and initialises.
    ///
    /// # Errors
    ///
    /// The initialiser's, or that of the allocation.
    fn try_init<E>(init: impl Init<T, E>, flags: Flags) -> Result<Self, E>
    where
        E: From<AllocError>;

    /// Allocates and initialises.
    ///
    /// # Errors
    ///
    /// The initialiser's, or ENOMEM.
    fn init<E>(init: impl Init<T, E>, flags: Flags) -> error::Result<Self>
    where
        Error: From<E>,
    {
        let inner = |slot: *mut T| {
            // SAFETY: `slot` is valid, as the caller of the closure promises.
            unsafe { init.__init(slot) }.map_err(|e| Error::from(e))
        };
        // SAFETY: `slot` is initialised if and only if the inner initialiser succeeded.
        let init = unsafe { init_from_closure(inner) };
        Self::try_init(init, flags)
    }
}

/// A fallible in-place initialiser; the error is [`Error`] unless
/// `? OtherError` follows.
#[macro_export]
macro_rules! try_init {
    ($(&$this:ident in)? $t:ident $(::<$($generics:ty),* $(,)?>)? { $($fields:tt)* }) => {
        $crate::__pin_init::try_init!(
            $(&$this in)? $t $(::<$($generics),*>)? { $($fields)* }? $crate::error::Error
        )
    };
    ($($args:tt)*) => {
        $crate::__pin_init::try_init!($($args)*)
    };
}

/// A fallible pinned in-place initialiser; the error is [`Error`] unless
/// `? OtherError` follows.
#[macro_export]
macro_rules! try_pin_init {
    ($(&$this:ident in)? $t:ident $(::<$($generics:ty),* $(,)?>)? { $($fields:tt)* }) => {
        $crate::__pin_init::try_pin_init!(
            $(&$this in)? $t $(::<$($generics),*>)? { $($fields)* }? $crate::error::Error
        )
    };
    ($($args:tt)*) => {
        $crate::__pin_init::try_pin_init!($($args)*)
    };
}
