// SPDX-License-Identifier: GPL-2.0

//! Names, and what they stand for.
//!
//! Strings lie in one area, entries in another, and a third is a hash table of entry numbers
//! ([`Buckets`]), by full names. Entries are linked to a tree of directories besides, which is for
//! listing. An entry is whole before anything refers to it; a change of several stores is written
//! down before it is begun (`pending`), so a cut at any instruction leaves the old state or the new
//! one.

use core::ffi::CStr;

use kernel::prelude::*;
use kpreserve_kho::{
    hash::fnv1a,
    refusal::Relation,
    validate::{
        expect,
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
    end_of,
    EntrySer,
    NameKind,
    RootHeadSer, //
};

mod absence;
mod free;
mod listing;
mod pending;
mod recent;
mod strings;
mod tree;

use pending::{
    is_directory,
    Branch,
    Change, //
};
use recent::Recent;
use tree::directory_of;

/// The longest name, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;

/// Names that begin so belong to the framework.
const RESERVED_PREFIX: u8 = b'.';

/// What a user may call something.
///
/// # Errors
///
/// EINVAL if the name is empty, begins with a dot, begins or ends with a slash or has two of them in
/// a row; ENAMETOOLONG beyond [`NAME_LEN_MAX`] bytes.
pub(crate) fn check_name(name: &CStr) -> Result<&[u8]> {
    let name = name.to_bytes();
    if name.first().is_none_or(|&first| first == RESERVED_PREFIX) {
        return Err(EINVAL);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(ENAMETOOLONG);
    }
    if name.split(|&byte| byte == b'/').any(<[u8]>::is_empty) {
        return Err(EINVAL);
    }
    Ok(name)
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
    /// Where the compatible strings stand that were asked for last: the next one is often one of them.
    compatibles: Recent<(u32, u16)>,
}

/// A name that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) entry: EntrySer,
    pub(crate) index: u32,
}

/// Returns what links and buckets call the entry at an index.
fn number_of(index: u32) -> u32 {
    index.wrapping_add(1)
}

/// Returns the index of the entry of that number; `None` if it stands for none.
fn index_of(number: u32) -> Option<usize> {
    number.checked_sub(1).map(|index| index as usize)
}

impl Dictionary {
    /// Makes a dictionary of its areas, and finishes the change that a cut may have left.
    ///
    /// # Errors
    ///
    /// EINVAL if the number of buckets is not a power of two, or 0 although there are names, or if
    /// that change is none; ENOMEM, EBUSY if the first buckets cannot be had.
    pub(crate) fn new(
        pass: &GatePass<'_>,
        head: &'static RootHeadSer,
        entries: PVec<EntrySer>,
        strings: PVec<u8>,
        buckets: PVec<SharedU64>,
    ) -> Result<Self> {
        let buckets = Buckets::open(pass, "dictionary", buckets, entries.len())?;
        let mut dictionary = Self {
            head,
            entries,
            strings,
            buckets,
            compatibles: Recent::new((0, 0)),
        };
        dictionary.settle().map_err(Refusal::report)?;
        Ok(dictionary)
    }

    /// Returns how many entries there are, those of names, of directories, and free ones.
    pub(crate) fn nr_entries(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many names there are.
    pub(crate) fn nr_names(&self) -> u64 {
        self.head.nr_names.load()
    }

    /// Finds a name. Cost: a few probes on average, never more than there are buckets; if it is not
    /// there, also a look at the entries that are passed by.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the name is not found, but a word or an entry on the way is damaged, which
    /// might be its own.
    pub(crate) fn lookup(&self, name: &[u8]) -> Result<Option<Found>, Refusal> {
        self.find(name, false)
    }

    /// Finds a directory.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    fn lookup_directory(&self, name: &[u8]) -> Result<Option<Found>, Refusal> {
        self.find(name, true)
    }

