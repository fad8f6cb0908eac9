// SPDX-License-Identifier: GPL-2.0

//! What the memfd handler leaves for the next kernel. Text: Documentation/abi.rst.
//!
//! This interface is a contract. The structures here do not change while [`COMPATIBLE`] stays the
//! same; golden bytes in host-tests/ hold them to it.

use core::ffi::CStr;
use core::mem::offset_of;

use kernel::prelude::*;
use kpreserve::kho::{
    hash::mix,
    preservable,
    refusal::{
        Refusal,
        Relation, //
    },
    validate::{
        expect,
        expect_at_least,
        expect_at_most, //
    },
};
use kpreserve::ArenaHandle;

/// The name that LUO knows the handler by.
pub const COMPATIBLE: &CStr = c"kpreserve-memfd-v1";

/// Runs that have room in the object itself.
pub const NR_INLINE: usize = 2;

/// The largest folio that a run can consist of: what the page allocator has.
pub const ORDER_MAX: u32 = 10;

const PAGE_SHIFT: u32 = 12;
const ORDER_MASK: u64 = 0xfff;

preservable! {
    /// One memfd: 96 bytes.
    #[derive(Clone, Copy, Debug)]
    pub struct MemfdSer {
        /// Size, in bytes.
        pub size_bytes: u64,
        /// The file position.
        pub pos: u64,
        /// When the contents were last modified, in ns since the epoch.
        pub mtime_ns: i64,
        /// Seals, as of fcntl(F_GET_SEALS).
        pub seals: u32,
        /// O_ACCMODE, and what fcntl(F_SETFL) can set.
        pub flags: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// Permissions: the lower 12 bits of st_mode.
        pub mode: u16,
        /// For the kernel that wrote it: [`WRITABLE_DENIED`]. The next one ignores it.
        pub here: u16,
        /// How many runs hold the contents; what none holds is a hole.
        pub nr_runs: u32,
        /// The runs, if they are no more than these; 0 otherwise.
        pub inline: [FolioRunSer; 2],
        /// The area that holds the runs, if they are more.
        pub runs: ArenaHandle<FolioRunSer>,
        /// Of all runs, one after the other: [`FolioRunSer::check`]. Of none: [`CHECK_OF_NONE`].
        pub check: u64,
    }
    compatible = "kpreserve-memfd-v1", version = 1

    /// Folios of one order, side by side in memory and in the file: 16 bytes.
    ///
    /// Each folio is a key of KHO's. Pages (order 0) are cut into blocks, from the first on: each as
    /// large as its place, the rest of the run, and order 10 allow.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct FolioRunSer {
        /// Physical address of the first page, with the order of each folio in the low 12 bits.
        pub phys_order: u64,
        /// Where the first page stands in the file, in pages.
        pub index: u32,
        /// Pages of the run.
        pub nr_pages: u32,
    }
    compatible = "kpreserve-memfd-run-v1", version = 1
}

const _: () = assert!(size_of::<MemfdSer>() == 96);
const _: () = assert!(offset_of!(MemfdSer, mode) == 40);
const _: () = assert!(offset_of!(MemfdSer, inline) == 48);
const _: () = assert!(offset_of!(MemfdSer, runs) == 80);
const _: () = assert!(offset_of!(MemfdSer, check) == 88);
const _: () = assert!(size_of::<FolioRunSer>() == 16);

/// [`MemfdSer::check`] of a file without runs.
pub const CHECK_OF_NONE: u64 = u64::from_le_bytes(*b"KPMEMFD1");

/// In [`MemfdSer::here`]: mapping the file for writing was forbidden when it was preserved, which
/// has to be undone when it is not preserved after all.
pub const WRITABLE_DENIED: u16 = 1;

impl FolioRunSer {
    /// No run.
    pub const NONE: Self = Self {
        phys_order: 0,
        index: 0,
        nr_pages: 0,
    };

    /// Makes one. The arguments belong together, as [`validate`](Self::validate) would find.
    pub const fn new(pfn: u64, order: u32, index: u32, nr_pages: u32) -> Self {
        Self {
            phys_order: (pfn << PAGE_SHIFT) | order as u64,
            index,
            nr_pages,
        }
    }

    /// Returns the number of the first page frame.
    pub const fn pfn(&self) -> u64 {
        self.phys_order >> PAGE_SHIFT
    }

    /// Returns the order of each folio.
    pub const fn order(&self) -> u32 {
        (self.phys_order & ORDER_MASK) as u32
    }

    /// Returns the checksum of the runs up to this one, from that of those before it: a page frame that
    /// is damaged may be another file's.
    pub const fn check(&self, before: u64) -> u64 {
        let place = (self.index as u64) << 32 | self.nr_pages as u64;
        mix(&[before, self.phys_order, place])
    }

    /// Checks a run of a file of `nr_pages` pages that stands behind one that ends at `from`, and
    /// returns where it ends.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]: order, alignment, length or place cannot be.
    pub fn validate(&self, from: u64, nr_pages: u64) -> Result<u64, Refusal> {
        let (at, order) = (self.phys_order, u64::from(self.order()));
        expect_at_most("FolioRunSer", "order", at, order, ORDER_MAX.into())?;
        let folio = 1u64 << order;
        let aligned = |field, value: u64| {
            let holds = value % folio == 0;
            expect(
                "FolioRunSer",
                field,
                at,
                value,
                folio,
                Relation::MultipleOf,
                holds,
            )
        };
        aligned("phys", self.pfn())?;
        aligned("index", self.index.into())?;
        aligned("nr_pages", self.nr_pages.into())?;
        expect_at_least("FolioRunSer", "nr_pages", at, self.nr_pages.into(), 1)?;
        expect_at_least("FolioRunSer", "index", at, self.index.into(), from)?;
        let end = u64::from(self.index) + u64::from(self.nr_pages);
        // The last folio may be larger than what is left of the file.
        expect_at_most(
            "FolioRunSer",
            "end",
            at,
            end,
            nr_pages.next_multiple_of(folio),
        )?;
        Ok(end)
    }
}

impl MemfdSer {
    /// Returns how many pages the file has.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if there are more than 2^32 - 1, which no kernel preserves.
    pub fn nr_pages(&self) -> Result<u64, Refusal> {
        let nr_pages = self.size_bytes.div_ceil(1 << PAGE_SHIFT);
        expect_at_most("MemfdSer", "size_bytes", 0, nr_pages, u32::MAX.into())?;
        Ok(nr_pages)
    }
}
