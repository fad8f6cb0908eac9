// SPDX-License-Identifier: GPL-2.0

//! The current word of each CPU: plain memory, in front of the occupancy words.
//!
//! A CPU takes a word's free slots at once and hands them out one by one. Only that CPU touches
//! them, pinned; a use nested in another one on the same CPU (an interrupt) sees `busy` and takes
//! the slow path. No locked instruction.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{
    compiler_fence,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

use kpreserve_kho::Machine;

use crate::geometry::Geometry;
use crate::slots::Slab;
use crate::words::Taken;

/// The free slots that a CPU holds, all of one word.
pub(crate) struct Current {
    taken: Taken,
    /// Address of the slab's slot 0.
    slots: usize,
    /// Address of the word's first slot.
    start: usize,
    /// From there to the end of its last, in bytes.
    span_bytes: usize,
}

impl Current {
    const fn new() -> Self {
        Self {
            taken: Taken::nothing(),
            slots: 0,
            start: 0,
            span_bytes: 0,
        }
    }

    /// Takes a slot out: its address.
    #[inline]
    pub(crate) fn pop(&mut self, geometry: &Geometry) -> Option<NonNull<u8>> {
        let slot = self.taken.pop()?;
        NonNull::new(core::ptr::with_exposed_provenance_mut(
            self.slots + slot as usize * geometry.stride_bytes(),
        ))
    }

    /// Puts a slot in, if it is one of the current word; the caller owns it. Returns whether it
    /// was.
    ///
    /// # Errors
    ///
    /// EINVAL if it is in already.
    #[inline]
    pub(crate) fn put(&mut self, address: usize, slot: u32) -> Result<bool> {
        if address.wrapping_sub(self.start) >= self.span_bytes {
            return Ok(false);
        }
        self.taken.put(slot)?;
        Ok(true)
    }

    /// Goes over to another word; there must be nothing left of the one before.
    pub(crate) fn install(&mut self, slab: &Slab<'_>, taken: Taken) {
        let geometry = slab.geometry();
        let Some(first) = slab.slot(0) else {
            return;
        };
        let before = taken.word().saturating_mul(64);
        let nr_slots = geometry.nr_slots().saturating_sub(before).min(64);
        self.slots = first.as_ptr().expose_provenance();
        self.start = self.slots + before as usize * geometry.stride_bytes();
        self.span_bytes = nr_slots as usize * geometry.stride_bytes();
        self.taken = taken;
    }
}

/// One CPU's, on a cache line of its own.
#[repr(align(64))]
struct CpuSlot {
    busy: Atomic<u32>,
    current: UnsafeCell<Current>,
}

// SAFETY: `current` is reached through `Cpus::with` only, which lets in one at a time.
unsafe impl Sync for CpuSlot {}

/// All CPUs'.
pub(crate) struct Cpus {
    slots: KVVec<CpuSlot>,
}

impl Cpus {
    /// Makes them. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new(machine: &dyn Machine) -> Result<Self> {
        let nr_cpus = machine.nr_cpus();
        let mut slots = KVVec::with_capacity(nr_cpus, GFP_KERNEL)?;
        for _ in 0..nr_cpus {
            slots.push(
                CpuSlot {
                    busy: Atomic::new(0),
                    current: UnsafeCell::new(Current::new()),
                },
                GFP_KERNEL,
            )?;
        }
        Ok(Self { slots })
    }

    /// Works on this CPU's current word; `None` if that is being worked on already, by what this
    /// interrupts.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        machine: &dyn Machine,
        work: impl FnOnce(&mut Current) -> R,
    ) -> Option<R> {
        let cpu = machine.pin();
        let result = match self.slots.get(cpu) {
            Some(slot) if slot.busy.load(Relaxed) == 0 => {
                slot.busy.store(1, Relaxed);
                compiler_fence(Ordering::SeqCst);
                // SAFETY: pinned, so no other CPU's code is here and no other task runs; and what
                // interrupts this sees `busy` and stays out. The reference ends before `busy`
                // does.
                let current = unsafe { &mut *slot.current.get() };
                let result = work(current);
                compiler_fence(Ordering::SeqCst);
                slot.busy.store(0, Relaxed);
                Some(result)
            }
            _ => None,
        };
        machine.unpin();
        result
    }
}
