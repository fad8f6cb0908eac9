// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/barrier.rs.

#[cfg(not(models))]
use core::sync::atomic::fence;
use core::sync::atomic::Ordering;

pub use crate::sync::atomic::ordering::Full;

/// Orders reads before reads.
#[derive(Clone, Copy, Debug)]
pub struct Read;

/// Orders writes before writes.
#[derive(Clone, Copy, Debug)]
pub struct Write;

/// The barriers that there are.
pub trait MemoryBarrier {
    #[doc(hidden)]
    const ORDERS_STORES: bool;
    #[doc(hidden)]
    const FENCE: Ordering;
}

impl MemoryBarrier for Full {
    const ORDERS_STORES: bool = true;
    const FENCE: Ordering = Ordering::SeqCst;
}

impl MemoryBarrier for Read {
    const ORDERS_STORES: bool = false;
    const FENCE: Ordering = Ordering::Acquire;
}

impl MemoryBarrier for Write {
    const ORDERS_STORES: bool = true;
    const FENCE: Ordering = Ordering::Release;
}

/// Orders memory accesses between CPUs.
#[inline]
pub fn smp_mb<T: MemoryBarrier>(_: T) {
    #[cfg(feature = "observe")]
    if T::ORDERS_STORES {
        crate::observe::barrier();
    }
    // A model knows SeqCst only.
    #[cfg(models)]
    crate::models::fence(Ordering::SeqCst);
    #[cfg(not(models))]
    fence(T::FENCE);
}
