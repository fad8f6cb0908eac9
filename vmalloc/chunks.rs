// SPDX-License-Identifier: GPL-2.0

//! Elements run by run: the fast way to visit all of them.

use core::iter::FusedIterator;
use core::marker::PhantomData;

use kpreserve_kho::Preservable;

use crate::raw::RawArea;

/// The elements of an area in order, as one slice for each run.
///
/// One lookup a slice.
pub struct Chunks<'a, T> {
    raw: &'a RawArea,
    next: usize,
    end: usize,
    _elements: PhantomData<&'a [T]>,
}

impl<'a, T: Preservable> Chunks<'a, T> {
    pub(crate) fn new(raw: &'a RawArea, from: usize, to: usize) -> Self {
        Self {
            raw,
            next: from,
            end: to,
            _elements: PhantomData,
        }
    }
}

impl<'a, T: Preservable> Iterator for Chunks<'a, T> {
    type Item = &'a [T];

    fn next(&mut self) -> Option<&'a [T]> {
        let chunk = self.raw.slice(self.next, self.end)?;
        self.next += chunk.len();
        Some(chunk)
    }
}

impl<T: Preservable> FusedIterator for Chunks<'_, T> {}

/// The elements of an area in order, as one slice for each run, to be changed.
///
/// One lookup a slice.
pub struct ChunksMut<'a, T> {
    raw: &'a mut RawArea,
    next: usize,
    end: usize,
    _elements: PhantomData<&'a mut [T]>,
}

impl<'a, T: Preservable> ChunksMut<'a, T> {
    pub(crate) fn new(raw: &'a mut RawArea, from: usize, to: usize) -> Self {
        let end = to.min(raw.len());
        Self {
            raw,
            next: from,
            end,
            _elements: PhantomData,
        }
    }
}

impl<'a, T: Preservable> Iterator for ChunksMut<'a, T> {
    type Item = &'a mut [T];

    fn next(&mut self) -> Option<&'a mut [T]> {
        // SAFETY: `self` holds the mutable borrow of the area for `'a`; each call begins where the
        // one before ended.
        let chunk = unsafe { self.raw.slice_mut_apart(self.next, self.end) }?;
        self.next += chunk.len();
        Some(chunk)
    }
}

impl<T: Preservable> FusedIterator for ChunksMut<'_, T> {}
