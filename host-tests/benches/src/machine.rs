// SPDX-License-Identifier: GPL-2.0

//! A machine that costs as little as can be.
//!
//! It *simulates* the handover: keys are counted and forgotten, there is no next kernel, no fault,
//! no recorder, and nothing is checked. Memory is an anonymous mapping of the process. The tests run
//! on another machine (`host-tests/sim`), which is the opposite of all that.

use core::ffi::CStr;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::error::Result;
use kernel::prelude::{
    EINVAL,
    ENOENT,
    ENOMEM, //
};
use kpreserve::{
    Framework,
    IfRefused, //
};
use kpreserve_kho::{
    CpuLocal,
    Effort,
    Handover,
    Machine,
    Node,
    PageSource,
    Phys,
    Seen,
    Window, //
};

use crate::cpu;
use crate::pages::Pages;

/// A machine for measuring.
pub struct BenchMachine {
    pages: Pages,
    window: Window,
    nr_keys: AtomicU64,
    random: AtomicU64,
}

impl BenchMachine {
    /// Boots one, for ever, and brings the framework up on it.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    pub fn boot() -> (&'static Self, &'static Framework) {
        let pages = Pages::map();
        let machine: &'static Self = Box::leak(Box::new(Self {
            window: pages.window(),
            pages,
            nr_keys: AtomicU64::new(0),
            random: AtomicU64::new(1),
        }));
        match Framework::boot(machine, IfRefused::Fail) {
            Ok(framework) => (machine, framework),
            Err(error) => panic!("the framework does not come up: {error:?}"),
        }
    }

    /// Returns how many runs are preserved just now.
    pub fn nr_keys(&self) -> u64 {
        self.nr_keys.load(Ordering::Relaxed)
    }
}

// SAFETY: `Pages` gives each run out once, zeroed and aligned to its size, in the window; scratch
// memory there is none.
unsafe impl PageSource for BenchMachine {
    fn window(&self) -> Window {
        self.window
    }

    fn alloc_run(&self, order: u8, _node: Node, _effort: Effort) -> Result<Phys> {
        self.pages.take(order).ok_or(ENOMEM)
    }

    unsafe fn free_run(&self, phys: Phys, order: u8) {
        self.pages.give(phys, order);
    }

    unsafe fn map_runs(&self, _runs: &[(Phys, u8)]) -> Result<NonNull<u8>> {
        // Areas are not measured here.
        Err(ENOMEM)
    }

    unsafe fn unmap_runs(&self, _start: NonNull<u8>, _size_bytes: usize) {}
}

// SAFETY: there is no next kernel: this one is never stopped, it ends with its process.
unsafe impl Handover for BenchMachine {
    fn is_enabled(&self) -> bool {
        true
    }

    unsafe fn preserve(&self, _phys: Phys, _order: u8) -> Result {
        self.nr_keys.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    unsafe fn unpreserve(&self, _phys: Phys, _order: u8) {
        self.nr_keys.fetch_sub(1, Ordering::Relaxed);
    }

    fn probe(&self, _phys: Phys) -> Seen {
        Seen::NotPreserved
    }

    unsafe fn restore(&self, _phys: Phys, _order: u8) -> Result {
        Err(EINVAL)
    }

    unsafe fn add_subtree(&self, _name: &CStr, _phys: Phys, _size_bytes: usize) -> Result {
        Ok(())
    }

    unsafe fn remove_subtree(&self, _phys: Phys) {}

    fn was_handed_over(&self) -> bool {
        false
    }

    fn retrieve_subtree(&self, _name: &CStr) -> Result<(Phys, usize)> {
        Err(ENOENT)
    }
}

// SAFETY: a number is one thread's until it ends (`cpu`), nothing interrupts a thread in our code,
// and the lock there makes visible what the thread before it did.
unsafe impl CpuLocal for BenchMachine {
    fn nr_cpus(&self) -> usize {
        cpu::NR_CPUS
    }

    #[inline]
    fn pin(&self) -> usize {
        cpu::here()
    }

    #[inline]
    unsafe fn unpin(&self) {}
}

impl Machine for BenchMachine {
    fn random_u64(&self) -> u64 {
        let seed = self.random.fetch_add(1, Ordering::Relaxed);
        crate::random::mix(seed)
    }

    fn kick_worker(&self) {
        // There is none: whoever allocates here may sleep, and grows the cache itself; what is empty
        // stays, ready for the next round.
    }
}
