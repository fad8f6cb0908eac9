// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/atomic/ordering.rs.

use core::sync::atomic::Ordering as Core;

mod internal {
    pub trait Sealed {}
}

/// An ordering.
pub trait Ordering: internal::Sealed {
    #[doc(hidden)]
    const LOAD: Core;
    #[doc(hidden)]
    const STORE: Core;
    #[doc(hidden)]
    const RMW: Core;
    #[doc(hidden)]
    const IS_FULL: bool;
    #[doc(hidden)]
    const ACQUIRES: bool;
}

/// An ordering for loads.
pub trait AcquireOrRelaxed: Ordering {}

/// An ordering for stores.
pub trait ReleaseOrRelaxed: Ordering {}

macro_rules! declare {
    ($($name:ident $doc:literal $load:ident $store:ident $rmw:ident $full:literal $acquires:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl internal::Sealed for $name {}

        impl Ordering for $name {
            const LOAD: Core = Core::$load;
            const STORE: Core = Core::$store;
            const RMW: Core = Core::$rmw;
            const IS_FULL: bool = $full;
            const ACQUIRES: bool = $acquires;
        }
    )*};
}

declare! {
    Relaxed "Atomic, and nothing else." Relaxed Relaxed Relaxed false false;
    Acquire "Nothing after it happens before it." Acquire Relaxed Acquire false true;
    Release "Nothing before it happens after it." Relaxed Release Release false false;
    Full "A full barrier before and after." Acquire Release AcqRel true true;
}

impl AcquireOrRelaxed for Acquire {}
impl AcquireOrRelaxed for Relaxed {}
impl ReleaseOrRelaxed for Release {}
impl ReleaseOrRelaxed for Relaxed {}
