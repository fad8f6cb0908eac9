// SPDX-License-Identifier: GPL-2.0

//! A cache of records on the simulated machine, which reboots.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::pin::Pin;

use kernel::alloc::{
    flags::*,
    KBox, //
};
use kernel::prelude::InPlaceInit;
use kpreserve_kho::{
    preservable,
    ArenaSer,
    Handle,
    Preservable,
    SharedU64, //
};
use kpreserve_sim::{
    Config,
    SimLedger,
    SimMachine, //
};
use kpreserve_slab::{
    Cache,
    Geometry,
    Preserved,
    RawCache, //
};

preservable! {
    /// 64 bytes: 62 to a slab of a page.
    pub struct RecordSer {
        /// Which one.
        pub id: u64,
        /// What follows from `id`.
        pub words: [u64; 7],
    }
    compatible = "record", version = 1
}

/// Records of a slab.
pub(crate) const NR_SLOTS: usize = 62;

const ID: u32 = 3;

/// Makes a record.
pub(crate) fn record(id: u64) -> RecordSer {
    RecordSer {
        id,
        words: [id.wrapping_mul(3); 7],
    }
}

fn descriptor() -> ArenaSer {
    let mut ser = ArenaSer {
        kind: 1,
        id: 0,
        fingerprint: RecordSer::FINGERPRINT,
        version: RecordSer::VERSION,
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
    Geometry::of_type::<RecordSer>().unwrap().fill(&mut ser);
    ser
}

/// A machine with a cache, which is open.
pub(crate) struct World {
    pub(crate) machine: &'static SimMachine,
    pub(crate) raw: &'static RawCache,
    pub(crate) cache: Cache<RecordSer>,
}

impl World {
    /// Makes an empty cache on a machine with so many pages.
    pub(crate) fn with_pages(nr_pages: usize) -> Self {
        Self::on(Config::with_pages(nr_pages))
    }

    /// Makes an empty cache.
    pub(crate) fn on(config: Config) -> Self {
        let machine = SimMachine::boot(config);
        let ledger = SimLedger::create(machine).unwrap();
        ledger.describe(ID, descriptor());
        Self::over(machine, ledger)
    }

    fn over(machine: &'static SimMachine, ledger: &'static SimLedger) -> Self {
        let arena = ledger.open(ID).unwrap();
        let raw = RawCache::new(arena, ledger.descriptor(ID)).unwrap();
        let raw: Pin<KBox<RawCache>> = KBox::pin_init(raw, GFP_KERNEL).unwrap();
        // SAFETY: leaked, so it is never moved.
        let raw: &'static RawCache = KBox::leak(unsafe { Pin::into_inner_unchecked(raw) });
        Self {
            machine,
            raw,
            cache: Cache::from_raw(raw).unwrap(),
        }
    }

    /// Stops the machine, and adopts the cache in the next kernel.
    pub(crate) fn reboot(self) -> Self {
        core::mem::forget(self.cache);
        let machine = self.machine.reboot();
        Self::over(machine, SimLedger::adopt(machine).unwrap())
    }

    /// Allocates a record.
    pub(crate) fn alloc(&self, id: u64) -> Preserved<RecordSer> {
        self.cache.alloc(record(id), GFP_KERNEL).unwrap()
    }

    /// Allocates records, and returns their owners.
    pub(crate) fn fill(&self, nr: usize) -> Vec<Preserved<RecordSer>> {
        (0..nr as u64).map(|id| self.alloc(id)).collect()
    }

    /// Allocates records, and gives them up.
    pub(crate) fn park(&self, nr: usize) -> Vec<Handle<RecordSer>> {
        self.fill(nr).into_iter().map(Preserved::park).collect()
    }

    /// Returns how many pages the machine has given out, for whatever.
    pub(crate) fn nr_pages_out(&self) -> u64 {
        self.machine.counters().pages_out
    }
}
