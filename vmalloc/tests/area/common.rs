// SPDX-License-Identifier: GPL-2.0

//! One boot of the simulated machine, with a run table and no framework.

use std::vec::Vec;

use kpreserve_kho::{
    Arena,
    ArenaKind,
    ArenaSer,
    Preservable,
    SharedU64, //
};
use kpreserve_sim::{
    Config,
    Counters,
    Faults,
    Image,
    SimLedger,
    SimMachine, //
};
use kpreserve_vmalloc::{
    Area,
    PVec, //
};

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// An allocation of the kernel's.
    Allocation,
    /// A call of the machine.
    Machine,
    /// A record in the run table.
    Record,
}

impl Fault {
    pub(crate) const ALL: [Fault; 3] = [Fault::Allocation, Fault::Machine, Fault::Record];
}

/// One boot of a machine.
pub(crate) struct Boot {
    pub(crate) machine: &'static SimMachine,
    pub(crate) ledger: &'static SimLedger,
}

impl Boot {
    /// A machine of `nr_pages`, of which the page allocator has blocks up to `order_max`.
    pub(crate) fn with(nr_pages: usize, order_max: u8) -> Self {
        let machine = SimMachine::boot(Config {
            order_max,
            ..Config::with_pages(nr_pages)
        });
        let ledger = SimLedger::create(machine).unwrap();
        Self { machine, ledger }
    }

    /// One of 16 MiB.
    pub(crate) fn first() -> Self {
        Self::with(4096, 10)
    }

    fn adopt(machine: &'static SimMachine) -> Self {
        let ledger = SimLedger::adopt(machine).unwrap();
        Self { machine, ledger }
    }

    /// The next kernel.
    pub(crate) fn reboot(&self) -> Self {
        self.machine.assert_sound();
        Self::adopt(self.machine.reboot())
    }

    /// The kernel after a cut.
    pub(crate) fn after(image: &Image) -> Self {
        Self::adopt(image.boot())
    }

    fn describe<T: Preservable>(&self, id: u32) -> &'static ArenaSer {
        let ser = ArenaSer {
            kind: ArenaKind::Area as u32,
            id,
            fingerprint: T::FINGERPRINT,
            version: T::VERSION,
            stride_bytes: size_of::<T>() as u32,
            slab_order: 0,
            reserved0: 0,
            first_slot: 0,
            nr_slots: 0,
            len: SharedU64::new(0),
            generation: 3,
            reserved1: 0,
            pending: SharedU64::new(0),
            check: 0,
        };
        self.ledger.describe(id, ser)
    }

    /// A new vector.
    pub(crate) fn vec<T: Preservable>(&self, id: u32) -> PVec<T> {
        let ser = self.describe::<T>(id);
        PVec::from_arena(self.arena(id), ser).unwrap()
    }

    /// A new area.
    pub(crate) fn area<T: Preservable>(&self, id: u32, len: usize) -> Area<T> {
        let ser = self.describe::<T>(id);
        Area::with_len(self.arena(id), ser, len).unwrap()
    }

    /// The vector that was there before.
    pub(crate) fn reopen<T: Preservable>(&self, id: u32) -> PVec<T> {
        PVec::from_arena(self.arena(id), self.ser(id)).unwrap()
    }

    /// The descriptor of an area.
    pub(crate) fn ser(&self, id: u32) -> &'static ArenaSer {
        self.ledger.descriptor(id)
    }

    /// The arena of runs that were closed, or inherited; without runs, if there are none.
    pub(crate) fn arena(&self, id: u32) -> Arena {
        self.ledger.open(id).unwrap()
    }

    /// How many runs wait for the next open. They are closed again.
    pub(crate) fn nr_closed(&self, id: u32) -> usize {
        let runs = self.arena(id).into_runs();
        let nr_runs = runs.len();
        // SAFETY: the test's own arena, which it does not use any more.
        unsafe { kpreserve_kho::Ledger::close(self.ledger, id, runs) };
        nr_runs
    }

    pub(crate) fn counters(&self) -> Counters {
        self.machine.counters()
    }

    /// Keys and pages that are out, runs that are recorded.
    pub(crate) fn held(&self) -> (u64, u64, usize) {
        let counters = self.counters();
        (counters.keys, counters.pages_out, self.ledger.nr_records())
    }

    /// Lets the `n`th of its kind from now fail.
    pub(crate) fn fail(&self, kind: Fault, n: u64) {
        match kind {
            Fault::Allocation => kernel::fault::fail_nth_allocation(Some(n)),
            Fault::Machine => {
                self.machine.set_faults(Faults::nth(n));
            }
            Fault::Record => self.ledger.fail_record_after(Some(n - 1)),
        }
    }

    /// Lets all succeed again.
    pub(crate) fn stop_failing(&self) {
        kernel::fault::fail_nth_allocation(None);
        self.machine.set_faults(Faults::none());
        self.ledger.fail_record_after(None);
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.machine.assert_sound();
        }
    }
}

/// The elements of an area.
pub(crate) fn contents<T: Preservable + Copy>(area: &Area<T>) -> Vec<T> {
    area.iter().copied().collect()
}

/// Whether this thread has complained about `what`; forgets what it has.
pub(crate) fn log_says(what: &str) -> bool {
    let complaints = kernel::print::take_complaints();
    complaints.iter().any(|line| line.contains(what))
}
