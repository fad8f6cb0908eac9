// SPDX-License-Identifier: GPL-2.0

//! From what the previous kernel says of an area to values that may be relied on.
//!
//! That the descriptor and each run belong to this image, and that the memory is there, was checked
//! before an area sees them (`kpreserve_kho::validate`, `PageRun::incoming`). Here it is checked
//! that they make an area. Comparisons of integers only; cost per run; no element is touched.

use kernel::prelude::*;

use kpreserve_kho::refusal::Relation;
use kpreserve_kho::validate::{
    expect,
    expect_at_least,
    expect_at_most,
    expect_equal, //
};
use kpreserve_kho::{
    ArenaKind,
    ArenaSer,
    Refusal, //
};

use crate::abi::STRIDE_BYTES_MAX;
use crate::stride::Stride;

/// What is known of one run of an area: a [`Run`](kpreserve_kho::Run) without its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// Its place in the run table.
    pub(crate) place: u32,
    /// Its number, as the table has it.
    pub(crate) index: u32,
    /// Its order.
    pub(crate) order: u8,
}

/// The shape of an area, after its checks.
///
/// # Invariants
///
/// `len` is at most what the runs hold together at this stride; each run holds at least one
/// element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Element size.
    pub(crate) stride: Stride,
    /// Published elements.
    pub(crate) len: usize,
}

/// Checks the descriptor of an area and its runs, which stand in the order in which the ledger gave
/// them.
///
/// # Errors
///
/// A [`Refusal`] that names the first field that is wrong: `ArenaSer`, at the arena's id, or
/// `RunSer`, at the run's place in the table.
pub(crate) fn check(
    id: u32,
    ser: &ArenaSer,
    runs: impl Iterator<Item = Claim>,
) -> Result<Shape, Refusal> {
    const S: &str = "ArenaSer";
    let at = u64::from(id);
    expect_equal(S, "id", at, u64::from(ser.id), at)?;
    expect_equal(S, "kind", at, u64::from(ser.kind), ArenaKind::Area as u64)?;
    let stride_bytes = u64::from(ser.stride_bytes);
    expect_at_least(S, "stride_bytes", at, stride_bytes, 1)?;
    expect_equal(S, "slab_order", at, u64::from(ser.slab_order), 0)?;
    expect_equal(S, "first_slot", at, u64::from(ser.first_slot), 0)?;
    expect_equal(S, "nr_slots", at, u64::from(ser.nr_slots), 0)?;
    expect_equal(S, "reserved0", at, u64::from(ser.reserved0), 0)?;
    expect_equal(S, "reserved1", at, u64::from(ser.reserved1), 0)?;
    let stride = Stride::new(ser.stride_bytes as usize).ok_or(Refusal {
        structure: S,
        field: "stride_bytes",
        at,
        found: stride_bytes,
        expected: STRIDE_BYTES_MAX as u64,
        relation: Relation::AtMost,
    })?;

    let mut capacity = 0u64;
    for (expected, run) in (0u64..).zip(runs) {
        let place = u64::from(run.place);
        expect_equal("RunSer", "index", place, u64::from(run.index), expected)?;
        let order_min = u64::from(stride.order_min());
        expect_at_least("RunSer", "order", place, u64::from(run.order), order_min)?;
        let nr_elements = stride.nr_elements(run.order) as u64;
        // The runs do not overlap, so their sum is below the size of the address space; that is
        // compared all the same, rather than believed.
        let sum = capacity.saturating_add(nr_elements);
        expect(
            "RunSer",
            "index",
            place,
            sum,
            u64::MAX,
            Relation::AtMost,
            sum < u64::MAX && nr_elements > 0,
        )?;
        capacity = sum;
    }
    let len = ser.len.load();
    expect_at_most(S, "len", at, len, capacity)?;
    // Whether there is a record of a change, and what it says, is for `redo` to see.
    expect_at_most(S, "pending", at, ser.pending.load(), capacity)?;
    // INVARIANT: just compared.
    Ok(Shape {
        stride,
        len: len as usize,
    })
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_vmalloc_validate)
)]
mod tests {
    use super::*;

    use kpreserve_kho::SharedU64;

    const ID: u32 = 7;

    fn ser(stride_bytes: u32, len: u64) -> ArenaSer {
        ArenaSer {
            kind: ArenaKind::Area as u32,
            id: ID,
            fingerprint: 1,
            version: 1,
            stride_bytes,
            slab_order: 0,
            reserved0: 0,
            first_slot: 0,
            nr_slots: 0,
            len: SharedU64::new(len),
            generation: 1,
            reserved1: 0,
            pending: SharedU64::new(0),
            check: 0,
        }
    }

