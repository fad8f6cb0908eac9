// SPDX-License-Identifier: GPL-2.0

//! A fixed number of elements.

use core::marker::PhantomData;

use kernel::prelude::*;

use kpreserve_kho::{
    Arena,
    ArenaHandle,
    ArenaSer,
    GatePass,
    Node,
    Preservable, //
};

use crate::chunks::{
    Chunks,
    ChunksMut, //
};
use crate::raw::RawArea;
use crate::view::{
    View,
    ViewMut, //
};

/// Elements of type `T` in preserved memory, reached by index: a boxed slice that survives a
/// kexec.
///
/// Elements lie in runs of physically contiguous pages, never across two, and never move; index to
/// element is one table lookup. [`map`](Self::map) makes one slice of them. Owned like a `Box`:
/// writing takes `&mut self`, and there is no lock inside.
///
/// Dropping an area closes it: everything stays where it is, preserved, and the next open, in this
/// boot or in the next kernel, finds it. [`discard`](Self::discard) frees it.
///
/// An element has a size, of at most 4 MiB:
///
/// ```
/// let _ = kpreserve_vmalloc::Area::<[u8; 4 << 20]>::from_raw as fn(_) -> _;
/// ```
///
/// ```compile_fail,E0080
/// let _ = kpreserve_vmalloc::Area::<[u8; 0]>::from_raw as fn(_) -> _;
/// ```
///
/// ```compile_fail,E0080
/// let _ = kpreserve_vmalloc::Area::<[u8; (4 << 20) + 1]>::from_raw as fn(_) -> _;
/// ```
///
/// # Invariants
///
/// The element size of `raw` is the size of `T`.
pub struct Area<T: Preservable> {
    raw: RawArea,
    _elements: PhantomData<T>,
}

impl<T: Preservable> Area<T> {
    /// Makes an area of `T` of one that was opened. Whether the elements mean a `T` (fingerprint,
    /// version) is for the caller to know.
    ///
    /// # Errors
    ///
    /// EINVAL if elements are not as large as a `T`; the area is closed then.
    pub fn from_raw(raw: RawArea) -> Result<Self> {
        raw.expect_elements::<T>()?;
        // INVARIANT: just compared.
        Ok(Self {
            raw,
            _elements: PhantomData,
        })
    }

    /// Opens what an arena and its descriptor hold. Cost per run; nothing is mapped, no element is
    /// touched.
    ///
    /// # Errors
    ///
    /// As from [`RawArea::new`] and [`from_raw`](Self::from_raw).
    pub fn from_arena(arena: Arena, ser: &'static ArenaSer) -> Result<Self> {
        Self::from_raw(RawArea::new(arena, ser)?)
    }

    /// Makes an area of `len` zeroed elements of a new arena.
    ///
    /// # Errors
    ///
    /// As from [`from_arena`](Self::from_arena) and [`resize`](Self::resize); the arena is closed
    /// then, without runs, and whoever made its record retires it.
    pub fn with_len(arena: Arena, ser: &'static ArenaSer, len: usize) -> Result<Self> {
        let mut area = Self::from_arena(arena, ser)?;
        area.resize(len)?;
        Ok(area)
    }

    /// Returns the area without its type.
    pub fn into_raw(self) -> RawArea {
        self.raw
    }

    /// Returns the area without its type.
    pub fn raw(&self) -> &RawArea {
        &self.raw
    }

    /// The same, to be changed; `PVec` changes the length.
    pub(crate) fn raw_mut(&mut self) -> &mut RawArea {
        &mut self.raw
    }

