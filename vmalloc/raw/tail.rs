// SPDX-License-Identifier: GPL-2.0

//! Adding and taking elements at the end.
//!
//! *The runs* are those of the proof in `raw/access.rs`.

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};

use kpreserve_kho::{
    Preservable,
    SharedU64, //
};

use super::access::Whole;
use super::RawArea;

/// Where the vector ends, so that adding or taking an element there needs no lookup: all it takes is here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// The number of published elements.
    pub(super) len: usize,
    /// The number of the first element of the run that `base` is of; if none is known, above all numbers, so
    /// that one comparison is enough here, too.
    pub(super) first: usize,
    /// The number at which that run is full; 0 if none is known.
    pub(super) limit: usize,
    /// Where element 0 would stand if that run went so far back; a number.
    pub(super) base: *mut u8,
    /// The length that crosses.
    pub(super) published: &'static SharedU64,
}

impl Tail {
    /// Forgets the run.
    pub(super) fn forget(&mut self) {
        self.first = usize::MAX;
        self.limit = 0;
    }

    /// Notes another length, and forgets the run if this does not end in it.
    pub(super) fn settle(&mut self, len: usize) {
        self.len = len;
        if len < self.first || len > self.limit {
            self.forget();
        }
    }
}

// SAFETY: a number, until an element is added or taken, under the borrow rules of the area.
unsafe impl Send for Tail {}

// SAFETY: as above.
unsafe impl Sync for Tail {}

impl RawArea {
    /// Writes an element behind the last one, then publishes it.
    ///
    /// # Errors
    ///
    /// Returns the element if there is no room for it.
    ///
    /// # Safety
    ///
    /// Elements are as large as a `T` ([`expect_elements`](Self::expect_elements)).
    #[inline]
    pub(crate) unsafe fn append<T: Preservable>(&mut self, value: T) -> Result<(), T> {
        let () = Whole::<T>::CHECK;
        let tail = &mut self.tail;
        if tail.len >= tail.limit {
            return Err(value);
        }
        let element = tail.base.cast::<T>().wrapping_add(tail.len);
        // SAFETY: the runs; by the invariants of `RawArea`, and as the caller says how large it is,
        // this is the place behind the last published element, whole in a run. As it is not
        // published, no reference to it exists.
        unsafe { element.write(value) };
        tail.len += 1;
        // Releases: the element is written before the length says so.
        tail.published.store(tail.len as u64);
        Ok(())
    }

    /// Writes elements behind the last one, then publishes them all at once; returns whether there is
    /// room in the run that the tail is of.
    ///
    /// # Safety
    ///
    /// Elements are as large as a `T` ([`expect_elements`](Self::expect_elements)).
    #[inline]
    pub(crate) unsafe fn append_slice<T: Preservable + Copy>(&mut self, values: &[T]) -> bool {
        let () = Whole::<T>::CHECK;
        let tail = &mut self.tail;
        // No overflow: neither is above what all bytes of a machine would be.
        let end = tail.len + values.len();
        if end > tail.limit || values.is_empty() {
            return false;
        }
        let place = tail.base.cast::<T>().wrapping_add(tail.len);
        // SAFETY: the runs; by the invariants of `RawArea`, and as the caller says how large they are, the
        // elements up to `end` lie whole in one. As they are not published, no reference to them exists,
        // so `values` are somewhere else.
        unsafe { place.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        tail.len = end;
        // Releases: the elements are written before the length says so.
        tail.published.store(end as u64);
        true
    }

    /// Retracts the last element, then clears it, and returns what it was; `None` if there is none in
    /// the run that the tail is of.
    ///
    /// # Safety
    ///
    /// Elements are as large as a `T` ([`expect_elements`](Self::expect_elements)).
    #[inline]
    pub(crate) unsafe fn retract<T: Preservable>(&mut self) -> Option<T> {
        let () = Whole::<T>::CHECK;
        let tail = &mut self.tail;
        // The first one of a run, too, is left to who looks for the run before.
        if tail.len <= tail.first {
            return None;
        }
        let last = tail.len - 1;
        let element = tail.base.cast::<T>().wrapping_add(last);
        // SAFETY: the runs; by the invariants of `RawArea`, and as the caller says how large it is,
        // this is the last published element, whole in a run, and `self` is borrowed mutably.
        let value = unsafe { element.read() };
        // INVARIANT: not below `first`, as compared above.
        tail.len = last;
        tail.published.store(last as u64);
        // No byte may be cleared while it is still published.
        smp_mb(Write);
        // SAFETY: as above. A `Preservable` may be zeros.
        unsafe { element.write_bytes(0, 1) };
        Some(value)
    }

    /// Makes the tail that of the run behind the last published element; returns whether there is
    /// one.
    #[cold]
    pub(crate) fn find_tail(&mut self) -> bool {
        self.find_tail_of(self.tail.len)
    }

    /// Makes the tail that of the run that the last published element is in; returns whether there is
    /// one.
    #[cold]
    pub(crate) fn find_last(&mut self) -> bool {
        self.tail
            .len
            .checked_sub(1)
            .is_some_and(|last| self.find_tail_of(last))
    }

    /// Makes the tail that of the run of element `index`, the last one or the next.
    fn find_tail_of(&mut self, index: usize) -> bool {
        let Some(span) = self.inner.directory.find(index) else {
            return false;
        };
        let before_bytes = span.first * self.inner.stride.bytes();
        // INVARIANT: the run that holds the element; the length is its number, or one more.
        self.tail.base = span.payload.0.as_ptr().wrapping_sub(before_bytes);
        self.tail.first = span.first;
        self.tail.limit = span.end;
        true
    }
}
