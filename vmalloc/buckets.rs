// SPDX-License-Identifier: GPL-2.0

//! Hash to the index of an entry that is kept elsewhere.

use kernel::prelude::*;

use kpreserve_kho::{
    refusal::Relation,
    validate::{
        expect,
        expect_at_least,
        expect_at_most, //
    },
    GatePass,
    Refusal,
    SharedU64, //
};

use crate::pvec::PVec;

/// Buckets of a new table.
pub const NR_BUCKETS_MIN: usize = 64;

/// So many tombstones on the way to a free bucket are too many.
const NR_TOMBSTONES_MAX: usize = 32;

/// A table is refused that would take more steps than that for each bucket to be rebuilt: of sound ones, all but a
/// few entries are put down at the first or second step; even of the same tag, a thousand are accepted.
const NR_STEPS_MAX: usize = 256;

/// What stands in a bucket: 0 if it is empty, all ones if it was used and is to be passed by,
/// otherwise the tag of a hash in the upper half, and one more than the index of an entry in the
/// lower.
///
/// That the tag is all of the hash that a table uses makes two things cheap: entries of other names
/// are passed by unread, and a table is rebuilt from the old one alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Word(u64);

impl Word {
    const EMPTY: Word = Word(0);
    const TOMBSTONE: Word = Word(u64::MAX);

    /// Makes the word of an entry; `None` if the index is too large for one.
    fn new(hash: u64, index: u32) -> Option<Self> {
        // The last one would make a tombstone of the tag that is all ones.
        let number = index.checked_add(1).filter(|&number| number < u32::MAX)?;
        Some(Self((u64::from(tag(hash)) << 32) | u64::from(number)))
    }

    #[inline]
    fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn number(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    fn is_vacant(self) -> bool {
        self == Self::EMPTY || self == Self::TOMBSTONE
    }
}

/// Returns what a table uses of a hash: its halves, folded.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Returns the buckets of a table in the order in which a hash is looked for: from the bucket that
/// the tag's lower bits name, upwards and around, each once.
#[inline]
fn probe(tag: u32, nr_buckets: usize) -> impl Iterator<Item = usize> {
    let mask = nr_buckets.saturating_sub(1);
    (0..nr_buckets).map(move |step| (tag as usize).wrapping_add(step) & mask)
}

/// A hash index in preserved memory: from the hash of a key to the index of its entry, which is
/// kept elsewhere. Open addressing, linear probing, a power of two of buckets.
///
/// A bucket is one 64-bit word and changes by one store, so a cut leaves the old state or the new
/// one, whatever it cuts. Who publishes an entry writes it first, who retracts it frees it after.
/// Growing is building another table ([`rebuild`](Self::rebuild)); to say which one is in use, in
/// one store, is up to the caller.
///
/// Words of the previous kernel are bounds-checked as they are met, and each walk ends after as
/// many steps as there are buckets.
///
/// # Invariants
///
/// The number of words is a power of two, and at least [`NR_BUCKETS_MIN`].
pub struct Buckets {
    words: PVec<SharedU64>,
    /// What refusals say of whose table it is.
    structure: &'static str,
    /// Whether there is a place where tombstones slow probes down.
    is_littered: bool,
}

/// An entry that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit<R> {
    /// Where the table refers to it.
    pub bucket: usize,
    /// Which one it is.
    pub index: u32,
    /// What the caller made of it.
    pub what: R,
}

/// Where an entry is, or may go to.
#[derive(Clone, Copy, Debug)]
pub enum Place<R> {
    /// There it is.
    Taken(Hit<R>),
    /// It is not there. The bucket for it, `None` if there is none left.
    Vacant(Option<usize>),
}

/// What was met on the way from the bucket that a hash names.
struct Walk<R> {
    /// The entry; or the last one that might have been it.
    hit: Result<Option<Hit<R>>, Refusal>,
    /// The first vacant bucket.
    vacant: Option<usize>,
    nr_tombstones: usize,
}