    /// Returns the handle that the next kernel opens the area by: to be stored in a preserved
    /// object.
    pub fn handle(&self) -> ArenaHandle<T> {
        let ser = self.raw.ser();
        ArenaHandle::new(ser.id, ser.generation)
    }

    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Returns whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Returns how many elements the runs have room for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.raw.capacity()
    }

    /// Returns the number of runs, which is the number of KHO keys.
    pub fn nr_runs(&self) -> usize {
        self.raw.nr_runs()
    }

    /// Returns the number of pages that the runs have together.
    pub fn nr_pages(&self) -> usize {
        self.raw.nr_pages()
    }

    /// Prefers a NUMA node for runs to come.
    pub fn set_node(&mut self, node: Node) {
        self.raw.set_node(node);
    }

    /// Returns element `index`, `None` if there is none. One table lookup.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.raw.get(index)
    }

    /// Returns element `index`, to be changed, `None` if there is none. One table lookup.
    ///
    /// The last completed store to it crosses a kexec, also after the framework froze.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.raw.get_mut(index)
    }

    /// Replaces element `index`. One table lookup.
    ///
    /// # Errors
    ///
    /// EINVAL if there is none.
    #[inline]
    pub fn set(&mut self, index: usize, value: T) -> Result {
        *self.get_mut(index).ok_or(EINVAL)? = value;
        Ok(())
    }

    /// Changes the number of elements. New ones are zero. Elements that go are cleared, and runs
    /// that none is left in are given back. Nothing moves. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no memory, or no number, for so many; EBUSY once the framework is frozen.
    /// The area is as it was.
    pub fn resize(&mut self, len: usize) -> Result {
        let pass = self.raw.enter()?;
        self.resize_with(&pass, len)
    }

    /// Does what [`resize`](Self::resize) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM; the area is as it was.
    pub fn resize_with(&mut self, pass: &GatePass<'_>, len: usize) -> Result {
        match len.checked_sub(self.len()) {
            Some(additional) => self.raw.extend_zeroed(pass, additional),
            None => {
                self.raw.truncate(len);
                self.raw.release_runs(pass, 0);
                Ok(())
            }
        }
    }

    /// Returns the elements, in order, as one slice for each run. The fast way to visit all.
    pub fn chunks(&self) -> Chunks<'_, T> {
        Chunks::new(&self.raw, 0, self.len())
    }

    /// Returns the elements from `from` on, as far as there are any, as one slice for each run.
    pub fn chunks_from(&self, from: usize) -> Chunks<'_, T> {
        Chunks::new(&self.raw, from, self.len())
    }

    /// Returns the elements, in order, as one slice for each run, to be changed.
    pub fn chunks_mut(&mut self) -> ChunksMut<'_, T> {
        ChunksMut::new(&mut self.raw, 0, usize::MAX)
    }

    /// Returns the elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        self.chunks().flatten()
    }

    /// Returns the elements in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> + '_ {
        self.chunks_mut().flatten()
    }

    /// Returns all elements as one slice. Costs nothing if they lie in one run, else a mapping: a
    /// few dozen instructions a page; with kpreserve built in, a few hundred for every 2 MiB that
    /// lie in one run, as these are mapped by huge pages. May sleep.
    ///
    /// # Errors
    ///
    /// EINVAL if they lie in several runs and these have bytes left over behind their last element,
    /// so that a mapping of them would have holes; the size of `T` is no power of two then. ENOMEM
    /// for the mapping.
    pub fn map(&self) -> Result<View<'_, T>> {
        View::new(&self.raw)
    }

    /// Returns all elements as one slice, to be changed; otherwise like [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// As from [`map`](Self::map).
    pub fn map_mut(&mut self) -> Result<ViewMut<'_, T>> {
        ViewMut::new(&mut self.raw)
    }

    /// Copies elements from `from` on into `to`, across runs.
    ///
    /// # Errors
    ///
    /// EINVAL if there are not that many; nothing was copied then.
    pub fn read_at(&self, from: usize, to: &mut [T]) -> Result
    where
        T: Copy,
    {
        let end = self.checked_end(from, to.len())?;
        let mut rest = to;
        for chunk in Chunks::new(&self.raw, from, end) {
            let (part, behind) = rest.split_at_mut_checked(chunk.len()).ok_or(EINVAL)?;
            part.copy_from_slice(chunk);
            rest = behind;
        }
        Ok(())
    }

    /// Copies `elements` over those from `to` on, across runs.
    ///
    /// A cut in the middle leaves some of the old and some of the new ones.
    ///
    /// # Errors
    ///
    /// EINVAL if there are not that many; nothing was copied then.
    pub fn write_at(&mut self, to: usize, elements: &[T]) -> Result
    where
        T: Copy,
    {
        let end = self.checked_end(to, elements.len())?;
        let mut rest = elements;
        for chunk in ChunksMut::new(&mut self.raw, to, end) {
            let (part, behind) = rest.split_at_checked(chunk.len()).ok_or(EINVAL)?;
            chunk.copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    }

    /// Ends the area and frees its memory, the last run first. May sleep. Costs a pass over the
    /// elements, which are cleared, and one key for each run.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen; the area is closed then, as if it had been dropped.
    pub fn discard(self) -> Result {
        self.raw.discard()
    }

    /// Does what [`discard`](Self::discard) does, for one who has passed the gate. Cannot fail.
    pub fn discard_with(self, pass: &GatePass<'_>) {
        self.raw.discard_with(pass);
    }

    fn checked_end(&self, from: usize, nr: usize) -> Result<usize> {
        from.checked_add(nr)
            .filter(|&end| end <= self.len())
            .ok_or(EINVAL)
    }
}

impl<T: Preservable> core::fmt::Debug for Area<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.raw.fmt(f)
    }
}
