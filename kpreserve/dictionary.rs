// SPDX-License-Identifier: GPL-2.0

//! Names, and what they stand for: a hash table in areas.
//!
//! Strings lie in one area, entries in another, and a third is a hash table of entry numbers
//! ([`Buckets`]). An entry is whole before a bucket refers to it, and a bucket is one 64-bit word, so
//! a cut at any instruction leaves the old state or the new one.

use core::ffi::CStr;

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};
use kpreserve_kho::{
    hash::fnv1a,
    validate::{
        expect_at_most,
        expect_equal, //
    },
    GatePass,
    Refusal,
    SharedU64, //
};
use kpreserve_vmalloc::{
    Buckets,
    PVec, //
};

use crate::abi::{
    EntrySer,
    NameKind,
    RootHeadSer, //
};

/// The longest name, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;

/// Names that begin so belong to the framework.
const RESERVED_PREFIX: u8 = b'.';

/// How many free entries are asked whether they know a string already.
const NR_FREE_LOOKED_AT: usize = 16;

/// What a user may call something.
///
/// # Errors
///
/// EINVAL if the name is empty or begins with a dot, ENAMETOOLONG beyond [`NAME_LEN_MAX`] bytes.
pub(crate) fn check_name(name: &CStr) -> Result<&[u8]> {
    let name = name.to_bytes();
    match name.first() {
        None | Some(&RESERVED_PREFIX) => Err(EINVAL),
        Some(_) if name.len() > NAME_LEN_MAX => Err(ENAMETOOLONG),
        Some(_) => Ok(name),
    }
}

/// What a name is to stand for.
#[derive(Clone, Copy)]
pub(crate) struct Meaning {
    pub(crate) kind: NameKind,
    pub(crate) compatible: &'static str,
    pub(crate) version: u32,
    pub(crate) fingerprint: u64,
    pub(crate) value: u64,
}

/// The dictionary of an image that this boot owns.
pub(crate) struct Dictionary {
    head: &'static RootHeadSer,
    entries: PVec<EntrySer>,
    strings: PVec<u8>,
    buckets: Buckets,
}

/// A name that was found.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) entry: EntrySer,
    index: u32,
    bucket: usize,
}

impl Dictionary {
    /// Makes a dictionary of its areas.
    ///
    /// # Errors
    ///
    /// EINVAL if the number of buckets is not a power of two, or 0 although there are names; ENOMEM, EBUSY if the first
    /// buckets cannot be had.
    pub(crate) fn new(
        pass: &GatePass<'_>,
        head: &'static RootHeadSer,
        entries: PVec<EntrySer>,
        strings: PVec<u8>,
        buckets: PVec<SharedU64>,
    ) -> Result<Self> {
        // Not by the counter of names, which a cut may leave one too low.
        let buckets = Buckets::open(pass, "dictionary", buckets, entries.len())?;
        Ok(Self {
            head,
            entries,
            strings,
            buckets,
        })
    }

    /// Returns how many names there are.
    pub(crate) fn nr_names(&self) -> u64 {
        self.head.nr_names.load()
    }

    /// Finds a name. Cost: a few probes on average, never more than there are buckets.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the name is not found, but an entry on the way is damaged, which might be
    /// its own.
    pub(crate) fn lookup(&self, name: &[u8]) -> Result<Option<Found>, Refusal> {
        let hash = fnv1a(0, name);
        let hit = self.buckets.find(hash, self.entries.len(), |index| {
            let Some(entry) = self.entry(index)? else {
                return Ok(None);
            };
            let is_it =
                entry.hash == hash && self.string_is(entry.name_offset, entry.name_len, name);
            Ok(is_it.then_some(entry))
        })?;
        Ok(hit.map(|hit| Found {
            entry: hit.what,
            index: hit.index,
            bucket: hit.bucket,
        }))
    }

