// SPDX-License-Identifier: GPL-2.0

//! Runs of folios as they are in memory, and how they are cut for KHO.
//!
//! A key of KHO's is a naturally aligned block, and what was preserved under one key comes back as one
//! folio, or as pages. So pages that stand side by side, and as far from an alignment in memory as in
//! the file, are preserved in blocks that the next kernel takes as large folios: one reference, one
//! charge, one entry of the page cache and of the LRU lists instead of one a page.

use kernel::prelude::*;

use crate::abi::FolioRunSer;

/// Large folios of the page cache are at most as large as a huge page.
const BLOCK_ORDER_MAX: u32 = 9;

/// Smaller blocks are left pages: a large folio costs more than a page.
const BLOCK_ORDER_MIN: u32 = 2;

/// Folios of one order and one node, side by side in memory and in the file. As in helpers.h.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct PinnedRun {
    /// The first page frame.
    pub pfn: u64,
    /// Where it stands in the file, in pages.
    pub index: u32,
    /// Pages of the run.
    pub nr_pages: u32,
    /// The order of each folio.
    pub order: u32,
    /// The node that all are on.
    pub nid: i32,
}

const _: () = assert!(size_of::<PinnedRun>() == 24);

impl PinnedRun {
    /// Takes in a run that continues this one; returns whether it does.
    pub fn join(&mut self, next: &Self) -> bool {
        let continues = self.pfn.checked_add(self.nr_pages.into()) == Some(next.pfn)
            && self.index.checked_add(self.nr_pages) == Some(next.index)
            && self.order == next.order
            && self.nid == next.nid;
        match self.nr_pages.checked_add(next.nr_pages) {
            Some(nr_pages) if continues => {
                self.nr_pages = nr_pages;
                true
            }
            _ => false,
        }
    }

    /// Returns the first part that is preserved as folios of one order; `None` if nothing is left.
    pub fn first_part(&self) -> Option<FolioRunSer> {
        if self.nr_pages == 0 {
            return None;
        }
        if self.order > 0 {
            return Some(self.part(self.order, self.nr_pages));
        }
        // As far as the places in memory and in the file agree.
        let common = (self.pfn ^ u64::from(self.index)).trailing_zeros();
        let common = common.min(BLOCK_ORDER_MAX);
        if common < BLOCK_ORDER_MIN {
            return Some(self.part(0, self.nr_pages));
        }
        let order = self.pfn.trailing_zeros().min(common);
        let size = self.nr_pages.ilog2();
        if order < BLOCK_ORDER_MIN {
            // Pages, up to where a block may begin.
            let behind = (1 << BLOCK_ORDER_MIN) - (self.pfn % (1 << BLOCK_ORDER_MIN)) as u32;
            return Some(self.part(0, behind.min(self.nr_pages)));
        }
        if size < BLOCK_ORDER_MIN {
            return Some(self.part(0, self.nr_pages));
        }
        let order = order.min(size);
        // As many as there are before a larger one could begin; the largest go on to the end.
        let whole = self.nr_pages >> order << order;
        if order == common {
            return Some(self.part(order, whole));
        }
        let behind = (2u64 << order) - (self.pfn % (2u64 << order));
        Some(self.part(order, (behind as u32).min(whole)))
    }

    /// Leaves the first pages away.
    pub fn advance(&mut self, nr_pages: u32) {
        let nr_pages = nr_pages.min(self.nr_pages);
        self.pfn += u64::from(nr_pages);
        self.index = self.index.saturating_add(nr_pages);
        self.nr_pages -= nr_pages;
    }

    fn part(&self, order: u32, nr_pages: u32) -> FolioRunSer {
        FolioRunSer::new(self.pfn, order, self.index, nr_pages)
    }
}
