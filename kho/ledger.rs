// SPDX-License-Identifier: GPL-2.0

//! Where runs are recorded for the next kernel, and who may still change structure.

use kernel::prelude::*;
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

struct GateState {
    frozen: bool,
    nr_writers: usize,
}

/// Lets structural writers (those that change arenas, areas, the dictionary) through until the
/// framework freezes.
///
/// Slots of existing slabs are not structure: they are taken and given back until the CPU stops.
#[pin_data]
pub struct Gate {
    #[pin]
    state: Mutex<GateState>,
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
            state <- new_mutex!(GateState { frozen: false, nr_writers: 0 }, "kpreserve_gate"),
            idle <- new_condvar!("kpreserve_gate_idle"),
        })
    }

    /// Passes the gate. May sleep; nests.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    pub fn enter(&self) -> Result<GatePass<'_>> {
        let mut state = self.state.lock();
        if state.frozen {
            return Err(EBUSY);
        }
        state.nr_writers += 1;
        Ok(GatePass { gate: self })
    }

    /// Closes the gate, and returns when everybody who had passed it is done. Idempotent.
    ///
    /// Cost: one lock, and the wait.
    pub fn freeze(&self) {
        let mut state = self.state.lock();
        state.frozen = true;
        while state.nr_writers > 0 {
            self.idle.wait(&mut state);
        }
    }

    /// Opens the gate again.
    pub fn thaw(&self) {
        self.state.lock().frozen = false;
    }

    /// Returns whether the gate is closed.
    pub fn is_frozen(&self) -> bool {
        self.state.lock().frozen
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.nr_writers -= 1;
        if state.nr_writers == 0 {
            self.gate.idle.notify_all();
        }
    }
}
