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

/// Smaller blocks are left pages. Each block is a key, which costs 208 instructions to preserve and
/// some 1700 of the next boot, while pages are cut into the largest blocks that their place in memory
/// allows; a large folio saves some 600 instructions a page when the file is retrieved.
const BLOCK_ORDER_MIN: u32 = 5;

/// Folios of one order and one node, side by side in memory and in the file. As in shmem.h.
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
        let order = (self.pfn ^ u64::from(self.index)).trailing_zeros();
        let order = order.min(BLOCK_ORDER_MAX);
        let size = 1u32 << order;
        let behind = size - (self.pfn % u64::from(size)) as u32;
        let before = if behind == size { 0 } else { behind };
        if order < BLOCK_ORDER_MIN || self.nr_pages < before.saturating_add(size) {
            return Some(self.part(0, self.nr_pages));
        }
        if before > 0 {
            return Some(self.part(0, before));
        }
        // Whole blocks; what is left over is pages again.
        Some(self.part(order, self.nr_pages >> order << order))
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

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_memfd_pinned)
)]
mod tests {
    use super::*;

    fn run(pfn: u64, index: u32, nr_pages: u32, order: u32) -> PinnedRun {
        PinnedRun {
            pfn,
            index,
            nr_pages,
            order,
            nid: 0,
        }
    }

    /// Checks that the parts are the run, in order, and valid; returns their orders and lengths.
    fn parts(mut run: PinnedRun) -> ([(u32, u32); 4], usize) {
        let (mut parts, mut nr) = ([(0, 0); 4], 0);
        let end = u64::from(run.index) + u64::from(run.nr_pages);
        let mut from = u64::from(run.index);
        while let Some(part) = run.first_part() {
            assert_eq!((part.pfn(), u64::from(part.index)), (run.pfn, from));
            from = part.validate(from, end).unwrap_or(u64::MAX);
            parts[nr] = (part.order(), part.nr_pages);
            nr += 1;
            run.advance(part.nr_pages);
        }
        assert_eq!(from, end);
        (parts, nr)
    }

    #[test]
    fn few_pages_are_one_part() {
        assert_eq!(parts(run(1024, 0, 1, 0)).1, 1);
        assert_eq!(parts(run(1024, 0, 31, 0)).1, 1);
        // Whole blocks, but too small ones.
        assert_eq!(
            parts(run(1024 + 16, 0, 4096, 0)),
            ([(0, 4096), (0, 0), (0, 0), (0, 0)], 1)
        );
        // A block, but not whole.
        assert_eq!(parts(run(1024 + 1, 1, 62, 0)).1, 1);
    }

    #[test]
    fn blocks_are_as_large_as_both_places_allow() {
        assert_eq!(parts(run(1024, 0, 4096, 0)).0[0], (9, 4096));
        assert_eq!(parts(run(1024 + 32, 0, 64, 0)).0[0], (5, 64));
        let (found, nr) = parts(run(1024 + 510, 510, 2 + 1024 + 7, 0));
        assert_eq!((found, nr), ([(0, 2), (9, 1024), (0, 7), (0, 0)], 3));
    }

    #[test]
    fn large_folios_stay() {
        assert_eq!(
            parts(run(1024 + 16, 16, 48, 4)),
            ([(4, 48), (0, 0), (0, 0), (0, 0)], 1)
        );
    }

    #[test]
    fn runs_join_what_continues_them() {
        let mut first = run(100, 7, 3, 0);
        assert!(!first.join(&run(104, 10, 1, 0)));
        assert!(!first.join(&run(103, 11, 1, 0)));
        assert!(!first.join(&run(103, 10, 2, 1)));
        assert!(!first.join(&PinnedRun {
            nid: 1,
            ..run(103, 10, 1, 0)
        }));
        assert!(first.join(&run(103, 10, 1, 0)));
        assert_eq!(first, run(100, 7, 4, 0));
    }
}
