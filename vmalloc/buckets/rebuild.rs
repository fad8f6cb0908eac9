// SPDX-License-Identifier: GPL-2.0

//! From one table to the next: with more buckets, or without tombstones.

use kernel::prelude::*;

use kpreserve_kho::{
    validate::expect_at_most,
    GatePass,
    Refusal,
    SharedU64, //
};

use super::word::{
    probe,
    Word, //
};
use super::Buckets;
use crate::pvec::PVec;

/// A table is refused that would take more steps than that for each bucket to be rebuilt: of sound ones, all but a
/// few entries are put down at the first or second step; even of the same tag, a thousand are accepted.
const NR_STEPS_MAX: usize = 256;

impl Buckets {
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
}
