// SPDX-License-Identifier: GPL-2.0

//! From what the previous kernel left to a map.

use kernel::prelude::*;

use kpreserve_kho::validate::{
    expect_at_most,
    expect_equal, //
};

use super::*;

pub(super) const S: &str = "MapSer";

impl<K: Preservable + Copy, V: Preservable> PMap<K, V> {
    /// Makes a map of its areas, whose head says so. Cost: a few loads; no key and no value is touched, but
    /// two at most that a cut left in doubt. May sleep.
    ///
    /// # Errors
    ///
    /// EINVAL if the head, or the length of an area, is refused: the [`Refusal`] is logged. ENOMEM, EBUSY
    /// once the framework is frozen.
    pub fn from_areas(areas: MapAreas<K, V>) -> Result<Self> {
        let pass = areas.head.raw().enter()?;
        Self::from_areas_with(&pass, areas)
    }

    /// Does what [`from_areas`](Self::from_areas) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// EINVAL, ENOMEM, as from [`from_areas`](Self::from_areas).
    pub fn from_areas_with(pass: &GatePass<'_>, areas: MapAreas<K, V>) -> Result<Self> {
        let id = areas.head.raw().id();
        let ser = areas.head.get(0).ok_or(EINVAL)?.ser();
        let (seed, state) = (ser.seed, ser.state.load());
        ser.validate(id).map_err(Refusal::report)?;
        let id = u64::from(id);
        expect_at_most(S, "state", id, state, MapSer::CLEARING | 1).map_err(Refusal::report)?;
        let MapAreas {
            head,
            keys,
            values,
            free,
            buckets: [first, second],
        } = areas;
        let (active, mut idle) = match state & 1 {
            0 => (first, second),
            _ => (second, first),
        };
        let buckets = Buckets::open(pass, S, active, keys.len())?;
        let is_clearing = state & MapSer::CLEARING != 0;
        if is_clearing && !buckets.is_empty() {
            // Keys and values are about to be dropped: not if there are any.
            let refused = expect_equal(S, "state", id, state, state & 1);
            return Err(refused.map_or_else(Refusal::report, |()| EINVAL));
        }
        // A table that was not finished, or not given up; and not before the one in use was found to be one.
        idle.truncate_with(pass, 0);
        let mut map = Self {
            head,
            keys,
            values,
            free,
            buckets,
            idle: Some(idle),
            seed,
            nr_free_inherited: 0,
            is_whole: false,
            is_miscounted: false,
        };
        if is_clearing {
            map.finish_clearing(pass)?;
        }
        map.check().map_err(Refusal::report)?;
        let nr_keys = map.keys.len();
        map.values.truncate_with(pass, nr_keys);
        map.recover(pass)?;
        map.nr_free_inherited = map.free.len();
        Ok(map)
    }

    /// Makes a new map of empty areas. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY once the framework is frozen. EINVAL if an area is not empty.
    pub fn from_new_areas(areas: MapAreas<K, V>) -> Result<Self> {
        let pass = areas.head.raw().enter()?;
        Self::from_new_areas_with(&pass, areas)
    }

    /// Does what [`from_new_areas`](Self::from_new_areas) does, for one who has passed the gate. Cannot fail if
    /// there is room for an element in the head, and for [`NR_BUCKETS_MIN`](crate::buckets::NR_BUCKETS_MIN) in
    /// the first table.
    ///
    /// # Errors
    ///
    /// ENOMEM, EINVAL, as from [`from_new_areas`](Self::from_new_areas).
    pub fn from_new_areas_with(pass: &GatePass<'_>, mut areas: MapAreas<K, V>) -> Result<Self> {
        let [first, second] = &areas.buckets;
        let lens = [areas.head.len(), areas.keys.len(), areas.values.len()];
        let nr_words = [areas.free.len(), first.len(), second.len()];
        if lens != [0; 3] || nr_words != [0; 3] {
            return Err(EINVAL);
        }
        let mut ser = MapSer {
            magic: MapSer::MAGIC,
            seed: areas.head.raw().machine().random_u64(),
            state: SharedU64::new(0),
            keys: areas.keys.handle().into_raw(),
            values: areas.values.handle().into_raw(),
            free: areas.free.handle().into_raw(),
            buckets: [first.handle().into_raw(), second.handle().into_raw()],
            reserved: 0,
            check: 0,
        };
        ser.check = ser.checksum();
        areas.head.push_with(pass, MapHeadSer::new(ser))?;
        let mut map = Self::from_areas_with(pass, areas)?;
        map.is_whole = true;
        Ok(map)
    }

