// SPDX-License-Identifier: GPL-2.0

//! Which elements of a vector stay, and in which order.
//!
//! As in `edit.rs`: what comes out is written behind the elements, and takes their place at once.

use core::cmp::Ordering;

use kernel::prelude::*;

use kpreserve_kho::{
    GatePass,
    Preservable, //
};

use super::PVec;
use crate::raw::Room;
use crate::redo::Redo;

/// The most elements that are sorted: for more indices than fit into 2 GiB the kernel's allocator has a warning.
const NR_SORTED_MAX: usize = i32::MAX as usize / size_of::<usize>();

impl<T: Preservable> PVec<T> {
    /// Takes the elements out for which `keep` returns false; it sees each once, in order. May
    /// sleep. Costs two passes over what lies behind the first that goes, and room for as much.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY once the framework is frozen. The vector is unchanged then, but `keep` may have
    /// seen some elements.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) -> Result {
        let pass = self.area.raw().enter()?;
        self.retain_with(&pass, keep)
    }

    /// Does what [`retain`](Self::retain) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM; the vector is unchanged then.
    pub fn retain_with(&mut self, pass: &GatePass<'_>, mut keep: impl FnMut(&T) -> bool) -> Result {
        let len = self.len();
        let Some(first) = self.iter().position(|element| !keep(element)) else {
            return Ok(());
        };
        let raw = self.area.raw_mut();
        let room = raw.make_room(pass, len, len - first - 1)?;
        let mut at = first + 1;
        let mut nr = 0;
        while let Some(chunk) = raw.slice::<T>(at, len) {
            let gone = chunk.iter().position(|element| !keep(element));
            let nr_kept = gone.unwrap_or(chunk.len());
            raw.copy_elements(at, room.first + nr, nr_kept);
            nr += nr_kept;
            // Over the one that goes, if there is one.
            at += nr_kept + usize::from(gone.is_some());
        }
        self.settle(pass, room, first, nr, first + nr);
        Ok(())
    }

    /// Takes each element out that has the same key as the one before it. May sleep; costs as
    /// [`retain`](Self::retain).
    ///
    /// # Errors
    ///
    /// As from [`retain`](Self::retain).
    pub fn dedup_by_key<K: PartialEq>(&mut self, key: impl FnMut(&T) -> K) -> Result {
        let pass = self.area.raw().enter()?;
        self.dedup_by_key_with(&pass, key)
    }

    /// Does what [`dedup_by_key`](Self::dedup_by_key) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM; the vector is unchanged then.
    pub fn dedup_by_key_with<K: PartialEq>(
        &mut self,
        pass: &GatePass<'_>,
        mut key: impl FnMut(&T) -> K,
    ) -> Result {
        let mut last = None;
        self.retain_with(pass, |element| {
            let key = Some(key(element));
            let is_new = key != last;
            last = key;
            is_new
        })
    }

    /// Sorts the elements; equal ones stay in order. May sleep. O(n log n) comparisons, whatever
    /// `compare` returns, with one look-up each; 16 bytes of memory an element, two passes over
    /// what moves, and room for as much. One pass, if the elements are in order.
    ///
    /// # Errors
    ///
    /// ENOMEM, also for 2^28 elements or more that are not in order; EBUSY once the framework is frozen. The vector is unchanged then.
    pub fn sort_by(&mut self, compare: impl Fn(&T, &T) -> Ordering) -> Result {
        let pass = self.area.raw().enter()?;
        self.sort_by_with(&pass, compare)
    }

    /// Does what [`sort_by`](Self::sort_by) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM; the vector is unchanged then.
    pub fn sort_by_with(
        &mut self,
        pass: &GatePass<'_>,
        compare: impl Fn(&T, &T) -> Ordering,
    ) -> Result {
        if self.is_sorted_by(&compare) {
            return Ok(());
        }
        let order = self.order(compare)?;
        // What is in its place in front stays there, and at the end.
        let is_moved = |(place, &from): (usize, &usize)| place != from;
        let (Some(first), Some(last)) = (
            order.iter().enumerate().position(is_moved),
            order.iter().enumerate().rposition(is_moved),
        ) else {
            return Ok(());
        };
        let len = self.len();
        let raw = self.area.raw_mut();
        let room = raw.make_room(pass, len, last + 1 - first)?;
        let moved = order.get(first..last + 1).unwrap_or(&[]);
        let mut nr = 0;
        // Neighbours that stay neighbours are copied together.
        for group in moved.chunk_by(|&a, &b| b == a + 1) {
            if let Some(&from) = group.first() {
                raw.copy_elements(from, room.first + nr, group.len());
                nr += group.len();
            }
        }
        self.settle(pass, room, first, nr, len);
        Ok(())
    }

    /// Sorts the elements by a key; otherwise like [`sort_by`](Self::sort_by).
    ///
    /// # Errors
    ///
    /// As from [`sort_by`](Self::sort_by).
    pub fn sort_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) -> Result {
        let pass = self.area.raw().enter()?;
        self.sort_by_key_with(&pass, key)
    }

    /// Does what [`sort_by_key`](Self::sort_by_key) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// ENOMEM; the vector is unchanged then.
    pub fn sort_by_key_with<K: Ord>(
        &mut self,
        pass: &GatePass<'_>,
        key: impl Fn(&T) -> K,
    ) -> Result {
        self.sort_by_with(pass, |a, b| key(a).cmp(&key(b)))
    }

    fn is_sorted_by(&self, compare: impl Fn(&T, &T) -> Ordering) -> bool {
        let mut pairs = self.iter().zip(self.iter().skip(1));
        pairs.all(|(a, b)| compare(a, b) != Ordering::Greater)
    }

    /// Returns which element comes first, which next, and so on: a merge sort of their indices.
    ///
    /// Each comparison looks one element up: the other one is still there from the last.
    fn order(&self, compare: impl Fn(&T, &T) -> Ordering) -> Result<KVVec<usize>> {
        if self.len() > NR_SORTED_MAX {
            return Err(ENOMEM);
        }
        let mut order = KVVec::with_capacity(self.len(), GFP_KERNEL)?;
        let mut spare = KVVec::with_capacity(self.len(), GFP_KERNEL)?;
        for index in 0..self.len() {
            order.push(index, GFP_KERNEL)?;
            spare.push(index, GFP_KERNEL)?;
        }
        let mut width = 1;
        while width < order.len() {
            // No overflow: `width` is below a length, of which each counts for 8 bytes.
            let pairs = order.chunks(2 * width);
            for (pair, merged) in pairs.zip(spare.chunks_mut(2 * width)) {
                let (first, second) = pair.split_at_checked(width).unwrap_or((pair, &[]));
                self.merge(first, second, merged, &compare);
            }
            core::mem::swap(&mut order, &mut spare);
            width *= 2;
        }
        Ok(order)
    }

    /// Merges two sequences of indices, each in order.
    fn merge<'i>(
        &self,
        mut first: &'i [usize],
        mut second: &'i [usize],
        merged: &mut [usize],
        compare: impl Fn(&T, &T) -> Ordering,
    ) {
        let (mut a, mut b) = (self.at_first(first), self.at_first(second));
        for place in merged {
            let is_second = match (a, b) {
                (Some(a), Some(b)) => compare(b, a) == Ordering::Less,
                (a, _) => a.is_none(),
            };
            let side = if is_second { &mut second } else { &mut first };
            let Some((&index, rest)) = side.split_first() else {
                return;
            };
            *place = index;
            *side = rest;
            if is_second {
                b = self.at_first(second);
            } else {
                a = self.at_first(first);
            }
        }
    }

    /// Returns the element that the first of `indices` names.
    fn at_first(&self, indices: &[usize]) -> Option<&T> {
        self.get(*indices.first()?)
    }

    /// Puts `nr` elements of the room into the place of those from `dst` on.
    fn settle(&mut self, pass: &GatePass<'_>, room: Room, dst: usize, nr: usize, len: usize) {
        // INVARIANT: the callers copied that many into the room, out of the elements from `dst` on;
        // the room lies behind them all, within the capacity, and `len` is at least `dst + nr`.
        let redo = Redo {
            dst,
            src: room.first,
            nr,
            len,
        };
        self.area.raw_mut().commit(pass, room, redo);
    }
}
