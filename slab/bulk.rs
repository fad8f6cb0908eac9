// SPDX-License-Identifier: GPL-2.0

//! Many objects at once: by whole words, tags by eights.
//!
//! What a CPU holds in its sheaf is left alone where there are words to be had: 64 objects are one
//! atomic operation when they come, and one when they go.

use core::ptr::NonNull;

use kernel::alloc::Flags;
use kernel::prelude::*;

use kpreserve_kho::context::check_alloc;
use kpreserve_kho::ordered::write_barrier;
use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::Preservable;

use crate::cache::Cache;
use crate::free::Batch;
use crate::owner::Slot;
use crate::preserved::Preserved;
use crate::raw::RawCache;
use crate::sheaf::FreeSlot;
use crate::slots::SlabMemory;
use crate::tag::{
    EightTags,
    Tag, //
};
use crate::words::Taken;

/// Below this, slots come from and go to the sheaf one by one.
const NR_WORTH_A_WORD: usize = 8;

impl<T: Preservable> Cache<T> {
    /// Allocates `nr` objects, initialises and publishes each, and appends them to `objects`; all
    /// or none. `init` is asked for the initialiser of each, from 0 on.
    ///
    /// A kexec in between finds some of them, as if they had been allocated one by one.
    ///
    /// Cost: for 64 objects of 64 bytes about a third of as many calls of [`alloc`](Self::alloc).
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc); ENOMEM if `objects` cannot grow. `objects` is as it was then.
    pub fn alloc_bulk<E, I: Init<T, E>>(
        &self,
        objects: &mut KVec<Preserved<T>>,
        nr: usize,
        init: impl FnMut(usize) -> I,
        flags: Flags,
    ) -> Result
    where
        Error: From<E>,
    {
        check_alloc(flags);
        objects.reserve(nr, flags)?;
        let before = objects.len();
        let result = self.alloc_all(objects, nr, init, flags);
        if result.is_err() {
            objects.truncate(before);
        }
        result
    }

    fn alloc_all<E, I: Init<T, E>>(
        &self,
        objects: &mut KVec<Preserved<T>>,
        nr: usize,
        mut init: impl FnMut(usize) -> I,
        flags: Flags,
    ) -> Result
    where
        Error: From<E>,
    {
        let raw = self.raw();
        let mut nr_done = 0;
        // What the number of runs was when there was no word to be had.
        let mut dry_at = None;
        while nr_done < nr {
            let nr_runs_added = raw.fixed.nr_runs_added.load_acquire();
            if nr - nr_done >= NR_WORTH_A_WORD && dry_at != Some(nr_runs_added) {
                if let Some(word) = raw.take_word(nr - nr_done) {
                    nr_done += self.fill(objects, word, nr_done, &mut init)?;
                    continue;
                }
                dry_at = Some(nr_runs_added);
            }
            let object = self.alloc(init(nr_done), flags)?;
            objects.push(object, flags)?;
            nr_done += 1;
        }
        Ok(())
    }

    /// Makes objects of all slots of a word; returns how many. There has to be room for them.
    fn fill<E, I: Init<T, E>>(
        &self,
        objects: &mut KVec<Preserved<T>>,
        mut word: FreeWord<'_>,
        nr_before: usize,
        init: &mut impl FnMut(usize) -> I,
    ) -> Result<usize>
    where
        Error: From<E>,
    {
        let cache = self.raw();
        let stride_bytes = cache.geometry().stride_bytes();
        let Some(word_first) = word.first() else {
            return Ok(0);
        };
        let mut nr_done = 0;
        while let Some((bit, nr)) = word.taken.pop_row() {
            // SAFETY: a slot of the word, hence of the slab.
            let start = unsafe { word_first.start.add(bit * stride_bytes) };
            // SAFETY: its tag.
            let tag = unsafe { word_first.tag.add(bit) };
            // INVARIANT: popped, so it is ours, and free; so are those behind it.
            let first = FreeSlot { start, tag };
            if !cache.are_untouched(&first, nr) {
                // They stay taken.
                continue;
            }
            for at in 0..nr {
                // SAFETY: inside the row.
                let object = unsafe { start.add(at * stride_bytes) }.as_ptr().cast();
                // SAFETY: a slot of the row, big enough and aligned for a `T` (type invariants),
                // and nobody else's.
                if let Err(error) = unsafe { init(nr_before + nr_done + at).__init(object) } {
                    // SAFETY: the row's slots, which are nobody else's.
                    unsafe { start.as_ptr().write_bytes(0, nr * stride_bytes) };
                    Batch::new(cache).add_row(first, nr);
                    return Err(error.into());
                }
            }
            // SAFETY: the tags of the row's slots.
            unsafe { publish(tag, nr) };
            let mut next = start;
            for place in objects.spare_capacity_mut().iter_mut().take(nr) {
                // INVARIANT: the tag was even, and is odd now.
                // SAFETY: a slot of the cache, the row's, which ends here.
                let slot = unsafe { Slot::new(next, cache) };
                // SAFETY: by the type invariants.
                place.write(unsafe { Preserved::from_slot(slot) });
                // SAFETY: inside the slab, or behind its last slot.
                next = unsafe { next.add(stride_bytes) };
            }
            // SAFETY: the caller has made room; so many have been written.
            unsafe { objects.inc_len(nr) };
            nr_done += nr;
        }
        Ok(nr_done)
    }

    /// Frees all of `objects`, which is empty afterwards and keeps its room. From any context.
    ///
    /// Objects that lie side by side, as [`alloc_bulk`](Self::alloc_bulk) gives them out, go back
    /// together; others, also those of another cache, as if they were dropped.
    pub fn free_bulk(&self, objects: &mut KVec<Preserved<T>>) {
        let cache = self.raw();
        let stride_bytes = size_of::<T>().next_multiple_of(8);
        if stride_bytes != cache.geometry().stride_bytes() {
            objects.clear();
            return;
        }
        let (first, nr_objects, capacity) = core::mem::take(objects).into_raw_parts();
        // SAFETY: the vector's own parts, of which the elements are taken out here.
        let emptied = unsafe { KVec::from_raw_parts(first, 0, capacity) };
        // What stood there meanwhile has no room to give back.
        core::mem::forget(core::mem::replace(objects, emptied));
        // SAFETY: the elements of the vector, which does not know of them any more.
        let owners = unsafe { core::slice::from_raw_parts(first, nr_objects) };
        let mut batch = Batch::new(cache);
        let mut at = 0;
        while let Some(owner) = owners.get(at) {
            let mut end = owner.slot().as_ptr();
            let mut nr = 0;
            // What lies side by side is of one slab, as slabs begin with their header: of one cache.
            for next in owners.get(at..).unwrap_or_default() {
                if next.slot().as_ptr() != end {
                    break;
                }
                end = end.wrapping_add(stride_bytes);
                nr += 1;
            }
            if nr < NR_WORTH_A_WORD || !core::ptr::eq(owner.slot().cache(), cache) {
                // SAFETY: taken out of the vector, and used here only.
                drop(unsafe { core::ptr::read(owner) });
                at += 1;
                continue;
            }
            // SAFETY: live slots of the cache side by side, which are ours.
            unsafe { free_row::<T>(&mut batch, cache, owner.slot(), nr) };
            at += nr;
        }
        drop(batch);
        // No sheaf says so; and not before all of it has come back, or the worker may have looked.
        cache.note_use();
    }
}

