// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/barrier.rs. Each barrier is the strongest fence there is.

use core::sync::atomic::{
    fence,
    Ordering::SeqCst, //
};

pub use crate::sync::atomic::ordering::Full;

/// Orders reads before reads.
#[derive(Clone, Copy, Debug)]
pub struct Read;

/// Orders writes before writes.
#[derive(Clone, Copy, Debug)]
pub struct Write;

/// The barriers that there are.
pub trait MemoryBarrier {}

impl MemoryBarrier for Full {}
impl MemoryBarrier for Read {}
impl MemoryBarrier for Write {}

/// Orders memory accesses between CPUs.
pub fn smp_mb<T: MemoryBarrier>(_: T) {
    fence(SeqCst);
}
