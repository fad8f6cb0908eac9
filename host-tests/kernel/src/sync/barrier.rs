// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/barrier.rs. Each barrier is the strongest fence there is.

#[cfg(not(models))]
use core::sync::atomic::fence;
use core::sync::atomic::Ordering::SeqCst;

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
}

impl MemoryBarrier for Full {
    const ORDERS_STORES: bool = true;
}

impl MemoryBarrier for Read {
    const ORDERS_STORES: bool = false;
}

impl MemoryBarrier for Write {
    const ORDERS_STORES: bool = true;
}

/// Orders memory accesses between CPUs.
pub fn smp_mb<T: MemoryBarrier>(_: T) {
    if T::ORDERS_STORES {
        crate::observe::barrier();
    }
    #[cfg(models)]
    crate::models::fence(SeqCst);
    #[cfg(not(models))]
    fence(SeqCst);
}
