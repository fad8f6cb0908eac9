// SPDX-License-Identifier: GPL-2.0

//! All keys go at once, and the memory with them.
//!
//! | step | what a cut behind it leaves |
//! | --- | --- |
//! | the idle table is emptied, and filled with empty buckets | the map as it was; whoever opens it empties that table |
//! | the state says that the other table is in use, and `CLEARING`: this decides | an empty map, whose keys and values whoever opens it gives back |
//! | the old table, the stack, the keys, the values are given back | the same |
//! | the state does not say `CLEARING` any more | an empty map |
//!
//! A map that has lost its last key does the same of its own accord, if it has more than a few
//! pages. So what it costs to give them back has been paid by the keys that came and went since it
//! last did.

use kernel::prelude::*;

use super::open::S;
use super::*;
use crate::buckets::NR_BUCKETS_MIN;

/// So many pages a map without keys keeps, and those of a few keys and values more: one that comes
/// and goes must cost no run, however large it is.
const NR_PAGES_KEPT: usize = 16;
const NR_KEPT: usize = 4;

impl<K: Preservable + Copy, V: Preservable> PMap<K, V> {
    /// Takes all keys away: all or none, wherever a kexec stops it. Their memory is given back. May
    /// sleep. Cost: a pass over all keys and values, which are cleared.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY once the framework is frozen; the map is as it was.
    pub fn clear(&mut self) -> Result {
        let pass = self.head.raw().enter()?;
        self.clear_with(&pass)
    }

    /// Does what [`clear`](Self::clear) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, as from [`clear`](Self::clear).
    pub fn clear_with(&mut self, pass: &GatePass<'_>) -> Result {
        let idle = self.idle.as_mut().ok_or(EINVAL)?;
        // It may have been a large one.
        give_back(pass, idle);
        idle.extend_zeroed_with(pass, NR_BUCKETS_MIN)?;
        let idle = self.idle.take().ok_or(EINVAL)?;
        let empty = Buckets::open(pass, S, idle, 0)?;
        // This decides.
        let next = self.ser()?.state.load() ^ 1;
        self.ser()?.state.store(next | MapSer::CLEARING);
        self.idle = Some(core::mem::replace(&mut self.buckets, empty).into_words());
        self.finish_clearing(pass)
    }

    /// Forgets keys and values, after a table without any has taken the place of theirs, which is
    /// idle.
    pub(super) fn finish_clearing(&mut self, pass: &GatePass<'_>) -> Result {
        if let Some(idle) = &mut self.idle {
            give_back(pass, idle);
        }
        // The stack first: it may not name what is not there.
        give_back(pass, &mut self.free);
        give_back(pass, &mut self.keys);
        give_back(pass, &mut self.values);
        self.nr_free_inherited = 0;
        let state = self.ser()?.state.load();
        self.ser()?.state.store(state & 1);
        Ok(())
    }

    /// Returns whether the map has lost its last key and has memory to give back.
    #[inline]
    pub(super) fn is_to_shrink(&self) -> bool {
        // As many are free as there are: without a look at the stack, which a removal has no time
        // for.
        self.free.len() >= self.keys.len()
            && !self.is_miscounted
            && self.nr_pages() > Self::NR_PAGES_KEPT
    }

    const NR_PAGES_KEPT: usize = NR_PAGES_KEPT
        + NR_KEPT
            * (size_of::<K>() + size_of::<V>()).div_ceil(kpreserve_kho::phys::PAGE_SIZE_BYTES);

    /// Gives back the memory of a map without keys. If that fails, the next removal tries again.
    #[cold]
    pub(super) fn shrink(&mut self, pass: &GatePass<'_>) {
        // The number of keys follows from the stack of free indices, which the previous kernel may
        // have damaged. Only the table proves that there are none.
        if !self.buckets.is_empty() {
            self.is_miscounted = true;
            return;
        }
        let _ = self.clear_with(pass);
    }
}

/// Empties a vector and gives its memory back.
fn give_back<T: Preservable>(pass: &GatePass<'_>, vector: &mut PVec<T>) {
    vector.truncate_with(pass, 0);
    vector.raw_mut().release_runs(pass, 0);
}
