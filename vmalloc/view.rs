// SPDX-License-Identifier: GPL-2.0

//! The elements of an area as one slice: a mapping made on demand.

use core::marker::PhantomData;
use core::ops::{
    Deref,
    DerefMut, //
};
use core::ptr::NonNull;
use core::slice;

use kernel::prelude::*;

use kpreserve_kho::{
    Machine,
    Preservable, //
};

use crate::raw::RawArea;

/// Where the elements of an area are contiguous.
///
/// # Invariants
///
/// - From `start` on, the published elements of the area for which this was made lie one after the
///   other, in the area's own memory.
/// - If `mapped` is not 0, `start` was returned by `map_runs` for as many bytes, and has not been
///   unmapped.
struct Mapping {
    machine: &'static dyn Machine,
    start: NonNull<u8>,
    mapped_bytes: usize,
}

impl Mapping {
    /// Makes one: of a single run, or of none, the memory itself; of several, a mapping.
    fn new(raw: &RawArea) -> Result<Self> {
        let machine = raw.machine();
        let runs = raw.published_runs();
        let (Some((last, others)), Some(first)) = (runs.split_last(), runs.first()) else {
            // INVARIANT: there are no elements.
            return Ok(Self {
                machine,
                start: NonNull::dangling(),
                mapped_bytes: 0,
            });
        };
        if others.is_empty() {
            // INVARIANT: by the format, a run holds its elements one after the other from its
            // first byte on.
            return Ok(Self {
                machine,
                start: first.pages.memory(),
                mapped_bytes: 0,
            });
        }
        let mut list = KVVec::with_capacity(runs.len(), GFP_KERNEL)?;
        let mut mapped_bytes = last.pages.size_bytes();
        for run in others {
            if raw.stride().slack_bytes(run.pages.order()) != 0 {
                return Err(EINVAL);
            }
            mapped_bytes = mapped_bytes
                .checked_add(run.pages.size_bytes())
                .ok_or(ENOMEM)?;
        }
        for run in runs {
            list.push((run.pages.phys(), run.pages.order()), GFP_KERNEL)?;
        }
        // SAFETY: the area holds the runs, and cannot give them back while it is borrowed; whoever
        // makes a mapping keeps the borrow as long.
        let start = unsafe { machine.map_runs(&list) }?;
        // INVARIANT: the runs are mapped one after the other, and none but the last has bytes
        // behind its last element.
        Ok(Self {
            machine,
            start,
            mapped_bytes,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.mapped_bytes > 0 {
            // SAFETY: by the type invariants; the slices that pointed into the mapping borrowed
            // the view that owns it.
            unsafe { self.machine.unmap_runs(self.start, self.mapped_bytes) };
        }
    }
}

/// The elements of an area as one slice.
///
/// Nothing is mapped if they lie in a single run; else a mapping is made, and taken away when the
/// view is dropped. The area cannot grow meanwhile.
pub struct View<'a, T> {
    mapping: Mapping,
    len: usize,
    _area: PhantomData<&'a [T]>,
}

impl<'a, T: Preservable> View<'a, T> {
    pub(crate) fn new(raw: &'a RawArea) -> Result<Self> {
        raw.expect_elements::<T>()?;
        Ok(Self {
            mapping: Mapping::new(raw)?,
            len: raw.len(),
            _area: PhantomData,
        })
    }
}

impl<T: Preservable> Deref for View<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.len == 0 {
            return &[];
        }
        let start = self.mapping.start.cast::<T>();
        // SAFETY: by the invariants of `Mapping` the `len` published elements, which `new` found to
        // be of `T`'s size, lie there, page-aligned; they are initialised and take any bit pattern;
        // the area is borrowed, so that nobody changes them (but atomically, inside a `SharedU64`).
        unsafe { slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

/// The elements of an area as one slice, to be changed; otherwise like [`View`].
pub struct ViewMut<'a, T> {
    mapping: Mapping,
    len: usize,
    _area: PhantomData<&'a mut [T]>,
}

impl<'a, T: Preservable> ViewMut<'a, T> {
    pub(crate) fn new(raw: &'a mut RawArea) -> Result<Self> {
        raw.expect_elements::<T>()?;
        Ok(Self {
            mapping: Mapping::new(raw)?,
            len: raw.len(),
            _area: PhantomData,
        })
    }
}

impl<T: Preservable> Deref for ViewMut<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.len == 0 {
            return &[];
        }
        let start = self.mapping.start.cast::<T>();
        // SAFETY: as for `View`.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

impl<T: Preservable> DerefMut for ViewMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.len == 0 {
            return &mut [];
        }
        let start = self.mapping.start.cast::<T>();
        // SAFETY: as for `View`; the area is borrowed mutably, so that nobody else reaches its
        // elements.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.len) }
    }
}