    fn find(&self, name: &[u8], directory: bool) -> Result<Option<Found>, Refusal> {
        let hash = fnv1a(0, name);
        let hit = self.buckets.find(hash, self.entries.len(), |index| {
            let Some(entry) = self.entry(index)? else {
                return Ok(None);
            };
            if entry.hash != hash {
                return Ok(None);
            }
            let is_it = self.string_is(entry.name_offset, entry.name_len, name);
            if !is_it {
                // Another name of that hash, or this one, damaged.
                self.expect_name(index, &entry)?;
            }
            Ok((is_it && is_directory(&entry) == directory).then_some(entry))
        })?;
        if hit.is_none() {
            self.expect_absent(hash)?;
        }
        Ok(hit.map(|hit| Found {
            entry: hit.what,
            index: hit.index,
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

    /// Returns whether the hash table wants to be rebuilt before a name is inserted.
    ///
    /// Each name has an entry of its own, and so has each directory: entries bound them. The counter
    /// of names does not, which the previous kernel may have left wrong.
    pub(crate) fn is_crowded(&self, name: &[u8]) -> bool {
        self.buckets.is_crowded(self.nr_entries_with(name))
    }

    fn nr_entries_with(&self, name: &[u8]) -> usize {
        let nr_directories = name.iter().filter(|&&byte| byte == b'/').count();
        self.entries.len().saturating_add(nr_directories)
    }

    /// Gives a meaning to a name. If the name is there already, the old meaning is replaced.
    ///
    /// # Errors
    ///
    /// ENOMEM: nothing has changed then, but that strings may be left over. EINVAL if the dictionary
    /// is damaged.
    pub(crate) fn insert(&mut self, pass: &GatePass<'_>, name: &[u8], meaning: Meaning) -> Result {
        let old = self.lookup(name).map_err(Refusal::report)?;
        let compatible = meaning.compatible.as_bytes();
        let template = EntrySer {
            kind: meaning.kind as u16,
            compatible_offset: self.compatible(pass, compatible)?,
            compatible_len: compatible.len() as u16,
            version: meaning.version,
            fingerprint: meaning.fingerprint,
            value: meaning.value,
            ..EntrySer::FREE
        };
        self.change(pass, Some((name, template)), old)
    }

    /// Takes a name out.
    ///
    /// # Errors
    ///
    /// EINVAL if the links around it are damaged; it stays.
    pub(crate) fn remove(&mut self, pass: &GatePass<'_>, found: Found) -> Result {
        self.change(pass, None, Some(found))
    }

    /// Gives another name, which is not there yet, to what a name stands for.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert); the old name stays.
    pub(crate) fn rename(&mut self, pass: &GatePass<'_>, found: Found, name: &[u8]) -> Result {
        let template = EntrySer {
            parent: 0,
            first_child: 0,
            next_sibling: 0,
            prev_sibling: 0,
            ..found.entry
        };
        self.change(pass, Some((name, template)), Some(found))
    }

    /// Puts a name in, takes one out, or both, whole or not at all.
    fn change(
        &mut self,
        pass: &GatePass<'_>,
        new: Option<(&[u8], EntrySer)>,
        old: Option<Found>,
    ) -> Result {
        self.settle().map_err(Refusal::report)?;
        let place = new
            .map(|(name, _)| self.place(name))
            .transpose()
            .map_err(Refusal::report)?;
        let unlink = match &old {
            Some(old) => {
                let kept = place.map_or(0, |place| place.parent);
                let branch = self.branch_of(number_of(old.index), kept);
                branch
                    .and_then(|branch| self.expect_unlinkable(branch))
                    .map_err(Refusal::report)?
            }
            None => Branch::default(),
        };
        let link = match (new, place) {
            (Some((name, template)), Some(place)) => {
                // The links that this one follows have to be whole, too.
                let next = self.first_of(place.parent).map_err(Refusal::report)?;
                self.expect_room(name, place.nr_missing + 1)
                    .map_err(Refusal::report)?;
                let link = self.prepare(pass, name, template, place.nr_missing)?;
                if let Some(top) = self.entry_mut(link.top) {
                    top.parent = place.parent;
                    top.next_sibling = match next {
                        0 => end_of(place.parent),
                        next => next,
                    };
                }
                link
            }
            _ => Branch::default(),
        };
        let nr_names = match (new, old) {
            (Some(_), None) => self.nr_names().saturating_add(1),
            (None, Some(_)) => self.nr_names().saturating_sub(1),
            _ => self.nr_names(),
        };
        let change = Change {
            link,
            unlink,
            nr_names,
        };
        self.commit(change).map_err(Refusal::report)
    }

    /// Checks that buckets can refer to so many entries more: a change that is written down and cannot
    /// be done would be in the way of all others, and of whoever opens the dictionary.
    fn expect_room(&self, name: &[u8], nr: usize) -> Result<(), Refusal> {
        let (nr_entries, nr_buckets) = (self.entries.len(), self.buckets.nr_buckets());
        expect(
            "dictionary",
            "nr_buckets",
            nr_entries as u64,
            nr_buckets as u64,
            nr_buckets as u64 + nr as u64,
            Relation::AtLeast,
            self.buckets.has_room(fnv1a(0, name), nr),
        )
    }

    /// Makes the entries of a name and of its directories that are not there, linked to one another;
    /// nothing refers to them so far.
    ///
    /// # Errors
    ///
    /// ENOMEM; strings may be left over.
    fn prepare(
        &mut self,
        pass: &GatePass<'_>,
        name: &[u8],
        template: EntrySer,
        nr_directories: usize,
    ) -> Result<Branch> {
        // From here on only the strings need memory.
        self.entries.reserve_with(pass, nr_directories + 1)?;
        let name_offset = self.name(pass, name)?;
        let leaf = self.put(pass, name, name_offset, template)?;
        let (mut top, mut inner) = (leaf, name);
        for _ in 0..nr_directories {
            inner = directory_of(inner);
            let template = EntrySer {
                kind: NameKind::Directory as u16,
                first_child: top,
                ..EntrySer::FREE
            };
            // Its name is the beginning of the other.
            let directory = self.put(pass, inner, name_offset, template)?;
            if let Some(entry) = self.entry_mut(top) {
                entry.parent = directory;
                entry.next_sibling = end_of(directory);
            }
            top = directory;
        }
        Ok(Branch { leaf, top })
    }

    /// Writes an entry of a name, whose string is there; returns its number.
    fn put(
        &mut self,
        pass: &GatePass<'_>,
        name: &[u8],
        name_offset: u32,
        template: EntrySer,
    ) -> Result<u32> {
        let mut entry = EntrySer {
            hash: fnv1a(0, name),
            name_offset,
            name_len: name.len() as u16,
            ..template
        };
        let index = self.free_entry(pass)?;
        entry.check = entry.checksum(self.head.root_id, index);
        *self.entries.get_mut(index as usize).ok_or(EINVAL)? = entry;
        Ok(number_of(index))
    }

    /// Fills `buckets`, the idle table, with all names and room for `name`, and returns the
    /// table that it replaces.
    /// `publish` is called when the new table is whole.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), EINVAL also if a word leads to no entry of its tag (logged):
    /// where it belongs, the new table could not tell. The dictionary goes on with the table it
    /// has.
    pub(crate) fn rebuild(
        &mut self,
        pass: &GatePass<'_>,
        name: &[u8],
        buckets: PVec<SharedU64>,
        publish: impl FnOnce(),
    ) -> Result<PVec<SharedU64>> {
        self.expect_whole().map_err(Refusal::report)?;
        let nr_entries = self.nr_entries_with(name);
        let buckets = self
            .buckets
            .rebuild(pass, buckets, nr_entries)
            .map_err(|(error, _)| error)?;
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
        assert_eq!(check_name(c"kvm/.vcpu"), Ok(&b"kvm/.vcpu"[..]));
        assert_eq!(check_name(c"/kvm"), Err(EINVAL));
        assert_eq!(check_name(c"kvm/"), Err(EINVAL));
        assert_eq!(check_name(c"kvm//vcpu"), Err(EINVAL));
    }

    #[test]
    fn names_lie_in_directories() {
        assert_eq!(directory_of(b"kvm/vm/1"), b"kvm/vm/");
        assert_eq!(directory_of(b"kvm/vm/"), b"kvm/");
        assert_eq!(directory_of(b"kvm/"), b"");
        assert_eq!(directory_of(b"kvm"), b"");
        assert_eq!(directory_of(b""), b"");
        assert_eq!(directory_of(b".pool/small/64"), b"");
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
            |entry| entry.reserved1 = 1,
        ];
        for change in changed {
            let mut other = entry;
            change(&mut other);
            assert!(other.checksum(1, 2) != sum);
        }
    }
}
