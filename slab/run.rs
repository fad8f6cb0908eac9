// SPDX-License-Identifier: GPL-2.0

//! What this boot knows of a run: where it is, whether it may be used, and its words.
//!
//! ```text
//!   state     slots may be taken  claims find it  how it gets there
//!   None      no                  no              a place without a run
//!   Reserve   no                  yes (empty)     grown by the worker
//!   Live      yes                 yes             grown, inherited, or out of the reserve
//!   Dying     no                  they wait       somebody looks whether it is empty
//!   Condemned no                  no              it was empty; the worker gives it back, or keeps
//!                                                 it in reserve; who finds nothing else takes it
//! ```
//!
//! Whoever looks into a run holds a [`RunRef`]; a run is condemned only while nobody does. Owners of
//! a slot need none: a run with an owner is not empty. The words of a place are kept when its run
//! goes, so that an owner whose slot has just become free may still finish.

use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed,
    Release, //
};

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::phys::{
    run_size_bytes,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::Phys;

use crate::geometry::Geometry;
use crate::slots::Slab;
use crate::words::Words;

/// Whether a run may be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum RunUse {
    None = 0,
    Reserve = 1,
    Live = 2,
    Dying = 3,
    Condemned = 4,
}

const ORDER_MASK: u64 = 0x3f;
const INHERITED: u64 = 0x40;

/// A place of the directory.
pub(crate) struct RunState {
    state: Atomic<u32>,
    nr_refs: Atomic<u32>,
    /// Physical address, the order in the low 6 bits, then [`INHERITED`].
    phys_order: Atomic<u64>,
    base: Atomic<*mut u8>,
    size_bytes: Atomic<usize>,
    words: Atomic<*mut u64>,
    /// How many of the words say which slabs are full.
    nr_full_words: Atomic<u32>,
}

impl RunState {
    /// Makes an empty place.
    pub(crate) const fn new() -> Self {
        Self {
            state: Atomic::new(RunUse::None as u32),
            nr_refs: Atomic::new(0),
            phys_order: Atomic::new(0),
            base: Atomic::new(core::ptr::null_mut()),
            size_bytes: Atomic::new(0),
            nr_full_words: Atomic::new(0),
            words: Atomic::new(core::ptr::null_mut()),
        }
    }

    /// Puts a run into an empty place.
    ///
    /// # Safety
    ///
    /// - `base` is the memory of a preserved run of `order` at `phys`, which stays until the place
    ///   is [emptied](Self::leave), and is used through this place only;
    /// - `words` has [`nr_words`] zeroed words for the run, and stays as long as the place.
    pub(crate) unsafe fn enter(&self, run: &NewRun, to: RunUse) {
        let inherited = if run.is_inherited { INHERITED } else { 0 };
        self.phys_order
            .store(run.phys.get() | u64::from(run.order) | inherited, Relaxed);
        self.size_bytes
            .store(run_size_bytes(run.order).unwrap_or(0), Relaxed);
        self.nr_full_words
            .store(run.nr_slabs.div_ceil(64) as u32, Relaxed);
        self.words.store(run.words.as_ptr(), Relaxed);
        self.base.store(run.base.as_ptr(), Relaxed);
        self.state.store(to as u32, Release);
    }

    /// Empties a place.
    pub(crate) fn leave(&self) {
        self.phys_order.store(0, Relaxed);
        self.size_bytes.store(0, Relaxed);
        self.state.store(RunUse::None as u32, Release);
    }

    /// Returns whether the place is in `state` just now.
    #[inline(always)]
    pub(crate) fn is(&self, state: RunUse) -> bool {
        self.state.load_acquire() == state as u32
    }

    /// Returns whether the run is in use (false) or is being decided about (true) just now; `None`
    /// if it is neither.
    #[inline(always)]
    pub(crate) fn is_live_or_dying(&self) -> Option<bool> {
        let state = self.state.load_acquire();
        let is_dying = state == RunUse::Dying as u32;
        (is_dying || state == RunUse::Live as u32).then_some(is_dying)
    }