impl Buckets {
    /// Makes an index of a vector that was opened, with as many entries as there are elsewhere. If
    /// both are empty the index is new, and is given its first buckets.
    ///
    /// Cost: nothing, or that of clearing the first buckets. No word is touched.
    ///
    /// # Errors
    ///
    /// EINVAL if the number of buckets is not a power of two, or 0 although there are entries: the
    /// [`Refusal`] is logged. ENOMEM if the first buckets cannot be had.
    pub fn open(
        pass: &GatePass<'_>,
        structure: &'static str,
        mut words: PVec<SharedU64>,
        nr_entries: usize,
    ) -> Result<Self> {
        if words.is_empty() && nr_entries == 0 {
            // All at once.
            words.extend_zeroed_with(pass, NR_BUCKETS_MIN)?;
        }
        let nr_buckets = words.len();
        expect(
            structure,
            "nr_buckets",
            words.raw().id().into(),
            nr_buckets as u64,
            NR_BUCKETS_MIN as u64,
            Relation::MultipleOf,
            nr_buckets >= NR_BUCKETS_MIN && nr_buckets.is_power_of_two(),
        )
        .map_err(Refusal::report)?;
        // INVARIANT: just compared.
        Ok(Self {
            words,
            structure,
            is_littered: false,
        })
    }

    /// Returns the number of buckets.
    pub fn nr_buckets(&self) -> usize {
        self.words.len()
    }

    /// Finds an entry: the first one of that hash for which `is_it` returns something. `nr_entries`
    /// is how many entries there are; `is_it` is called with indices below it, and only with those
    /// of entries whose hash agrees in 32 bits.
    ///
    /// Cost: a few words of one or two cache lines on average, never more than there are buckets.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if nothing was found, but a word on the way refers to no entry, or `is_it`
    /// refused one, which might have been it.
    pub fn find<R>(
        &self,
        hash: u64,
        nr_entries: usize,
        is_it: impl FnMut(u32) -> Result<Option<R>, Refusal>,
    ) -> Result<Option<Hit<R>>, Refusal> {
        self.walk(hash, nr_entries, is_it).hit
    }

    /// Does in one walk what [`find`](Self::find), and, if there is no such entry, [`vacant`](Self::vacant)
    /// do.
    ///
    /// # Errors
    ///
    /// As from [`find`](Self::find).
    pub fn find_or_vacant<R>(
        &mut self,
        hash: u64,
        nr_entries: usize,
        is_it: impl FnMut(u32) -> Result<Option<R>, Refusal>,
    ) -> Result<Place<R>, Refusal> {
        let walk = self.walk(hash, nr_entries, is_it);
        self.is_littered |= walk.nr_tombstones > NR_TOMBSTONES_MAX;
        Ok(match walk.hit? {
            Some(hit) => Place::Taken(hit),
            None => Place::Vacant(walk.vacant),
        })
    }

    /// Returns the bucket that an entry of that hash is to go to, and which stays vacant until
    /// [`set`](Self::set); `None` if there is none left. Cost as of [`find`](Self::find).
    pub fn vacant(&mut self, hash: u64) -> Option<usize> {
        let walk = self.walk(hash, usize::MAX, |_| Ok(None::<()>));
        self.is_littered |= walk.nr_tombstones > NR_TOMBSTONES_MAX;
        walk.vacant
    }

    /// Returns whether there is room for `nr` entries more, of whatever hashes. Cost: as of
    /// [`find`](Self::find), for the `nr` next vacant words from where `hash` begins.
    pub fn has_room(&self, hash: u64, nr: usize) -> bool {
        let words = probe(tag(hash), self.words.len()).map(|bucket| self.word(bucket));
        words.filter(|word| word.is_vacant()).take(nr).count() == nr
    }

    /// Walks from bucket to bucket until an entry is found, or an empty bucket.
    #[inline]
    fn walk<R>(
        &self,
        hash: u64,
        nr_entries: usize,
        mut is_it: impl FnMut(u32) -> Result<Option<R>, Refusal>,
    ) -> Walk<R> {
        let mut walk = Walk {
            hit: Ok(None),
            vacant: None,
            nr_tombstones: 0,
        };
        for bucket in probe(tag(hash), self.words.len()) {
            let word = self.word(bucket);
            if word.is_vacant() {
                walk.vacant = walk.vacant.or(Some(bucket));
            }
            if word == Word::EMPTY {
                break;
            }
            if word == Word::TOMBSTONE {
                walk.nr_tombstones += 1;
                continue;
            }
            let index = match self.index(bucket, word, nr_entries) {
                Ok(index) => index,
                Err(refusal) => {
                    walk.hit = Err(refusal);
                    continue;
                }
            };
            if word.tag() != tag(hash) {
                continue;
            }
            match is_it(index) {
                Ok(Some(what)) => {
                    walk.hit = Ok(Some(Hit {
                        bucket,
                        index,
                        what,
                    }));
                    break;
                }
                Ok(None) => {}
                Err(refusal) => walk.hit = Err(refusal),
            }
        }
        walk
    }

