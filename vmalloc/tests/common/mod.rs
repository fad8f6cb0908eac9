// SPDX-License-Identifier: GPL-2.0

//! What the tests of this crate have in place of the framework: a ledger that is a list, and
//! descriptors on the heap.

mod ledger;
mod machine;

use std::cell::{
    Cell,
    RefCell, //
};
use std::collections::BTreeMap;
use std::rc::Rc;

use kernel::observe::set_observer;
use kpreserve_kho::{
    Arena,
    ArenaKind,
    ArenaSer,
    PageRun,
    Preservable,
    Run,
    SharedU64, //
};
use kpreserve_vmalloc::{
    Area,
    PVec, //
};

pub(crate) use ledger::TestLedger;
pub(crate) use machine::Toy;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Allocation,
    Machine,
    Record,
}

pub(crate) const FAULTS: [Fault; 3] = [Fault::Allocation, Fault::Machine, Fault::Record];

type Sers = Rc<RefCell<BTreeMap<u32, &'static ArenaSer>>>;

/// One boot of a machine.
pub(crate) struct Boot {
    pub(crate) machine: &'static Toy,
    pub(crate) ledger: &'static TestLedger,
    sers: Sers,
    fail_at: Cell<u64>,
}

/// Lets the machine have no run above `order`.
pub(crate) fn small_folios(boot: &Boot, order: u8) {
    boot.machine.set_order_max(order);
}

/// Whether this thread has complained about `what`.
pub(crate) fn log_says(what: &str) -> bool {
    let complaints = kernel::print::take_complaints();
    complaints.iter().any(|line| line.contains(what))
}

impl Boot {
    pub(crate) fn first() -> Self {
        Self {
            machine: Toy::new(),
            ledger: TestLedger::new(),
            sers: Sers::default(),
            fail_at: Cell::new(0),
        }
    }

    /// The next kernel: the same bytes at another address, runs as the ledger has them.
    pub(crate) fn reboot(&self) -> Self {
        let machine = self.machine.reboot();
        let ledger = TestLedger::new();
        for (slot, entry) in self.ledger.entries() {
            let run = PageRun::incoming(machine, entry.phys, entry.order, "RunSer", slot.0.into());
            let run = run.unwrap().preserve().unwrap();
            // SAFETY: the ledger of the boot before had each run once.
            let pages = unsafe { run.restore() }.unwrap();
            let index = entry.index;
            ledger.inherit(slot, entry);
            ledger.push_closed(entry.owner, Run { pages, slot, index });
        }
        Self {
            machine,
            ledger,
            sers: self.sers.clone(),
            fail_at: Cell::new(0),
        }
    }

    /// A descriptor for elements of `T`.
    fn make_ser<T: Preservable>(&self, id: u32) -> &'static ArenaSer {
        let ser = Box::leak(Box::new(ArenaSer {
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
            reserved2: 0,
            check: 0,
        }));
        self.sers.borrow_mut().insert(id, ser);
        ser
    }

    pub(crate) fn vec<T: Preservable>(&self, id: u32) -> PVec<T> {
        PVec::from_arena(self.reopen(id), self.make_ser::<T>(id)).unwrap()
    }

    pub(crate) fn area<T: Preservable>(&self, id: u32, len: usize) -> Area<T> {
        Area::with_len(self.reopen(id), self.make_ser::<T>(id), len).unwrap()
    }

    pub(crate) fn ser(&self, id: u32) -> &'static ArenaSer {
        self.sers.borrow()[&id]
    }

    /// Puts a changed copy in place of a descriptor.
    pub(crate) fn change(&self, id: u32, change: impl FnOnce(&mut ArenaSer)) {
        let mut ser = self.ser(id).snapshot();
        change(&mut ser);
        self.sers.borrow_mut().insert(id, Box::leak(Box::new(ser)));
    }

    /// The arena of runs that were closed, or inherited; without runs, if there are none.
    pub(crate) fn reopen(&self, id: u32) -> Arena {
        Arena::new(self.machine, self.ledger, id, self.ledger.take_closed(id))
    }

    pub(crate) fn orders<T: Preservable>(&self, area: &Area<T>) -> Vec<u8> {
        let mut entries: Vec<_> = self.ledger.entries().into_iter().map(|(_, e)| e).collect();
        entries.retain(|entry| entry.owner == area.raw().id());
        entries.sort_by_key(|entry| entry.index);
        entries.iter().map(|entry| entry.order).collect()
    }

    pub(crate) fn nr_recorded(&self) -> usize {
        self.ledger.entries().len()
    }

    pub(crate) fn nr_closed(&self, id: u32) -> usize {
        self.ledger.nr_closed(id)
    }

    pub(crate) fn nr_keys(&self) -> usize {
        self.machine.nr_keys()
    }

    pub(crate) fn nr_pages_used(&self) -> usize {
        self.machine.nr_pages_used()
    }

    pub(crate) fn nr_pages_total(&self) -> usize {
        machine::NR_PAGES
    }

    pub(crate) fn nr_mappings(&self) -> usize {
        self.machine.nr_mappings()
    }

    pub(crate) fn nr_calls(&self) -> u64 {
        self.machine.nr_calls()
    }

    /// Lets the `n`th of its kind from now fail.
    pub(crate) fn fail(&self, kind: Fault, n: u64) {
        match kind {
            Fault::Allocation => {
                self.fail_at.set(n);
                kernel::fault::fail_nth_allocation(Some(n));
            }
            Fault::Machine => {
                self.machine.fail_at(Some(n));
            }
            Fault::Record => {
                self.ledger.fail_at(Some(n));
            }
        }
    }

    /// Lets all succeed again; returns whether one was made to fail.
    pub(crate) fn stop_failing(&self, kind: Fault) -> bool {
        match kind {
            Fault::Allocation => {
                let struck = kernel::fault::nr_allocations() >= self.fail_at.get();
                kernel::fault::fail_nth_allocation(None);
                struck
            }
            Fault::Machine => self.machine.fail_at(None),
            Fault::Record => self.ledger.fail_at(None),
        }
    }

    /// Runs `work` to its end, and takes down what the next kernel would find if the machine had
    /// been stopped before the `n`th atomic store in it; `None` if there were fewer.
    pub(crate) fn cut_at(&self, n: u64, work: impl FnOnce()) -> Option<Self> {
        let cut = Rc::new(RefCell::new(None));
        let (at_cut, mut left) = (cut.clone(), n);
        let (machine, ledger, sers) = (self.machine, self.ledger, self.sers.clone());
        set_observer(Some(Box::new(move |_| {
            left = left.wrapping_sub(1);
            if left == 0 {
                let mut copies = BTreeMap::new();
                for (&id, ser) in sers.borrow().iter() {
                    copies.insert(id, &*Box::leak(Box::new(ser.snapshot())));
                }
                *at_cut.borrow_mut() = Some(Boot {
                    machine: machine.copy(),
                    ledger: ledger.copy(),
                    sers: Rc::new(RefCell::new(copies)),
                    fail_at: Cell::new(0),
                });
            }
        })));
        work();
        set_observer(None);
        cut.take()
    }
}
