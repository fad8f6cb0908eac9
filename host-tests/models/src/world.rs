// SPDX-License-Identifier: GPL-2.0

//! A cache on a simulated machine, for one execution of a model; and how models are run.

use core::ptr::NonNull;

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::models::{
    self,
    Bug,
    Phase,
    Size, //
};
use kernel::prelude::*;
use kpreserve_kho::{
    preservable,
    ArenaSer,
    Preservable,
    SharedU64, //
};
use kpreserve_sim::{
    Config,
    SimLedger,
    SimMachine, //
};
use kpreserve_slab::{
    Geometry,
    Opened,
    RawCache,
    Slot, //
};
use std::vec::Vec;

/// Objects that the caches of models hold: big ones, so that a slab has few.
pub(crate) trait Object: Preservable {}

preservable! {
    /// An object that has a slab nearly for itself.
    pub struct BigSer {
        /// What it holds.
        pub words: [u64; 400],
    }
    compatible = "model-big", version = 1
}

preservable! {
    /// An object of a cache line.
    pub struct LineSer {
        /// What it holds.
        pub words: [u64; 8],
    }
    compatible = "model-line", version = 1
}

impl Object for BigSer {}
impl Object for LineSer {}

const ID: u32 = 1;

/// A cache that is open.
pub(crate) struct World {
    pub(crate) machine: &'static SimMachine,
    pub(crate) cache: &'static RawCache,
    opened: Option<Opened>,
}

impl World {
    /// Makes an empty cache.
    pub(crate) fn new<T: Object>(nr_cpus: usize) -> Self {
        let machine = SimMachine::boot(Config {
            nr_cpus,
            poisons: false,
            ..Config::with_pages(256)
        });
        let ledger = SimLedger::create(machine).unwrap();
        ledger.describe(ID, descriptor::<T>());
        Self::over(machine, ledger)
    }

    fn over(machine: &'static SimMachine, ledger: &'static SimLedger) -> Self {
        let arena = ledger.open(ID).unwrap();
        let cache = RawCache::new(arena, ledger.descriptor(ID)).unwrap();
        let cache = KBox::pin_init(cache, GFP_KERNEL).unwrap();
        // SAFETY: leaked, so it is never moved.
        let cache: &'static RawCache = KBox::leak(unsafe { Pin::into_inner_unchecked(cache) });
        kpreserve_sim::set_cpu(0);
        Self {
            machine,
            cache,
            opened: Some(cache.try_open().unwrap()),
        }
    }

    /// Adopts the cache in the next kernel.
    pub(crate) fn reboot(mut self) -> Self {
        core::mem::forget(self.opened.take());
        let machine = self.machine.reboot();
        Self::over(machine, SimLedger::adopt(machine).unwrap())
    }

    /// Takes all slots that are there but `nr`, which are in the words, not in a sheaf.
    pub(crate) fn leave_free(&self, nr: usize) -> Vec<Slot> {
        let mut taken = Vec::new();
        taken.push(self.cache.alloc_slot(GFP_KERNEL).unwrap().publish());
        while let Ok(vacant) = self.cache.alloc_slot(GFP_NOWAIT) {
            taken.push(vacant.publish());
        }
        assert!(taken.len() > nr);
        taken.drain(..nr).for_each(Slot::free);
        self.cache.drain_here();
        taken
    }

    /// Counts the slots that can be taken without growing, with all sheaves drained.
    pub(crate) fn nr_free(&self) -> usize {
        self.drain();
        let mut taken = Vec::new();
        while let Ok(vacant) = self.cache.alloc_slot(GFP_NOWAIT) {
            // SAFETY: a slot is that big, and nobody else's.
            let bytes = unsafe {
                core::slice::from_raw_parts(vacant.as_ptr(), self.cache.geometry().stride_bytes())
            };
            assert!(bytes.iter().all(|&byte| byte == 0), "old bytes in a slot");
            taken.push(vacant);
        }
        let nr = taken.len();
        drop(taken);
        self.drain();
        nr
    }

    /// Gives back what the sheaves hold. All tasks have been joined.
    pub(crate) fn drain(&self) {
        for cpu in 0..self.machine.config().nr_cpus {
            // SAFETY: no task runs on any CPU.
            unsafe { self.cache.drain_cpu(cpu) };
        }
    }

    /// Ends the execution.
    pub(crate) fn end(self) {
        assert_eq!(self.cache.counts().nr_quarantined, 0);
        self.machine.assert_sound();
        drop(self.opened);
        self.machine.power_off();
    }
}

/// Returns where the tag of a slot stands.
pub(crate) fn tag_of(cache: &RawCache, start: *mut u8) -> NonNull<u8> {
    let geometry = cache.geometry();
    let offset = start.addr() & (geometry.slab_bytes() - 1);
    let slot = geometry.slot_at(offset).unwrap() as usize;
    // SAFETY: tags follow the header, one a slot, in the slab of the slot.
    let tag = unsafe {
        start
            .sub(offset)
            .add(kpreserve_slab::abi::HEADER_BYTES + slot)
    };
    NonNull::new(tag).unwrap()
}

fn descriptor<T: Preservable>() -> ArenaSer {
    let mut ser = ArenaSer {
        kind: 1,
        id: 0,
        fingerprint: T::FINGERPRINT,
        version: T::VERSION,
        stride_bytes: 0,
        slab_order: 0,
        reserved0: 0,
        first_slot: 0,
        nr_slots: 0,
        len: SharedU64::new(0),
        generation: 1,
        reserved1: 0,
        pending: SharedU64::new(0),
        check: 0,
    };
    Geometry::of_type::<T>().unwrap().fill(&mut ser);
    ser
}

/// Lets tasks run; the caller is on CPU 0.
pub(crate) fn begin() -> Phase {
    let phase = models::begin(Size {
        nr_atomics: 80,
        nr_cells: 12,
    });
    kpreserve_sim::set_cpu(0);
    phase
}

/// Starts a task on a CPU of its own.
pub(crate) fn on_cpu<T: 'static>(
    cpu: usize,
    task: impl FnOnce() -> T + 'static,
) -> impl FnOnce() -> T {
    let handle = models::spawn(move || {
        kpreserve_sim::set_cpu(cpu);
        task()
    });
    move || handle.join().unwrap()
}

/// Explores a model, which has to hold.
#[track_caller]
pub(crate) fn holds(name: &str, nr_preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    models::plant(None);
    let nr = models::explore(nr_preemptions, model);
    println!("{name}: {nr} executions, {nr_preemptions} preemptions");
    assert!(nr > 1, "{name} has one order only: it proves nothing");
}

/// Explores a model with something broken, which it has to notice, and say so with these words.
#[track_caller]
pub(crate) fn catches(
    bug: Option<Bug>,
    words: &str,
    nr_preemptions: usize,
    model: impl Fn() + Send + Sync + std::panic::UnwindSafe + 'static,
) {
    models::plant(bug);
    let said = models::catches(move || {
        models::explore(nr_preemptions, model);
    });
    models::plant(None);
    match said {
        Some(said) => assert!(said.contains(words), "the model failed, but said {said:?}"),
        None => panic!("the model did not notice what was broken: {bug:?}"),
    }
}
