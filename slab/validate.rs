// SPDX-License-Identifier: GPL-2.0

//! From a header of the previous kernel to a slab that may be used.

use kpreserve_kho::validate::expect_equal;
use kpreserve_kho::Refusal;

use crate::abi::SlabSer;

impl SlabSer {
    /// Checks a header against the one that the cache would write in its place.
    ///
    /// All fields but `place` have to be the same.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first field that is wrong.
    pub fn validate(&self, ours: &SlabSer) -> Result<(), Refusal> {
        const S: &str = "SlabSer";
        let at = ours.phys;
        expect_equal(S, "magic", at, self.magic, ours.magic)?;
        expect_equal(S, "check", at, self.check, self.checksum())?;
        expect_equal(S, "phys", at, self.phys, ours.phys)?;
        expect_equal(S, "root_id", at, self.root_id, ours.root_id)?;
        expect_equal(S, "owner", at, u64::from(self.owner), u64::from(ours.owner))?;
        let (found, expected) = (self.stride_bytes, ours.stride_bytes);
        expect_equal(S, "stride_bytes", at, u64::from(found), u64::from(expected))?;
        expect_equal(
            S,
            "nr_slots",
            at,
            u64::from(self.nr_slots),
            u64::from(ours.nr_slots),
        )?;
        expect_equal(
            S,
            "first_slot",
            at,
            u64::from(self.first_slot),
            u64::from(ours.first_slot),
        )?;
        expect_equal(
            S,
            "slab_order",
            at,
            u64::from(self.slab_order),
            u64::from(ours.slab_order),
        )?;
        expect_equal(S, "reserved0", at, u64::from(self.reserved0), 0)?;
        expect_equal(S, "reserved1", at, u64::from(self.reserved1), 0)
    }
}
