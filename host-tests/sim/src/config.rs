// SPDX-License-Identifier: GPL-2.0

//! What a machine is like. It stays the same over reboots.

use core::ops::Range;

use kpreserve_kho::phys::MAX_ORDER;

/// What a machine is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pages of memory, absent ones included.
    pub nr_pages: usize,
    /// Physical address of the first; a multiple of 4 MiB, not 0.
    pub phys_base: u64,
    /// The largest order that the page allocator has blocks of.
    pub order_max: u8,
    /// How many of a hundred pages somebody else holds.
    pub percent_taken: u8,
    /// Pages at the beginning that are KHO scratch.
    pub nr_scratch_pages: usize,
    /// Ranges of page numbers behind which there is no memory.
    pub absent: Vec<Range<usize>>,
    /// Pages that were added after boot, each time: the allocator has them, the map that the next
    /// kernel gets does not. Begins and ends at multiples of 4 MiB.
    pub added: Range<usize>,
    /// Whether they are given out first, as those of a zone are that is above all others.
    pub added_first: bool,
    /// Pages at the beginning that are the lower zone; a multiple of 4 MiB.
    pub nr_low_pages: usize,
    /// Free pages of it that are kept for callers that can use no others.
    pub nr_low_pages_kept: usize,
    /// NUMA nodes: the pages that were added are the last one's, all others the first one's.
    pub nr_nodes: usize,
    /// CPUs.
    pub nr_cpus: usize,
    /// Whether KHO is on.
    pub has_kho: bool,
    /// Whether pages that nobody owns are filled with a pattern that is checked when they are given
    /// out. Without it, memory that is not touched costs the host nothing, and a machine may have
    /// more of it than the host.
    pub poisons: bool,
    /// What everything random comes from.
    pub seed: u64,
}

impl Default for Config {
    /// 4 MiB, unfragmented, two CPUs, KHO on.
    fn default() -> Self {
        Self {
            nr_pages: 1024,
            phys_base: 64 << 20,
            order_max: MAX_ORDER,
            percent_taken: 0,
            nr_scratch_pages: 0,
            absent: Vec::new(),
            added: 0..0,
            added_first: false,
            nr_low_pages: 0,
            nr_low_pages_kept: 0,
            nr_nodes: 1,
            nr_cpus: 2,
            has_kho: true,
            poisons: true,
            seed: 1,
        }
    }
}

impl Config {
    /// Returns the default with `nr_pages` pages.
    pub fn with_pages(nr_pages: usize) -> Self {
        Self {
            nr_pages,
            ..Self::default()
        }
    }
}
