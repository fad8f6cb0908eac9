// SPDX-License-Identifier: GPL-2.0

//! The runs of one owner, born preserved.
//!
//! A run is allocated, preserved, recorded in the ledger, and only then used; it leaves in the
//! reverse order. Nothing is left to do at a kexec.

use kernel::prelude::*;

use crate::ceiling::Ceiling;
use crate::ledger::{
    GatePass,
    Ledger,
    LedgerSlot,
    Run, //
};
use crate::phys::MAX_ORDER;
use crate::run::{
    Incoming,
    Owned,
    PageRun,
    Pledged, //
};
use crate::seams::{
    Effort,
    Machine,
    Node, //
};

/// The next run is at most this part of what the owner already holds, so that an owner wastes at
/// most a few percent.
const GROWTH_DIVISOR: usize = 16;

/// The runs of one owner.
///
/// Dropping an arena gives nothing up: the runs stay preserved and recorded, and whoever opens the
/// owner again, here or in the next kernel, finds them.
pub struct Arena {
    machine: &'static dyn Machine,
    ledger: &'static dyn Ledger,
    id: u32,
    node: Node,
    runs: KVVec<Run>,
    nr_pages: usize,
    ceiling: Ceiling,
    /// Above the index of each run: in a cache the last one is not the newest.
    next_index: u32,
}

impl Arena {
    /// Makes an arena of the runs that the ledger has for `id`, in the order of their index; of
    /// none, when the owner is new.
    ///
    /// # Safety
    ///
    /// The caller owns the arena `id`: nobody else has one of that id until this one is closed.
    pub unsafe fn new(
        machine: &'static dyn Machine,
        ledger: &'static dyn Ledger,
        id: u32,
        runs: KVVec<Run>,
    ) -> Self {
        let nr_pages = runs.iter().map(|run| run.pages.nr_pages()).sum();
        let next_index = runs.iter().map(|run| run.index.wrapping_add(1)).max();
        Self {
            machine,
            ledger,
            id,
            node: Node::ANY,
            runs,
            nr_pages,
            ceiling: Ceiling::NONE,
            next_index: next_index.unwrap_or(0),
        }
    }

