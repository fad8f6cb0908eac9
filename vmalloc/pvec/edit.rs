// SPDX-License-Identifier: GPL-2.0

//! Changes in the middle of a vector.
//!
//! All are one operation: a range of elements is replaced by others, and what lies behind it moves.
//! A kernel that is stopped within leaves, for the next one that opens the vector, all of it or
//! nothing of it. The price is that what moves is copied twice, by way of room behind the elements,
//! and that it needs that room for the time.

use core::ops::{
    Bound,
    Range,
    RangeBounds, //
};
use core::slice;

use kernel::prelude::*;

use kpreserve_kho::{
    GatePass,
    Preservable, //
};

use super::PVec;
use crate::area::Area;
use crate::redo::Redo;

impl<T: Preservable> PVec<T> {
    /// Adds an element in front of element `index`, which moves, like all behind it; at the end, if
    /// `index` is the length. May sleep. Costs two passes over what moves, and room for as much.
    ///
    /// # Errors
    ///
    /// EINVAL if `index` is above the length; ENOMEM; EBUSY once the framework is frozen. The vector
    /// is unchanged then.
    pub fn insert(&mut self, index: usize, value: T) -> Result {
        let pass = self.area.raw().enter()?;
        self.insert_with(&pass, index, value)
    }

    /// Does what [`insert`](Self::insert) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// EINVAL, ENOMEM; the vector is unchanged then.
    pub fn insert_with(&mut self, pass: &GatePass<'_>, index: usize, value: T) -> Result {
        if index == self.len() {
            return self.push_with(pass, value);
        }
        self.replace(pass, index..index, slice::from_ref(&value), |_| Ok(()))
    }

    /// Adds elements in front of element `index`; otherwise like [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// As from [`insert`](Self::insert).
    pub fn insert_from_slice(&mut self, index: usize, elements: &[T]) -> Result
    where
        T: Copy,
    {
        self.splice(index..index, elements)
    }

    /// Does what [`insert_from_slice`](Self::insert_from_slice) does, for one who has passed the
    /// gate.
    ///
    /// # Errors
    ///
    /// EINVAL, ENOMEM; the vector is unchanged then.
    pub fn insert_from_slice_with(
        &mut self,
        pass: &GatePass<'_>,
        index: usize,
        elements: &[T],
    ) -> Result
    where
        T: Copy,
    {
        self.splice_with(pass, index..index, elements)
    }

    /// Takes element `index` out and returns it; all behind it move. May sleep. Costs as
    /// [`insert`](Self::insert); [`swap_remove`](Self::swap_remove) costs less.
    ///
    /// # Errors
    ///
    /// EINVAL if there is no such element; ENOMEM; EBUSY once the framework is frozen. The vector is
    /// unchanged then.
    pub fn remove(&mut self, index: usize) -> Result<T> {
        let pass = self.area.raw().enter()?;
        self.remove_with(&pass, index)
    }

    /// Does what [`remove`](Self::remove) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// EINVAL, ENOMEM; the vector is unchanged then.
    pub fn remove_with(&mut self, pass: &GatePass<'_>, index: usize) -> Result<T> {
        let value = self.area.raw_mut().read_element(index).ok_or(EINVAL)?;
        self.replace(pass, index..index + 1, &[], |_| Ok(()))?;
        Ok(value)
    }

    /// Takes element `index` out and returns it; the last element takes its place. May sleep, if
    /// there is no room for a record of 40 bytes. Costs one copy of an element.
    ///
    /// # Errors
    ///
    /// EINVAL if there is no such element; ENOMEM; EBUSY once the framework is frozen. The vector is
    /// unchanged then.
    pub fn swap_remove(&mut self, index: usize) -> Result<T> {
        let pass = self.area.raw().enter()?;
        self.swap_remove_with(&pass, index)
    }

    /// Does what [`swap_remove`](Self::swap_remove) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// EINVAL, ENOMEM; the vector is unchanged then.
    pub fn swap_remove_with(&mut self, pass: &GatePass<'_>, index: usize) -> Result<T> {
        let raw = self.area.raw_mut();
        let value = raw.read_element(index).ok_or(EINVAL)?;
        let last = raw.len() - 1;
        if index == last {
            raw.truncate(last);
            return Ok(value);
        }
        let room = raw.make_room(pass, last, 0)?;
        // INVARIANT: one element, from the last place to one before it, which is within the new
        // length.
        let redo = Redo {
            dst: index,
            src: last,
            nr: 1,
            len: last,
        };
        raw.commit(pass, room, redo);
        Ok(value)
    }

    /// Takes a range of elements out, after `each` has seen them, in order, one slice for each run;
    /// all behind them move. May sleep. Costs two passes over what moves, and room for as much; one,
    /// and no room, if not more move than go.
    ///
    /// An iterator, as the one of `Vec`, could be leaked half-way, and could not say, when it is
    /// dropped, that there was no memory. Here all that can fail has succeeded when `each` is
    /// called; it may still refuse, and if it does not, the elements are gone when the call returns:
    ///
    /// ```
    /// # use kernel::prelude::*;
    /// fn take(from: &mut kpreserve_vmalloc::PVec<u64>, to: &mut KVVec<u64>) -> Result {
    ///     from.drain(..4, |gone| Ok(to.extend_from_slice(gone, GFP_KERNEL)?))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// What `each` returns; EINVAL if there are no such elements; ENOMEM; EBUSY once the framework
    /// is frozen. The vector is unchanged then.
    pub fn drain(
        &mut self,
        range: impl RangeBounds<usize>,
        each: impl FnMut(&[T]) -> Result,
    ) -> Result {
        let pass = self.area.raw().enter()?;
        self.drain_with(&pass, range, each)
    }

