// SPDX-License-Identifier: GPL-2.0

//! The run table: a flat list of every run of the image, in runs of its own.
//!
//! It is all that carrying an image on needs. The blocks of the table are named in the root page;
//! an entry's *place* counts through the blocks in order, the root page's own entries being places
//! `0..NR_TABLES`.

use core::ptr::NonNull;

use kernel::prelude::*;
use kpreserve_kho::ordered::store_release_u64;
use kpreserve_kho::{
    phys::{
        run_size_bytes,
        PAGE_SIZE_BYTES, //
    },
    run::Preserved,
    Effort,
    LedgerSlot,
    Machine,
    Node,
    PageRun,
    Phys,
    RunSer, //
};

use crate::abi::{
    NR_TABLES,
    OWNER_TABLE, //
};
use crate::root::Root;

/// Blocks of one order, before the table turns to the next order: it at most doubles eight times
/// slower than it grows, and [`NR_TABLES`] blocks are room for six million runs.
const BLOCKS_AN_ORDER: usize = 8;

/// The largest order of a block.
const BLOCK_ORDER_MAX: usize = 10;

/// A run of the table.
///
/// # Invariants
///
/// `entries` points to `nr_places` entries inside `pages`.
struct Block {
    entries: NonNull<RunSer>,
    nr_places: u32,
    first_place: u32,
    pages: PageRun<Preserved>,
}

/// The run table of an image that this boot owns.
///
/// # Invariants
///
/// `free` holds each place whose entry is free, once, and has room for all places. A place that is
/// neither free nor given out holds an entry that was refused: it stays as it is.
pub(crate) struct RunTable {
    root: Root,
    blocks: KVec<Block>,
    free: KVVec<u32>,
    /// Pages of the runs that are recorded, the table's own included.
    nr_pages: u64,
}

// SAFETY: the pointers are to preserved memory, which belongs to the table alone.
unsafe impl Send for RunTable {}

impl RunTable {
    /// Makes the volatile side of a table without blocks.
    pub(crate) fn new(root: Root) -> Self {
        Self {
            root,
            blocks: KVec::new(),
            free: KVVec::new(),
            nr_pages: 0,
        }
    }

    /// Returns how many pages the recorded runs have, the table's own included; those of entries
    /// that were refused are not counted.
    pub(crate) fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    /// Counts the pages of a run that was recorded by an earlier kernel.
    pub(crate) fn note_inherited(&mut self, order: u8) {
        self.nr_pages += nr_pages(order);
    }

    /// Gives the blocks up: they are taken out of the handover and freed. The root page must not
    /// announce them any more.
    pub(crate) fn free_blocks(&mut self) {
        while let Some(block) = self.blocks.pop() {
            drop(block.pages.unpreserve());
        }
    }

    /// Returns how many runs are recorded, the table's own included, and those of entries that
    /// were refused.
    pub(crate) fn nr_runs(&self) -> usize {
        let nr_places: usize = self
            .blocks
            .iter()
            .map(|block| block.nr_places as usize)
            .sum();
        self.blocks.len() + nr_places.saturating_sub(self.free.len())
    }

    /// Makes room for the volatile side of a block of `nr_places`, so that
    /// [`attach`](Self::attach) cannot fail.
    pub(crate) fn reserve(&mut self, nr_blocks: usize, nr_places: usize) -> Result {
        self.blocks.reserve(nr_blocks, GFP_KERNEL)?;
        let room: usize = self
            .blocks
            .iter()
            .map(|block| block.nr_places as usize)
            .sum();
        let wanted = (room + nr_places).saturating_sub(self.free.len());
        self.free.reserve(wanted, GFP_KERNEL)?;
        Ok(())
    }

    /// Takes in a block, the next in the order of the root page, and its free places.
    ///
    /// `is_free` says of each place whether its entry may be given out.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no room; none after [`reserve`](Self::reserve).
    pub(crate) fn attach(
        &mut self,
        pages: PageRun<Preserved>,
        is_free: impl Fn(u32) -> bool,
    ) -> Result {
        let first_place = self.end_place();
        let nr_places = (pages.size_bytes() / size_of::<RunSer>()) as u32;
        let entries = pages.memory().cast();
        let order = pages.order();
        for place in (first_place..first_place.saturating_add(nr_places)).rev() {
            if is_free(place) {
                self.free.push(place, GFP_KERNEL)?;
            }
        }
        // INVARIANT: the entries fill the run.
        self.blocks.push(
            Block {
                entries,
                nr_places,
                first_place,
                pages,
            },
            GFP_KERNEL,
        )?;
        self.note_inherited(order);
        Ok(())
    }

