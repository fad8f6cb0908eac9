// SPDX-License-Identifier: GPL-2.0

//! From bytes of the previous kernel to values that may be relied on.
//!
//! Every check is a comparison of integers: no indexing, no arithmetic that can overflow, no loop.

use kernel::prelude::*;

use crate::abi::{
    ArenaKind,
    ArenaSer,
    RunSer, //
};
use crate::phys::{
    run_size_bytes,
    Phys,
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};
use crate::refusal::{
    Refusal,
    Relation, //
};

/// A value whose bytes passed their checks.
///
/// # Invariants
///
/// The value was made by a check of this module, which says what holds of it.
#[derive(Clone, Copy, Debug)]
pub struct Checked<T>(T);

impl<T> Checked<T> {
    /// Returns the value.
    pub fn get(&self) -> &T {
        &self.0
    }
}

impl<T> core::ops::Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Compares two values of a field.
///
/// # Errors
///
/// A [`Refusal`] unless `found == expected`.
pub fn expect_equal(
    structure: &'static str,
    field: &'static str,
    at: u64,
    found: u64,
    expected: u64,
) -> Result<(), Refusal> {
    expect(structure, field, at, found, expected, Relation::Equal, found == expected)
}

/// Bounds a field from above.
///
/// # Errors
///
/// A [`Refusal`] unless `found <= limit`.
pub fn expect_at_most(
    structure: &'static str,
    field: &'static str,
    at: u64,
    found: u64,
    limit: u64,
) -> Result<(), Refusal> {
    expect(structure, field, at, found, limit, Relation::AtMost, found <= limit)
}

/// Bounds a field from below.
///
/// # Errors
///
/// A [`Refusal`] unless `found >= limit`.
pub fn expect_at_least(
    structure: &'static str,
    field: &'static str,
    at: u64,
    found: u64,
    limit: u64,
) -> Result<(), Refusal> {
    expect(structure, field, at, found, limit, Relation::AtLeast, found >= limit)
}

/// Any other relation, decided by the caller.
///
/// # Errors
///
/// A [`Refusal`] unless `holds`.
pub fn expect(
    structure: &'static str,
    field: &'static str,
    at: u64,
    found: u64,
    expected: u64,
    relation: Relation,
    holds: bool,
) -> Result<(), Refusal> {
    if holds {
        return Ok(());
    }
    Err(Refusal {
        structure,
        field,
        at,
        found,
        expected,
        relation,
    })
}

impl RunSer {
    /// Checks an entry of the run table.
    ///
    /// Of a checked entry: the checksum is right for its place (`root_id`, `place`), the order is
    /// at most [`MAX_ORDER`], the address is a multiple of the run's size and not 0, and the run
    /// does not wrap around. Whether the memory is there, and preserved, is for
    /// [`PageRun::incoming`](crate::PageRun::incoming) to find out.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first field that is wrong.
    pub fn validate(self, root_id: u64, place: u64) -> Result<Checked<RunSer>, Refusal> {
        const S: &str = "RunSer";
        let phys = self.phys();
        expect_equal(S, "check", place, self.check, self.checksum(root_id, place))?;
        expect_at_most(S, "order", place, u64::from(self.order()), u64::from(MAX_ORDER))?;
        let size_bytes = run_size_bytes(self.order()).unwrap_or(PAGE_SIZE_BYTES) as u64;
        expect(
            S,
            "phys",
            place,
            phys.get(),
            size_bytes,
            Relation::MultipleOf,
            phys.is_aligned_to(self.order()) && !phys.is_null(),
        )?;
        expect(
            S,
            "phys",
            place,
            phys.get(),
            u64::MAX - size_bytes,
            Relation::AtMost,
            phys.checked_add(size_bytes).is_some(),
        )?;
        // INVARIANT: all that the documentation above promises was compared.
        Ok(Checked(self))
    }
}

impl ArenaSer {
    /// Checks the descriptor of an arena.
    ///
    /// Of a checked descriptor: the checksum is right for (`root_id`, `id`), the kind is a known
    /// one, the stride is not 0 and at most the size of the largest run, the slab order is at
    /// most [`MAX_ORDER`]. What the kind makes of the rest is for the kind to check.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first field that is wrong.
    pub fn validate(self, root_id: u64, id: u32) -> Result<Checked<ArenaSer>, Refusal> {
        const S: &str = "ArenaSer";
        let at = u64::from(id);
        expect_equal(S, "check", at, self.check, self.checksum(root_id))?;
        expect_equal(S, "id", at, u64::from(self.id), at)?;
        expect(
            S,
            "kind",
            at,
            u64::from(self.kind),
            ArenaKind::LAST as u64,
            Relation::AtMost,
            ArenaKind::from_raw(self.kind).is_some(),
        )?;
        expect_at_least(S, "stride_bytes", at, u64::from(self.stride_bytes), 1)?;
        let largest = run_size_bytes(MAX_ORDER).unwrap_or(PAGE_SIZE_BYTES) as u64;
        expect_at_most(S, "stride_bytes", at, u64::from(self.stride_bytes), largest)?;
        expect_at_most(S, "slab_order", at, u64::from(self.slab_order), u64::from(MAX_ORDER))?;
        // INVARIANT: all that the documentation above promises was compared.
        Ok(Checked(self))
    }
}

/// Finds two runs that overlap, among `runs` sorted by address.
///
/// Cost: one pass.
pub fn first_overlap(runs: &[(Phys, u8)]) -> Option<(Phys, Phys)> {
    let mut end = 0u64;
    let mut previous = Phys::NULL;
    for &(phys, order) in runs {
        if phys.get() < end {
            return Some((previous, phys));
        }
        end = phys.get().saturating_add(run_size_bytes(order)? as u64);
        previous = phys;
    }
    None
}
