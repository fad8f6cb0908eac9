// SPDX-License-Identifier: GPL-2.0

//! What changes a map, one store after the other.
//!
//! One store of a bucket decides; what is on the stack of free indices says what else there is to do:
//!
//! | call | before | the store | after |
//! | --- | --- | --- | --- |
//! | insert | the new index is on top; its key and value are written | bucket := new | pop |
//! | replace | the same, then the old index is pushed | bucket := new | the new one's place := old, pop; clear old |
//! | remove | the index is pushed | bucket := tombstone | clear it |
//!
//! So at most the two topmost places are in doubt after a cut, and the table says of each whether it is
//! in use ([`recover`](super::PMap::recover)).

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};

use super::stack::NR_FREE_ROOM;
use super::*;
use crate::buckets::Place;

impl<K: Preservable + Copy, V: Preservable> PMap<K, V> {
    /// Gives a value to a key; returns whether it had one, which is replaced. May sleep; at once if there is
    /// room.
    ///
    /// Cost: O(1) amortised; when the table is half full, it is rebuilt without touching keys or values.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY once the framework is frozen, EINVAL if what the previous kernel left is damaged on the
    /// way to the key (logged): the map is as it was.
    pub fn insert(&mut self, key: K, value: V) -> Result<bool> {
        if self.has_room() {
            self.head.raw().look()?;
            return self.put(None, key, value);
        }
        let pass = self.head.raw().enter()?;
        self.insert_with(&pass, key, value)
    }

    /// Does what [`insert`](Self::insert) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, EINVAL, as from [`insert`](Self::insert).
    pub fn insert_with(&mut self, pass: &GatePass<'_>, key: K, value: V) -> Result<bool> {
        self.put(Some(pass), key, value)
    }

    /// Returns whether a key more needs no run and no other table.
    fn has_room(&self) -> bool {
        // As many as that were never in the table, if some are free: this may say no without need.
        let nr = self.keys.len();
        nr < self.keys.capacity()
            && nr < self.values.capacity()
            && self.has_room_to_free()
            && !self.buckets.is_crowded(nr)
    }

    /// Inserts; without a pass, into the room that there is.
    fn put(&mut self, pass: Option<&GatePass<'_>>, key: K, value: V) -> Result<bool> {
        let hash = self.hash(&key);
        let keys = &self.keys;
        let place = self.buckets.find_or_vacant(hash, keys.len(), |index| {
            let found = keys.get(index as usize);
            Ok(found
                .is_some_and(|found| bytes(found) == bytes(&key))
                .then_some(()))
        });
        let place = place.map_err(Refusal::report)?;
        if let Some(pass) = pass {
            self.free.reserve_with(pass, NR_FREE_ROOM)?;
        }
        let (old, bucket) = match place {
            Place::Taken(hit) => (Some(hit.index), hit.bucket),
            Place::Vacant(bucket) => {
                self.expect_absent(hash).map_err(Refusal::report)?;
                let is_rebuilt = pass.map_or(Ok(false), |pass| self.make_buckets(pass))?;
                let bucket = if is_rebuilt {
                    self.buckets.vacant(hash)
                } else {
                    bucket
                };
                (None, bucket.ok_or(ENOMEM)?)
            }
        };
        let new = self.place_free(pass, key, value)?;
        if let Some(old) = old {
            self.push_free(old)?;
        }
        // Key and value are whole, and the stack is ready: this decides.
        if let Err(error) = self.buckets.set(bucket, hash, new) {
            if old.is_some() {
                self.pop_free();
            }
            self.wipe(new);
            return Err(error);
        }
        if let Some(old) = old {
            let place = self.free.len().saturating_sub(2);
            if let Some(free) = self.free.get(place) {
                free.store(old.into());
            }
            self.pop_free();
            self.wipe(old);
            return Ok(true);
        }
        self.pop_free();
        Ok(false)
    }

    /// Takes a key away and returns its value, `None` if it is not there. May sleep; at once if
    /// there is room for what is free, unless it is the last key.
    ///
    /// With the last key the map gives its memory back, but for a few pages, as
    /// [`clear`](Self::clear) does, [reserved](Self::reserve) room included. Cost: O(1) amortised.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY once the framework is frozen, EINVAL if what the previous kernel left is damaged on the
    /// way to the key (logged): the map is as it was.
    pub fn remove(&mut self, key: &K) -> Result<Option<V>> {
        if self.has_room_to_free() {
            self.head.raw().look()?;
            let taken = self.take(None, key)?;
            if self.is_to_shrink() {
                // If it freezes just then, the memory stays for now.
                if let Ok(pass) = self.head.raw().enter() {
                    self.shrink(&pass);
                }
            }
            return Ok(taken);
        }
        let pass = self.head.raw().enter()?;
        self.remove_with(&pass, key)
    }