    /// Returns the machine that the runs come from.
    pub fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    /// Returns the ledger that they are recorded in.
    pub fn ledger(&self) -> &'static dyn Ledger {
        self.ledger
    }

    /// Returns the owner's id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Prefers a NUMA node for runs to come.
    pub fn set_node(&mut self, node: Node) {
        self.node = node;
    }

    /// Returns the runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns how many pages the runs have together.
    pub fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Adds one run and returns it.
    ///
    /// Its order is the larger of two: the largest that `nr_pages_wanted` pages fill, and the
    /// largest that is at most 1/16 of the pages that are held; it is at least `order_min`, at
    /// most [`MAX_ORDER`], and falls towards `order_min` where memory is fragmented; the arena
    /// remembers how far, and tries more now and then. The memory is zeroed. May sleep. One key.
    ///
    /// # Errors
    ///
    /// ENOMEM, the arena unchanged; EINVAL if there is no order `order_min`.
    pub fn grow(
        &mut self,
        pass: &GatePass<'_>,
        order_min: u8,
        nr_pages_wanted: usize,
    ) -> Result<&Run> {
        if order_min > MAX_ORDER {
            return Err(EINVAL);
        }
        // Room first: nothing below needs undoing for the lack of a few bytes.
        self.runs.reserve(1, GFP_KERNEL)?;
        let index = self.next_index;

        let pages = self.alloc(order_min, self.next_order(order_min, nr_pages_wanted))?;
        let pages = pages.preserve()?;
        let (phys, order) = (pages.phys(), pages.order());
        // SAFETY: just preserved, so in no table; the arena is ours.
        let recorded = unsafe { self.ledger.record(pass, phys, order, self.id, index) };
        let slot = match recorded {
            Ok(slot) => slot,
            Err(error) => {
                drop(pages.unpreserve());
                return Err(error);
            }
        };
        self.nr_pages += pages.nr_pages();
        self.next_index = index.wrapping_add(1);
        let at = self.runs.len();
        self.runs.push(Run { pages, slot, index }, GFP_KERNEL)?;
        self.runs.get(at).ok_or(ENOMEM)
    }

    /// Gives the last run back to the machine: out of the ledger, unpreserved, freed. May sleep.
    ///
    /// Returns its number of pages; 0 if there was none.
    ///
    /// # Safety
    ///
    /// Nobody uses the memory of the last run any more, and no preserved structure refers to it.
    pub unsafe fn release_last(&mut self, pass: &GatePass<'_>) -> usize {
        let Some(run) = self.runs.pop() else {
            return 0;
        };
        // Areas number their runs without a gap.
        if run.index.wrapping_add(1) == self.next_index {
            self.next_index = run.index;
        }
        self.give_back(pass, run)
    }

    /// Gives the run at `position` back, and puts the last one in its place. May sleep.
    ///
    /// For owners to whom the order of their runs means nothing. Returns its number of pages; 0 if
    /// there is no such run.
    ///
    /// # Safety
    ///
    /// Nobody uses the memory of that run any more, and no preserved structure refers to it.
    pub unsafe fn release_swap(&mut self, pass: &GatePass<'_>, position: usize) -> usize {
        let Some(last) = self.runs.len().checked_sub(1) else {
            return 0;
        };
        if position > last {
            return 0;
        }
        self.runs.swap(position, last);
        match self.runs.pop() {
            Some(run) => self.give_back(pass, run),
            None => 0,
        }
    }

    /// Adds runs that the previous kernel preserved for somebody else; they are handed on, recorded, and
    /// then made ours. All or none. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM, the arena unchanged and the runs incoming as before. EINVAL if the machine disagrees with
    /// what it said when they were probed: what had been made ours by then stays in the arena.
    ///
    /// # Safety
    ///
    /// The runs overlap neither with each other nor with any other run.
    pub unsafe fn take_in(
        &mut self,
        pass: &GatePass<'_>,
        incoming: KVVec<PageRun<Incoming>>,
    ) -> Result {
        // Room first: nothing below needs undoing for the lack of a few bytes.
        self.runs.reserve(incoming.len(), GFP_KERNEL)?;
        let mut pledged = KVVec::with_capacity(incoming.len(), GFP_KERNEL)?;
        for run in incoming {
            let taken = run
                .preserve()
                .and_then(|run| self.record(pass, run, pledged.len()));
            match taken {
                Ok(run) => pledged.push(run, GFP_KERNEL)?,
                Err(error) => {
                    self.let_go(pass, pledged);
                    return Err(error);
                }
            }
        }
        let mut left = pledged.into_iter();
        while let Some((run, slot)) = left.next() {
            // SAFETY: says the caller.
            match unsafe { run.restore() } {
                Ok(pages) => {
                    self.nr_pages += pages.nr_pages();
                    let index = self.next_index;
                    self.next_index = index.wrapping_add(1);
                    self.runs.push(Run { pages, slot, index }, GFP_KERNEL)?;
                }
                Err(error) => {
                    // SAFETY: recorded above, and in no arena.
                    unsafe { self.ledger.erase(pass, slot) };
                    left.for_each(|run| self.let_go_one(pass, run));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn record(
        &self,
        pass: &GatePass<'_>,
        run: PageRun<Pledged>,
        nr_before: usize,
    ) -> Result<(PageRun<Pledged>, LedgerSlot)> {
        let index = self.next_index.wrapping_add(nr_before as u32);
        let (phys, order) = (run.phys(), run.order());
        // SAFETY: preserved, and in no table; the arena is ours.
        match unsafe { self.ledger.record(pass, phys, order, self.id, index) } {
            Ok(slot) => Ok((run, slot)),
            Err(error) => {
                run.unpreserve();
                Err(error)
            }
        }
    }

    fn let_go(&self, pass: &GatePass<'_>, mut pledged: KVVec<(PageRun<Pledged>, LedgerSlot)>) {
        while let Some(run) = pledged.pop() {
            self.let_go_one(pass, run);
        }
    }

    fn let_go_one(&self, pass: &GatePass<'_>, (run, slot): (PageRun<Pledged>, LedgerSlot)) {
        // SAFETY: recorded by `record`, and in no arena.
        unsafe { self.ledger.erase(pass, slot) };
        run.unpreserve();
    }

    /// Takes all runs out of the ledger, the last one first, and returns them, still preserved. May
    /// sleep. The places that they name in the table are others' from here on.
    ///
    /// # Safety
    ///
    /// No preserved structure refers to the memory of the runs, other than through what the caller makes
    /// of them.
    pub unsafe fn take_out(&mut self, pass: &GatePass<'_>) -> KVVec<Run> {
        let runs = core::mem::replace(&mut self.runs, KVVec::new());
        for run in runs.iter().rev() {
            // SAFETY: the run was in this arena, which does not know of it any more.
            unsafe { self.ledger.erase(pass, run.slot) };
        }
        self.nr_pages = 0;
        self.next_index = 0;
        runs
    }

    /// Ends the arena and returns its runs, still preserved and recorded.
    pub fn into_runs(self) -> KVVec<Run> {
        self.runs
    }

    fn give_back(&mut self, pass: &GatePass<'_>, run: Run) -> usize {
        let nr_pages = run.pages.nr_pages();
        // SAFETY: the run was in this arena, and `run` ends here.
        unsafe { self.ledger.erase(pass, run.slot) };
        drop(run.pages.unpreserve());
        self.nr_pages -= nr_pages;
        nr_pages
    }

    fn next_order(&self, order_min: u8, nr_pages_wanted: usize) -> u8 {
        let by_rule = floor_log2(self.nr_pages / GROWTH_DIVISOR);
        let by_wish = floor_log2(nr_pages_wanted);
        by_rule.max(by_wish).clamp(order_min, MAX_ORDER)
    }

    fn alloc(&mut self, order_min: u8, order_max: u8) -> Result<PageRun<Owned>> {
        let first = self.ceiling.first(order_max);
        for order in (order_min.saturating_add(1)..=first).rev() {
            match PageRun::alloc(self.machine, order, self.node, Effort::Light) {
                Ok(run) => {
                    self.ceiling.note(first, order);
                    return Ok(run);
                }
                Err(error) if error == ENOMEM => {}
                Err(error) => return Err(error),
            }
        }
        let run = PageRun::alloc(self.machine, order_min, self.node, Effort::Full)?;
        self.ceiling.note(first, order_min);
        Ok(run)
    }
}

/// Returns the largest `n` with `2^n <= value`; 0 for 0.
fn floor_log2(value: usize) -> u8 {
    value.checked_ilog2().unwrap_or(0) as u8
}
