// SPDX-License-Identifier: GPL-2.0

//! From bucket to bucket, until an entry is found, or an empty bucket.

use kpreserve_kho::{
    validate::{
        expect_at_least,
        expect_at_most, //
    },
    Refusal, //
};

use super::word::{
    probe,
    tag,
    Word, //
};
use super::{
    Buckets,
    Hit, //
};

/// What was met on the way from the bucket that a hash names.
pub(super) struct Walk<R> {
    /// The entry; or the last one that might have been it.
    pub(super) hit: Result<Option<Hit<R>>, Refusal>,
    /// The first vacant bucket.
    pub(super) vacant: Option<usize>,
    pub(super) nr_tombstones: usize,
}

impl Buckets {
    /// Walks from bucket to bucket until an entry is found, or an empty bucket.
    #[inline]
    pub(super) fn walk<R>(
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

    /// Returns the index that a word refers to, one of an entry.
    #[inline]
    pub(super) fn index(
        &self,
        bucket: usize,
        word: Word,
        nr_entries: usize,
    ) -> Result<u32, Refusal> {
        let (at, number) = (bucket as u64, u64::from(word.number()));
        expect_at_least(self.structure, "bucket", at, number, 1)?;
        expect_at_most(self.structure, "bucket", at, number, nr_entries as u64)?;
        Ok(word.number().wrapping_sub(1))
    }
}