    /// Returns whether the compatible string of an entry is `compatible`.
    pub(crate) fn compatible_is(&self, entry: &EntrySer, compatible: &str) -> bool {
        self.string_is(
            entry.compatible_offset,
            entry.compatible_len,
            compatible.as_bytes(),
        )
    }

    /// Returns whether the hash table wants to be rebuilt before the next insertion.
    ///
    /// Each name has an entry of its own, so entries bound the names. The counter of names does
    /// not: a cut may leave it one off.
    pub(crate) fn is_crowded(&self) -> bool {
        self.buckets.is_crowded(self.entries.len())
    }

    /// Gives a meaning to a name. If the name is there already, the old meaning is replaced, in one
    /// store.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY if the framework is frozen: nothing has changed then, but that strings may be
    /// left over. EINVAL if the table is damaged.
    pub(crate) fn insert(&mut self, pass: &GatePass<'_>, name: &[u8], meaning: Meaning) -> Result {
        let old = self.lookup(name).map_err(Refusal::report)?;
        let hash = fnv1a(0, name);
        let bucket = match &old {
            Some(found) => found.bucket,
            None => self.buckets.vacant(hash).ok_or(ENOMEM)?,
        };
        let mut entry = EntrySer {
            hash,
            name_offset: self.string(
                pass,
                name,
                |entry| (entry.name_offset, entry.name_len),
                &old,
            )?,
            name_len: name.len() as u16,
            kind: meaning.kind as u16,
            compatible_offset: self.string(
                pass,
                meaning.compatible.as_bytes(),
                |entry| (entry.compatible_offset, entry.compatible_len),
                &old,
            )?,
            compatible_len: meaning.compatible.len() as u16,
            reserved0: 0,
            version: meaning.version,
            next_free: 0,
            fingerprint: meaning.fingerprint,
            value: meaning.value,
            reserved1: [0; 3],
            check: 0,
        };
        let index = self.free_entry(pass)?;
        entry.check = entry.checksum(self.head.root_id, index);
        *self.entries.get_mut(index as usize).ok_or(EINVAL)? = entry;
        // The entry is whole; this publishes it.
        self.buckets.set(bucket, hash, index)?;
        match old {
            Some(found) => self.put_free_entry(found.index),
            None => {
                self.head.nr_names.fetch_add(1);
            }
        }
        Ok(())
    }

    /// Takes a name out.
    pub(crate) fn remove(&mut self, _pass: &GatePass<'_>, found: Found) {
        self.buckets.clear(found.bucket);
        // A cut may have left the counter one too low.
        let nr_names = self.nr_names().saturating_sub(1);
        self.head.nr_names.store(nr_names);
        self.put_free_entry(found.index);
    }

    /// Fills `buckets`, the idle table, with all names, and returns the table that it replaces.
    /// `publish` is called when the new table is whole.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert); the dictionary goes on with the table it has.
    pub(crate) fn rebuild(
        &mut self,
        pass: &GatePass<'_>,
        buckets: PVec<SharedU64>,
        publish: impl FnOnce(),
    ) -> Result<PVec<SharedU64>> {
        let buckets = self.buckets.rebuild(pass, buckets, self.entries.len())?;
        publish();
        Ok(core::mem::replace(&mut self.buckets, buckets).into_words())
    }

    /// Returns an entry, checked; `None` if there is no such entry.
    fn entry(&self, index: u32) -> Result<Option<EntrySer>, Refusal> {
        const S: &str = "EntrySer";
        let Some(entry) = self.entries.get(index as usize).copied() else {
            return Ok(None);
        };
        let at = u64::from(index);
        let check = entry.checksum(self.head.root_id, index);
        expect_equal(S, "check", at, entry.check, check)?;
        let nr_bytes = self.strings.len() as u64;
        let name_end = u64::from(entry.name_offset) + u64::from(entry.name_len);
        expect_at_most(S, "name_offset", at, name_end, nr_bytes)?;
        let compatible_end = u64::from(entry.compatible_offset) + u64::from(entry.compatible_len);
        expect_at_most(S, "compatible_offset", at, compatible_end, nr_bytes)?;
        Ok(Some(entry))
    }

