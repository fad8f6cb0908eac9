// SPDX-License-Identifier: GPL-2.0

//! A bucket's word, and the order in which buckets are gone through.

/// What stands in a bucket: 0 if it is empty, all ones if it was used and is to be passed by,
/// otherwise the tag of a hash in the upper half, and one more than the index of an entry in the
/// lower.
///
/// That the tag is all of the hash that a table uses makes two things cheap: entries of other names
/// are passed by unread, and a table is rebuilt from the old one alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const EMPTY: Word = Word(0);
    pub(super) const TOMBSTONE: Word = Word(u64::MAX);

    /// Makes the word of an entry; `None` if the index is too large for one.
    pub(super) fn new(hash: u64, index: u32) -> Option<Self> {
        // The last one would make a tombstone of the tag that is all ones.
        let number = index.checked_add(1).filter(|&number| number < u32::MAX)?;
        Some(Self((u64::from(tag(hash)) << 32) | u64::from(number)))
    }

    #[inline]
    pub(super) fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn number(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(super) fn is_vacant(self) -> bool {
        self == Self::EMPTY || self == Self::TOMBSTONE
    }
}

/// Returns what a table uses of a hash: its halves, folded.
#[inline]
pub(super) fn tag(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Returns the buckets of a table in the order in which a hash is looked for: from the bucket that
/// the tag's lower bits name, upwards and around, each once.
#[inline]
pub(super) fn probe(tag: u32, nr_buckets: usize) -> impl Iterator<Item = usize> {
    let mask = nr_buckets.saturating_sub(1);
    (0..nr_buckets).map(move |step| (tag as usize).wrapping_add(step) & mask)
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_vmalloc_buckets)
)]
mod tests {
    use super::*;

    use kernel::prelude::*;

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
