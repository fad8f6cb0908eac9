// SPDX-License-Identifier: GPL-2.0

//! Where runs are recorded for the next kernel, and who may still change structure.

use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Release, //
};
use kernel::sync::Mutex;
use kernel::time::{
    delay::fsleep,
    Delta, //
};

use crate::ordered::Loads as _;
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
/// The framework implements it over the root page. All of it may sleep. What changes the table is
/// for the owners of arenas alone, hence unsafe: the memory of others hangs on it.
pub trait Ledger: Sync {
    /// Returns the id that the checksums of this image are keyed with.
    fn root_id(&self) -> u64;

    /// Records a preserved run. From here on the next kernel finds it.
    ///
    /// # Errors
    ///
    /// ENOMEM if the table cannot grow; nothing has changed then.
    ///
    /// # Safety
    ///
    /// The run is preserved with this order and in no table yet, and the caller owns the arena
    /// `owner`.
    unsafe fn record(
        &self,
        pass: &GatePass<'_>,
        phys: Phys,
        order: u8,
        owner: u32,
        index: u32,
    ) -> Result<LedgerSlot>;

    /// Takes a run out of the table. Cannot fail.
    ///
    /// # Safety
    ///
    /// The caller owns the run that was recorded there, and gives `slot` up.
    unsafe fn erase(&self, pass: &GatePass<'_>, slot: LedgerSlot);

    /// Takes back the runs of an arena whose user is gone: they stay preserved and recorded, and
    /// the next open of the arena, in this boot or the next kernel, finds them. Cannot fail.
    ///
    /// # Safety
    ///
    /// The caller owned the arena `id` and does not use it any more; `runs` are all of its runs.
    unsafe fn close(&self, id: u32, runs: KVVec<Run>);

    /// Ends an arena that has no runs left: its descriptor is free for another. Cannot fail.
    ///
    /// # Safety
    ///
    /// The caller owned the arena `id`, which has no runs, and uses neither it nor its descriptor
    /// any more.
    unsafe fn retire(&self, pass: &GatePass<'_>, id: u32);

    /// Returns the gate that structural writers pass.
    fn gate(&self) -> &Gate;
}

/// How long a freeze waits for those who are inside, in milliseconds.
pub const FREEZE_WAIT_MS: usize = 10_000;

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

    /// Closes the gate, and waits until everybody who had passed it is done; returns how many are
    /// not, after [`FREEZE_WAIT_MS`]. Idempotent. May sleep.
    ///
    /// Waiting is a courtesy: every format is whole at any instruction, so a writer that is stuck
    /// (in reclaim, on a dead device) does not hold up a reboot for ever.
    ///
    /// Cost: one lock, and the wait.
    pub fn freeze(&self) -> usize {
        self.frozen.store(1, Release);
        for _ in 0..FREEZE_WAIT_MS {
            // Whoever passes sees the store under the lock, or was counted under it before.
            if *self.nr_writers.lock() == 0 {
                return 0;
            }
            fsleep(Delta::from_millis(1));
        }
        *self.nr_writers.lock()
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
        self.frozen.load_acquire() != 0
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        *self.gate.nr_writers.lock() -= 1;
    }
}
