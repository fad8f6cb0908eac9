// SPDX-License-Identifier: GPL-2.0

//! The runs of a cache: by place, without a lock, and by address, under one.

use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Release, //
};

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::phys::run_size_bytes;
use kpreserve_kho::sort::heap_sort;
use kpreserve_kho::Phys;

use crate::run::{
    clear_words,
    RunState, //
};

/// The first chunk has this many places, each further one twice as many.
const FIRST_CHUNK: u32 = 16;
const NR_CHUNKS: usize = 24;

/// The places of a cache. They stay where they are, and their number only grows.
pub(crate) struct Directory {
    chunks: [Atomic<*mut RunState>; NR_CHUNKS],
    nr_places: Atomic<u32>,
}

impl Directory {
    /// Makes a directory without places.
    pub(crate) fn new() -> Self {
        Self {
            chunks: core::array::from_fn(|_| Atomic::new(core::ptr::null_mut())),
            nr_places: Atomic::new(0),
        }
    }

    /// Returns how many places there are; the ones below are there for good.
    pub(crate) fn nr_places(&self) -> u32 {
        self.nr_places.load_acquire()
    }

    /// Returns a place; `None` if there is none.
    #[inline(always)]
    pub(crate) fn get(&self, place: u32) -> Option<&RunState> {
        if place >= self.nr_places() {
            return None;
        }
        let (chunk, offset) = split(place)?;
        let first = NonNull::new(self.chunks.get(chunk)?.load_acquire())?;
        // SAFETY: `Places::add` raises `nr_places` after it has filled the chunk up to there.
        let run = unsafe { first.add(offset) };
        // SAFETY: a chunk stays as long as the cache, which owns the `Places` too; a `RunState` is
        // changed through shared references only.
        Some(unsafe { run.as_ref() })
    }
}

/// Returns the chunk of a place, and its number there.
#[inline(always)]
fn split(place: u32) -> Option<(usize, usize)> {
    let chunk = (place / FIRST_CHUNK).checked_add(1)?.ilog2();
    let before = FIRST_CHUNK.checked_mul((1 << chunk) - 1)?;
    Some((chunk as usize, (place - before) as usize))
}

/// The memory behind the places, for who adds runs.
pub(crate) struct Places {
    chunks: KVVec<KVVec<RunState>>,
    /// By place: the words, and whether a run stands there.
    words: KVVec<PlaceWords>,
    nr_empty: usize,
}

/// The words of a place.
struct PlaceWords {
    words: KVVec<u64>,
    in_use: bool,
}

impl Places {
    /// Makes the memory of a directory without places.
    pub(crate) fn new() -> Self {
        Self {
            chunks: KVVec::new(),
            words: KVVec::new(),
            nr_empty: 0,
        }
    }

    /// Finds or makes an empty place with `nr_words` zeroed words. May sleep.
    ///
    /// A place is used again only for a run of the same size: an owner who has just given its last
    /// slot back may still clear the bit that the slab had, in words laid out the same.
    ///
    /// The place is marked as in use; [`put_back`](Self::put_back) undoes it.
    ///
    /// # Errors
    ///
    /// ENOMEM; nothing has changed then.
    pub(crate) fn find(
        &mut self,
        directory: &Directory,
        nr_words: usize,
    ) -> Result<(u32, NonNull<u64>)> {
        if self.nr_empty > 0 {
            for (place, slot) in self.words.iter_mut().enumerate() {
                if !slot.in_use && slot.words.len() == nr_words {
                    let first = first_of(&mut slot.words)?;
                    // SAFETY: the vector has at least so many, and they are used as the words of
                    // a run only.
                    unsafe { clear_words(first, nr_words) };
                    slot.in_use = true;
                    self.nr_empty -= 1;
                    return Ok((place as u32, first));
                }
            }
        }
        self.add(directory, nr_words)
    }

