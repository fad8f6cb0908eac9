// SPDX-License-Identifier: GPL-2.0

//! A vector.

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::prelude::*;

use kpreserve_kho::{
    Arena,
    ArenaSer,
    GatePass,
    Preservable, //
};

use crate::area::Area;
use crate::raw::RawArea;

mod edit;
mod order;

/// A vector in preserved memory: an [`Area`] that elements are pushed to and popped from. What an
/// area can do, it can do, too.
///
/// Growing moves nothing: a reference's address is good until the element goes. Each growth adds
/// a run of at most 1/16 of what is there, so that pushing costs O(1) amortised, and at most a few
/// percent are spare.
///
/// After the framework froze, what changes the length returns EBUSY; the forms with `_with`, for
/// those who hold a [`GatePass`], and [`push_within_capacity`](Self::push_within_capacity) do not
/// look at the gate. The crate's page says why that is enough.
pub struct PVec<T: Preservable> {
    area: Area<T>,
}

impl<T: Preservable> PVec<T> {
    /// Opens what an arena and its descriptor hold; an empty vector, if they are new. Cost per
    /// run; no element is touched.
    ///
    /// # Errors
    ///
    /// As from [`Area::from_arena`].
    pub fn from_arena(arena: Arena, ser: &'static ArenaSer) -> Result<Self> {
        Ok(Self::from_area(Area::from_arena(arena, ser)?))
    }

    /// Makes a vector of `T` of an area that was opened.
    ///
    /// # Errors
    ///
    /// As from [`Area::from_raw`].
    pub fn from_raw(raw: RawArea) -> Result<Self> {
        Ok(Self::from_area(Area::from_raw(raw)?))
    }

    /// Makes a vector of an area.
    pub fn from_area(area: Area<T>) -> Self {
        Self { area }
    }

    /// Returns the area.
    pub fn into_area(self) -> Area<T> {
        self.area
    }

    /// Returns whether the bytes behind the last element, as many as an element has, are 0; also if
    /// there is no room behind it. They are not if an element was written there and not published;
    /// or if it was, and the length is damaged.
    pub fn is_clear_behind(&self) -> bool {
        self.area.raw().is_clear_behind()
    }

    /// Returns what stands behind the last element, where the next one will be written; `None` if
    /// there is no room. It was never published, or it was and is not any more, or the length is
    /// damaged.
    pub fn behind(&self) -> Option<&T> {
        self.area.raw().behind()
    }

    /// Makes room for `additional` elements more. May sleep; at once if there is room.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged; EBUSY once the framework is frozen.
    pub fn reserve(&mut self, additional: usize) -> Result {
        let pass = self.area.raw().enter()?;
        self.reserve_with(&pass, additional)
    }

    /// Does what [`reserve`](Self::reserve) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged.
    pub fn reserve_with(&mut self, pass: &GatePass<'_>, additional: usize) -> Result {
        self.area.raw_mut().reserve(pass, additional)
    }

    /// Adds an element at the end. A store and its publication, as long as there is room in a run;
    /// when there is none, a run is added, which may sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged; EBUSY once the framework is frozen, but for elements for which
    /// the run has room.
    #[inline]
    pub fn push(&mut self, value: T) -> Result {
        match self.push_into_run(value) {
            Ok(()) => Ok(()),
            Err(value) => self.push_slow(value),
        }
    }

    #[inline]
    fn push_into_run(&mut self, value: T) -> Result<(), T> {
        // SAFETY: elements are as large as a `T`, by the invariants of `Area`.
        unsafe { self.area.raw_mut().append(value) }
    }

    /// Does what [`push`](Self::push) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged.
    pub fn push_with(&mut self, pass: &GatePass<'_>, value: T) -> Result {
        self.reserve_with(pass, 1)?;
        self.push_within_capacity(value).map_err(|_| ENOMEM)
    }

