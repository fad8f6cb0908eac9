// SPDX-License-Identifier: GPL-2.0

//! The memory of a slab: header, tags, slots. The room of slot arithmetic.

use core::marker::PhantomData;
use core::ptr::NonNull;

use kernel::sync::atomic::{
    Atomic,
    Relaxed,
    Release, //
};

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::Phys;

use crate::abi::{
    SlabSer,
    HEADER_BYTES,
    PLACE_OFFSET, //
};
use crate::geometry::Geometry;
use crate::run::{
    MemWords,
    RunState,
    RunWords, //
};
use crate::sheaf::FreeSlot;
use crate::tag::{
    live_bits,
    Tag, //
};

/// The memory of a slab.
///
/// # Invariants
///
/// - `base` is the start of `geometry.slab_bytes()` bytes, aligned to a page, of a run that stays
///   for `'a` (of an owner's slab: until the slot is given back).
/// - Tags, the header's `magic` and its `place` are used atomically, except by who has locked the
///   slab before it was ready, when nobody else uses them. The bytes of a slot are used by its
///   owner, or by who has locked the slab while the slot is free.
#[derive(Clone, Copy)]
pub(crate) struct SlabMemory<'a> {
    geometry: &'a Geometry,
    base: NonNull<u8>,
    _life: PhantomData<&'a u8>,
}

/// A slab: its memory, and its words.
///
/// # Invariants
///
/// `run` is the run that the memory is in, `words` are its words, and stay for `'a`; `index` is the slab's
/// number in that run.
#[derive(Clone, Copy)]
pub(crate) struct Slab<'a> {
    memory: SlabMemory<'a>,
    run: &'a RunState,
    place: u32,
    index: u32,
    words: RunWords,
}

impl<'a> core::ops::Deref for Slab<'a> {
    type Target = SlabMemory<'a>;

    fn deref(&self) -> &SlabMemory<'a> {
        &self.memory
    }
}

impl<'a> Slab<'a> {
    /// Makes a slab.
    ///
    /// # Safety
    ///
    /// As the invariants of both types say.
    #[inline(always)]
    pub(crate) unsafe fn new(
        geometry: &'a Geometry,
        base: NonNull<u8>,
        run: &'a RunState,
        place: u32,
        index: u32,
        words: RunWords,
    ) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            // SAFETY: by the safety requirements.
            memory: unsafe { SlabMemory::new(geometry, base) },
            run,
            place,
            index,
            words,
        }
    }

    /// Returns the address.
    #[inline(always)]
    pub(crate) fn phys(&self) -> Phys {
        let offset = self.index as usize * self.geometry.slab_bytes();
        Phys::new(self.run.phys().get() + offset as u64)
    }

    /// Returns the place of the run.
    #[inline(always)]
    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    /// Returns the number within the run.
    #[inline(always)]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Returns whether the previous kernel, or an earlier one, had the run.
    pub(crate) fn is_inherited(&self) -> bool {
        self.run.is_inherited()
    }

    /// Returns the bits of the run that say which slabs are known to be full.
    #[inline(always)]
    pub(crate) fn full(&self) -> MemWords<'a> {
        // SAFETY: the words stay, by the type invariants.
        unsafe { self.words.full() }
    }

    /// Returns the word of state, which touch.rs explains.
    #[inline(always)]
    pub(crate) fn meta(&self) -> Option<&'a Atomic<u64>> {
        // SAFETY: as the type invariants say.
        unsafe { self.words.of_slab(self.index, 0) }.at(0)
    }

    /// Returns the occupancy words: 1 is taken, live, or no slot.
    #[inline(always)]
    pub(crate) fn occupancy(&self) -> MemWords<'a> {
        // SAFETY: as the type invariants say.
        unsafe { self.words.of_slab(self.index, 1) }
    }

    /// Returns the bits of the live objects that nobody owns.
    pub(crate) fn unclaimed(&self) -> MemWords<'a> {
        // SAFETY: as the type invariants say.
        unsafe { self.words.of_slab(self.index, 2) }
    }

    /// Returns the bits of the objects that nobody has claimed since the cache was opened.
    pub(crate) fn incoming(&self) -> MemWords<'a> {
        // SAFETY: as the type invariants say.
        unsafe { self.words.of_slab(self.index, 3) }
    }

    /// Notes the place of the run in the header.
    pub(crate) fn note_place(&self) {
        self.place_word().store(self.place, Relaxed);
    }
}