/// Frees objects side by side, which fill their slots.
///
/// # Safety
///
/// The caller owns the `nr` live slots from `first` on, of `cache`, and does not any more afterwards.
unsafe fn free_row<T>(batch: &mut Batch<'_>, cache: &RawCache, first: &Slot, nr: usize) {
    let stride_bytes = size_of::<T>().next_multiple_of(8);
    let (start, tag) = (first.start(), first.tag());
    let is_intact = cache.is_row_intact(start, tag, nr, size_of::<T>());
    // SAFETY: the tags of the row's slots, which stand side by side as well.
    unsafe { retract(tag, nr) };
    // Retracted first, then zeroed, for whoever finds the slots after a cut.
    write_barrier();
    for at in 0..nr {
        // SAFETY: inside the row.
        let start = unsafe { start.add(at * stride_bytes) };
        // SAFETY: a whole slot, which is this row's.
        unsafe { start.as_ptr().write_bytes(0, stride_bytes) };
    }
    if is_intact {
        // INVARIANT: its tag is even, and nobody else's; so are those behind it.
        batch.add_row(FreeSlot { start, tag }, nr);
    }
}

/// Free slots of one word, taken at once. Dropping it gives back what is left.
///
/// # Invariants
///
/// The slots of `taken` are zeros, their tags even, and nobody else's; they are of the slab at `base`.
pub(crate) struct FreeWord<'a> {
    cache: &'a RawCache,
    base: NonNull<u8>,
    taken: Taken,
}

