// SPDX-License-Identifier: GPL-2.0

//! A hash map.
//!
//! Keys and values lie in two areas of their own, at the same index; a table of [`Buckets`] leads from
//! the hash of a key to it. What was removed is free for the next one: free indices stand on a stack.
//! `pmap/change.rs` and `pmap/clear.rs` say in which order all these change, `pmap/open.rs` what is
//! done with what a cut left; the stack is in `pmap/stack.rs`.

use kernel::prelude::*;

use kpreserve_kho::hash::{
    fnv1a,
    mix, //
};
use kpreserve_kho::{
    GatePass,
    Preservable,
    Refusal,
    SharedU64, //
};

use crate::abi::MapSer;
use crate::area::Area;
use crate::buckets::{
    Buckets,
    Hit, //
};
use crate::pvec::PVec;

mod change;
mod clear;
mod head;
mod open;
mod stack;

pub use head::MapHeadSer;

/// The areas of a map.
pub struct MapAreas<K: Preservable, V: Preservable> {
    /// One element: what the map is.
    pub head: PVec<MapHeadSer<K, V>>,
    /// The keys.
    pub keys: PVec<K>,
    /// The values.
    pub values: PVec<V>,
    /// The stack of free indices.
    pub free: PVec<SharedU64>,
    /// The two tables, of which one is in use.
    pub buckets: [PVec<SharedU64>; 2],
}

/// A hash map in preserved memory. Owned like a `HashMap`: what writes takes `&mut self`, and there is no
/// lock inside.
///
/// Keys are compared, and hashed, by their bytes, with a seed of the map's own. Opening costs per run;
/// no key and no value is touched. A cut at any instruction leaves the map as it was before a change, or
/// as it is after it.
///
/// Values can be changed in place ([`get_mut`](Self::get_mut)): then the last completed store crosses, as
/// for elements of an area. [`insert`](Self::insert) of a key that is there replaces its value whole.
///
/// A map that has lost its last key gives its memory back, but for a few pages; until then it keeps
/// what it has for keys to come.
///
/// After the framework froze, what changes the map returns EBUSY; the forms with `_with`, for those who
/// hold a [`GatePass`], do not look at the gate.
///
/// Dropping a map closes it; [`discard`](Self::discard) frees it.
///
/// # Invariants
///
/// `keys` and `values` have as many elements as each other. Each index below is in use, which exactly one
/// bucket says, or free, which exactly one place of `free` says; what is free is zeros. While an
/// insertion is made, the topmost place of `free` may name the index behind the last.
pub struct PMap<K: Preservable + Copy, V: Preservable> {
    head: PVec<MapHeadSer<K, V>>,
    keys: PVec<K>,
    values: PVec<V>,
    free: PVec<SharedU64>,
    buckets: Buckets,
    /// The table that is not in use: empty; `None` for the moment in which they change places.
    idle: Option<PVec<SharedU64>>,
    seed: u64,
    /// So many places of the stack, from its bottom on, are as the previous kernel left them.
    nr_free_inherited: usize,
    /// Whether each word of the table is known to lead to a key of its tag. Else a key is missed
    /// only after the words on its way were compared with the keys.
    is_whole: bool,
    /// There were keys although all indices were said to be free: the number of keys is not to be
    /// trusted.
    is_miscounted: bool,
}

impl<K: Preservable + Copy, V: Preservable> PMap<K, V> {
    /// Returns the number of keys. (If the previous kernel damaged the stack of free indices, those that it
    /// lost are counted.)
    pub fn len(&self) -> usize {
        let nr_free = match self.top() {
            // It is free, but not there.
            Some(top) if top as usize >= self.keys.len() => self.free.len() - 1,
            _ => self.free.len(),
        };
        self.keys.len().saturating_sub(nr_free)
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of pages that the map has in all.
    pub fn nr_pages(&self) -> usize {
        let idle = self.idle.as_ref().map_or(0, |idle| idle.nr_pages());
        let vectors = self.keys.nr_pages() + self.values.nr_pages() + self.free.nr_pages();
        self.head.nr_pages() + vectors + self.buckets.nr_pages() + idle
    }

    /// Returns the head's area, which the map is found by: for its handle.
    pub fn head(&self) -> &Area<MapHeadSer<K, V>> {
        &self.head
    }

    /// Returns the value of a key. Cost: a bucket, the key and the value, a cache line each.
    ///
    /// What the previous kernel damaged on the way there is logged, with field and value, and passed over.
    /// For a key that is not there, that takes a look at each key on the way, until the table has
    /// been rebuilt in this boot.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(self.index_of(key)?)
    }