    /// Lets a bucket refer to an entry, which is whole: one store, which publishes it. The bucket
    /// is one that [`vacant`](Self::vacant) returned for the same hash, or one that refers to an
    /// entry of the same key, which is replaced.
    ///
    /// # Errors
    ///
    /// EINVAL if there is no such bucket; ENOMEM for an index of 2^32 - 2 or more. Nothing has
    /// changed then.
    pub fn set(&self, bucket: usize, hash: u64, index: u32) -> Result {
        let word = Word::new(hash, index).ok_or(ENOMEM)?;
        self.words.get(bucket).ok_or(EINVAL)?.store(word.0);
        Ok(())
    }

    /// Lets a bucket refer to nothing: one store, which retracts the entry. Nothing happens if
    /// there is no such bucket.
    pub fn clear(&self, bucket: usize) {
        if let Some(word) = self.words.get(bucket) {
            word.store(Word::TOMBSTONE.0);
            self.sweep(bucket);
        }
    }

    /// Returns whether the index wants to be rebuilt before the next insertion, with so many
    /// entries: if it would be more than half full, or tombstones slow it down.
    pub fn is_crowded(&self, nr_entries: usize) -> bool {
        self.is_littered || self.is_small(nr_entries)
    }

    /// Goes on with the tombstones that there are, when the index could not be rebuilt without them; returns
    /// whether there is room for one entry more than so many.
    pub(crate) fn bear_tombstones(&mut self, nr_entries: usize) -> bool {
        self.is_littered = false;
        !self.is_small(nr_entries)
    }

    fn is_small(&self, nr_entries: usize) -> bool {
        nr_entries.saturating_add(1) > self.words.len() / 2
    }

    /// Fills another table with all entries, but no tombstones: with twice as many buckets if so
    /// many entries want it, otherwise with as many. This index stays as it is, and in use.
    ///
    /// Touches no entry: a table holds all that the next one needs. Words that refer to no entry
    /// are carried on. Cost: a pass over both tables.
    ///
    /// # Errors
    ///
    /// ENOMEM; EINVAL if so many words have the same tag that there would be no end to it (logged). With
    /// the vector, which is empty.
    // The vector comes back: nobody else could open it again.
    #[allow(clippy::result_large_err)]
    pub fn rebuild(
        &self,
        pass: &GatePass<'_>,
        mut words: PVec<SharedU64>,
        nr_entries: usize,
    ) -> Result<Self, (Error, PVec<SharedU64>)> {
        match self.fill(pass, &mut words, nr_entries) {
            // INVARIANT: a power of two that is not smaller.
            Ok(()) => Ok(Self {
                words,
                structure: self.structure,
                is_littered: false,
            }),
            Err(error) => {
                words.truncate_with(pass, 0);
                Err((error, words))
            }
        }
    }

    fn fill(&self, pass: &GatePass<'_>, words: &mut PVec<SharedU64>, nr_entries: usize) -> Result {
        let factor = if self.is_small(nr_entries) { 2 } else { 1 };
        let nr_buckets = self.words.len().checked_mul(factor).ok_or(ENOMEM)?;
        // What a cut may have left.
        words.truncate_with(pass, 0);
        words.extend_zeroed_with(pass, nr_buckets)?;
        let nr_steps_max = nr_buckets.saturating_mul(NR_STEPS_MAX);
        let mut nr_steps = 0;
        for (at, word) in (0u64..).zip(self.words.iter().map(|word| Word(word.load()))) {
            if word.is_vacant() {
                continue;
            }
            let free = probe(word.tag(), nr_buckets)
                .inspect(|_| nr_steps += 1)
                .filter_map(|bucket| words.get(bucket))
                .find(|word| word.load() == Word::EMPTY.0);
            let (found, limit) = (nr_steps as u64, nr_steps_max as u64);
            expect_at_most(self.structure, "nr_steps", at, found, limit)
                .map_err(Refusal::report)?;
            // There are at least as many buckets as before.
            free.ok_or(EINVAL)?.store(word.0);
        }
        Ok(())
    }

