// SPDX-License-Identifier: GPL-2.0

//! Loads, stores and their order, without a call where that can be had.
//!
//! The kernel crate's `Atomic` calls a helper in C for each load and store. On x86, where an
//! ordinary store is a release and an ordinary load an acquire, `smp_store_release()` and
//! `smp_load_acquire()` are volatile accesses and barriers for the compiler, which Rust has as well.
//! Elsewhere, and on the host, where the stand-in's `Atomic` tells the simulated machine of each
//! store, they are the crate's.

use kernel::sync::atomic::{
    Atomic,
    AtomicType, //
};

/// Loads of an [`Atomic`].
pub trait Loads<T> {
    /// As `load(Relaxed)`: READ_ONCE().
    fn load_relaxed(&self) -> T;

    /// As `load(Acquire)`: what was written before the store that it sees is visible.
    fn load_acquire(&self) -> T;
}

impl<T: AtomicType> Loads<T> for Atomic<T> {
    #[inline(always)]
    fn load_relaxed(&self) -> T {
        arch::load_atomic_relaxed(self)
    }

    #[inline(always)]
    fn load_acquire(&self) -> T {
        arch::load_atomic_acquire(self)
    }
}

/// Loads a byte; what was written before the store that it sees is visible.
///
/// # Safety
///
/// `byte` is valid for reads, and accessed with the functions of this file only while others may
/// access it.
#[inline(always)]
pub unsafe fn load_acquire(byte: *mut u8) -> u8 {
    // SAFETY: says the caller.
    unsafe { arch::load_acquire(byte) }
}

/// Stores a byte, after all that was written before.
///
/// # Safety
///
/// `byte` is valid for writes, and accessed with the functions of this file only while others may
/// access it.
#[inline(always)]
pub unsafe fn store_release(byte: *mut u8, value: u8) {
    // SAFETY: says the caller.
    unsafe { arch::store_release(byte, value) }
}

/// Loads a number of 8 bytes; as [`load_acquire`].
///
/// # Safety
///
/// As for [`load_acquire`], for each byte; `word` is aligned.
#[inline(always)]
pub unsafe fn load_acquire_u64(word: *mut u64) -> u64 {
    // SAFETY: says the caller.
    unsafe { arch::load_acquire_u64(word) }
}

/// Stores a number of 8 bytes in one piece; as [`store_release`].
///
/// # Safety
///
/// As for [`store_release`], for each byte; `word` is aligned.
#[inline(always)]
pub unsafe fn store_release_u64(word: *mut u64, value: u64) {
    // SAFETY: says the caller.
    unsafe { arch::store_release_u64(word, value) }
}

/// What is written afterwards is not seen before what was written until here.
#[inline(always)]
pub fn write_barrier() {
    arch::write_barrier();
}

#[cfg(all(CONFIG_RUST, CONFIG_X86_64))]
mod arch {
    use core::sync::atomic::{
        compiler_fence,
        Ordering, //
    };

    use super::{
        Atomic,
        AtomicType, //
    };

    #[inline(always)]
    pub(super) fn load_atomic_relaxed<T: AtomicType>(atomic: &Atomic<T>) -> T {
        // SAFETY: valid as long as the reference; of a size that the CPU loads in one piece.
        unsafe { atomic.as_ptr().read_volatile() }
    }

    #[inline(always)]
    pub(super) fn load_atomic_acquire<T: AtomicType>(atomic: &Atomic<T>) -> T {
        let value = load_atomic_relaxed(atomic);
        compiler_fence(Ordering::Acquire);
        value
    }

    /// # Safety
    ///
    /// That of the function of this name outside.
    #[inline(always)]
    pub(super) unsafe fn load_acquire(byte: *mut u8) -> u8 {
        // SAFETY: valid, says the caller.
        let value = unsafe { byte.read_volatile() };
        compiler_fence(Ordering::Acquire);
        value
    }

    /// # Safety
    ///
    /// That of the function of this name outside.
    #[inline(always)]
    pub(super) unsafe fn store_release(byte: *mut u8, value: u8) {
        compiler_fence(Ordering::Release);
        // SAFETY: valid, says the caller.
        unsafe { byte.write_volatile(value) };
    }

    /// # Safety
    ///
    /// That of the function of this name outside.
    #[inline(always)]
    pub(super) unsafe fn load_acquire_u64(word: *mut u64) -> u64 {
        // SAFETY: valid and aligned, says the caller.
        let value = unsafe { word.read_volatile() };
        compiler_fence(Ordering::Acquire);
        value
    }

    /// # Safety
    ///
    /// That of the function of this name outside.
    #[inline(always)]
    pub(super) unsafe fn store_release_u64(word: *mut u64, value: u64) {
        compiler_fence(Ordering::Release);
        // SAFETY: valid and aligned, says the caller.
        unsafe { word.write_volatile(value) };
    }

    #[inline(always)]
    pub(super) fn write_barrier() {
        compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(not(all(CONFIG_RUST, CONFIG_X86_64)))]
mod arch {
    use kernel::sync::atomic::{
        Acquire,
        Relaxed,
        Release, //
    };
    use kernel::sync::barrier::{
        smp_mb,
        Write, //
    };

    use super::{
        Atomic,
        AtomicType, //
    };

    #[inline(always)]
    pub(super) fn load_atomic_relaxed<T: AtomicType>(atomic: &Atomic<T>) -> T {
        atomic.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn load_atomic_acquire<T: AtomicType>(atomic: &Atomic<T>) -> T {
        atomic.load(Acquire)
    }

    #[inline(always)]
    pub(super) unsafe fn load_acquire(byte: *mut u8) -> u8 {
        // SAFETY: valid, of alignment 1, and used atomically, says the caller.
        let byte: &Atomic<i8> = unsafe { Atomic::from_ptr(byte.cast()) };
        byte.load(Acquire) as u8
    }

    #[inline(always)]
    pub(super) unsafe fn store_release(byte: *mut u8, value: u8) {
        // SAFETY: valid, of alignment 1, and used atomically, says the caller.
        let byte: &Atomic<i8> = unsafe { Atomic::from_ptr(byte.cast()) };
        byte.store(value as i8, Release);
    }

    #[inline(always)]
    pub(super) unsafe fn load_acquire_u64(word: *mut u64) -> u64 {
        // SAFETY: valid, aligned, and used atomically, says the caller.
        let word: &Atomic<u64> = unsafe { Atomic::from_ptr(word) };
        word.load(Acquire)
    }

    #[inline(always)]
    pub(super) unsafe fn store_release_u64(word: *mut u64, value: u64) {
        // SAFETY: valid, aligned, and used atomically, says the caller.
        let word: &Atomic<u64> = unsafe { Atomic::from_ptr(word) };
        word.store(value, Release);
    }

    #[inline(always)]
    pub(super) fn write_barrier() {
        smp_mb(Write);
    }
}