    fn claim(index: u32, order: u8) -> Claim {
        Claim {
            place: 100 + index,
            index,
            order,
        }
    }

    fn field(result: Result<Shape, Refusal>) -> Option<(&'static str, &'static str, u64, u64)> {
        result
            .err()
            .map(|r| (r.structure, r.field, r.found, r.expected))
    }

    #[test]
    fn an_area_in_order_is_accepted() -> Result {
        let runs = [claim(0, 0), claim(1, 3), claim(2, 1)];
        let capacity = 102 + 819 + 204;
        let shape = check(ID, &ser(40, capacity), runs.into_iter()).map_err(|_| EINVAL)?;
        assert_eq!(shape.len as u64, capacity);
        let beyond = check(ID, &ser(40, capacity + 1), runs.into_iter());
        assert_eq!(
            field(beyond),
            Some(("ArenaSer", "len", capacity + 1, capacity))
        );
        let none = check(ID, &ser(40, 0), core::iter::empty()).map_err(|_| EINVAL)?;
        assert_eq!(none.len, 0);
        Ok(())
    }

    #[test]
    fn each_wrong_field_is_named() {
        let refused = |change: fn(&mut ArenaSer)| {
            let mut ser = ser(8, 1);
            change(&mut ser);
            field(check(ID, &ser, [claim(0, 0)].into_iter()))
        };
        assert_eq!(refused(|_| ()), None);
        assert_eq!(refused(|s| s.id = 8), Some(("ArenaSer", "id", 8, 7)));
        assert_eq!(refused(|s| s.kind = 1), Some(("ArenaSer", "kind", 1, 2)));
        assert_eq!(refused(|s| s.kind = 99), Some(("ArenaSer", "kind", 99, 2)));
        assert_eq!(
            refused(|s| s.stride_bytes = 0),
            Some(("ArenaSer", "stride_bytes", 0, 1))
        );
        assert_eq!(
            refused(|s| s.stride_bytes = (4 << 20) + 1),
            Some(("ArenaSer", "stride_bytes", (4 << 20) + 1, 4 << 20))
        );
        assert_eq!(
            refused(|s| s.slab_order = 3),
            Some(("ArenaSer", "slab_order", 3, 0))
        );
        assert_eq!(
            refused(|s| s.first_slot = 9),
            Some(("ArenaSer", "first_slot", 9, 0))
        );
        assert_eq!(
            refused(|s| s.nr_slots = 5),
            Some(("ArenaSer", "nr_slots", 5, 0))
        );
        assert_eq!(
            refused(|s| s.reserved0 = 1),
            Some(("ArenaSer", "reserved0", 1, 0))
        );
        assert_eq!(
            refused(|s| s.reserved1 = 1),
            Some(("ArenaSer", "reserved1", 1, 0))
        );
        assert_eq!(
            refused(|s| s.pending.store(513)),
            Some(("ArenaSer", "pending", 513, 512))
        );
    }

    #[test]
    fn a_length_beyond_the_runs_is_refused() {
        let len_of = |len| field(check(ID, &ser(8, len), [claim(0, 0)].into_iter()));
        assert_eq!(len_of(512), None);
        assert_eq!(len_of(513), Some(("ArenaSer", "len", 513, 512)));
        assert_eq!(len_of(u64::MAX), Some(("ArenaSer", "len", u64::MAX, 512)));
        let without_runs = check(ID, &ser(8, 1), core::iter::empty());
        assert_eq!(field(without_runs), Some(("ArenaSer", "len", 1, 0)));
    }

    #[test]
    fn gaps_duplicates_and_disorder_are_refused() {
        let runs = |list: &[Claim]| field(check(ID, &ser(8, 0), list.iter().copied()));
        let (a, b, c) = (claim(0, 0), claim(1, 0), claim(2, 0));
        assert_eq!(runs(&[a, b, c]), None);
        assert_eq!(runs(&[a, c]), Some(("RunSer", "index", 2, 1)));
        assert_eq!(runs(&[b, c]), Some(("RunSer", "index", 1, 0)));
        assert_eq!(runs(&[a, a]), Some(("RunSer", "index", 0, 1)));
        assert_eq!(runs(&[a, c, b]), Some(("RunSer", "index", 2, 1)));
        let last = claim(u32::MAX - 100, 0);
        assert_eq!(
            runs(&[last]),
            Some(("RunSer", "index", u64::from(u32::MAX - 100), 0))
        );
    }

    #[test]
    fn a_run_too_small_for_an_element_is_refused() {
        let order = |order| field(check(ID, &ser(5000, 0), [claim(0, order)].into_iter()));
        assert_eq!(order(0), Some(("RunSer", "order", 0, 1)));
        assert_eq!(order(1), None);
    }
}
