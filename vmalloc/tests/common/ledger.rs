// SPDX-License-Identifier: GPL-2.0

//! A run table that is a list.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::{
    Gate,
    GatePass,
    Ledger,
    LedgerSlot,
    Phys,
    Run, //
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) phys: Phys,
    pub(crate) order: u8,
    pub(crate) owner: u32,
    pub(crate) index: u32,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<u32, Entry>,
    closed: BTreeMap<u32, Vec<Run>>,
    retired: Vec<u32>,
    nr_records: u64,
    fail_at: u64,
}

pub(crate) struct TestLedger {
    gate: Pin<KBox<Gate>>,
    state: Mutex<State>,
}

impl TestLedger {
    pub(crate) fn new() -> &'static Self {
        std::boxed::Box::leak(std::boxed::Box::new(Self {
            gate: KBox::pin_init(Gate::new(), GFP_KERNEL).unwrap(),
            state: Mutex::default(),
        }))
    }

    pub(crate) fn freeze(&self) {
        self.gate.freeze();
    }

    pub(crate) fn thaw(&self) {
        self.gate.thaw();
    }

    pub(crate) fn entries(&self) -> Vec<(LedgerSlot, Entry)> {
        let state = self.state.lock().unwrap();
        let entries = state.entries.iter();
        entries
            .map(|(&slot, &entry)| (LedgerSlot(slot), entry))
            .collect()
    }

    /// Another ledger with the same entries, without the runs.
    pub(crate) fn copy(&self) -> &'static Self {
        let copy = Self::new();
        copy.state.lock().unwrap().entries = self.state.lock().unwrap().entries.clone();
        copy
    }

    pub(crate) fn inherit(&self, slot: LedgerSlot, entry: Entry) {
        self.state.lock().unwrap().entries.insert(slot.0, entry);
    }

    pub(crate) fn push_closed(&self, owner: u32, run: Run) {
        let mut state = self.state.lock().unwrap();
        let runs = state.closed.entry(owner).or_default();
        runs.push(run);
        runs.sort_by_key(|run| run.index);
    }

    pub(crate) fn take_closed(&self, owner: u32) -> KVVec<Run> {
        let mut runs = KVVec::new();
        for run in self
            .state
            .lock()
            .unwrap()
            .closed
            .remove(&owner)
            .unwrap_or_default()
        {
            runs.push(run, GFP_KERNEL).unwrap();
        }
        runs
    }

    /// Gives a closed run another number: what a damaged run table would say.
    pub(crate) fn renumber(&self, owner: u32, nth: usize, index: u32) {
        let mut state = self.state.lock().unwrap();
        state.closed.get_mut(&owner).unwrap()[nth].index = index;
    }

    pub(crate) fn nr_closed(&self, owner: u32) -> usize {
        self.state
            .lock()
            .unwrap()
            .closed
            .get(&owner)
            .map_or(0, Vec::len)
    }

    pub(crate) fn retired(&self) -> Vec<u32> {
        self.state.lock().unwrap().retired.clone()
    }

    pub(crate) fn fail_at(&self, n: Option<u64>) -> bool {
        let mut state = self.state.lock().unwrap();
        let before = state.fail_at;
        state.fail_at = n.map_or(0, |n| state.nr_records + n);
        before != 0 && state.nr_records >= before
    }
}

impl Ledger for TestLedger {
    fn root_id(&self) -> u64 {
        1
    }

    fn record(
        &self,
        _pass: &GatePass<'_>,
        phys: Phys,
        order: u8,
        owner: u32,
        index: u32,
    ) -> Result<LedgerSlot> {
        let mut state = self.state.lock().unwrap();
        state.nr_records += 1;
        if state.nr_records == state.fail_at {
            return Err(ENOMEM);
        }
        let slot = state.entries.keys().next_back().map_or(0, |last| last + 1);
        let entry = Entry {
            phys,
            order,
            owner,
            index,
        };
        state.entries.insert(slot, entry);
        Ok(LedgerSlot(slot))
    }

    fn erase(&self, _pass: &GatePass<'_>, slot: LedgerSlot) {
        self.state.lock().unwrap().entries.remove(&slot.0).unwrap();
    }

    fn close(&self, id: u32, runs: KVVec<Run>) {
        let mut state = self.state.lock().unwrap();
        let closed = state.closed.entry(id).or_default();
        assert!(closed.is_empty());
        closed.extend(runs);
    }

    fn retire(&self, _pass: &GatePass<'_>, id: u32) {
        let mut state = self.state.lock().unwrap();
        assert!(state.entries.values().all(|entry| entry.owner != id));
        state.retired.push(id);
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}
