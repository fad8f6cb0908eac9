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
    MutexGuard,
    PoisonError, //
};

use kernel::context;
use kernel::task_local::TaskLocal;
use kpreserve_kho::CpuLocal;

use crate::machine::SimMachine;

static NR_THREADS: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static TASK: TaskLocal<Task> = TaskLocal::default();
}

/// What the machines know of a thread.
struct Task {
    preferred: Cell<usize>,
    pins: RefCell<Vec<Pin>>,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            preferred: Cell::new(NR_THREADS.fetch_add(1, Ordering::Relaxed)),
            pins: RefCell::default(),
        }
    }
}

impl Task {
    fn with<R>(f: impl FnOnce(&Task) -> R) -> R {
        TASK.with(|task| task.with(f))
    }
}

/// Lets this thread run on CPU `cpu` (modulo the number of CPUs) from the next pin on.
pub fn set_cpu(cpu: usize) {
    Task::with(|task| task.preferred.set(cpu));
}

struct Pin {
    machine: usize,
    cpu: usize,
    depth: usize,
}

#[derive(Debug)]
pub(crate) struct Cpus {
    users: Mutex<Users>,
    released: Condvar,
}

#[derive(Debug)]
struct Users {
    /// Whether somebody has the CPU, for each.
    taken: Vec<bool>,
    /// How many wait for one. To wake nobody is a system call, too, and there are two pins for an
    /// object.
    nr_waiting: usize,
}

impl Cpus {
    pub(crate) fn new(nr_cpus: usize) -> Self {
        Self {
            users: Mutex::new(Users {
                taken: vec![false; nr_cpus.max(1)],
                nr_waiting: 0,
            }),
            released: Condvar::new(),
        }
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(not(models))]
    fn take(&self, cpu: usize) {
        let mut users = self.users();
        while users.taken[cpu] {
            users.nr_waiting += 1;
            users = self
                .released
                .wait(users)
                .unwrap_or_else(PoisonError::into_inner);
            users.nr_waiting -= 1;
        }
        users.taken[cpu] = true;
    }

    /// The same in a model, which runs all tasks on one thread; and loom must not take it for
    /// something that orders what the CPUs do.
    #[cfg(models)]
    fn take(&self, cpu: usize) {
        loop {
            let mut users = self.users();
            if !users.taken[cpu] {
                users.taken[cpu] = true;
                return;
            }
            drop(users);
            kernel::models::relax();
        }
    }

    fn release(&self, cpu: usize) {
        let mut users = self.users();
        users.taken[cpu] = false;
        let is_awaited = users.nr_waiting > 0;
        drop(users);
        if is_awaited {
            self.released.notify_all();
        }
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
        let cpu = Task::with(|task| {
            let mut pins = task.pins.borrow_mut();
            if let Some(pin) = pins.iter_mut().find(|pin| pin.machine == machine) {
                pin.depth += 1;
                return Ok(pin.cpu);
            }
            Err(task.preferred.get() % self.nr_cpus())
        });
        let cpu = cpu.unwrap_or_else(|cpu| {
            self.cpus.take(cpu);
            Task::with(|task| {
                task.pins.borrow_mut().push(Pin {
                    machine,
                    cpu,
                    depth: 1,
                });
            });
            cpu
        });
        #[cfg(models)]
        kernel::models::step();
        cpu
    }

    unsafe fn unpin(&self) {
        #[cfg(models)]
        kernel::models::step();
        context::leave_atomic();
        let machine = core::ptr::from_ref(self).addr();
        Task::with(|task| {
            let mut pins = task.pins.borrow_mut();
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
