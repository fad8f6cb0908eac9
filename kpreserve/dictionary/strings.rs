// SPDX-License-Identifier: GPL-2.0

//! The strings that entries refer to.
//!
//! They are only appended, never changed, and shared. What nobody refers to any more is counted, and
//! once it is a third of all, strings and entries are copied to another pair of areas.

use kernel::prelude::*;
use kpreserve_kho::{
    GatePass,
    Refusal, //
};
use kpreserve_vmalloc::PVec;

use super::pending::is_directory;
use super::recent::Recent;
use super::{
    index_of,
    Dictionary, //
};
use crate::abi::EntrySer;

/// How many free entries are asked whether they know a string already.
const NR_FREE_LOOKED_AT: usize = 16;

/// Less waste than that is not worth a copy.
const WASTE_BYTES_MIN: u64 = 4096;

impl Dictionary {
    /// Returns whether strings want to be compacted.
    pub(crate) fn is_wasteful(&self) -> bool {
        // Hostile, or behind by what a cut left out: at worst, a copy too early or too late.
        let waste_bytes = self.head.waste_bytes.load();
        waste_bytes > WASTE_BYTES_MIN && waste_bytes > self.strings.len() as u64 / 3
    }

    /// Does without compaction until there is as much waste again.
    pub(crate) fn bear_waste(&self) {
        self.head.waste_bytes.store(0);
    }

    /// Copies all entries, and the strings that they refer to, into other areas, and returns those
    /// that are replaced. Entries keep their indices, so buckets and links stay. `publish` is called
    /// when the copy is whole.
    ///
    /// Cost: a pass over entries and strings, which is borne by the removals that made the waste.
    ///
    /// # Errors
    ///
    /// EINVAL if a bucket or an entry is damaged, which is carried on: where it stands; but for
    /// entries that no bucket refers to, which a cut left half written. ENOMEM, also if there would
    /// be more strings than before. The dictionary goes on with the areas it has.
    pub(crate) fn compact(
        &mut self,
        pass: &GatePass<'_>,
        mut entries: PVec<EntrySer>,
        mut strings: PVec<u8>,
        publish: impl FnOnce(),
    ) -> Result<(PVec<EntrySer>, PVec<u8>)> {
        self.settle().map_err(Refusal::report)?;
        self.expect_whole().map_err(Refusal::report)?;
        // What a cut may have left.
        entries.truncate_with(pass, 0);
        strings.truncate_with(pass, 0);
        entries.reserve_with(pass, self.entries.len())?;
        // Where the last compatible strings stand, here and there.
        let mut compatibles = Recent::new(((0, 0), 0));
        let mut referred_to = None;
        for index in 0..self.entries.len() as u32 {
            let old = self.entries.get(index as usize).copied().ok_or(EINVAL)?;
            let mut entry = EntrySer {
                name_offset: 0,
                name_len: 0,
                compatible_offset: 0,
                compatible_len: 0,
                ..old
            };
            if let (true, Err(refusal)) = (!old.is_free(), self.entry(index)) {
                let referred_to = match &mut referred_to {
                    Some(set) => set,
                    none => none.insert(self.referred_to()?),
                };
                if contains(referred_to, index) {
                    return Err(refusal.report());
                }
                // Nobody's; and nobody takes it for whole there, either.
                entry = old;
            } else if !old.is_free() {
                entry.name_len = old.name_len;
                entry.name_offset = match self.known_by_child(&old, &entries) {
                    Some(offset) => offset,
                    None => self.copy(pass, old.name_offset, old.name_len, &mut strings)?,
                };
                let compatible = (old.compatible_offset, old.compatible_len);
                // Directories have none.
                if compatible.1 != 0 {
                    let known = compatibles.find(|(here, _)| self.is_same(here, compatible));
                    entry.compatible_offset = match known {
                        Some((_, there)) => there,
                        None => {
                            let (offset, len) = compatible;
                            let there = self.copy(pass, offset, len, &mut strings)?;
                            compatibles.push((compatible, there));
                            there
                        }
                    };
                    entry.compatible_len = compatible.1;
                }
                entry.check = entry.checksum(self.head.root_id, index);
            }
            entries.push_with(pass, entry)?;
            // Entries that all claim the same long string are not worth a copy, either.
            if strings.len() > self.strings.len() {
                return Err(ENOMEM);
            }
        }
        publish();
        self.head.waste_bytes.store(0);
        self.compatibles = Recent::new((0, 0));
        let entries = core::mem::replace(&mut self.entries, entries);
        let strings = core::mem::replace(&mut self.strings, strings);
        Ok((entries, strings))
    }

    /// Returns the set of the entries that buckets refer to, a bit for each.
    fn referred_to(&self) -> Result<KVVec<u64>> {
        let nr_entries = self.entries.len();
        let mut set = KVVec::from_elem(0, nr_entries.div_ceil(64), GFP_KERNEL)?;
        for index in self.buckets.indices(nr_entries) {
            if let Some(word) = set.get_mut(index as usize / 64) {
                *word |= 1 << (index % 64);
            }
        }
        Ok(set)
    }

