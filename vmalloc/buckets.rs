// SPDX-License-Identifier: GPL-2.0

//! Hash to the index of an entry that is kept elsewhere.
//!
//! What stands in a bucket is in `buckets/word.rs`, how one is looked for in `buckets/walk.rs`,
//! whether words and entries agree in `buckets/check.rs`, how a table is replaced by another one in
//! `buckets/rebuild.rs`.

use kernel::prelude::*;

use kpreserve_kho::{
    refusal::Relation,
    validate::expect,
    GatePass,
    Refusal,
    SharedU64, //
};

use crate::pvec::PVec;

mod check;
mod rebuild;
mod walk;
mod word;

use word::{
    probe,
    tag,
    Word, //
};

/// Buckets of a new table.
pub const NR_BUCKETS_MIN: usize = 64;

/// So many tombstones on the way to a free bucket are too many.
const NR_TOMBSTONES_MAX: usize = 32;

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
}

impl core::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.words.fmt(f)
    }
}
