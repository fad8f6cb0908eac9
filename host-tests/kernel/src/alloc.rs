// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc.rs.

pub mod allocator;
pub mod kbox;
pub mod kvec;
pub mod layout;

pub use allocator::Allocator;
pub use kbox::{
    Box,
    KBox,
    KVBox,
    VBox, //
};
pub use kvec::{
    IntoIter,
    KVVec,
    KVec,
    VVec,
    Vec, //
};

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::context;
use crate::error::{
    code::EINVAL,
    Result, //
};
use crate::fault;

/// There is no memory to be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AllocError;

/// How to allocate: the GFP flags.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Flags(u32);

impl Flags {
    /// Returns whether all of `flags` are set.
    pub fn contains(self, flags: Flags) -> bool {
        (self & flags) == flags
    }
}

impl core::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl core::ops::BitAnd for Flags {
    type Output = Self;

    fn bitand(self, rhs: Self) -> Self {
        Self(self.0 & rhs.0)
    }
}

impl core::ops::Not for Flags {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// The flags; the bits are made up, their inclusions are the kernel's.
pub mod flags {
    use super::Flags;

    const HIGH: u32 = 1 << 0;
    const KSWAPD_RECLAIM: u32 = 1 << 1;
    pub(super) const DIRECT_RECLAIM: u32 = 1 << 2;
    const IO: u32 = 1 << 3;
    const FS: u32 = 1 << 4;
    const ACCOUNT: u32 = 1 << 5;

    /// Zeroes the memory.
    pub const __GFP_ZERO: Flags = Flags(1 << 6);

    /// Does not complain when it fails.
    pub const __GFP_NOWARN: Flags = Flags(1 << 7);

    /// Does not sleep, and may use the reserves.
    pub const GFP_ATOMIC: Flags = Flags(HIGH | KSWAPD_RECLAIM);

    /// May sleep.
    pub const GFP_KERNEL: Flags = Flags(KSWAPD_RECLAIM | DIRECT_RECLAIM | IO | FS);

    /// May sleep, and is charged to the memory cgroup.
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags(GFP_KERNEL.0 | ACCOUNT);

    /// Does not sleep.
    pub const GFP_NOWAIT: Flags = Flags(KSWAPD_RECLAIM);
}

/// A NUMA node. As in the kernel, nobody gets at its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NumaNode(i32);

impl NumaNode {
    /// No preference.
    pub const NO_NODE: NumaNode = NumaNode(-1);

    /// Makes one.
    ///
    /// # Errors
    ///
    /// EINVAL if there can be no such node.
    pub fn new(node: i32) -> Result<Self> {
        const MAX_NUMNODES: i32 = 1024;
        if (0..MAX_NUMNODES).contains(&node) {
            Ok(Self(node))
        } else {
            Err(EINVAL)
        }
    }
}

/// Returns an aligned pointer to nothing.
pub(crate) fn dangling_from_layout(layout: Layout) -> NonNull<u8> {
    let start = core::ptr::without_provenance_mut(layout.align());
    // SAFETY: an alignment is not 0.
    unsafe { NonNull::new_unchecked(start) }
}

/// What every allocation passes: may the thread sleep, if it asked to, and does a test want a
/// failure?
#[track_caller]
fn admit(flags: Flags) -> core::result::Result<(), AllocError> {
    if flags.0 & flags::DIRECT_RECLAIM != 0 {
        context::might_sleep("an allocation");
    }
    if fault::allocation_fails() {
        return Err(AllocError);
    }
    Ok(())
}

/// As [`admit`], for pointers that allocate outside this module.
#[track_caller]
pub(crate) fn admit_allocation(flags: Flags) -> core::result::Result<(), AllocError> {
    admit(flags)
}