    /// Records a run and returns its place. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM if the table cannot grow.
    pub(crate) fn insert(
        &mut self,
        machine: &'static dyn Machine,
        phys: Phys,
        order: u8,
        owner: u32,
        index: u32,
    ) -> Result<LedgerSlot> {
        if self.free.is_empty() {
            self.grow(machine)?;
        }
        let place = self.free.pop().ok_or(ENOMEM)?;
        let at = self.entry(place).ok_or(EINVAL)?;
        let entry = RunSer::new(self.root.id(), u64::from(place), phys, order, owner, index);
        // SAFETY: `at` points to an entry of a block of ours, and the place was free: nobody
        // else writes to it, and the next kernel takes it for free until the last store.
        unsafe { publish(at, entry) };
        self.nr_pages += nr_pages(order);
        Ok(LedgerSlot(place))
    }

    /// Takes a run out. Cannot fail.
    pub(crate) fn remove(&mut self, slot: LedgerSlot) {
        let Some(at) = self.entry(slot.0) else {
            return;
        };
        // SAFETY: `at` points to an entry of a block of ours, which the caller owned.
        let order = unsafe { at.read() }.order();
        self.nr_pages = self.nr_pages.saturating_sub(nr_pages(order));
        // SAFETY: as above.
        unsafe { retract(at) };
        // There is room, by the type invariants.
        let _ = self.free.push_within_capacity(slot.0);
    }

    /// Adds a block: allocated, preserved, named in the root page, in this order.
    fn grow(&mut self, machine: &'static dyn Machine) -> Result {
        let index = self.blocks.len();
        if index >= NR_TABLES {
            return Err(ENOMEM);
        }
        let order = (index / BLOCKS_AN_ORDER).min(BLOCK_ORDER_MAX) as u8;
        // There are so many blocks and no more: where memory is fragmented, the largest that there is.
        let pages = (1..=order)
            .rev()
            .find_map(|order| PageRun::alloc(machine, order, Node::ANY, Effort::Light).ok())
            .map_or_else(|| PageRun::alloc(machine, 0, Node::ANY, Effort::Full), Ok)?;
        self.reserve(1, pages.size_bytes() / size_of::<RunSer>())?;
        let pages = pages.preserve()?;
        let at = self.root.table_entry(index).ok_or(ENOMEM)?;
        let entry = RunSer::new(
            self.root.id(),
            index as u64,
            pages.phys(),
            pages.order(),
            OWNER_TABLE,
            index as u32,
        );
        // SAFETY: the entry stands in our root page and is free.
        unsafe { publish(at, entry) };
        self.attach(pages, |_| true)
    }

    fn end_place(&self) -> u32 {
        self.blocks.last().map_or(NR_TABLES as u32, |block| {
            block.first_place.saturating_add(block.nr_places)
        })
    }

    fn entry(&self, place: u32) -> Option<NonNull<RunSer>> {
        let after = self
            .blocks
            .partition_point(|block| block.first_place <= place);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let offset = place.checked_sub(block.first_place)?;
        if offset >= block.nr_places {
            return None;
        }
        // SAFETY: by the type invariants of `Block`, an entry at this offset lies in its run.
        Some(unsafe { block.entries.add(offset as usize) })
    }
}

/// Returns the pages of a run; of an order that there is not, as damage may leave it, none.
fn nr_pages(order: u8) -> u64 {
    run_size_bytes(order).map_or(0, |size_bytes| (size_bytes / PAGE_SIZE_BYTES) as u64)
}

/// Writes an entry so that it is either free or whole, wherever the writing stops.
///
/// # Safety
///
/// `at` is valid for writes, aligned, and nobody else accesses it.
unsafe fn publish(at: NonNull<RunSer>, entry: RunSer) {
    let whole = entry.phys_order;
    let body = RunSer {
        phys_order: 0,
        ..entry
    };
    // SAFETY: by the caller's promise.
    unsafe { at.write(body) };
    // SAFETY: by the caller's promise; `phys_order` is the first field.
    unsafe { store_first(at, whole) };
}

/// Frees an entry.
///
/// # Safety
///
/// As for [`publish`].
unsafe fn retract(at: NonNull<RunSer>) {
    // SAFETY: by the caller's promise; `phys_order` is the first field.
    unsafe { store_first(at, 0) };
}

/// Stores the first field of an entry, after everything written before.
///
/// # Safety
///
/// As for [`publish`].
unsafe fn store_first(at: NonNull<RunSer>, value: u64) {
    const _: () = assert!(core::mem::offset_of!(RunSer, phys_order) == 0);
    // SAFETY: valid and aligned for 8 bytes, by the caller's promise.
    unsafe { store_release_u64(at.as_ptr().cast(), value) };
}