    /// Moves the place from one state to another; returns whether it was in `from`.
    pub(crate) fn transit(&self, from: RunUse, to: RunUse) -> bool {
        self.state.cmpxchg(from as u32, to as u32, Full).is_ok()
    }

    /// Takes the run, which is `Live` or in `Reserve` as `from` says, out of use if `is_empty` says
    /// that it may go; returns whether it did.
    ///
    /// The caller is pinned, as tasks spin while the place is `Dying`. From any context.
    pub(crate) fn condemn(&self, from: RunUse, is_empty: impl FnOnce() -> bool) -> bool {
        if !self.transit(from, RunUse::Dying) {
            return false;
        }
        // Whoever takes a reference from here on lets go of it again; whoever took one before
        // is counted, and may still take slots. So first there must be none, and what is empty
        // then stays empty.
        let goes = self.nr_refs.load_acquire() == 0 && is_empty();
        let next = if goes { RunUse::Condemned } else { from };
        self.transit(RunUse::Dying, next);
        goes
    }

    /// Takes a reference, if the place holds a run that is [`RunUse::Live`], or, for `any`, a
    /// reserved one too.
    ///
    /// `Err` says that somebody has it just now, and that it will be known in a moment.
    pub(crate) fn get(&self, place: u32, any: bool) -> Result<Option<RunRef<'_>>, Dying> {
        // The reference first, then the look at the state, with a full barrier in between; the
        // worker does the reverse. One of the two sees the other.
        self.nr_refs.fetch_add(1, Full);
        let held = RunRef { run: self, place };
        let state = self.state.load_acquire();
        if state == RunUse::Live as u32 || (any && state == RunUse::Reserve as u32) {
            return Ok(Some(held));
        }
        if state == RunUse::Dying as u32 {
            return Err(Dying);
        }
        Ok(None)
    }

    /// Returns the slab that begins at `base`, without a reference; `None` if it is not in this run.
    ///
    /// # Safety
    ///
    /// The caller owns a slot of the slab, and uses it only until it has given the slot back, its words
    /// also right after.
    #[inline(always)]
    pub(crate) unsafe fn slab_of_owner<'a>(
        &'a self,
        place: u32,
        base: NonNull<u8>,
        geometry: &'a Geometry,
    ) -> Option<Slab<'a>> {
        // A run with an owner stays, so if this is the run it is so all the time.
        let start = self.base.load_relaxed().addr();
        let offset = base.addr().get().wrapping_sub(start);
        if offset >= self.size_bytes.load_relaxed() {
            return None;
        }
        let index = geometry.nr_slabs(offset) as u32;
        let words = self.run_words(geometry)?;
        // SAFETY: a slab of the run, which is there as long as a slot of it is owned, says the caller.
        Some(unsafe { Slab::new(geometry, base, self, place, index, words) })
    }

    /// Looks into the run without taking a reference that others would see.
    ///
    /// # Safety
    ///
    /// The place is not emptied meanwhile.
    pub(crate) unsafe fn look(&self, place: u32) -> RunLook<'_> {
        RunLook(core::mem::ManuallyDrop::new(RunRef { run: self, place }))
    }

    /// Returns the address of the run.
    #[inline(always)]
    pub(crate) fn phys(&self) -> Phys {
        Phys::new(self.phys_order.load_relaxed() & !(ORDER_MASK | INHERITED))
    }

    /// Returns the number of pages.
    pub(crate) fn nr_pages(&self) -> usize {
        self.size_bytes() as usize / PAGE_SIZE_BYTES
    }

    /// Returns whether a previous kernel had the run.
    pub(crate) fn is_inherited(&self) -> bool {
        self.phys_order.load_relaxed() & INHERITED != 0
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes.load_relaxed() as u64
    }

    fn nr_slabs(&self, geometry: &Geometry) -> u32 {
        geometry.nr_slabs(self.size_bytes.load_relaxed()) as u32
    }

    #[inline(always)]
    fn run_words(&self, geometry: &Geometry) -> Option<RunWords> {
        Some(RunWords {
            first: NonNull::new(self.words.load_relaxed())?,
            nr_full_words: self.nr_full_words.load_relaxed(),
            nr_words: geometry.nr_words(),
        })
    }

    /// # Safety
    ///
    /// The run stays as long as the slab is used.
    unsafe fn slab_at<'a>(
        &'a self,
        place: u32,
        index: u32,
        geometry: &'a Geometry,
    ) -> Option<Slab<'a>> {
        if index >= self.nr_slabs(geometry) {
            return None;
        }
        let offset = index as usize * geometry.slab_bytes();
        let base = NonNull::new(self.base.load_relaxed())?;
        let words = self.run_words(geometry)?;
        // SAFETY: the offset is below the size of the run, which is one piece of memory.
        let base = unsafe { base.add(offset) };
        // SAFETY: `index` is below the number of slabs, so the slab lies inside the run; run and
        // words stay, by this function's requirements and those of `enter`.
        Some(unsafe { Slab::new(geometry, base, self, place, index, words) })
    }
}

