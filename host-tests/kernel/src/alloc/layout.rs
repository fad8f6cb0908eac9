// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/layout.rs.

/// A layout that does not fit into the address space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LayoutError;
