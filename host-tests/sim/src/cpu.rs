// SPDX-License-Identifier: GPL-2.0

//! The machine's CPUs: a thread is a CPU.
//!
//! A pinned thread has its CPU for itself; one that finds it taken waits, as a thread does that
//! waits to be scheduled. While it is pinned it must not sleep, and the stand-in kernel panics if
//! it does.

use core::cell::{
    Cell,
    RefCell, //
};
use core::sync::atomic::{
    AtomicUsize,
    Ordering, //
};
use std::sync::{
    Condvar,
    Mutex,
    PoisonError, //
};

use kernel::context;
use kpreserve_kho::CpuLocal;

use crate::machine::SimMachine;

static NR_THREADS: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static PREFERRED: Cell<usize> = Cell::new(NR_THREADS.fetch_add(1, Ordering::Relaxed));
    static PINS: RefCell<Vec<Pin>> = const { RefCell::new(Vec::new()) };
}

/// Lets this thread run on CPU `cpu` (modulo the number of CPUs) from the next pin on.
pub fn set_cpu(cpu: usize) {
    PREFERRED.set(cpu);
}

struct Pin {
    machine: usize,
    cpu: usize,
    depth: usize,
}

#[derive(Debug)]
pub(crate) struct Cpus {
    taken: Mutex<Vec<bool>>,
    released: Condvar,
}

impl Cpus {
    pub(crate) fn new(nr_cpus: usize) -> Self {
        Self {
            taken: Mutex::new(vec![false; nr_cpus.max(1)]),
            released: Condvar::new(),
        }
    }

    fn take(&self, cpu: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken[cpu] {
            taken = self
                .released
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        taken[cpu] = true;
    }

    fn release(&self, cpu: usize) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)[cpu] = false;
        self.released.notify_all();
    }
}

// SAFETY: a pinned thread has its CPU for itself: `Cpus::take` waits for the one that has it.
unsafe impl CpuLocal for SimMachine {
    fn nr_cpus(&self) -> usize {
        self.config.nr_cpus.max(1)
    }

    fn pin(&self) -> usize {
        context::enter_atomic();
        let machine = core::ptr::from_ref(self).addr();
        PINS.with_borrow_mut(|pins| {
            if let Some(pin) = pins.iter_mut().find(|pin| pin.machine == machine) {
                pin.depth += 1;
                return pin.cpu;
            }
            let cpu = PREFERRED.get() % self.nr_cpus();
            self.cpus.take(cpu);
            pins.push(Pin {
                machine,
                cpu,
                depth: 1,
            });
            cpu
        })
    }

    fn unpin(&self) {
        context::leave_atomic();
        let machine = core::ptr::from_ref(self).addr();
        PINS.with_borrow_mut(|pins| {
            let Some(at) = pins.iter().position(|pin| pin.machine == machine) else {
                self.state().violate("unpin without pin".to_owned());
                return;
            };
            pins[at].depth -= 1;
            if pins[at].depth == 0 {
                let pin = pins.remove(at);
                self.cpus.release(pin.cpu);
            }
        });
    }
}
