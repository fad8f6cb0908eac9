// SPDX-License-Identifier: GPL-2.0

//! A small run table, for tests of what lies below the framework.
//!
//! One preserved run holds 64 descriptors and 384 entries, and a subtree names it: enough for an
//! arena to survive a reboot, or a cut, without `kpreserve/`.

use core::ptr::NonNull;
use std::collections::BTreeMap;
use std::sync::{
    Mutex,
    MutexGuard,
    PoisonError, //
};

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Release, //
};
use kpreserve_kho::phys::MAX_ORDER;
use kpreserve_kho::run::Preserved;
use kpreserve_kho::{
    Arena,
    ArenaSer,
    Effort,
    Gate,
    GatePass,
    Handover,
    Ledger,
    LedgerSlot,
    Machine,
    Node,
    PageRun,
    Phys,
    Run,
    RunSer,
    Seen, //
};

use crate::machine::SimMachine;

const NAME: &CStr = c"kpreserve-sim-ledger";
const ORDER: u8 = 2;
const NR_DESCRIPTORS: usize = 64;
const NR_ENTRIES: usize = 384;
const ROOT_ID: u64 = 0x5111_1ed9_e700_0001;

struct Inner {
    free: std::vec::Vec<u32>,
    /// Runs of arenas that nobody has open.
    closed: BTreeMap<u32, std::vec::Vec<Run>>,
    /// Arenas that were retired.
    retired: std::vec::Vec<u32>,
    /// How many records succeed before one fails; `None` is all.
    until_failure: Option<u64>,
}

/// A small run table.
pub struct SimLedger {
    machine: &'static SimMachine,
    base: NonNull<u8>,
    _pages: PageRun<Preserved>,
    gate: Pin<KBox<Gate>>,
    inner: Mutex<Inner>,
}

// SAFETY: the memory behind `base` belongs to the ledger, which writes to it under its lock, or
// through `ArenaSer`s that are given out once.
unsafe impl Send for SimLedger {}

// SAFETY: as above.
unsafe impl Sync for SimLedger {}

impl SimLedger {
    /// Makes an empty table, announced to the next kernel.
    ///
    /// # Errors
    ///
    /// What the machine says.
    pub fn create(machine: &'static SimMachine) -> Result<&'static SimLedger> {
        let pages = PageRun::alloc(machine, ORDER, Node::ANY, Effort::Full)?.preserve()?;
        // SAFETY: just preserved, and never freed.
        unsafe { machine.add_subtree(NAME, pages.phys(), pages.size_bytes()) }?;
        Self::over(machine, pages, BTreeMap::new())
    }

    /// Finds the table of the previous kernel, and restores every run that it names.
    ///
    /// # Errors
    ///
    /// ENOENT if there is none; what the machine says. EINVAL if a run was not preserved as its
    /// entry says.
    pub fn adopt(machine: &'static SimMachine) -> Result<&'static SimLedger> {
        let (phys, _) = machine.retrieve_subtree(NAME)?;
        let pages = Self::adopt_run(machine, phys, ORDER)?;
        // SAFETY: as in `create`.
        unsafe { machine.add_subtree(NAME, pages.phys(), pages.size_bytes()) }?;
        let base = pages.memory();
        let mut closed: BTreeMap<u32, std::vec::Vec<Run>> = BTreeMap::new();
        for slot in 0..NR_ENTRIES as u32 {
            // SAFETY: the slot exists.
            let at = unsafe { entry_at(base, slot) };
            // SAFETY: inside the pages, and nobody writes to them now; any bytes are an entry.
            let entry = unsafe { at.read() };
            if entry.is_free() {
                continue;
            }
            let entry = entry
                .validate(ROOT_ID, u64::from(slot))
                .map_err(|refusal| refusal.report())?;
            closed.entry(entry.owner).or_default().push(Run {
                pages: Self::adopt_run(machine, entry.phys(), entry.order())?,
                slot: LedgerSlot(slot),
                index: entry.index,
            });
        }
        for runs in closed.values_mut() {
            runs.sort_by_key(|run| run.index);
        }
        Self::over(machine, pages, closed)
    }

    fn adopt_run(
        machine: &'static SimMachine,
        phys: Phys,
        order: u8,
    ) -> Result<PageRun<Preserved>> {
        assert!(order <= MAX_ORDER && machine.probe(phys) == (Seen::Preserved { order }));
        // SAFETY: each page of the ledger is looked at once.
        let run = unsafe { PageRun::incoming(machine, phys, order, "SimLedger", phys.get()) }
            .map_err(|refusal| refusal.report())?
            .preserve()?;
        // SAFETY: KHO keys do not overlap, and the machine reports it if they did.
        unsafe { run.restore() }
    }

    fn over(
        machine: &'static SimMachine,
        pages: PageRun<Preserved>,
        closed: BTreeMap<u32, std::vec::Vec<Run>>,
    ) -> Result<&'static SimLedger> {
        let base = pages.memory();
        let is_used = |slot: &u32| {
            let mut runs = closed.values().flatten();
            runs.any(|run| run.slot.0 == *slot)
        };
        let free = (0..NR_ENTRIES as u32)
            .filter(|slot| !is_used(slot))
            .collect();
        let ledger = SimLedger {
            machine,
            base,
            _pages: pages,
            gate: KBox::pin_init(Gate::new(), GFP_KERNEL)?,
            inner: Mutex::new(Inner {
                free,
                closed,
                retired: std::vec::Vec::new(),
                until_failure: None,
            }),
        };
        Ok(std::boxed::Box::leak(std::boxed::Box::new(ledger)))
    }

    /// Returns the machine.
    pub fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    /// Opens arena `id` (below 64) with the runs that are recorded for it.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn open(&'static self, id: u32) -> Result<Arena> {
        let closed = self.inner().closed.remove(&id).unwrap_or_default();
        let mut runs = KVVec::with_capacity(closed.len(), GFP_KERNEL)?;
        for run in closed {
            runs.push(run, GFP_KERNEL)?;
        }
        // SAFETY: the runs were taken out of the ledger just now, all of them.
        Ok(unsafe { Arena::new(self.machine, self, id, runs) })
    }