/// A run for an empty place.
pub(crate) struct NewRun {
    /// Its memory.
    pub(crate) base: NonNull<u8>,
    pub(crate) phys: Phys,
    pub(crate) order: u8,
    pub(crate) is_inherited: bool,
    pub(crate) nr_slabs: usize,
    /// Zeros, [`nr_words`] of them.
    pub(crate) words: NonNull<u64>,
}

/// Somebody is deciding whether the run goes.
#[derive(Debug)]
pub(crate) struct Dying;

/// A look into a run, which stays meanwhile.
pub(crate) struct RunRef<'a> {
    run: &'a RunState,
    place: u32,
}

/// A look into a run by who alone could empty its place.
pub(crate) struct RunLook<'a>(core::mem::ManuallyDrop<RunRef<'a>>);

impl<'a> core::ops::Deref for RunLook<'a> {
    type Target = RunRef<'a>;

    fn deref(&self) -> &RunRef<'a> {
        &self.0
    }
}

impl<'a> RunRef<'a> {
    /// Returns whether `phys` is in the run.
    pub(crate) fn contains(&self, phys: Phys) -> bool {
        let offset = phys.get().wrapping_sub(self.run.phys().get());
        offset < self.run.size_bytes()
    }

    /// Returns the number of slabs.
    pub(crate) fn nr_slabs(&self, geometry: &Geometry) -> u32 {
        self.run.nr_slabs(geometry)
    }

    /// Returns the number of pages.
    pub(crate) fn nr_pages(&self) -> usize {
        self.run.nr_pages()
    }

    /// Returns whether a previous kernel had the run.
    pub(crate) fn is_inherited(&self) -> bool {
        self.run.is_inherited()
    }

    /// Returns the bits that say which slabs are known to be full.
    pub(crate) fn full<'b>(&'b self, geometry: &Geometry) -> Option<MemWords<'b>> {
        let words = self.run.run_words(geometry)?;
        // SAFETY: the words stay as long as this reference.
        Some(unsafe { words.full() })
    }

    /// Returns a slab by its number; `None` if there is none.
    pub(crate) fn slab<'b>(&'b self, index: u32, geometry: &'b Geometry) -> Option<Slab<'b>> {
        // SAFETY: the run stays as long as this reference.
        unsafe { self.run.slab_at(self.place, index, geometry) }
    }

    /// Returns the slab that holds `phys`; `None` if it is not in the run.
    pub(crate) fn slab_of<'b>(&'b self, phys: Phys, geometry: &'b Geometry) -> Option<Slab<'b>> {
        if !self.contains(phys) {
            return None;
        }
        let offset = phys.get() - self.run.phys().get();
        self.slab(geometry.nr_slabs(offset as usize) as u32, geometry)
    }
}

