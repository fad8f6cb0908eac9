// SPDX-License-Identifier: GPL-2.0

//! Where runs are recorded for the next kernel, and who may still change structure.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Release, //
};
use kernel::sync::{
    CondVar,
    Mutex, //
};
use kernel::{
    new_condvar,
    new_mutex, //
};

use crate::phys::Phys;
use crate::run::{
    PageRun,
    Preserved, //
};

/// The place of a run in the run table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LedgerSlot(pub u32);

/// A run of an arena, and where it stands in the ledger.
#[derive(Debug)]
pub struct Run {
    /// The pages.
    pub pages: PageRun<Preserved>,
    /// Their place in the run table.
    pub slot: LedgerSlot,
    /// Their number within the owner.
    pub index: u32,
}

/// The run table, as arenas see it.
///
/// The framework implements it over the root page. All of it may sleep.
pub trait Ledger: Sync {
    /// Returns the id that the checksums of this image are keyed with.
    fn root_id(&self) -> u64;

    /// Records a preserved run. From here on the next kernel finds it.
    ///
    /// # Errors
    ///
    /// ENOMEM if the table cannot grow; nothing has changed then.
    fn record(
        &self,
        pass: &GatePass<'_>,
        phys: Phys,
        order: u8,
        owner: u32,
        index: u32,
    ) -> Result<LedgerSlot>;

    /// Takes a run out of the table. Cannot fail.
    fn erase(&self, pass: &GatePass<'_>, slot: LedgerSlot);

    /// Takes back the runs of an arena whose user is gone: they stay preserved and recorded, and
    /// the next open of the arena, in this boot or the next kernel, finds them. Cannot fail.
    fn close(&self, id: u32, runs: KVVec<Run>);

    /// Ends an arena that has no runs left: its descriptor is free for another. Cannot fail.
    fn retire(&self, pass: &GatePass<'_>, id: u32);

    /// Returns the gate that structural writers pass.
    fn gate(&self) -> &Gate;
}

/// Lets structural writers (those that change arenas, areas, the dictionary) through until the
/// framework freezes.
///
/// Slots of existing slabs are not structure: they are taken and given back until the CPU stops.
#[pin_data]
pub struct Gate {
    /// 1 once the gate is closed. Changes under the lock; who only wants to know may look without.
    frozen: Atomic<u32>,
    #[pin]
    nr_writers: Mutex<usize>,
    #[pin]
    idle: CondVar,
}

/// Proof that its holder passed a [`Gate`]: while it lives, the framework does not freeze.
#[must_use]
pub struct GatePass<'a> {
    gate: &'a Gate,
}

impl Gate {
    /// Makes an open gate.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            frozen: Atomic::new(0),
            nr_writers <- new_mutex!(0, "kpreserve_gate"),
            idle <- new_condvar!("kpreserve_gate_idle"),
        })
    }

    /// Passes the gate. May sleep; nests.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    pub fn enter(&self) -> Result<GatePass<'_>> {
        let mut nr_writers = self.nr_writers.lock();
        if self.is_frozen() {
            return Err(EBUSY);
        }
        *nr_writers += 1;
        Ok(GatePass { gate: self })
    }

    /// Closes the gate, and returns when everybody who had passed it is done. Idempotent.
    ///
    /// Cost: one lock, and the wait.
    pub fn freeze(&self) {
        let mut nr_writers = self.nr_writers.lock();
        self.frozen.store(1, Release);
        while *nr_writers > 0 {
            self.idle.wait(&mut nr_writers);
        }
    }

    /// Opens the gate again.
    pub fn thaw(&self) {
        let _nr_writers = self.nr_writers.lock();
        self.frozen.store(0, Release);
    }

    /// Returns whether the gate is closed. One load; by the time the caller looks at the answer it
    /// may have changed, unless the caller holds a pass.
    #[inline]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Acquire) != 0
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        let mut nr_writers = self.gate.nr_writers.lock();
        *nr_writers -= 1;
        if *nr_writers == 0 {
            self.gate.idle.notify_all();
        }
    }
}
