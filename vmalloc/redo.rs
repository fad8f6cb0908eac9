// SPDX-License-Identifier: GPL-2.0

//! A change in the middle that was decided on, from record to values that may be relied on.
//!
//! Comparisons of integers only. How it is decided on, done and finished is in `raw/edit.rs`.

use kpreserve_kho::refusal::Relation;
use kpreserve_kho::validate::{
    expect,
    expect_at_least,
    expect_at_most,
    expect_equal, //
};
use kpreserve_kho::Refusal;

use crate::abi::RedoSer;

/// Who a record belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// Id of the image.
    pub(crate) root_id: u64,
    /// Id of the arena.
    pub(crate) arena: u32,
    /// Generation of the arena.
    pub(crate) generation: u32,
}

/// What is to be copied, and the length afterwards.
///
/// # Invariants
///
/// - `dst + nr` is at most `src` and at most `len`; no sum overflows.
/// - `src + nr` and `len` are at most the capacity that the record was checked against, or that
///   the area has in which the change is decided on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Redo {
    pub(crate) dst: usize,
    pub(crate) src: usize,
    pub(crate) nr: usize,
    pub(crate) len: usize,
}

impl Redo {
    /// Returns the record that says so at element `place`.
    pub(crate) fn to_ser(self, owner: Owner, place: usize) -> RedoSer {
        let mut ser = RedoSer {
            dst: self.dst as u64,
            src: self.src as u64,
            nr: self.nr as u64,
            len: self.len as u64,
            check: 0,
        };
        ser.check = ser.checksum(owner.root_id, owner.arena, owner.generation, place as u64);
        ser
    }

