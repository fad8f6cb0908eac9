// SPDX-License-Identifier: GPL-2.0

//! Elements in the runs: the room in which addresses become references.
//!
//! One fact carries every proof here, called *the runs* below. By the invariants of [`RawArea`]
//! each entry of the directory is a run that the arena holds, with its memory and the number of
//! elements that fit into it. A `PageRun<Preserved>` is the only one for its pages; its memory is
//! readable and writable, initialised (zeroed by the allocator, or left by the previous kernel),
//! page-aligned, and stays until the run is released, for which `&mut RawArea` is needed. A
//! `Preservable` takes any bit pattern.

use core::marker::PhantomData;
use core::mem::align_of;
use core::slice;

use kernel::prelude::*;

use kpreserve_kho::phys::PAGE_SIZE_BYTES;
use kpreserve_kho::preservable::assert_preservable;
use kpreserve_kho::validate::expect_equal;
use kpreserve_kho::{
    Preservable,
    Refusal, //
};

use super::{
    RawArea,
    Start, //
};
use crate::abi::{
    RedoSer,
    STRIDE_BYTES_MAX, //
};

/// What is required of an element type; evaluated at compile time.
pub(super) struct Whole<T>(PhantomData<T>);

impl<T: Preservable> Whole<T> {
    /// Fails to compile if `T` cannot be an element.
    pub(super) const CHECK: () = {
        assert_preservable::<T>();
        assert!(
            size_of::<T>() <= STRIDE_BYTES_MAX,
            "an element fits into a run"
        );
        assert!(
            align_of::<T>() <= PAGE_SIZE_BYTES,
            "runs are aligned to pages"
        );
    };
}

/// Elements of one run.
#[derive(Clone, Copy)]
struct Piece<T> {
    start: *mut T,
    len: usize,
}

impl RawArea {
    /// Checks that elements are as large as a `T`.
    ///
    /// # Errors
    ///
    /// EINVAL if they are not.
    pub(crate) fn expect_elements<T: Preservable>(&self) -> Result {
        let () = Whole::<T>::CHECK;
        let (found, expected) = (self.inner.stride.bytes() as u64, size_of::<T>() as u64);
        expect_equal(
            "ArenaSer",
            "stride_bytes",
            self.id().into(),
            found,
            expected,
        )
        .map_err(Refusal::report)
    }

    /// Finds the elements from `from` on that lie in one run and below `to` and the capacity;
    /// `None` if there are none, or if `T` is not of the area's element size.
    #[inline]
    fn piece<T: Preservable>(&self, from: usize, to: usize) -> Option<Piece<T>> {
        let () = Whole::<T>::CHECK;
        if size_of::<T>() != self.inner.stride.bytes() || from >= to {
            return None;
        }
        let span = self.inner.directory.find(from)?;
        Some(Piece {
            start: place(span.payload, from - span.first),
            len: span.end.min(to) - from,
        })
    }

    /// Returns element `index`, published or not; `None` beyond the capacity, or if `T` is not of
    /// the area's element size.
    #[inline]
    fn element<T: Preservable>(&self, index: usize) -> Option<*mut T> {
        let () = Whole::<T>::CHECK;
        if size_of::<T>() != self.inner.stride.bytes() {
            return None;
        }
        let (first, start) = self.inner.directory.locate(index)?;
        Some(place(start, index - first))
    }

    /// Returns a published element.
    #[inline]
    pub(crate) fn get<T: Preservable>(&self, index: usize) -> Option<&T> {
        if index >= self.tail.len {
            return None;
        }
        let element = self.element(index)?;
        // SAFETY: the runs; `element` lies whole in one of them. Only `&mut self` writes to it
        // (or, inside a `SharedU64`, an atomic operation), and the reference borrows `self`.
        Some(unsafe { &*element })
    }

    /// Returns a published element, to be changed.
    #[inline]
    pub(crate) fn get_mut<T: Preservable>(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.tail.len {
            return None;
        }
        let element = self.element(index)?;
        // SAFETY: the runs; `element` lies whole in one of them, and the reference borrows `self`
        // mutably, so that it is the only one.
        Some(unsafe { &mut *element })
    }