    /// Does what [`remove`](Self::remove) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, EINVAL, as from [`remove`](Self::remove).
    pub fn remove_with(&mut self, pass: &GatePass<'_>, key: &K) -> Result<Option<V>> {
        let taken = self.take(Some(pass), key)?;
        if self.is_to_shrink() {
            self.shrink(pass);
        }
        Ok(taken)
    }

    /// Removes; without a pass, if the stack has room.
    fn take(&mut self, pass: Option<&GatePass<'_>>, key: &K) -> Result<Option<V>> {
        let Some(hit) = self.find_sure(key).map_err(Refusal::report)? else {
            return Ok(None);
        };
        if let Some(pass) = pass {
            self.free.reserve_with(pass, NR_FREE_ROOM)?;
        }
        let value = self.values.raw_mut().read_element::<V>(hit.index as usize);
        if self.free.len() >= self.keys.len() {
            // This one is not among them, so one of them is damaged. More than there can be would be refused
            // when the map is opened again.
            self.pop_free();
        }
        self.push_free(hit.index)?;
        self.buckets.clear(hit.bucket);
        self.wipe(hit.index);
        Ok(value)
    }

    /// Makes room for `additional` keys more, so that inserting them needs no memory, unless the
    /// map becomes empty in between; if there is some, it may be used to clear tombstones. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY once the framework is frozen, EINVAL if the table wants to be rebuilt and a
    /// word of it is damaged (logged): the map is as it was.
    pub fn reserve(&mut self, additional: usize) -> Result {
        let pass = self.head.raw().enter()?;
        self.keys.reserve_with(&pass, additional)?;
        self.values.reserve_with(&pass, additional)?;
        self.free.reserve_with(&pass, NR_FREE_ROOM)?;
        let wanted = self.len().checked_add(additional).ok_or(ENOMEM)?;
        while self.buckets.is_crowded(wanted) {
            self.rebuild(&pass, wanted)?;
        }
        Ok(())
    }

    /// Takes a table into use that is large enough and without tombstones, if this one is not; returns
    /// whether it did.
    fn make_buckets(&mut self, pass: &GatePass<'_>) -> Result<bool> {
        let nr_keys = self.len();
        if !self.buckets.is_crowded(nr_keys) {
            return Ok(false);
        }
        match self.rebuild(pass, nr_keys) {
            Ok(()) => Ok(true),
            // Slower than it might be, but there is room.
            Err(_) if self.buckets.bear_tombstones(nr_keys) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rebuild(&mut self, pass: &GatePass<'_>, nr_keys: usize) -> Result {
        // Where a damaged word belongs, the new table could not tell.
        self.expect_whole().map_err(Refusal::report)?;
        let idle = self.idle.take().ok_or(EINVAL)?;
        let next = self.buckets.rebuild(pass, idle, nr_keys);
        let next = match next {
            Ok(next) => next,
            Err((error, idle)) => {
                self.idle = Some(idle);
                return Err(error);
            }
        };
        let state = self.ser()?.state.load() ^ 1;
        // It is whole: this takes it into use.
        self.ser()?.state.store(state);
        let mut old = core::mem::replace(&mut self.buckets, next).into_words();
        old.truncate_with(pass, 0);
        self.idle = Some(old);
        Ok(())
    }

    /// Writes key and value to a free index, which stays on top of the stack, and returns it. Without a
    /// pass, in the room that there is.
    fn place_free(&mut self, pass: Option<&GatePass<'_>>, key: K, value: V) -> Result<u32> {
        let nr = self.keys.len();
        let top = self.top_unused()?;
        if let Some(index) = top.filter(|&top| top != nr as u64) {
            self.check_free(index).map_err(Refusal::report)?;
            *self.values.get_mut(index as usize).ok_or(EINVAL)? = value;
            *self.keys.get_mut(index as usize).ok_or(EINVAL)? = key;
            return Ok(index as u32);
        }
        let last = u32::try_from(nr).map_err(|_| ENOMEM)?;
        if let Some(pass) = pass {
            self.values
                .reserve_with(pass, (nr + 1).saturating_sub(self.values.len()))?;
            self.keys.reserve_with(pass, 1)?;
        }
        // Nothing fails from here on: an index that is not there stays on the stack for this change only.
        if top.is_none() {
            self.push_free(last)?;
        }
        // The values first: there are as many as keys, or one more.
        match self.values.get_mut(nr) {
            Some(place) => *place = value,
            None => self
                .values
                .push_within_capacity(value)
                .map_err(|_| ENOMEM)?,
        }
        self.keys.push_within_capacity(key).map_err(|_| ENOMEM)?;
        Ok(last)
    }

    /// Clears what is free, after everything that was stored before.
    pub(super) fn wipe(&mut self, index: u32) {
        smp_mb(Write);
        let at = index as usize;
        self.keys.raw_mut().clear_element::<K>(at);
        self.values.raw_mut().clear_element::<V>(at);
    }
}
