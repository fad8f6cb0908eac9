// SPDX-License-Identifier: GPL-2.0

//! Which of the names that were inherited somebody has opened in this boot.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};

/// A bit for each entry of the dictionary that was inherited. How many names nobody has opened is
/// counted by the [`Tally`](crate::tally::Tally).
///
/// A name that is made in this boot counts for nothing, whether its entry is a new one or was
/// inherited free. One that is taken away or renamed is noted like one that is opened, before its
/// entry goes.
pub(crate) struct OpenedNames {
    words: KVVec<Atomic<u64>>,
}

impl OpenedNames {
    /// Notes nothing of `nr_entries` entries. A bit an entry.
    pub(crate) fn none(nr_entries: usize) -> Result<Self> {
        let nr_words = nr_entries.div_ceil(64);
        let mut words = KVVec::with_capacity(nr_words, GFP_KERNEL)?;
        for _ in 0..nr_words {
            words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self { words })
    }

    /// Notes that the name of the entry `index` was opened, or made, in this boot. Returns whether
    /// nothing was noted of that entry before. Several may do this at once.
    pub(crate) fn note(&self, index: u32) -> bool {
        let Some(word) = self.words.get(index as usize / 64) else {
            return false;
        };
        let bit = 1u64 << (index % 64);
        let mut noted = word.load(Relaxed);
        while noted & bit == 0 {
            match word.cmpxchg(noted, noted | bit, Full) {
                Ok(_) => return true,
                Err(now) => noted = now,
            }
        }
        false
    }
}
