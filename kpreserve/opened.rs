// SPDX-License-Identifier: GPL-2.0

//! Which of the names that were inherited somebody has opened in this boot.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};

/// A bit for each entry of the dictionary that was inherited, and a count of the names that nobody
/// has opened.
///
/// A name that is made in this boot counts for nothing, whether its entry is a new one or was
/// inherited free. One that is taken away or renamed is noted like one that is opened, before its
/// entry goes.
pub(crate) struct OpenedNames {
    words: KVVec<Atomic<u64>>,
    nr_unopened: Atomic<u64>,
}

impl OpenedNames {
    /// Notes nothing of `nr_names` names in `nr_entries` entries. A bit an entry.
    pub(crate) fn none(nr_entries: usize, nr_names: u64) -> Result<Self> {
        let nr_words = nr_entries.div_ceil(64);
        let mut words = KVVec::with_capacity(nr_words, GFP_KERNEL)?;
        for _ in 0..nr_words {
            words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            words,
            // A damaged counter says no more than that.
            nr_unopened: Atomic::new(nr_names.min(nr_entries as u64)),
        })
    }

    /// Notes that the name of the entry `index` was opened. Returns how many have not been, if that
    /// has changed. Several may do this at once.
    pub(crate) fn note(&self, index: u32) -> Option<u64> {
        if !self.note_made(index) {
            return None;
        }
        let mut nr = self.nr_unopened.load(Relaxed);
        loop {
            let less = nr.saturating_sub(1);
            match self.nr_unopened.cmpxchg(nr, less, Full) {
                Ok(_) => return Some(less),
                Err(now) => nr = now,
            }
        }
    }

    /// Notes that the entry `index` has a name that was made in this boot. Returns whether nothing
    /// was noted of that entry before.
    pub(crate) fn note_made(&self, index: u32) -> bool {
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

    /// Returns how many names nobody has opened.
    pub(crate) fn nr_unopened(&self) -> u64 {
        self.nr_unopened.load(Relaxed)
    }
}