    /// Returns where the name of a directory stands in the copy: what lies in it begins so, and has
    /// been copied as a rule.
    fn known_by_child(&self, directory: &EntrySer, copied: &PVec<EntrySer>) -> Option<u32> {
        if !is_directory(directory) {
            return None;
        }
        let index = index_of(directory.first_child)?;
        let (old, new) = (self.entries.get(index)?, copied.get(index)?);
        // The link may be damaged, and lead to an entry that was copied without its strings.
        if new.kind == 0 || new.check != new.checksum(self.head.root_id, index as u32) {
            return None;
        }
        let beginning = (old.name_offset, directory.name_len.min(old.name_len));
        let is_same = self.is_same(beginning, (directory.name_offset, directory.name_len));
        is_same.then_some(new.name_offset)
    }

    /// Returns whether two strings are the same.
    fn is_same(&self, (a, a_len): (u32, u16), (b, b_len): (u32, u16)) -> bool {
        let byte = |offset: u32, at: u16| self.strings.get(offset as usize + usize::from(at));
        a_len == b_len && (a == b || (0..a_len).all(|at| byte(a, at) == byte(b, at)))
    }

    /// Copies a string behind those of another area.
    fn copy(&self, pass: &GatePass<'_>, offset: u32, len: u16, to: &mut PVec<u8>) -> Result<u32> {
        let place = u32::try_from(to.len()).map_err(|_| ENOMEM)?;
        let mut left = usize::from(len);
        for chunk in self.strings.chunks_from(offset as usize) {
            let part = chunk.get(..left.min(chunk.len())).unwrap_or_default();
            to.extend_from_slice_with(pass, part)?;
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        Ok(place)
    }

    pub(super) fn string_is(&self, offset: u32, len: u16, expected: &[u8]) -> bool {
        if usize::from(len) != expected.len() {
            return false;
        }
        let mut rest = expected;
        for chunk in self.strings.chunks_from(offset as usize) {
            let len = chunk.len().min(rest.len());
            let Some((part, behind)) = rest.split_at_checked(len) else {
                return false;
            };
            if chunk.get(..len) != Some(part) {
                return false;
            }
            rest = behind;
            if rest.is_empty() {
                return true;
            }
        }
        rest.is_empty()
    }

    /// Returns where a name stands; it is added, unless one of the next free entries knows it.
    pub(super) fn name(&mut self, pass: &GatePass<'_>, name: &[u8]) -> Result<u32> {
        match self.known(name, |entry| (entry.name_offset, entry.name_len)) {
            Some(offset) => {
                let waste_bytes = self.head.waste_bytes.load();
                let used_again = name.len() as u64;
                self.head
                    .waste_bytes
                    .store(waste_bytes.saturating_sub(used_again));
                Ok(offset)
            }
            None => self.append(pass, name),
        }
    }

    /// Returns where a compatible string stands; it is added, unless it is one of the last few, or one of
    /// the next free entries knows it.
    pub(super) fn compatible(&mut self, pass: &GatePass<'_>, compatible: &[u8]) -> Result<u32> {
        let mut compatibles = self.compatibles;
        let known = compatibles.find(|(offset, len)| self.string_is(offset, len, compatible));
        self.compatibles = compatibles;
        if let Some((offset, _)) = known {
            return Ok(offset);
        }
        let of = |entry: &EntrySer| (entry.compatible_offset, entry.compatible_len);
        let offset = match self.known(compatible, of) {
            Some(offset) => offset,
            None => self.append(pass, compatible)?,
        };
        self.compatibles.push((offset, compatible.len() as u16));
        Ok(offset)
    }

    /// Returns where a string stands that one of the next free entries knows. Strings never change, so
    /// they can be shared.
    fn known(&self, string: &[u8], of: impl Fn(&EntrySer) -> (u32, u16)) -> Option<u32> {
        let mut next = self.head.free_entry.load();
        for _ in 0..NR_FREE_LOOKED_AT {
            let index = usize::try_from(next.checked_sub(1)?).ok()?;
            let entry = self.entries.get(index)?;
            let (offset, len) = of(entry);
            if self.string_is(offset, len, string) {
                return Some(offset);
            }
            next = u64::from(entry.next_free);
        }
        None
    }

    fn append(&mut self, pass: &GatePass<'_>, string: &[u8]) -> Result<u32> {
        self.expect_strings_end().map_err(Refusal::report)?;
        let offset = u32::try_from(self.strings.len()).map_err(|_| ENOMEM)?;
        self.strings.extend_from_slice_with(pass, string)?;
        Ok(offset)
    }
}

/// Returns whether a set has the bit of an entry.
fn contains(set: &[u64], index: u32) -> bool {
    set.get(index as usize / 64)
        .is_some_and(|word| word & (1 << (index % 64)) != 0)
}