impl Drop for RunRef<'_> {
    fn drop(&mut self) {
        self.run.nr_refs.fetch_sub(1, Release);
    }
}

/// Returns how many words of volatile state a run needs: a bit a slab (known to be full), then for
/// each slab a word of state and three rows of words (taken, unclaimed, incoming).
pub(crate) fn nr_words(geometry: &Geometry, run_bytes: usize) -> usize {
    let nr_slabs = geometry.nr_slabs(run_bytes);
    nr_slabs.div_ceil(64) + nr_slabs * (1 + 3 * geometry.nr_words() as usize)
}

/// Zeroes words that stood for another run before.
///
/// # Safety
///
/// `len` words from `first` on are valid, and are used atomically only.
pub(crate) unsafe fn clear_words(first: NonNull<u64>, len: usize) {
    for i in 0..len {
        // SAFETY: below `len`.
        let word = unsafe { first.add(i) };
        // SAFETY: valid and used atomically, says the caller; aligned as a `u64`.
        let word: &Atomic<u64> = unsafe { Atomic::from_ptr(word.as_ptr()) };
        word.store(0, Relaxed);
    }
}

/// The words of a run.
#[derive(Clone, Copy)]
pub(crate) struct RunWords {
    first: NonNull<u64>,
    nr_full_words: u32,
    nr_words: u32,
}

impl RunWords {
    /// Returns `len` words from `from` on.
    ///
    /// # Safety
    ///
    /// They lie inside the words of the run, which stay for `'a`.
    #[inline(always)]
    unsafe fn row<'a>(&self, from: usize, len: u32) -> MemWords<'a> {
        MemWords {
            // SAFETY: inside one allocation, says the caller.
            first: unsafe { self.first.add(from) },
            len,
            _life: core::marker::PhantomData,
        }
    }

    /// Returns the bits that say which slabs are known to be full.
    ///
    /// # Safety
    ///
    /// The words stay for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn full<'a>(&self) -> MemWords<'a> {
        // SAFETY: the first words of the run (`nr_words()`).
        unsafe { self.row(0, self.nr_full_words) }
    }

    /// Returns a row of the slab `index`: 0 its state (one word), 1 taken, 2 unclaimed, 3
    /// incoming.
    ///
    /// # Safety
    ///
    /// `index` is below the number of slabs; the words stay for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn of_slab<'a>(&self, index: u32, row: usize) -> MemWords<'a> {
        let nr_words = self.nr_words as usize;
        let slab = self.nr_full_words as usize + index as usize * (1 + 3 * nr_words);
        match row.checked_sub(1) {
            // SAFETY: the first word of the slab's.
            None => unsafe { self.row(slab, 1) },
            // SAFETY: one of the three rows behind it.
            Some(row) => unsafe { self.row(slab + 1 + row.min(2) * nr_words, self.nr_words) },
        }
    }
}

/// Words laid over memory.
///
/// # Invariants
///
/// `len` words from `first` on are valid for `'a`, and are used atomically only.
#[derive(Clone, Copy)]
pub(crate) struct MemWords<'a> {
    first: NonNull<u64>,
    len: u32,
    _life: core::marker::PhantomData<&'a u64>,
}

impl<'a> MemWords<'a> {
    /// Returns a word, for as long as the memory is there.
    #[inline]
    pub(crate) fn at(&self, word: u32) -> Option<&'a Atomic<u64>> {
        if word >= self.len {
            return None;
        }
        // SAFETY: below `len`, by the check above.
        let bits = unsafe { self.first.add(word as usize) };
        // SAFETY: valid for `'a` and used atomically only, by the type invariants; words are
        // aligned, being allocated as `u64`.
        Some(unsafe { Atomic::from_ptr(bits.as_ptr()) })
    }
}

impl Words for MemWords<'_> {
    #[inline]
    fn get(&self, word: u32) -> Option<&Atomic<u64>> {
        self.at(word)
    }

    #[inline]
    fn len(&self) -> u32 {
        self.len
    }
}