    /// Returns the value of a key, to be changed in place; otherwise like [`get`](Self::get).
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let index = self.index_of(key)?;
        self.values.get_mut(index)
    }

    /// Returns whether a key is there. Cost: a bucket and the key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.index_of(key).is_some()
    }

    /// Goes through keys and values, in no order. Cost: a pass over the table, and over what it refers to.
    ///
    /// What the previous kernel damaged is logged and passed over, as by [`get`](Self::get).
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + '_ {
        let hash_of = (!self.is_whole).then_some(|index| self.hash_of(index));
        let indices = self.buckets.sound_indices(self.keys.len(), hash_of);
        indices.filter_map(|index| {
            let index = index as usize;
            Some((self.keys.get(index)?, self.values.get(index)?))
        })
    }

    /// Ends the map and frees its memory. May sleep.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen; the map is closed then, as if it had been dropped.
    pub fn discard(self) -> Result {
        let pass = self.head.raw().enter()?;
        self.ser()?.state.store(MapSer::ENDING);
        // Whoever opens the map after a cut finishes this, so the head goes last. Nothing fails from here
        // on, also if somebody has begun to freeze: the map is over.
        for vector in [self.free, self.buckets.into_words()] {
            vector.discard_with(&pass);
        }
        if let Some(idle) = self.idle {
            idle.discard_with(&pass);
        }
        self.keys.discard_with(&pass);
        self.values.discard_with(&pass);
        self.head.discard_with(&pass);
        Ok(())
    }

    fn ser(&self) -> Result<&MapSer> {
        self.head.get(0).map(MapHeadSer::ser).ok_or(EINVAL)
    }

    fn index_of(&self, key: &K) -> Option<usize> {
        match self.find_sure(key) {
            Ok(hit) => hit.map(|hit| hit.index as usize),
            Err(refusal) => {
                refusal.report();
                None
            }
        }
    }

    fn find(&self, key: &K) -> Result<Option<Hit<()>>, Refusal> {
        self.buckets.find(self.hash(key), self.keys.len(), |index| {
            let found = self.keys.get(index as usize);
            Ok(found
                .is_some_and(|found| bytes(found) == bytes(key))
                .then_some(()))
        })
    }

    /// Finds a key, and misses none whose word is damaged.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the key is not found, but a word on the way might be its own.
    fn find_sure(&self, key: &K) -> Result<Option<Hit<()>>, Refusal> {
        let hit = self.find(key)?;
        if hit.is_none() {
            self.expect_absent(self.hash(key))?;
        }
        Ok(hit)
    }

    /// Checks that no key of that hash can be meant by the words on the way, after it was not
    /// found.
    fn expect_absent(&self, hash: u64) -> Result<(), Refusal> {
        if self.is_whole {
            return Ok(());
        }
        self.buckets
            .expect_absent(hash, self.keys.len(), |index| self.hash_of(index))
    }

    /// Checks all words of the table, unless that has been done.
    fn expect_whole(&mut self) -> Result<(), Refusal> {
        if !self.is_whole {
            self.buckets
                .expect_whole(self.keys.len(), |index| self.hash_of(index))?;
            self.is_whole = true;
        }
        Ok(())
    }

    fn hash_of(&self, index: u32) -> Option<u64> {
        self.keys.get(index as usize).map(|key| self.hash(key))
    }

    /// Hashes a key: by words where it consists of such, which is the usual case, and faster.
    fn hash(&self, key: &K) -> u64 {
        let bytes = bytes(key);
        let mut words = bytes.chunks_exact(8);
        let mut hash = self.seed;
        for word in &mut words {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            hash = mix(&[hash, word]);
        }
        match words.remainder() {
            [] => hash,
            rest => mix(&[fnv1a(hash, rest)]),
        }
    }
}

/// Returns the bytes of a key.
fn bytes<K: Preservable + Copy>(key: &K) -> &[u8] {
    crate::raw::bytes_of(key)
}

impl<K: Preservable + Copy, V: Preservable> core::fmt::Debug for PMap<K, V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PMap")
            .field("id", &self.head.raw().id())
            .field("len", &self.len())
            .field("nr_buckets", &self.buckets.nr_buckets())
            .finish()
    }
}
