// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/page.rs.

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: usize = 12;

/// The size of a page in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// Clears the bits of an address inside its page.
pub const PAGE_MASK: usize = !(PAGE_SIZE - 1);