    /// Does what [`drain`](Self::drain) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// What `each` returns; EINVAL, ENOMEM. The vector is unchanged then.
    pub fn drain_with(
        &mut self,
        pass: &GatePass<'_>,
        range: impl RangeBounds<usize>,
        each: impl FnMut(&[T]) -> Result,
    ) -> Result {
        let range = self.checked_range(range)?;
        let (from, nr) = (range.start, range.len());
        self.replace(pass, range, &[], |area| visit(area, from, nr, each))
    }

    /// Replaces a range of elements by `elements`; all behind them move, if these are not as many.
    /// May sleep. Costs two passes over what is new and what moves, and room for as much.
    ///
    /// With as many elements, it is a [`write_at`](Area::write_at) that a cut leaves done or not
    /// done.
    ///
    /// # Errors
    ///
    /// EINVAL if there are no such elements; ENOMEM; EBUSY once the framework is frozen. The vector
    /// is unchanged then.
    pub fn splice(&mut self, range: impl RangeBounds<usize>, elements: &[T]) -> Result
    where
        T: Copy,
    {
        let pass = self.area.raw().enter()?;
        self.splice_with(&pass, range, elements)
    }

    /// Does what [`splice`](Self::splice) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// EINVAL, ENOMEM; the vector is unchanged then.
    pub fn splice_with(
        &mut self,
        pass: &GatePass<'_>,
        range: impl RangeBounds<usize>,
        elements: &[T],
    ) -> Result
    where
        T: Copy,
    {
        let range = self.checked_range(range)?;
        if range.start == self.len() {
            return self.extend_from_slice_with(pass, elements);
        }
        self.replace(pass, range, elements, |_| Ok(()))
    }

    /// Replaces `range` by `elements`; calls `before` when nothing but that can fail any more.
    fn replace(
        &mut self,
        pass: &GatePass<'_>,
        range: Range<usize>,
        elements: &[T],
        before: impl FnOnce(&Area<T>) -> Result,
    ) -> Result {
        let Range { start, end } = self.checked_range(range)?;
        let len = self.len();
        let (nr_gone, nr_new) = (end - start, elements.len());
        let len_new = (len - nr_gone).checked_add(nr_new).ok_or(ENOMEM)?;
        if nr_gone == 0 && nr_new == 0 {
            return Ok(());
        }
        if end == len && nr_new == 0 {
            before(&self.area)?;
            self.area.raw_mut().truncate(start);
            return Ok(());
        }
        // As many: what lies behind stays.
        let nr_moved = if nr_gone == nr_new { 0 } else { len - end };
        // Not more moves than goes, and nothing is new: it can be copied straight away, and again.
        let is_direct = nr_new == 0 && nr_moved <= nr_gone;
        let nr = nr_new.checked_add(nr_moved).ok_or(ENOMEM)?;
        let nr_room = if is_direct { 0 } else { nr };

        let room = self.area.raw_mut().make_room(pass, len_new, nr_room)?;
        let seen = before(&self.area);
        let raw = self.area.raw_mut();
        if let Err(error) = seen {
            raw.leave_room(pass, room);
            return Err(error);
        }
        let mut src = end;
        if !is_direct {
            src = room.first;
            raw.write_elements(src, elements);
            raw.copy_elements(end, src + nr_new, nr_moved);
        }
        // INVARIANT: `start + nr` is the new length, or, if as many are new as go, `end`. The room
        // begins behind both lengths and ends within the capacity; without it, `nr` is at most
        // `end - start`, and `end + nr` is the old length.
        let redo = Redo {
            dst: start,
            src,
            nr,
            len: len_new,
        };
        raw.commit(pass, room, redo);
        Ok(())
    }

    /// Returns the indices that `range` means.
    ///
    /// # Errors
    ///
    /// EINVAL if it ends before it begins, or behind the last element.
    fn checked_range(&self, range: impl RangeBounds<usize>) -> Result<Range<usize>> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.checked_add(1).ok_or(EINVAL)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.checked_add(1).ok_or(EINVAL)?,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        if start > end || end > self.len() {
            return Err(EINVAL);
        }
        Ok(start..end)
    }
}

/// Calls `each` with `nr` elements from `from` on, run by run.
fn visit<T: Preservable>(
    area: &Area<T>,
    from: usize,
    nr: usize,
    mut each: impl FnMut(&[T]) -> Result,
) -> Result {
    let mut left = nr;
    for chunk in area.chunks_from(from) {
        let chunk = chunk.get(..left.min(chunk.len())).unwrap_or(chunk);
        if chunk.is_empty() {
            break;
        }
        each(chunk)?;
        left -= chunk.len();
    }
    Ok(())
}