    fn string_is(&self, offset: u32, len: u16, expected: &[u8]) -> bool {
        if usize::from(len) != expected.len() {
            return false;
        }
        expected
            .iter()
            .enumerate()
            .all(|(i, byte)| self.strings.get(offset as usize + i) == Some(byte))
    }

    /// Returns where a string stands; it is added, unless the entry that is replaced, or one of the
    /// next free ones, refers to the same. Strings never change, so they can be shared.
    fn string(
        &mut self,
        pass: &GatePass<'_>,
        string: &[u8],
        of: impl Fn(&EntrySer) -> (u32, u16),
        old: &Option<Found>,
    ) -> Result<u32> {
        let mut next = self.head.free_entry.load();
        let free = (0..NR_FREE_LOOKED_AT).map_while(|_| {
            let entry = self.entries.get(next.checked_sub(1)? as usize)?;
            next = u64::from(entry.next_free);
            Some(entry)
        });
        let old = old.as_ref().map(|found| &found.entry);
        for entry in Iterator::chain(old.into_iter(), free) {
            let (offset, len) = of(entry);
            if self.string_is(offset, len, string) {
                return Ok(offset);
            }
        }
        let offset = u32::try_from(self.strings.len()).map_err(|_| ENOMEM)?;
        self.strings.extend_from_slice_with(pass, string)?;
        Ok(offset)
    }

    /// Takes an entry off the free list, or appends one.
    fn free_entry(&mut self, pass: &GatePass<'_>) -> Result<u32> {
        let first = self.head.free_entry.load();
        if let Some(index) = first.checked_sub(1) {
            if let Some(entry) = self.entries.get(index as usize) {
                if entry.kind == 0 {
                    self.head.free_entry.store(u64::from(entry.next_free));
                    return Ok(index as u32);
                }
            }
            pr_warn!(
                "free list of the dictionary: entry {} is in use; list dropped\n",
                index
            );
            self.head.free_entry.store(0);
        }
        let index = u32::try_from(self.entries.len()).map_err(|_| ENOMEM)?;
        self.entries.push_with(pass, EntrySer::FREE)?;
        Ok(index)
    }

    fn put_free_entry(&mut self, index: u32) {
        // No byte may change while a bucket still refers to the entry.
        smp_mb(Write);
        let next_free = self.head.free_entry.load() as u32;
        if let Some(entry) = self.entries.get_mut(index as usize) {
            // Its strings stay known: the same name often comes back.
            *entry = EntrySer {
                next_free,
                name_offset: entry.name_offset,
                name_len: entry.name_len,
                compatible_offset: entry.compatible_offset,
                compatible_len: entry.compatible_len,
                ..EntrySer::FREE
            };
            self.head.free_entry.store(u64::from(index) + 1);
        }
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_dictionary)
)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(check_name(c"kvm/vcpu"), Ok(&b"kvm/vcpu"[..]));
        assert_eq!(check_name(c""), Err(EINVAL));
        assert_eq!(check_name(c".object/kv"), Err(EINVAL));
    }

    #[test]
    fn an_entry_with_one_field_changed_has_another_checksum() {
        let entry = EntrySer::FREE;
        let sum = entry.checksum(1, 2);
        assert!(entry.checksum(1, 3) != sum);
        assert!(entry.checksum(2, 2) != sum);
        let changed: [fn(&mut EntrySer); 9] = [
            |entry| entry.hash = 1,
            |entry| entry.name_offset = 1,
            |entry| entry.name_len = 1,
            |entry| entry.kind = 1,
            |entry| entry.compatible_offset = 1,
            |entry| entry.version = 1,
            |entry| entry.fingerprint = 1,
            |entry| entry.value = 1,
            |entry| entry.reserved1[2] = 1,
        ];
        for change in changed {
            let mut other = entry;
            change(&mut other);
            assert!(other.checksum(1, 2) != sum);
        }
    }
}
