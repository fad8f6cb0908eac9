// SPDX-License-Identifier: GPL-2.0

//! From a hash to a record: a hash table with chains.
//!
//! There are two tables, and a record has a link for each. The one in use is never touched while
//! the other is filled, twice as large, and one store then says that the other is in use. So the
//! store may be cut at any instruction of a rehash.
//!
//! What is stored in place of a pointer is a handle. To look at a record is to [`peek`] at it; to
//! change one is to claim it, for as long as the change takes.
//!
//! [`peek`]: kpreserve::Cache::peek

use kpreserve::prelude::*;

use crate::abi::{
    KvSer,
    RecordSer, //
};

/// Buckets of a new table.
const NR_BUCKETS_MIN: usize = 1024;

/// The index.
pub struct Index {
    records: Cache<RecordSer>,
    tables: [PVec<SharedU64>; 2],
    /// The table in use.
    side: usize,
}

/// A record that was found, and what refers to it.
pub struct Found {
    /// Its handle.
    pub handle: Handle<RecordSer>,
    /// A copy of it.
    pub record: RecordSer,
    /// The record before it in its chain, if it is not the first.
    before: Option<Handle<RecordSer>>,
}

impl Index {
    /// Makes an index of its parts; a first table, if there is none. No record is looked at.
    ///
    /// # Errors
    ///
    /// EINVAL if the table is none; ENOMEM; EBUSY if kpreserve is frozen.
    pub fn new(
        kv: &KvSer,
        records: Cache<RecordSer>,
        mut tables: [PVec<SharedU64>; 2],
    ) -> Result<Self> {
        let side = usize::from(kv.active.load() == 1);
        let [first, second] = &mut tables;
        let (active, idle) = if side == 0 {
            (first, second)
        } else {
            (second, first)
        };
        if !idle.is_empty() {
            // The last kernel was stopped while it filled the table, or before it had emptied it.
            idle.truncate(0)?;
        }
        if active.is_empty() {
            active.extend_zeroed(NR_BUCKETS_MIN)?;
        }
        if !active.len().is_power_of_two() {
            pr_err!(
                "the table has {} buckets, not a power of two\n",
                active.len()
            );
            return Err(EINVAL);
        }
        Ok(Self {
            records,
            tables,
            side,
        })
    }

    /// Returns the records.
    pub fn records(&self) -> &Cache<RecordSer> {
        &self.records
    }

    /// Returns how many buckets there are.
    pub fn nr_buckets(&self) -> usize {
        self.table().len()
    }

    /// Finds the record with that hash which `is_it` says it is.
    ///
    /// # Errors
    ///
    /// EIO if the chain is damaged.
    pub fn find(
        &self,
        kv: &KvSer,
        hash: u64,
        mut is_it: impl FnMut(&RecordSer) -> bool,
    ) -> Result<Option<Found>> {
        let mut before = None;
        let mut handle = self.first(hash)?;
        for _ in 0..chain_max(kv) {
            if handle.is_null() {
                return Ok(None);
            }
            let record = self.look(handle)?;
            if record.hash == hash && is_it(&record) {
                return Ok(Some(Found {
                    handle,
                    record,
                    before,
                }));
            }
            before = Some(handle);
            handle = self.after(&record);
        }
        Err(EIO)
    }

    /// Returns the record at `position` of the chain in `bucket`, `None` if the chain is shorter.
    ///
    /// # Errors
    ///
    /// EIO if the chain is damaged.
    pub fn nth(&self, bucket: usize, position: u64) -> Result<Option<RecordSer>> {
        let mut handle = self.first(bucket as u64)?;
        for _ in 0..position {
            if handle.is_null() {
                return Ok(None);
            }
            handle = self.after(&self.look(handle)?);
        }
        if handle.is_null() {
            return Ok(None);
        }
        Ok(Some(self.look(handle)?))
    }

    /// Returns the links of a new record: it goes before `old`'s successor if it takes the place
    /// of `old`, else to the front of its chain.
    ///
    /// # Errors
    ///
    /// EIO if there is no such bucket.
    pub fn links(&self, hash: u64, old: Option<&Found>) -> Result<[SharedU64; 2]> {
        let next = match old {
            Some(old) => self.after(&old.record),
            None => self.first(hash)?,
        };
        let mut links = [SharedU64::new(0), SharedU64::new(0)];
        if let Some(link) = links.get_mut(self.side) {
            *link = SharedU64::new(next.into_raw());
        }
        Ok(links)
    }