impl<'a> FreeWord<'a> {
    pub(crate) fn new(cache: &'a RawCache, base: NonNull<u8>, taken: Taken) -> Self {
        Self { cache, base, taken }
    }

    /// Returns the first slot of the word, which need not be one of these.
    fn first(&self) -> Option<FreeSlot> {
        // SAFETY: a slab of the cache, whose run stays as long as slots of it are taken.
        let slab = unsafe { SlabMemory::new(self.cache.geometry(), self.base) };
        slab.free_slot(self.taken.word() * 64)
    }
}

impl Drop for FreeWord<'_> {
    fn drop(&mut self) {
        let taken = core::mem::replace(&mut self.taken, Taken::nothing());
        if !taken.is_empty() {
            self.cache.give_word(self.base, taken, false);
            // The worker may have counted the run as in use meanwhile.
            self.cache.note_news();
            self.cache.note_use();
        }
    }
}

/// Turns the tags of `nr` free slots odd.
///
/// # Safety
///
/// The caller owns the slots, whose tags begin at `tag`.
unsafe fn publish(tag: NonNull<u8>, nr: usize) {
    // SAFETY: says the caller.
    unsafe { change(tag, nr, EightTags::published, Tag::next) };
}

/// Turns the tags of `nr` live slots even.
///
/// # Safety
///
/// The caller owns the slots, whose tags begin at `tag`.
unsafe fn retract(tag: NonNull<u8>, nr: usize) {
    // SAFETY: says the caller.
    unsafe { change(tag, nr, EightTags::retracted, Tag::retracted) };
}

/// Changes `nr` tags: eight by one store, where they stand in one word.
///
/// # Safety
///
/// The caller owns the slots, whose tags begin at `tag`.
#[inline(always)]
unsafe fn change(
    tag: NonNull<u8>,
    nr: usize,
    eight: impl Fn(EightTags) -> Option<EightTags>,
    one: impl Fn(Tag) -> Tag,
) {
    let mut at = 0;
    while at < nr {
        // SAFETY: one of the tags.
        let tag = unsafe { tag.add(at) };
        if tag.addr().get() % EightTags::NR == 0 && nr - at >= EightTags::NR {
            // SAFETY: aligned, eight of the tags.
            let tags = unsafe { EightTags::load(tag) };
            if let Some(next) = eight(tags) {
                // SAFETY: as above.
                unsafe { next.store(tag) };
                at += EightTags::NR;
                continue;
            }
        }
        // SAFETY: one of the tags, the caller's.
        let next = one(unsafe { Tag::load(tag) });
        // SAFETY: as above.
        unsafe { next.store(tag) };
        at += 1;
    }
}
