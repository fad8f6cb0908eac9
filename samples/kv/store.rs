// SPDX-License-Identifier: GPL-2.0

//! Set, get, delete, list.
//!
//! Each change takes effect with one store, after everything that it needs has been written; what
//! is not needed any more is given back after that. A cut anywhere leaves the old state or the new
//! one, and at worst a block or a record that nobody refers to.

use kpreserve::prelude::*;

use crate::abi::{
    KvSer,
    RecordSer, //
};
use crate::heap::Heap;
use crate::index::Index;

/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = 255;

/// The longest value, in bytes.
pub const VALUE_LEN_MAX: usize = 1 << 20;

/// The store.
pub struct Store {
    kv: Named<KvSer>,
    heap: Heap,
    index: Index,
}

/// Figures about a store.
pub struct Stats {
    /// How many keys there are.
    pub nr_records: u64,
    /// How many buckets.
    pub nr_buckets: u64,
    /// Bytes of the heap, in use or not.
    pub heap_bytes: u64,
    /// Runs of pages of the heap.
    pub nr_heap_runs: u64,
}

impl Store {
    /// Opens the store that the previous kernel, or an earlier open, left; or makes one.
    ///
    /// The cost does not depend on how much is in it: nothing is walked.
    ///
    /// # Errors
    ///
    /// EBUSY if it is open already, or if kpreserve is frozen; EINVAL, EOPNOTSUPP if what is there
    /// cannot be used; ENOMEM; EPROBE_DEFER before kpreserve is up.
    pub fn open() -> Result<Self> {
        let new = KvSer {
            heap: ArenaHandle::NULL,
            tables: [ArenaHandle::NULL; 2],
            active: SharedU64::new(0),
            nr_records: SharedU64::new(0),
            free: [const { SharedU64::new(0) }; crate::abi::NR_CLASSES],
        };
        let records = Cache::<RecordSer>::open(c"kv/records", GFP_KERNEL)?;
        let mut kv = Named::<KvSer>::open(c"kv/store", new, GFP_KERNEL)?;
        let heap = Heap::new(area(&mut kv.heap)?);
        let [first, second] = &mut kv.tables;
        let tables = [area(first)?, area(second)?];
        let index = Index::new(&kv, records, tables)?;
        Ok(Self { kv, heap, index })
    }

    /// Gives a key a value.
    ///
    /// # Errors
    ///
    /// EINVAL for an empty key; E2BIG beyond [`KEY_LEN_MAX`] or [`VALUE_LEN_MAX`]; ENOMEM; EBUSY if
    /// kpreserve is frozen and there is no room; EIO if the store is damaged. Nothing has changed
    /// then.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result {
        let hash = hash_of(key)?;
        if value.len() > VALUE_LEN_MAX {
            return Err(E2BIG);
        }
        let old = self
            .index
            .find(&self.kv, hash, |record| self.is_key(record, key))?;

