// SPDX-License-Identifier: GPL-2.0

//! What has to be looked at before a name is said not to be there, or is taken away.
//!
//! An answer that is wrong costs all that the name stands for: the next open puts an empty thing in
//! its place. So "not there" is said after each word on the way was found to lead to an entry of
//! its tag, and each entry of the same hash to have a string of that hash. Of a dictionary of which
//! one bit flipped, this is a proof: a name that is there has a word on the way; if its tag or its
//! number flipped, it does not agree with the entry that it leads to, and if the name flipped, it
//! does not agree with its hash.

use kernel::prelude::*;
use kpreserve_kho::{
    hash::fnv1a,
    refusal::Relation,
    validate::{
        expect,
        expect_at_most,
        expect_equal, //
    },
    Refusal, //
};

use super::pending::Branch;
use super::Dictionary;
use crate::abi::EntrySer;

impl Dictionary {
    /// Checks that the words on the way of a hash can mean no entry that was not found.
    pub(super) fn expect_absent(&self, hash: u64) -> Result<(), Refusal> {
        let hash_of = |index| self.hash_of(index);
        self.buckets
            .expect_absent(hash, self.entries.len(), hash_of)
    }

    /// Checks all words of the hash table: before it is replaced by another one, in which a damaged
    /// word would stand where nobody looks for it; and before entries are copied.
    pub(super) fn expect_whole(&self) -> Result<(), Refusal> {
        let hash_of = |index| self.hash_of(index);
        self.buckets.expect_whole(self.entries.len(), hash_of)
    }

    /// Returns the hash of an entry as it stands there.
    fn hash_of(&self, index: u32) -> Option<u64> {
        let entry = self.entries.get(index as usize)?;
        Some(entry.hash)
    }

    /// Checks that the name of an entry has the hash that the entry says.
    pub(super) fn expect_name(&self, index: u32, entry: &EntrySer) -> Result<(), Refusal> {
        let found = self.string_hash(entry.name_offset, entry.name_len);
        expect_equal("EntrySer", "hash", index.into(), found, entry.hash)
    }

    fn string_hash(&self, offset: u32, len: u16) -> u64 {
        let mut left = usize::from(len);
        let mut hash = fnv1a(0, &[]);
        for chunk in self.strings.chunks_from(offset as usize) {
            let part = chunk.get(..left.min(chunk.len())).unwrap_or_default();
            hash = fnv1a(hash, part);
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        hash
    }

    /// Checks of the entries of a branch, before it is decided that they go, that each of them is
    /// whole and has its bucket: what is written down and cannot be done would be in the way of all
    /// others.
    pub(super) fn expect_unlinkable(&self, branch: Branch) -> Result<Branch, Refusal> {
        let mut number = branch.leaf;
        loop {
            let entry = self.checked(number)?;
            let bucket = self.bucket_of(number, &entry)?;
            expect(
                "EntrySer",
                "nr_buckets",
                number.into(),
                0,
                1,
                Relation::AtLeast,
                bucket.is_some(),
            )?;
            if number == branch.top {
                return Ok(branch);
            }
            // As `branch_of` went, which came to the top: so this has an end.
            number = entry.parent;
        }
    }

    /// Checks that the strings end where they say, before one is appended: that nothing behind
    /// their end is the string of an entry, which the next one would be written over.
    ///
    /// Cost: a byte. If there is something behind the end, as a cut may leave it, or as a length
    /// that is damaged would have it: a pass over the entries.
    pub(super) fn expect_strings_end(&self) -> Result<(), Refusal> {
        if self.strings.is_clear_behind() {
            return Ok(());
        }
        let len = self.strings.len() as u64;
        let id = u64::from(self.strings.raw().id());
        let is_whole = |(index, entry): &(u32, &EntrySer)| {
            entry.check == entry.checksum(self.head.root_id, *index)
        };
        for (_, entry) in (0..).zip(self.entries.iter()).filter(is_whole) {
            for (offset, len_of) in [
                (entry.name_offset, entry.name_len),
                (entry.compatible_offset, entry.compatible_len),
            ] {
                let end = u64::from(offset) + u64::from(len_of);
                expect_at_most("ArenaSer", "len", id, end, len)?;
            }
        }
        Ok(())
    }
}