    /// Returns the descriptor of arena `id` as it stands in memory.
    ///
    /// # Panics
    ///
    /// If there is no such descriptor.
    pub fn descriptor(&self, id: u32) -> &'static ArenaSer {
        // SAFETY: inside the pages, which stay preserved as long as the machine runs; all bytes
        // are a descriptor; only `len` changes, which is shared by design, or the whole record,
        // while nobody has the arena open.
        unsafe { self.descriptor_at(id).as_ref() }
    }

    /// Writes the descriptor of arena `id`, with the right id and checksum.
    ///
    /// # Panics
    ///
    /// If there is no such descriptor.
    pub fn describe(&self, id: u32, mut ser: ArenaSer) -> &'static ArenaSer {
        ser.id = id;
        ser.check = ser.checksum(ROOT_ID);
        // SAFETY: inside the pages; nobody has the arena open.
        unsafe { self.descriptor_at(id).write(ser) };
        self.descriptor(id)
    }

    /// Lets `n` further records succeed, and the one after fail; `None` lets all succeed.
    pub fn fail_record_after(&self, n: Option<u64>) {
        self.inner().until_failure = n;
    }

    /// Returns how many runs are recorded.
    pub fn nr_records(&self) -> usize {
        NR_ENTRIES - self.inner().free.len()
    }

    /// Returns the arenas that were retired.
    pub fn retired(&self) -> std::vec::Vec<u32> {
        self.inner().retired.clone()
    }

    fn descriptor_at(&self, id: u32) -> NonNull<ArenaSer> {
        assert!((id as usize) < NR_DESCRIPTORS, "no descriptor {id}");
        // SAFETY: the first page holds 64 descriptors of 64 bytes.
        unsafe { self.base.cast::<ArenaSer>().add(id as usize) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, slot: u32, entry: RunSer) {
        // SAFETY: the slot exists.
        let at = unsafe { entry_at(self.base, slot) };
        let body = RunSer {
            phys_order: 0,
            ..entry
        };
        if !entry.is_free() {
            // SAFETY: inside the pages; the slot is the caller's.
            unsafe { at.write(body) };
        }
        // SAFETY: aligned and inside the pages; `phys_order` is the first field.
        let word: &Atomic<u64> = unsafe { Atomic::from_ptr(at.as_ptr().cast::<u64>()) };
        word.store(entry.phys_order, Release);
    }
}

/// Returns where entry `slot` stands.
///
/// # Safety
///
/// `base` is that of a ledger, and `slot` is below [`NR_ENTRIES`].
unsafe fn entry_at(base: NonNull<u8>, slot: u32) -> NonNull<RunSer> {
    let descriptors = NR_DESCRIPTORS * size_of::<ArenaSer>();
    // SAFETY: the pages hold the entries behind the descriptors.
    let first = unsafe { base.add(descriptors) };
    // SAFETY: by the caller's promise.
    unsafe { first.cast::<RunSer>().add(slot as usize) }
}

impl Ledger for SimLedger {
    fn root_id(&self) -> u64 {
        ROOT_ID
    }

    unsafe fn record(
        &self,
        _pass: &GatePass<'_>,
        phys: Phys,
        order: u8,
        owner: u32,
        index: u32,
    ) -> Result<LedgerSlot> {
        let mut inner = self.inner();
        if let Some(left) = inner.until_failure {
            inner.until_failure = left.checked_sub(1);
            if left == 0 {
                return Err(ENOMEM);
            }
        }
        let slot = inner.free.pop().ok_or(ENOMEM)?;
        drop(inner);
        let entry = RunSer::new(ROOT_ID, u64::from(slot), phys, order, owner, index);
        self.publish(slot, entry);
        Ok(LedgerSlot(slot))
    }

    unsafe fn erase(&self, _pass: &GatePass<'_>, slot: LedgerSlot) {
        self.publish(slot.0, RunSer::FREE);
        self.inner().free.push(slot.0);
    }

    unsafe fn close(&self, id: u32, runs: KVVec<Run>) {
        let mut inner = self.inner();
        let before = inner.closed.insert(id, runs.into_iter().collect());
        assert!(before.is_none(), "arena {id} was closed twice");
    }

    unsafe fn retire(&self, _pass: &GatePass<'_>, id: u32) {
        self.inner().retired.push(id);
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}