    /// Adds an element at the end if there is room for it. Never sleeps, never looks at the gate.
    ///
    /// # Errors
    ///
    /// Returns the element if there is no room.
    #[inline]
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), T> {
        match self.push_into_run(value) {
            Err(value) if self.area.raw_mut().find_tail() => self.push_into_run(value),
            pushed => pushed,
        }
    }

    #[cold]
    fn push_slow(&mut self, value: T) -> Result {
        let pass = self.area.raw().enter()?;
        self.push_with(&pass, value)
    }

    /// Copies elements behind the last one, then publishes all of them at once. May sleep; at once if there
    /// is room.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged; EBUSY once the framework is frozen.
    pub fn extend_from_slice(&mut self, elements: &[T]) -> Result
    where
        T: Copy,
    {
        self.area.raw().look()?;
        // SAFETY: elements are as large as a `T`, by the invariants of `Area`.
        if unsafe { self.area.raw_mut().append_slice(elements) } {
            return Ok(());
        }
        if elements.len() <= self.capacity() - self.len() {
            return self.extend_within_capacity(elements);
        }
        let pass = self.area.raw().enter()?;
        self.extend_from_slice_with(&pass, elements)
    }

    /// Does what [`extend_from_slice`](Self::extend_from_slice) does, for one who has passed the
    /// gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged.
    pub fn extend_from_slice_with(&mut self, pass: &GatePass<'_>, elements: &[T]) -> Result
    where
        T: Copy,
    {
        self.reserve_with(pass, elements.len())?;
        self.extend_within_capacity(elements)
    }

    fn extend_within_capacity(&mut self, elements: &[T]) -> Result
    where
        T: Copy,
    {
        let raw = self.area.raw_mut();
        let end = raw.len().checked_add(elements.len()).ok_or(ENOMEM)?;
        let mut at = raw.len();
        let mut rest = elements;
        while !rest.is_empty() {
            let chunk = raw.slice_mut::<T>(at, end).ok_or(ENOMEM)?;
            let (part, behind) = rest.split_at_checked(chunk.len()).ok_or(EINVAL)?;
            chunk.copy_from_slice(part);
            at += part.len();
            rest = behind;
        }
        raw.publish(end);
        // The next ones may fit.
        raw.find_tail();
        Ok(())
    }

    /// Adds zeroed elements at the end, all published at once. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged; EBUSY once the framework is frozen.
    pub fn extend_zeroed(&mut self, additional: usize) -> Result {
        let pass = self.area.raw().enter()?;
        self.extend_zeroed_with(&pass, additional)
    }

    /// Does what [`extend_zeroed`](Self::extend_zeroed) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM, the vector unchanged.
    pub fn extend_zeroed_with(&mut self, pass: &GatePass<'_>, additional: usize) -> Result {
        self.area.raw_mut().extend_zeroed(pass, additional)
    }

    /// Takes the last element away and returns it, `None` if there is none.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<T>> {
        self.area.raw().look()?;
        Ok(self.pop_unseen())
    }

    /// Does what [`pop`](Self::pop) does, for one who has passed the gate.
    pub fn pop_with(&mut self, _pass: &GatePass<'_>) -> Option<T> {
        self.pop_unseen()
    }

    #[inline]
    pub(crate) fn pop_unseen(&mut self) -> Option<T> {
        match self.pop_from_run() {
            None if self.area.raw_mut().find_last() => self.pop_from_run(),
            popped => popped,
        }
    }

    #[inline]
    fn pop_from_run(&mut self) -> Option<T> {
        // SAFETY: elements are as large as a `T`, by the invariants of `Area`.
        unsafe { self.area.raw_mut().retract() }
    }

    /// Takes the elements from `len` on away; they are cleared, their room is kept.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    pub fn truncate(&mut self, len: usize) -> Result {
        self.area.raw().look()?;
        self.area.raw_mut().truncate(len);
        Ok(())
    }

    /// Does what [`truncate`](Self::truncate) does, for one who has passed the gate.
    pub fn truncate_with(&mut self, _pass: &GatePass<'_>, len: usize) {
        self.area.raw_mut().truncate(len);
    }

    /// Gives back the runs that hold no element. May sleep.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    pub fn shrink_to_fit(&mut self) -> Result {
        let pass = self.area.raw().enter()?;
        self.area.raw_mut().release_runs(&pass, 0);
        Ok(())
    }

    /// Ends the vector and frees its memory; see [`Area::discard`].
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen; the vector is closed then, as if it had been dropped.
    pub fn discard(self) -> Result {
        self.area.discard()
    }

    /// Does what [`discard`](Self::discard) does, for one who has passed the gate. Cannot fail.
    pub fn discard_with(self, pass: &GatePass<'_>) {
        self.area.discard_with(pass);
    }
}

impl<T: Preservable> Deref for PVec<T> {
    type Target = Area<T>;

    fn deref(&self) -> &Area<T> {
        &self.area
    }
}

impl<T: Preservable> DerefMut for PVec<T> {
    fn deref_mut(&mut self) -> &mut Area<T> {
        &mut self.area
    }
}

impl<T: Preservable> core::fmt::Debug for PVec<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.area.fmt(f)
    }
}
