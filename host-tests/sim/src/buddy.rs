// SPDX-License-Identifier: GPL-2.0

//! A page allocator like the kernel's: blocks of a power of two of pages, split and merged.

use core::ops::Range;
use std::collections::BTreeSet;

use kpreserve_kho::phys::MAX_ORDER;

/// Free blocks by order.
#[derive(Debug)]
pub(crate) struct Buddy {
    free: [BTreeSet<usize>; MAX_ORDER as usize + 1],
    order_max: u8,
}

impl Buddy {
    /// Makes one without free pages.
    pub(crate) fn new(order_max: u8) -> Self {
        Self {
            free: Default::default(),
            order_max: order_max.min(MAX_ORDER),
        }
    }

    /// Takes a block of `2^order` pages; returns its first page. `pick` chooses among `n`.
    pub(crate) fn take(&mut self, order: u8, pick: impl FnOnce(usize) -> usize) -> Option<usize> {
        let found = (order..=self.order_max).find(|&o| !self.blocks(o).is_empty())?;
        let block = pick_block(self.blocks(found), pick)?;
        self.blocks(found).remove(&block);
        for o in (order..found).rev() {
            self.blocks(o).insert(block + (1 << o));
        }
        Some(block)
    }

    /// The same, of the pages of a range that no block reaches out of.
    pub(crate) fn take_within(
        &mut self,
        range: &Range<usize>,
        order: u8,
        pick: impl FnOnce(usize) -> usize,
    ) -> Option<usize> {
        let inside = |blocks: &BTreeSet<usize>| blocks.range(range.clone()).count();
        let found = (order..=self.order_max).find(|&o| inside(self.blocks(o)) > 0)?;
        let nth = pick(inside(self.blocks(found)));
        let block = *self.blocks(found).range(range.clone()).nth(nth)?;
        self.blocks(found).remove(&block);
        for o in (order..found).rev() {
            self.blocks(o).insert(block + (1 << o));
        }
        Some(block)
    }

    /// Gives a block back.
    pub(crate) fn give(&mut self, block: usize, order: u8) {
        let (mut block, mut order) = (block, order);
        while order < self.order_max {
            let buddy = block ^ (1 << order);
            if !self.blocks(order).remove(&buddy) {
                break;
            }
            block = block.min(buddy);
            order += 1;
        }
        self.blocks(order).insert(block);
    }

    /// Gives pages back that lie side by side, in the largest blocks that they make: machines of many
    /// gigabytes have few of these.
    pub(crate) fn give_range(&mut self, range: Range<usize>) {
        let mut block = range.start;
        while block < range.end {
            let aligned = block.trailing_zeros().min(u32::from(self.order_max));
            let fits = (range.end - block).ilog2();
            let order = aligned.min(fits) as u8;
            self.give(block, order);
            block += 1 << order;
        }
    }

    /// Returns how many pages of a range are free.
    pub(crate) fn nr_pages_within(&self, range: &Range<usize>) -> usize {
        self.free
            .iter()
            .enumerate()
            .map(|(order, blocks)| blocks.range(range.clone()).count() << order)
            .sum()
    }

    /// Returns how many pages are free.
    pub(crate) fn nr_pages(&self) -> usize {
        self.free
            .iter()
            .enumerate()
            .map(|(order, blocks)| blocks.len() << order)
            .sum()
    }

    fn blocks(&mut self, order: u8) -> &mut BTreeSet<usize> {
        &mut self.free[usize::from(order)]
    }
}

/// Sets of more blocks than that are not counted through.
const NR_COUNTED_MAX: usize = 4096;

/// Returns one of the blocks: each with the same chance, or, of very many, the one behind a random place.
fn pick_block(blocks: &BTreeSet<usize>, pick: impl FnOnce(usize) -> usize) -> Option<usize> {
    if blocks.len() <= NR_COUNTED_MAX {
        return blocks.iter().nth(pick(blocks.len())).copied();
    }
    let (first, last) = (blocks.first()?, blocks.last()?);
    let place = first + pick(last - first + 1);
    blocks.range(place..).next().copied()
}