impl<'a> SlabMemory<'a> {
    /// Makes one.
    ///
    /// # Safety
    ///
    /// As the type invariants say.
    #[inline]
    pub(crate) unsafe fn new(geometry: &'a Geometry, base: NonNull<u8>) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            geometry,
            base,
            _life: PhantomData,
        }
    }

    /// Returns where the slab begins.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the layout.
    pub(crate) fn geometry(&self) -> &'a Geometry {
        self.geometry
    }

    /// Returns the header's magic number; with [`MAGIC`](crate::abi::MAGIC), all that was written
    /// before it is visible.
    pub(crate) fn magic(&self) -> u64 {
        self.magic_word().load_acquire()
    }

    fn magic_word(&self) -> &'a Atomic<u64> {
        // SAFETY: the first 8 bytes of a slab, aligned and valid; used atomically, by the type
        // invariants.
        unsafe { Atomic::from_ptr(self.base.as_ptr().cast()) }
    }

    fn place_word(&self) -> &'a Atomic<u32> {
        // SAFETY: the offset is inside the header.
        let word = unsafe { self.base.add(PLACE_OFFSET) };
        // SAFETY: aligned and valid; used atomically, by the type invariants.
        unsafe { Atomic::from_ptr(word.as_ptr().cast()) }
    }

    /// Reads the header. For who has locked a slab that is not ready.
    pub(crate) fn header(&self) -> SlabSer {
        // SAFETY: the header is at the start of the slab, and any bytes are one.
        unsafe { self.base.cast::<SlabSer>().as_ptr().read_volatile() }
    }

    /// Returns the place that the header notes.
    #[inline]
    pub(crate) fn noted_place(&self) -> u32 {
        self.place_word().load_relaxed()
    }

    /// Writes a header, magic last. For who has locked a slab that is not ready.
    pub(crate) fn write_header(&self, header: SlabSer) {
        let magic = header.magic;
        let unformatted = SlabSer { magic: 0, ..header };
        // SAFETY: the header is at the start of the slab; nobody reads it but who has the lock.
        unsafe { self.base.cast::<SlabSer>().as_ptr().write(unformatted) };
        self.magic_word().store(magic, Release);
    }

    /// Returns where the tag of a slot is; `None` if there is no such slot.
    fn tag_at(&self, slot: u32) -> Option<NonNull<u8>> {
        if slot >= self.geometry.nr_slots() {
            return None;
        }
        // SAFETY: tags follow the header, one a slot; the geometry keeps them inside the slab.
        Some(unsafe { self.base.add(HEADER_BYTES + slot as usize) })
    }

    /// Returns the tag of a slot (0 if there is no such slot); the bytes of the object that it was
    /// published with are visible.
    pub(crate) fn tag(&self, slot: u32) -> Tag {
        match self.tag_at(slot) {
            // SAFETY: valid and used atomically, by the type invariants.
            Some(tag) => unsafe { Tag::load(tag) },
            None => Tag(0),
        }
    }

    /// Makes the owner of a slot that the caller has taken, and has to itself.
    pub(crate) fn free_slot(&self, slot: u32) -> Option<FreeSlot> {
        // INVARIANT: of the same slot; its tag is even, as that of each slot that can be taken.
        Some(FreeSlot {
            start: self.slot(slot)?,
            tag: self.tag_at(slot)?,
        })
    }

    /// Returns a bit for each of the 64 slots from `word * 64` on: whether the tag is odd. For who
    /// has locked a slab that is not ready.
    pub(crate) fn live_word(&self, word: u32) -> u64 {
        let mut live = 0;
        for eight in 0..8u32 {
            let first = word * 64 + eight * 8;
            if first >= self.geometry.nr_slots() {
                break;
            }
            // SAFETY: the tags begin at a multiple of 8, and so do the slots behind them
            // (invariants of `Geometry`): eight bytes from a multiple of 8 among the tags are
            // inside the slab, before the first slot.
            let tags = unsafe { self.base.add(HEADER_BYTES + first as usize) };
            // SAFETY: aligned, see above; valid for reads, by the type invariants.
            let tags = unsafe { tags.cast::<u64>().as_ptr().read_volatile() };
            live |= live_bits(u64::from_le(tags)) << (eight * 8);
        }
        live & self.geometry.word_mask(word)
    }

    /// Returns where a slot is; `None` if there is no such slot.
    #[inline]
    pub(crate) fn slot(&self, slot: u32) -> Option<NonNull<u8>> {
        let offset = self.geometry.slot_offset(slot)?;
        // SAFETY: slots lie inside the slab (invariants of `Geometry`).
        Some(unsafe { self.base.add(offset) })
    }

    /// Makes sure that a free slot is all zeros: it may not be when the last kernel was stopped
    /// between setting the tag and zeroing. For who has locked the slab.
    pub(crate) fn scrub_slot(&self, slot: u32) {
        if let Some(start) = self.slot(slot) {
            // SAFETY: a whole slot, inside the slab, aligned to 8, of a multiple of 8 bytes; it is
            // free, so the caller may use it.
            unsafe { scrub(start, self.geometry.stride_bytes()) };
        }
    }

    /// Gives each slot its first tag, an even one. For who has locked an unformatted slab.
    pub(crate) fn start_tags(&self, tag: Tag) {
        // SAFETY: tags follow the header; the geometry keeps them inside the slab.
        let first = unsafe { self.base.add(HEADER_BYTES) };
        let nr_slots = self.geometry.nr_slots() as usize;
        // SAFETY: one byte a slot; nobody reads them before the slab has its magic.
        unsafe { first.write_bytes(tag.0, nr_slots) };
    }

    /// Makes sure that all behind the header is zeros. For who has locked an unformatted slab.
    pub(crate) fn scrub_all(&self) {
        // SAFETY: inside the slab.
        let start = unsafe { self.base.add(HEADER_BYTES) };
        // SAFETY: the rest of the slab; header and slab are multiples of 8 bytes; there is no
        // object in an unformatted slab, and whoever would look for one is kept out by the lock.
        unsafe { scrub(start, self.geometry.slab_bytes() - HEADER_BYTES) };
    }
}

/// Zeroes what is not zero already.
///
/// # Safety
///
/// `len_bytes` bytes from `start` are the caller's alone; both are multiples of 8.
unsafe fn scrub(start: NonNull<u8>, len_bytes: usize) {
    let start = start.cast::<u64>();
    for i in 0..len_bytes / 8 {
        // SAFETY: inside the bytes that are the caller's.
        let word = unsafe { start.add(i) };
        // SAFETY: as above, and aligned.
        if unsafe { word.as_ptr().read() } != 0 {
            // SAFETY: as above.
            unsafe { word.as_ptr().write(0) };
        }
    }
}