    /// Lets what refers to `old`, or else the bucket, refer to `handle`: one store.
    ///
    /// # Errors
    ///
    /// EIO if the chain is damaged; nothing has changed then.
    pub fn link(&self, hash: u64, old: Option<&Found>, handle: Handle<RecordSer>) -> Result {
        match old.and_then(|old| old.before) {
            Some(before) => self.change(before, self.side, handle),
            None => {
                self.bucket(self.side, hash)?.store(handle.into_raw());
                Ok(())
            }
        }
    }

    /// Takes `found` out of its chain: one store. The record itself is left as it is.
    ///
    /// # Errors
    ///
    /// EIO if the chain is damaged; nothing has changed then.
    pub fn unlink(&self, found: &Found) -> Result {
        self.link(found.record.hash, Some(found), self.after(&found.record))
    }

    /// Doubles the table if there are more records than buckets.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY if kpreserve is frozen, EIO if a chain is damaged: the table is as it was.
    pub fn make_room(&mut self, kv: &KvSer) -> Result {
        let nr_buckets = self.nr_buckets();
        if kv.nr_records.load() <= nr_buckets as u64 {
            return Ok(());
        }
        let side = 1 - self.side;
        let filled = self
            .tables
            .get_mut(side)
            .ok_or(EIO)?
            .extend_zeroed(nr_buckets * 2)
            .and_then(|()| self.fill(side, nr_buckets, chain_max(kv)));
        if let Err(error) = filled {
            self.clear(side)?;
            return Err(error);
        }
        kv.active.store(side as u64);
        let old = core::mem::replace(&mut self.side, side);
        self.clear(old)
    }

    /// Links every record into the other table.
    fn fill(&self, side: usize, nr_buckets: usize, nr_records_max: u64) -> Result {
        let mut nr_records = 0;
        for bucket in 0..nr_buckets {
            let mut handle = self.first(bucket as u64)?;
            while !handle.is_null() {
                nr_records += 1;
                if nr_records > nr_records_max {
                    return Err(EIO);
                }
                let record = self.records.claim(handle).map_err(|_| EIO)?;
                let there = self.bucket(side, record.hash)?;
                record.next.get(side).ok_or(EIO)?.store(there.load());
                there.store(handle.into_raw());
                handle = self.after(&record);
                record.park();
            }
        }
        Ok(())
    }

    fn clear(&mut self, side: usize) -> Result {
        let table = self.tables.get_mut(side).ok_or(EIO)?;
        table.truncate(0)?;
        table.shrink_to_fit()
    }

    fn table(&self) -> &PVec<SharedU64> {
        let [first, second] = &self.tables;
        if self.side == 0 {
            first
        } else {
            second
        }
    }

    fn bucket(&self, side: usize, hash: u64) -> Result<&SharedU64> {
        let table = self.tables.get(side).ok_or(EIO)?;
        let mask = table.len().wrapping_sub(1);
        table.get(hash as usize & mask).ok_or(EIO)
    }

    fn first(&self, hash: u64) -> Result<Handle<RecordSer>> {
        Ok(Handle::from_raw(self.bucket(self.side, hash)?.load()))
    }

    fn after(&self, record: &RecordSer) -> Handle<RecordSer> {
        Handle::from_raw(record.next.get(self.side).map_or(0, SharedU64::load))
    }

    fn look(&self, handle: Handle<RecordSer>) -> Result<RecordSer> {
        self.records.peek(handle).map_err(|_| EIO)
    }

    fn change(&self, of: Handle<RecordSer>, side: usize, next: Handle<RecordSer>) -> Result {
        let record = self.records.claim(of).map_err(|_| EIO)?;
        if let Some(link) = record.next.get(side) {
            link.store(next.into_raw());
        }
        record.park();
        Ok(())
    }
}

/// Returns how many steps a walk along a chain can take: no circle that the previous kernel may
/// have left keeps us for ever. Two more than there are records: the count may be off by one, and
/// the end takes a step.
fn chain_max(kv: &KvSer) -> u64 {
    const NR_RECORDS_MAX: u64 = 1 << 32;
    kv.nr_records.load().min(NR_RECORDS_MAX) + 2
}