    /// Checks a record that stands at element `place` of an area with `len` published elements and
    /// room for `capacity`.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first field that is wrong: `RedoSer`, at `place`; or the
    /// `pending` of `ArenaSer`, if the record stands where elements do.
    pub(crate) fn from_ser(
        ser: &RedoSer,
        owner: Owner,
        place: usize,
        len: usize,
        capacity: usize,
    ) -> Result<Self, Refusal> {
        const S: &str = "RedoSer";
        let (at, len, capacity) = (place as u64, len as u64, capacity as u64);
        let check = ser.checksum(owner.root_id, owner.arena, owner.generation, at);
        expect_equal(S, "check", at, ser.check, check)?;
        expect_at_most(S, "len", at, ser.len, capacity)?;
        // What is copied is not written over by the copy: so it can be done again.
        expect_at_most(S, "src", at, ser.src, capacity)?;
        expect_at_most(S, "nr", at, ser.nr, capacity.saturating_sub(ser.src))?;
        let end = ser.dst.saturating_add(ser.nr);
        expect(
            S,
            "dst",
            at,
            ser.dst,
            ser.src.min(ser.len).saturating_sub(ser.nr),
            Relation::AtMost,
            end <= ser.src && end <= ser.len,
        )?;
        // No element is published that nobody has written.
        expect_at_most(S, "len", at, ser.len, len.max(end))?;
        expect(
            S,
            "dst",
            at,
            ser.dst,
            len,
            Relation::AtMost,
            ser.dst <= len || ser.len <= len,
        )?;
        // Nor is the record.
        let pending = at.saturating_add(1);
        let id = u64::from(owner.arena);
        let behind = len.max(ser.len).saturating_add(1);
        expect_at_least("ArenaSer", "pending", id, pending, behind)?;
        // INVARIANT: just compared.
        Ok(Self {
            dst: ser.dst as usize,
            src: ser.src as usize,
            nr: ser.nr as usize,
            len: ser.len as usize,
        })
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_vmalloc_redo)
)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        root_id: 0x1234,
        arena: 7,
        generation: 3,
    };
    /// 100 elements of 300, of which 40..100 are moved up by one, by way of 101..162.
    const INSERT: Redo = Redo {
        dst: 40,
        src: 101,
        nr: 61,
        len: 101,
    };
    const PLACE: usize = 162;
    const LEN: usize = 100;
    const CAPACITY: usize = 300;

    fn found(ser: &RedoSer) -> Result<Redo, (&'static str, &'static str, u64, u64)> {
        Redo::from_ser(ser, OWNER, PLACE, LEN, CAPACITY)
            .map_err(|r| (r.structure, r.field, r.found, r.expected))
    }

    /// The record with fields changed and the checksum right.
    fn changed(change: fn(&mut RedoSer)) -> RedoSer {
        let mut ser = INSERT.to_ser(OWNER, PLACE);
        change(&mut ser);
        ser.check = ser.checksum(OWNER.root_id, OWNER.arena, OWNER.generation, PLACE as u64);
        ser
    }

    #[test]
    fn a_record_as_it_was_written_is_accepted() {
        let ser = INSERT.to_ser(OWNER, PLACE);
        assert_eq!(found(&ser), Ok(INSERT));
        // Also when the length has been stored already.
        let again = Redo::from_ser(&ser, OWNER, PLACE, 101, CAPACITY);
        assert_eq!(again.ok(), Some(INSERT));
    }

    #[test]
    fn a_record_with_one_bit_changed_or_of_somebody_else_is_refused() {
        for bit in 0..64 {
            for word in 0..5 {
                let mut ser = INSERT.to_ser(OWNER, PLACE);
                match word {
                    0 => ser.dst ^= 1 << bit,
                    1 => ser.src ^= 1 << bit,
                    2 => ser.nr ^= 1 << bit,
                    3 => ser.len ^= 1 << bit,
                    _ => ser.check ^= 1 << bit,
                }
                assert_eq!(found(&ser).err().map(|r| r.1), Some("check"));
            }
        }
        for other in [
            Owner {
                root_id: 1,
                ..OWNER
            },
            Owner { arena: 8, ..OWNER },
            Owner {
                generation: 4,
                ..OWNER
            },
        ] {
            let ser = INSERT.to_ser(other, PLACE);
            assert_eq!(found(&ser).err().map(|r| r.1), Some("check"));
        }
        let moved = INSERT.to_ser(OWNER, PLACE + 1);
        assert_eq!(found(&moved).err().map(|r| r.1), Some("check"));
    }

    #[test]
    fn a_record_that_is_well_summed_but_impossible_is_refused() {
        const MAX: u64 = u64::MAX;
        let refused = |change: fn(&mut RedoSer)| found(&changed(change)).err();
        assert_eq!(refused(|_| ()), None);
        assert_eq!(refused(|s| s.len = 301), Some(("RedoSer", "len", 301, 300)));
        assert_eq!(refused(|s| s.src = MAX), Some(("RedoSer", "src", MAX, 300)));
        assert_eq!(refused(|s| s.nr = 200), Some(("RedoSer", "nr", 200, 199)));
        assert_eq!(refused(|s| s.nr = MAX), Some(("RedoSer", "nr", MAX, 199)));
        // Over its own source; beyond the new length; around the end of numbers.
        assert_eq!(refused(|s| s.src = 100), Some(("RedoSer", "dst", 40, 39)));
        assert_eq!(refused(|s| s.dst = 41), Some(("RedoSer", "dst", 41, 40)));
        assert_eq!(refused(|s| s.dst = MAX), Some(("RedoSer", "dst", MAX, 40)));
        let beyond = |s: &mut RedoSer| {
            (s.dst, s.nr, s.src, s.len) = (99, 3, 110, 101);
        };
        assert_eq!(refused(beyond), Some(("RedoSer", "dst", 99, 98)));
        // Elements that nobody wrote: behind the copy, before it.
        assert_eq!(refused(|s| s.nr = 60), Some(("RedoSer", "len", 101, 100)));
        let gap = |s: &mut RedoSer| {
            (s.dst, s.nr, s.src, s.len) = (101, 1, 110, 102);
        };
        assert_eq!(refused(gap), Some(("RedoSer", "dst", 101, 100)));
        // The record is among the elements.
        let over = |s: &mut RedoSer| {
            (s.dst, s.nr, s.src, s.len) = (0, 163, 170, 163);
        };
        assert_eq!(refused(over), Some(("RedoSer", "nr", 163, 130)));
        let over = |s: &mut RedoSer| {
            (s.dst, s.nr, s.src, s.len) = (100, 63, 163, 163);
        };
        assert_eq!(refused(over), Some(("ArenaSer", "pending", 163, 164)));
    }
}