    fn add(&mut self, directory: &Directory, nr_words: usize) -> Result<(u32, NonNull<u64>)> {
        let place = directory.nr_places();
        let (chunk, offset) = split(place).ok_or(ENOMEM)?;
        let published = directory.chunks.get(chunk).ok_or(ENOMEM)?;
        self.words.reserve(1, GFP_KERNEL)?;
        let mut words = KVVec::zeroed(nr_words, GFP_KERNEL)?;
        let first = first_of(&mut words)?;
        if offset == 0 && self.chunks.len() == chunk {
            let nr_places = (FIRST_CHUNK as usize) << chunk;
            let mut places = KVVec::with_capacity(nr_places, GFP_KERNEL)?;
            for _ in 0..nr_places {
                places.push(RunState::new(), GFP_KERNEL)?;
            }
            self.chunks.push(places, GFP_KERNEL)?;
        }
        if let Some(places) = self.chunks.get_mut(chunk) {
            published.store(places.as_mut_ptr(), Release);
        }
        self.words.push(
            PlaceWords {
                words,
                in_use: true,
            },
            GFP_KERNEL,
        )?;
        directory.nr_places.store(place + 1, Release);
        Ok((place, first))
    }

    /// Marks a place as empty; its words stay.
    pub(crate) fn put_back(&mut self, place: u32) {
        if let Some(slot) = self.words.get_mut(place as usize) {
            slot.in_use = false;
            self.nr_empty += 1;
        }
    }
}

fn first_of(words: &mut KVVec<u64>) -> Result<NonNull<u64>> {
    NonNull::new(words.as_mut_ptr()).ok_or(ENOMEM)
}

/// The runs by address: sorted, so that a handle's is found before a byte is read.
pub(crate) struct Index {
    entries: KVVec<Entry>,
}

/// A run and its place.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) phys: Phys,
    pub(crate) order: u8,
    pub(crate) place: u32,
}

impl Index {
    /// Returns how much room an index needs that takes one entry more; `None` if this one does.
    pub(crate) fn room_wanted(&self) -> Option<usize> {
        if self.entries.len() < self.entries.capacity() {
            return None;
        }
        Some((self.entries.len() * 2).max(8))
    }

    /// Moves into bigger memory, and returns the old.
    pub(crate) fn move_into(&mut self, mut room: KVVec<Entry>) -> KVVec<Entry> {
        if room.capacity() > self.entries.capacity() {
            for entry in &self.entries {
                // Within the capacity: allocates nothing.
                if room.push(*entry, GFP_ATOMIC).is_err() {
                    return room;
                }
            }
            core::mem::swap(&mut self.entries, &mut room);
        }
        room
    }

    /// Takes in the runs of an index that is being made: room for all, then one
    /// [`append`](Self::append) each, then a [`sort`](Self::sort).
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn with_capacity(nr_entries: usize) -> Result<Self> {
        Ok(Self {
            entries: KVVec::with_capacity(nr_entries, GFP_KERNEL)?,
        })
    }

    /// Adds a run anywhere.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no room.
    pub(crate) fn append(&mut self, entry: Entry) -> Result {
        self.entries.push(entry, GFP_KERNEL)?;
        Ok(())
    }

    /// Puts the runs in order.
    pub(crate) fn sort(&mut self) {
        heap_sort(&mut self.entries, |a, b| a.phys < b.phys);
    }

    /// Adds a run; there has to be room.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is none.
    pub(crate) fn insert(&mut self, entry: Entry) -> Result {
        if self.room_wanted().is_some() {
            return Err(ENOMEM);
        }
        let at = self
            .entries
            .partition_point(|other| other.phys.get() < entry.phys.get());
        // Within the capacity: allocates nothing.
        self.entries.push(entry, GFP_ATOMIC)?;
        // The last one goes to its place, each behind it one further.
        if let Some(behind) = self.entries.get_mut(at..) {
            behind.rotate_right(1);
        }
        Ok(())
    }

    /// Takes a run out.
    pub(crate) fn remove(&mut self, phys: Phys) {
        let Ok(at) = self.entries.binary_search_by_key(&phys, |entry| entry.phys) else {
            return;
        };
        if let Some(behind) = self.entries.get_mut(at..) {
            behind.rotate_left(1);
            self.entries.pop();
        }
    }

    /// Returns the place of the run that holds `phys`. Cost: log of the number of runs.
    pub(crate) fn find(&self, phys: Phys) -> Option<u32> {
        let after = self
            .entries
            .partition_point(|entry| entry.phys.get() <= phys.get());
        let entry = self.entries.get(after.checked_sub(1)?)?;
        let offset = phys.get() - entry.phys.get();
        if offset >= run_size_bytes(entry.order)? as u64 {
            return None;
        }
        Some(entry.place)
    }
}