    /// Checks the lengths against each other.
    fn check(&self) -> Result<(), Refusal> {
        let id = u64::from(self.head.raw().id());
        let (nr_keys, nr_values) = (self.keys.len() as u64, self.values.len() as u64);
        // The values are extended first.
        expect_at_most(S, "nr_values", id, nr_values, nr_keys.saturating_add(1))?;
        expect_at_most(S, "nr_keys", id, nr_keys, nr_values)?;
        if nr_values > nr_keys {
            // An insertion that had not come to its key, or the length of the keys is damaged. The
            // value is about to be dropped: not if a bucket refers to it.
            let mut indices = self.buckets.indices(self.values.len());
            if indices.any(|index| u64::from(index) == nr_keys) {
                expect_equal(S, "nr_keys", id, nr_keys, nr_values)?;
            }
        }
        expect_at_most(S, "nr_free", id, self.free.len() as u64, nr_keys + 2)
    }

    /// Decides about the two topmost places of the stack of free indices, which a cut may have left in
    /// doubt. Each step leaves what the next attempt would decide in the same way.
    fn recover(&mut self, pass: &GatePass<'_>) -> Result {
        let nr_free = self.free.len();
        let at = |place: usize| self.free.get(place).map(SharedU64::load);
        let top = nr_free.checked_sub(1).and_then(at);
        let below = nr_free.checked_sub(2).and_then(at);
        let (Some(top), below) = (top, below) else {
            return Ok(());
        };
        if top >= self.keys.len() as u64 {
            // An insertion that had not come to its key: the index is not there.
            self.free.truncate_with(pass, nr_free - 1);
            return Ok(());
        }
        if Some(top) == below {
            // A replacement that was all but done. The previous kernel may have damaged this, too.
            self.free.truncate_with(pass, nr_free - 1);
            if !self.is_used(top)? {
                self.wipe_free(top);
            }
            return Ok(());
        }
        if self.is_used(top)? {
            // An insertion that was all but done, or a removal or a replacement that was not decided on.
            self.free.truncate_with(pass, nr_free - 1);
            if let Some(below) = below {
                if !self.is_used(below)? {
                    self.wipe_free(below);
                }
            }
            return Ok(());
        }
        if let Some(below) = below {
            if self.is_used(below)? {
                // A replacement that was decided on.
                if let Some(place) = self.free.get(nr_free - 2) {
                    place.store(top);
                }
                self.free.truncate_with(pass, nr_free - 1);
            }
        }
        self.wipe_free(top);
        Ok(())
    }

    /// Returns whether a bucket refers to an index, of which the key is the one to look for.
    pub(super) fn is_used(&self, index: u64) -> Result<bool> {
        let Some(key) = self.keys.get(index as usize).copied() else {
            return Ok(false);
        };
        let hit = self.find(&key).map_err(Refusal::report)?;
        Ok(hit.is_some_and(|hit| u64::from(hit.index) == index))
    }

    /// Clears what is free, if there is anything.
    fn wipe_free(&mut self, index: u64) {
        if self.check_free(index).is_ok() {
            self.wipe(index as u32);
        }
    }
}

impl MapSer {
    /// Checks the head of a map, which is the area `id`, but for its state.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first field that is wrong.
    pub fn validate(&self, id: u32) -> Result<(), Refusal> {
        let id = u64::from(id);
        expect_equal(S, "magic", id, self.magic, MapSer::MAGIC)?;
        expect_equal(S, "reserved", id, self.reserved, 0)?;
        expect_equal(S, "check", id, self.check, self.checksum())
    }
}
