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
    expect(
        structure,
        field,
        at,
        found,
        expected,
        Relation::Equal,
        found == expected,
    )
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
    expect(
        structure,
        field,
        at,
        found,
        limit,
        Relation::AtMost,
        found <= limit,
    )
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
    expect(
        structure,
        field,
        at,
        found,
        limit,
        Relation::AtLeast,
        found >= limit,
    )
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
        expect_at_most(
            S,
            "order",
            place,
            u64::from(self.order()),
            u64::from(MAX_ORDER),
        )?;
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
        expect_at_most(
            S,
            "slab_order",
            at,
            u64::from(self.slab_order),
            u64::from(MAX_ORDER),
        )?;
        // INVARIANT: all that the documentation above promises was compared.
        Ok(Checked(self))
    }
}

impl ArenaSer {
    /// Checks a record that [says that it is free](Self::is_free): that its generation is the one
    /// of the arena that was there last, as far as can be known.
    ///
    /// `check` is that of the free record; or, since [`replace`](Self::replace) was stopped, 0, or
    /// that of the record which was there or was to come; or 0, since no arena was ever there, or
    /// since a kernel of before that checksum freed it.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] unless it is one of these.
    pub fn validate_free(&self, root_id: u64, id: u32) -> Result<(), Refusal> {
        const S: &str = "ArenaSer";
        let expected = self.checksum(root_id);
        let is_of = |kind: ArenaKind| {
            let record = ArenaSer {
                kind: kind as u32,
                id,
                ..self.snapshot()
            };
            record.checksum(root_id) == self.check
        };
        expect(
            S,
            "check",
            u64::from(id),
            self.check,
            expected,
            Relation::Equal,
            self.check == 0
                || self.check == expected
                || is_of(ArenaKind::Cache)
                || is_of(ArenaKind::Area),
        )
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_validate)
)]
mod tests {
    use super::*;
    use crate::abi::SharedU64;
    use crate::phys::Phys;

    const ROOT: u64 = 0x1234;
    const PLACE: u64 = 7;

    fn run() -> RunSer {
        RunSer::new(ROOT, PLACE, Phys::new(0x40_0000), 3, 16, 2)
    }

    fn arena() -> ArenaSer {
        let mut arena = ArenaSer {
            kind: ArenaKind::Area as u32,
            id: 16,
            fingerprint: 1,
            version: 1,
            stride_bytes: 8,
            slab_order: 0,
            reserved0: 0,
            first_slot: 0,
            nr_slots: 0,
            len: SharedU64::new(0),
            generation: 1,
            reserved1: 0,
            pending: SharedU64::new(0),
            check: 0,
        };
        arena.check = arena.checksum(ROOT);
        arena
    }

    fn field<T>(result: Result<T, Refusal>) -> &'static str {
        match result {
            Ok(_) => "",
            Err(refusal) => refusal.field,
        }
    }

    #[test]
    fn a_run_as_it_was_written_is_accepted() {
        assert_eq!(field(run().validate(ROOT, PLACE)), "");
    }

    #[test]
    fn a_run_with_one_bit_changed_is_refused() {
        for bit in 0..64 {
            let flip = |mut run: RunSer, word: u32| {
                match word {
                    0 => run.phys_order ^= 1 << bit,
                    1 => run.owner ^= 1 << (bit % 32),
                    2 => run.index ^= 1 << (bit % 32),
                    3 => run.reserved ^= 1 << bit,
                    _ => run.check ^= 1 << bit,
                }
                run
            };
            for word in 0..5 {
                assert_eq!(field(flip(run(), word).validate(ROOT, PLACE)), "check");
            }
        }
    }

    #[test]
    fn a_run_elsewhere_is_refused() {
        assert_eq!(field(run().validate(ROOT, PLACE + 1)), "check");
        assert_eq!(field(run().validate(ROOT + 1, PLACE)), "check");
    }

    #[test]
    fn a_run_that_is_well_summed_but_impossible_is_refused() {
        let odd = RunSer::new(ROOT, PLACE, Phys::new(0x40_1000), 3, 16, 2);
        assert_eq!(field(odd.validate(ROOT, PLACE)), "phys");
        let big = RunSer::new(ROOT, PLACE, Phys::new(0x40_0000), MAX_ORDER + 1, 16, 2);
        assert_eq!(field(big.validate(ROOT, PLACE)), "order");
        let null = RunSer::new(ROOT, PLACE, Phys::NULL, 3, 16, 2);
        assert_eq!(field(null.validate(ROOT, PLACE)), "phys");
        let last = RunSer::new(ROOT, PLACE, Phys::new(!0xfff), 0, 16, 2);
        assert_eq!(field(last.validate(ROOT, PLACE)), "phys");
    }

    #[test]
    fn an_arena_is_checked_field_by_field() {
        assert_eq!(field(arena().validate(ROOT, 16)), "");
        assert_eq!(field(arena().validate(ROOT, 17)), "id");
        assert_eq!(field(arena().validate(ROOT + 1, 16)), "check");
        let changed = |change: fn(&mut ArenaSer)| {
            let mut arena = arena();
            change(&mut arena);
            arena.check = arena.checksum(ROOT);
            field(arena.validate(ROOT, 16))
        };
        assert_eq!(changed(|arena| arena.kind = 3), "kind");
        assert_eq!(changed(|arena| arena.kind = 0), "kind");
        assert_eq!(changed(|arena| arena.stride_bytes = 0), "stride_bytes");
        assert_eq!(
            changed(|arena| arena.stride_bytes = u32::MAX),
            "stride_bytes"
        );
        assert_eq!(
            changed(|arena| arena.slab_order = MAX_ORDER + 1),
            "slab_order"
        );
    }
    #[test]
    fn a_free_record_is_told_from_a_damaged_one() {
        let ended = ArenaSer::ended(ROOT, 5);
        assert!(ended.is_free());
        assert_eq!(field(ended.validate_free(ROOT, 16)), "");
        assert_eq!(field(ended.validate_free(ROOT + 1, 16)), "check");
        for bit in 0..32 {
            let mut other = ArenaSer::ended(ROOT, 5);
            other.generation ^= 1 << bit;
            assert_eq!(field(other.validate_free(ROOT, 16)), "check");
            let mut other = ArenaSer::ended(ROOT, 5);
            other.check ^= 1 << bit;
            assert_eq!(field(other.validate_free(ROOT, 16)), "check");
        }
        // Never given out, or freed by an earlier kernel.
        assert_eq!(field(ArenaSer::free(0).validate_free(ROOT, 16)), "");
        assert_eq!(field(ArenaSer::free(7).validate_free(ROOT, 16)), "");
        // The change to or from a record in use was cut behind, or before, its one store.
        let mut cut = arena();
        (cut.kind, cut.id) = (0, 0);
        assert_eq!(field(cut.validate_free(ROOT, 16)), "");
        assert_eq!(field(cut.validate_free(ROOT, 17)), "check");
    }

    #[test]
    fn no_single_bit_frees_a_record() {
        for kind in [ArenaKind::Cache, ArenaKind::Area] {
            for bit in 0..64 {
                let mut other = arena();
                other.kind = kind as u32;
                match bit {
                    0..32 => other.kind ^= 1 << bit,
                    _ => other.id ^= 1 << (bit - 32),
                }
                assert!(!other.is_free());
            }
        }
    }
}
