// SPDX-License-Identifier: GPL-2.0

//! Whether words and entries agree, before something is done that relies on it.
//!
//! A word has the tag and the number of an entry; the entry has the hash that the tag is made of.
//! So one of the two gives the other away if a bit of it flipped. Unless the tag is 0, no single
//! bit makes an empty bucket of a word, which a walk would end at.

use kpreserve_kho::{
    refusal::Relation,
    validate::expect,
    Refusal, //
};

use super::word::{
    probe,
    tag,
    Word, //
};
use super::Buckets;

impl Buckets {
    /// Checks that no entry of that hash can be meant by the words on the way, after it was not
    /// found: that each of them leads to an entry of its tag. `hash_of` returns the hash of an
    /// entry.
    ///
    /// Cost: that of [`find`](Self::find), and a look at the entry of each word on the way.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first word that does not.
    pub fn expect_absent(
        &self,
        hash: u64,
        nr_entries: usize,
        hash_of: impl Fn(u32) -> Option<u64>,
    ) -> Result<(), Refusal> {
        for bucket in probe(tag(hash), self.words.len()) {
            let word = self.word(bucket);
            if word == Word::EMPTY {
                break;
            }
            self.expect_sound(bucket, word, nr_entries, &hash_of)?;
        }
        Ok(())
    }

    /// Checks of each word of the table that it leads to an entry of its tag: before what depends
    /// on all of them. Cost: a pass over the table, and over the entries.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first word that does not.
    pub fn expect_whole(
        &self,
        nr_entries: usize,
        hash_of: impl Fn(u32) -> Option<u64>,
    ) -> Result<(), Refusal> {
        for (bucket, word) in self.words.iter().enumerate() {
            self.expect_sound(bucket, Word(word.load()), nr_entries, &hash_of)?;
        }
        Ok(())
    }

    /// Goes through the entries in no order. Words that lead to none of their tag are logged, and
    /// passed by; `hash_of` returns the hash of an entry, or is `None` if all words are known to be
    /// sound.
    pub(crate) fn sound_indices<'a>(
        &'a self,
        nr_entries: usize,
        hash_of: Option<impl Fn(u32) -> Option<u64> + 'a>,
    ) -> impl Iterator<Item = u32> + 'a {
        let words = (0..self.words.len()).map(|bucket| (bucket, self.word(bucket)));
        let words = words.filter(|(_, word)| !word.is_vacant());
        words.filter_map(move |(bucket, word)| {
            let checked = match &hash_of {
                Some(hash_of) => self.expect_sound(bucket, word, nr_entries, hash_of),
                None => Ok(()),
            };
            checked.map_err(Refusal::report).ok()?;
            word.number().checked_sub(1)
        })
    }

    fn expect_sound(
        &self,
        bucket: usize,
        word: Word,
        nr_entries: usize,
        hash_of: impl Fn(u32) -> Option<u64>,
    ) -> Result<(), Refusal> {
        if word.is_vacant() {
            return Ok(());
        }
        let index = self.index(bucket, word, nr_entries)?;
        let expected = hash_of(index).map(tag);
        expect(
            self.structure,
            "tag",
            bucket as u64,
            word.tag().into(),
            expected.unwrap_or(0).into(),
            Relation::Equal,
            expected == Some(word.tag()),
        )
    }
}