    /// Returns the published elements from `from` on, up to the end of a run or `to`; `None` if
    /// there are none.
    #[inline]
    pub(crate) fn slice<T: Preservable>(&self, from: usize, to: usize) -> Option<&[T]> {
        let piece = self.piece::<T>(from, to.min(self.tail.len))?;
        // SAFETY: the runs; `piece` lies whole in one of them. Only `&mut self` writes to it (or,
        // inside a `SharedU64`, an atomic operation), and the reference borrows `self`.
        Some(unsafe { slice::from_raw_parts(piece.start, piece.len) })
    }

    /// Returns the elements from `from` on, published or not, up to the end of a run or `to`, to
    /// be changed; `None` if there are none.
    #[inline]
    pub(crate) fn slice_mut<T: Preservable>(&mut self, from: usize, to: usize) -> Option<&mut [T]> {
        let piece = self.piece::<T>(from, to)?;
        // SAFETY: the runs; `piece` lies whole in one of them, and the reference borrows `self`
        // mutably, so that it is the only one.
        Some(unsafe { slice::from_raw_parts_mut(piece.start, piece.len) })
    }

    /// The same, for an iterator that returns one piece after the other.
    ///
    /// # Safety
    ///
    /// The area is borrowed mutably for `'a`, and no two calls within it overlap.
    #[inline]
    pub(crate) unsafe fn slice_mut_apart<'a, T: Preservable>(
        &mut self,
        from: usize,
        to: usize,
    ) -> Option<&'a mut [T]> {
        let piece = self.piece::<T>(from, to)?;
        // SAFETY: the runs; `piece` lies whole in one of them. By the safety requirements nothing
        // else can reach it during `'a`.
        Some(unsafe { slice::from_raw_parts_mut(piece.start, piece.len) })
    }

    /// Copies a published element out; `None` if there is none.
    ///
    /// The caller retracts it: a `Preservable` has no destructor, so that two copies do no harm,
    /// but one of them might be a counter.
    pub(crate) fn read_element<T: Preservable>(&mut self, index: usize) -> Option<T> {
        if index >= self.tail.len {
            return None;
        }
        let element = self.element::<T>(index)?;
        // SAFETY: the runs; `element` lies whole in one of them, and `self` is borrowed mutably.
        Some(unsafe { element.read() })
    }

    /// Copies elements, published or not, of the user's into the place of those from `to` on, as far
    /// as there is room. As with [`read_element`](Self::read_element), there are two copies then.
    pub(crate) fn write_elements<T: Preservable>(&mut self, to: usize, elements: &[T]) {
        let mut rest = elements;
        let mut at = to;
        while let Some(piece) = self.piece::<T>(at, at.saturating_add(rest.len())) {
            let Some((part, behind)) = rest.split_at_checked(piece.len) else {
                return;
            };
            // SAFETY: the runs; `piece` lies whole in one of them, and has as many elements as
            // `part`. It is borrowed mutably, by way of `self`, so `part` is somewhere else.
            unsafe {
                piece
                    .start
                    .copy_from_nonoverlapping(part.as_ptr(), part.len())
            };
            at += part.len();
            rest = behind;
        }
    }

    /// Copies `nr` elements, published or not, from `from` on into the place of those from `to` on,
    /// in ascending order, as far as there is room. Run by run.
    pub(crate) fn copy_elements(&mut self, from: usize, to: usize, nr: usize) {
        let stride_bytes = self.inner.stride.bytes();
        let mut done = 0;
        while done < nr {
            let (src, dst) = (from + done, to + done);
            let (Some(src_run), Some(dst_run)) = (
                self.inner.directory.find(src),
                self.inner.directory.find(dst),
            ) else {
                return;
            };
            let part = (nr - done).min(src_run.end - src).min(dst_run.end - dst);
            let src = place_bytes(src_run.payload, (src - src_run.first) * stride_bytes);
            let dst = place_bytes(dst_run.payload, (dst - dst_run.first) * stride_bytes);
            // SAFETY: the runs; `part` elements from each of the two on lie whole in one of them,
            // and `self` is borrowed mutably. They may overlap.
            unsafe { dst.copy_from(src, part * stride_bytes) };
            done += part;
        }
    }

    /// Writes the record of a change into the place of the elements from `index` on, as far as
    /// these lie in one run.
    pub(super) fn write_record(&mut self, index: usize, record: RedoSer) {
        if let Some(place) = self.place_of_record(index) {
            // SAFETY: the runs; the record lies whole in one of them, and `self` is borrowed
            // mutably.
            unsafe { place.write_unaligned(record) };
        }
    }

    /// Reads what was written there; any bytes are a record. `None` if it would not lie in one run.
    pub(super) fn read_record(&self, index: usize) -> Option<RedoSer> {
        let place = self.place_of_record(index)?;
        // SAFETY: the runs; the record lies whole in one of them, and only `&mut self` writes to
        // it.
        Some(unsafe { place.read_unaligned() })
    }

    fn place_of_record(&self, index: usize) -> Option<*mut RedoSer> {
        let span = self.inner.directory.find(index)?;
        let room_bytes = (span.end - index) * self.inner.stride.bytes();
        if room_bytes < size_of::<RedoSer>() {
            return None;
        }
        let offset_bytes = (index - span.first) * self.inner.stride.bytes();
        Some(place_bytes(span.payload, offset_bytes).cast())
    }

    /// Returns the element behind the last published one; `None` if there is no room for one.
    pub(crate) fn behind<T: Preservable>(&self) -> Option<&T> {
        let element = self.element(self.tail.len)?;
        // SAFETY: the runs; `element` lies whole in one of them. It is not published, so that only
        // `&mut self` writes to it, and the reference borrows `self`.
        Some(unsafe { &*element })
    }

    /// Returns whether all bytes of the element behind the last published one are 0; also if there
    /// is no room for one.
    pub(crate) fn is_clear_behind(&self) -> bool {
        let index = self.tail.len;
        let Some((first, start)) = self.inner.directory.locate(index) else {
            return true;
        };
        let stride_bytes = self.inner.stride.bytes();
        let start = place_bytes(start, (index - first) * stride_bytes);
        // SAFETY: the runs; the element lies whole in one of them. It is not published, so that
        // only `&mut self` writes to it, and the reference borrows `self`.
        let bytes = unsafe { slice::from_raw_parts(start, stride_bytes) };
        bytes.iter().all(|&byte| byte == 0)
    }

    /// Clears one element, published or not, if there is one.
    #[inline]
    pub(crate) fn clear_element<T: Preservable>(&mut self, index: usize) {
        if let Some(element) = self.element::<T>(index) {
            // SAFETY: the runs; `element` lies whole in one of them, and `self` is borrowed mutably. A
            // `Preservable` may be zeros.
            unsafe { element.write_bytes(0, 1) };
        }
    }

    /// Clears elements, published or not. Costs a pass over their bytes.
    pub(crate) fn clear(&mut self, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let Some(span) = self.inner.directory.find(at) else {
                return;
            };
            let end = span.end.min(to);
            let stride_bytes = self.inner.stride.bytes();
            let start = place_bytes(span.payload, (at - span.first) * stride_bytes);
            // SAFETY: the runs; the elements `at..end` lie whole in one of them, and `self` is
            // borrowed mutably.
            unsafe { start.write_bytes(0, (end - at) * stride_bytes) };
            at = end;
        }
    }

    /// Clears the bytes of the last run in which no element fits.
    pub(super) fn clear_slack(&mut self) {
        let (Some(span), Some(run)) = (self.inner.directory.last(), self.inner.arena.runs().last())
        else {
            return;
        };
        let slack_bytes = self.inner.stride.slack_bytes(run.pages.order());
        let elements_bytes = (span.end - span.first) * self.inner.stride.bytes();
        // SAFETY: the runs; this is the last of them, which is that large, and `self` is borrowed mutably.
        unsafe { place_bytes(span.payload, elements_bytes).write_bytes(0, slack_bytes) };
    }
}

/// Returns the bytes of a value.
#[inline]
pub(crate) fn bytes_of<T: Preservable + Copy>(value: &T) -> &[u8] {
    let start = core::ptr::from_ref(value).cast::<u8>();
    // SAFETY: a `Preservable` has no padding, so all of its bytes are initialised; one that is `Copy` holds
    // no `UnsafeCell`, so that they do not change while it is borrowed.
    unsafe { slice::from_raw_parts(start, size_of::<T>()) }
}

/// Returns the address of the `nth` element of the run at `start`.
///
/// The pointer may be formed for any number; using it needs a proof that the run holds as many.
#[inline]
fn place<T>(start: Start, nth: usize) -> *mut T {
    place_bytes(start, nth * size_of::<T>()).cast()
}

#[inline]
fn place_bytes(start: Start, offset_bytes: usize) -> *mut u8 {
    start.0.as_ptr().wrapping_add(offset_bytes)
}