    /// Goes through the entries, of which there are `nr_entries` elsewhere, in no order. Words that refer
    /// to none are passed by.
    pub fn indices(&self, nr_entries: usize) -> impl Iterator<Item = u32> + '_ {
        let words = self.words.iter().map(|word| Word(word.load()));
        words
            .filter(|word| !word.is_vacant())
            .filter_map(|word| word.number().checked_sub(1))
            .filter(move |&index| (index as usize) < nr_entries)
    }

    /// Returns whether the table refers to nothing. Cost: a pass over it.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| Word(word.load()).is_vacant())
    }

    /// Returns the number of pages that the table has.
    pub fn nr_pages(&self) -> usize {
        self.words.nr_pages()
    }

    /// Returns the vector, to be given back.
    pub fn into_words(self) -> PVec<SharedU64> {
        self.words
    }

    /// Empties the tombstones up to `bucket`, if no chain of probes goes on behind them; each by one
    /// store, after which the table is as good as before.
    fn sweep(&self, bucket: usize) {
        let mask = self.words.len().saturating_sub(1);
        let mut at = bucket;
        if self.word(at.wrapping_add(1) & mask) != Word::EMPTY {
            return;
        }
        for _ in 0..self.words.len() {
            match self.words.get(at) {
                Some(word) if word.load() == Word::TOMBSTONE.0 => word.store(Word::EMPTY.0),
                _ => return,
            }
            at = at.wrapping_sub(1) & mask;
        }
    }

    #[inline]
    fn word(&self, bucket: usize) -> Word {
        Word(self.words.get(bucket).map_or(0, SharedU64::load))
    }

    /// Returns the index that a word refers to, one of an entry.
    #[inline]
    fn index(&self, bucket: usize, word: Word, nr_entries: usize) -> Result<u32, Refusal> {
        let (at, number) = (bucket as u64, u64::from(word.number()));
        expect_at_least(self.structure, "bucket", at, number, 1)?;
        expect_at_most(self.structure, "bucket", at, number, nr_entries as u64)?;
        Ok(word.number().wrapping_sub(1))
    }
}

impl core::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.words.fmt(f)
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_vmalloc_buckets)
)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_visits_each_bucket_once() {
        let mut seen = [0u32; 64];
        for bucket in probe(0xdead_beef, 64) {
            seen[bucket] += 1;
        }
        assert_eq!(seen, [1u32; 64]);
        assert_eq!(probe(0xdead_beef, 64).next(), Some(0x2f));
        assert_eq!(probe(1, 0).count(), 0);
    }

    #[test]
    fn a_word_holds_tag_and_number() -> Result {
        let hash = 0x1234_5678_0000_00ff;
        let word = Word::new(hash, 6).ok_or(EINVAL)?;
        assert_eq!(word.0, 0x1234_5687_0000_0007);
        assert_eq!(word.tag(), tag(hash));
        assert_eq!(word.number(), 7);
        assert!(!word.is_vacant());
        Ok(())
    }

    #[test]
    fn no_word_of_an_entry_is_vacant() {
        // The tag that is all ones, and the largest index: one below what a tombstone would be.
        let hash = 0xffff_ffff;
        assert_eq!(tag(hash), u32::MAX);
        assert_eq!(Word::new(hash, u32::MAX), None);
        assert_eq!(Word::new(hash, u32::MAX - 1), None);
        // The last index that there is.
        assert_eq!(Word::new(hash, u32::MAX - 2), Some(Word(u64::MAX - 1)));
        assert_eq!(Word::new(0, 0), Some(Word(1)));
        assert!(Word::EMPTY.is_vacant());
        assert!(Word::TOMBSTONE.is_vacant());
    }
}