        let len = key.len() + value.len();
        let place = self.heap.alloc(&self.kv, len)?;
        let linked = self
            .heap
            .write(place, key)
            .and_then(|()| self.heap.write(place + key.len(), value))
            .and_then(|()| {
                let record = RecordSer {
                    hash,
                    place: place as u64,
                    key_len: key.len() as u32,
                    value_len: value.len() as u32,
                    next: self.index.links(hash, old.as_ref())?,
                };
                // Dropped, and so freed, if it cannot be linked.
                let record = self.index.records().alloc(record, GFP_KERNEL)?;
                self.index.link(hash, old.as_ref(), record.handle())?;
                record.park();
                Ok(())
            });
        if let Err(error) = linked {
            self.heap.free(&self.kv, place, len)?;
            return Err(error);
        }
        match old {
            Some(old) => self.give_back(old.handle, &old.record),
            None => {
                self.kv.nr_records.fetch_add(1);
                // A crowded table is slow, not wrong; the next key tries again.
                let _ = self.index.make_room(&self.kv);
                Ok(())
            }
        }
    }

    /// Finds the value of a key.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such key; EINVAL, E2BIG for what cannot be one; EIO if the store is
    /// damaged.
    pub fn get(&self, key: &[u8]) -> Result<RecordSer> {
        let hash = hash_of(key)?;
        let found = self
            .index
            .find(&self.kv, hash, |record| self.is_key(record, key))?;
        Ok(found.ok_or(ENOENT)?.record)
    }

    /// Shows the key of a record, piece by piece.
    ///
    /// # Errors
    ///
    /// EIO if the store is damaged, and what `show` returns.
    pub fn key(&self, record: &RecordSer, show: impl FnMut(&[u8]) -> Result) -> Result {
        self.heap
            .pieces(record.place as usize, record.key_len as usize, show)
    }

    /// Shows the value of a record, piece by piece.
    ///
    /// # Errors
    ///
    /// EIO if the store is damaged, and what `show` returns.
    pub fn value(&self, record: &RecordSer, show: impl FnMut(&[u8]) -> Result) -> Result {
        let place = record.place.saturating_add(u64::from(record.key_len));
        self.heap
            .pieces(place as usize, record.value_len as usize, show)
    }

    /// Returns whether the key of a record begins so.
    ///
    /// # Errors
    ///
    /// EIO if the store is damaged.
    pub fn has_prefix(&self, record: &RecordSer, prefix: &[u8]) -> Result<bool> {
        let mut rest = prefix;
        let mut is_same = record.key_len as usize >= prefix.len();
        self.heap
            .pieces(record.place as usize, record.key_len as usize, |piece| {
                let (now, later) = rest.split_at(rest.len().min(piece.len()));
                is_same &= piece.starts_with(now);
                rest = later;
                Ok(())
            })?;
        Ok(is_same)
    }

    /// Takes a key out.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); nothing has changed then.
    pub fn delete(&mut self, key: &[u8]) -> Result {
        let hash = hash_of(key)?;
        let found = self
            .index
            .find(&self.kv, hash, |record| self.is_key(record, key))?;
        let found = found.ok_or(ENOENT)?;
        self.index.unlink(&found)?;
        self.kv.nr_records.fetch_add(u64::MAX);
        self.give_back(found.handle, &found.record)
    }

    /// Returns the record at a cursor, and the cursor of the one after it; 0 is the first.
    ///
    /// The order means nothing; what is set or deleted between two calls may be seen twice or not
    /// at all.
    ///
    /// # Errors
    ///
    /// ENOENT at the end; EIO if the store is damaged.
    pub fn list(&self, cursor: u64) -> Result<(RecordSer, u64)> {
        const POSITION_BITS: u32 = 24;
        let mut position = cursor & ((1 << POSITION_BITS) - 1);
        let mut bucket = (cursor >> POSITION_BITS) as usize;
        while bucket < self.index.nr_buckets() {
            if let Some(record) = self.index.nth(bucket, position)? {
                let next = ((bucket as u64) << POSITION_BITS) | (position + 1);
                return Ok((record, next));
            }
            bucket += 1;
            position = 0;
        }
        Err(ENOENT)
    }

    /// Returns figures.
    pub fn stats(&self) -> Stats {
        Stats {
            nr_records: self.kv.nr_records.load(),
            nr_buckets: self.index.nr_buckets() as u64,
            heap_bytes: self.heap.size_bytes() as u64,
            nr_heap_runs: self.heap.nr_runs() as u64,
        }
    }

    fn is_key(&self, record: &RecordSer, key: &[u8]) -> bool {
        record.key_len as usize == key.len() && self.heap.equals(record.place as usize, key)
    }

    /// Frees a record that nothing refers to, then its bytes.
    fn give_back(&mut self, handle: Handle<RecordSer>, record: &RecordSer) -> Result {
        self.index.records().discard(handle)?;
        let len = u64::from(record.key_len) + u64::from(record.value_len);
        self.heap
            .free(&self.kv, record.place as usize, len as usize)
    }
}

/// Opens the area that a handle names; makes it first, if it names none.
fn area<T: Preservable>(handle: &mut ArenaHandle<T>) -> Result<PVec<T>> {
    if !handle.is_null() {
        return PVec::adopt(*handle, GFP_KERNEL);
    }
    let area = PVec::create(GFP_KERNEL)?;
    *handle = area.handle();
    Ok(area)
}

/// Hashes a key (FNV-1a, its halves folded, since the lower bits choose the bucket).
///
/// # Errors
///
/// EINVAL if it is empty, E2BIG if it is too long.
fn hash_of(key: &[u8]) -> Result<u64> {
    match key.len() {
        0 => Err(EINVAL),
        1..=KEY_LEN_MAX => {
            let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            Ok(hash ^ (hash >> 32))
        }
        _ => Err(E2BIG),
    }
}
