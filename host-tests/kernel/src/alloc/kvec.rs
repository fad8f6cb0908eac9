// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/kvec.rs.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{
    ManuallyDrop,
    MaybeUninit, //
};
use core::ops::{
    Deref,
    DerefMut, //
};
use core::ptr::{
    self,
    NonNull, //
};

use pin_init::Zeroable;

use super::allocator::{
    KVmalloc,
    Kmalloc,
    Vmalloc, //
};
use super::flags::__GFP_ZERO;
use super::kbox::Box;
use super::{
    AllocError,
    Allocator,
    Flags,
    NumaNode, //
};

/// A growable array, whose growth may fail.
///
/// # Invariants
///
/// `ptr` is an allocation of `A` for `capacity` elements, dangling if these have no size; the first
/// `len` of them, at most `capacity`, hold values, which are this vector's.
pub struct Vec<T, A: Allocator> {
    ptr: NonNull<T>,
    capacity: usize,
    len: usize,
    _elements: PhantomData<(T, A)>,
}

// SAFETY: it owns values of `T`.
unsafe impl<T: Send, A: Allocator> Send for Vec<T, A> {}
// SAFETY: a shared reference gives shared references to a `T`.
unsafe impl<T: Sync, A: Allocator> Sync for Vec<T, A> {}

/// A [`Vec`] from kmalloc().
pub type KVec<T> = Vec<T, Kmalloc>;
/// A [`Vec`] from vmalloc().
pub type VVec<T> = Vec<T, Vmalloc>;
/// A [`Vec`] from kvmalloc().
pub type KVVec<T> = Vec<T, KVmalloc>;

/// There was no room, and the element comes back.
pub struct PushError<T>(pub T);

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Not enough capacity")
    }
}

impl<T> From<PushError<T>> for crate::error::Error {
    fn from(_: PushError<T>) -> Self {
        crate::error::code::EINVAL
    }
}

/// There is no such index.
#[derive(Debug)]
pub struct RemoveError;

impl From<RemoveError> for crate::error::Error {
    fn from(_: RemoveError) -> Self {
        crate::error::code::EINVAL
    }
}

/// Why [`Vec::insert_within_capacity`] failed; the element comes back.
pub enum InsertError<T> {
    /// There is no such index.
    IndexOutOfBounds(T),
    /// There was no room.
    OutOfCapacity(T),
}

impl<T> fmt::Debug for InsertError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InsertError::IndexOutOfBounds(_) => "Index out of bounds",
            InsertError::OutOfCapacity(_) => "Not enough capacity",
        })
    }
}

impl<T> From<InsertError<T>> for crate::error::Error {
    fn from(_: InsertError<T>) -> Self {
        crate::error::code::EINVAL
    }
}

/// The layout of `n` elements.
fn layout_of<T>(n: usize) -> Result<Layout, AllocError> {
    Layout::array::<T>(n).map_err(|_| AllocError)
}

impl<T, A: Allocator> Vec<T, A> {
    const IS_ZST: bool = size_of::<T>() == 0;

    /// Makes an empty vector; allocates nothing.
    pub const fn new() -> Self {
        // INVARIANT: room for no element.
        Self {
            ptr: NonNull::dangling(),
            capacity: 0,
            len: 0,
            _elements: PhantomData,
        }
    }

    /// Makes an empty vector with room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.reserve(capacity, flags)?;
        Ok(v)
    }

    /// Takes back what [`into_raw_parts`](Self::into_raw_parts) gave away.
    ///
    /// # Safety
    ///
    /// As the type invariants say.
    pub unsafe fn from_raw_parts(ptr: *mut T, len: usize, capacity: usize) -> Self {
        // INVARIANT: by the caller's promise.
        Self {
            // SAFETY: by the caller's promise it is an allocation, or dangling.
            ptr: unsafe { NonNull::new_unchecked(ptr) },
            capacity,
            len,
            _elements: PhantomData,
        }
    }

    /// Gives up the vector: where its elements are, how many, and for how many there is room.
    pub fn into_raw_parts(self) -> (*mut T, usize, usize) {
        let this = ManuallyDrop::new(self);
        (this.ptr.as_ptr(), this.len, this.capacity())
    }

    /// Makes room for `additional` elements more.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; nothing has changed then.
    #[inline]
    #[track_caller]
    pub fn reserve(&mut self, additional: usize, flags: Flags) -> Result<(), AllocError> {
        if self.capacity() - self.len >= additional {
            return Ok(());
        }
        self.grow(additional, flags)
    }

    #[cold]
    #[track_caller]
    fn grow(&mut self, additional: usize, flags: Flags) -> Result<(), AllocError> {
        if Self::IS_ZST {
            return Err(AllocError);
        }
        let wanted = self.len.checked_add(additional).ok_or(AllocError)?;
        self.move_to(wanted.max(self.capacity.saturating_mul(2)), flags)
    }

    /// Moves to an allocation for `capacity` elements, at least as many as there are.
    #[track_caller]
    fn move_to(&mut self, capacity: usize, flags: Flags) -> Result<(), AllocError> {
        let (new, old) = (layout_of::<T>(capacity)?, layout_of::<T>(self.capacity)?);
        // SAFETY: `ptr` was allocated for `capacity` elements (type invariants).
        let moved =
            unsafe { A::realloc(Some(self.ptr.cast()), new, old, flags, NumaNode::NO_NODE) }?;
        // INVARIANT: just allocated; the elements have been copied.
        self.ptr = moved.cast();
        self.capacity = capacity;
        Ok(())
    }

    /// Returns for how many elements there is room.
    #[inline]
    pub const fn capacity(&self) -> usize {
        if Self::IS_ZST {
            usize::MAX
        } else {
            self.capacity
        }
    }

    /// Returns the number of elements.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no element.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the elements.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// Returns the elements.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }

    /// Returns a pointer to the first element.
    #[inline]
    pub const fn as_ptr(&self) -> *const T {
        self.ptr.as_ptr()
    }

    /// Returns a pointer to the first element.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr.as_ptr()
    }

    /// Returns the room behind the elements.
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<T>] {
        let (start, n) = (self.end(), self.capacity() - self.len);
        // SAFETY: the room behind the elements, which is this vector's.
        unsafe { core::slice::from_raw_parts_mut(start.cast(), n) }
    }

    /// Counts `additional` more elements, which were written into the spare room.
    ///
    /// # Safety
    ///
    /// They were.
    pub const unsafe fn inc_len(&mut self, additional: usize) {
        self.len += additional;
    }

    fn end(&mut self) -> *mut T {
        // SAFETY: `len` is at most `capacity` (type invariants).
        unsafe { self.ptr.as_ptr().add(self.len) }
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the element is dropped.
    #[inline]
    #[track_caller]
    pub fn push(&mut self, v: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        // SAFETY: there is room for one.
        unsafe { self.push_unchecked(v) };
        Ok(())
    }

    /// Appends an element if there is room.
    ///
    /// # Errors
    ///
    /// [`PushError`] with the element.
    pub fn push_within_capacity(&mut self, v: T) -> Result<(), PushError<T>> {
        if self.len == self.capacity() {
            return Err(PushError(v));
        }
        // SAFETY: there is room for one.
        unsafe { self.push_unchecked(v) };
        Ok(())
    }

    /// # Safety
    ///
    /// There is room.
    #[inline]
    unsafe fn push_unchecked(&mut self, v: T) {
        let end = self.end();
        // SAFETY: room, by the caller's promise.
        unsafe { end.write(v) };
        // INVARIANT: just written.
        self.len += 1;
    }

    /// Inserts an element if there is room.
    ///
    /// # Errors
    ///
    /// [`InsertError`] with the element.
    pub fn insert_within_capacity(
        &mut self,
        index: usize,
        element: T,
    ) -> Result<(), InsertError<T>> {
        if index > self.len {
            return Err(InsertError::IndexOutOfBounds(element));
        }
        self.push_within_capacity(element)
            .map_err(|PushError(element)| InsertError::OutOfCapacity(element))?;
        self[index..].rotate_right(1);
        Ok(())
    }

    /// Takes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let end = self.end();
        // SAFETY: this was the last element, and is not any more.
        Some(unsafe { end.read() })
    }

    /// Takes the element at `i`; those after it move up.
    ///
    /// # Errors
    ///
    /// [`RemoveError`] if there is none.
    pub fn remove(&mut self, i: usize) -> Result<T, RemoveError> {
        if i >= self.len {
            return Err(RemoveError);
        }
        self[i..].rotate_left(1);
        self.pop().ok_or(RemoveError)
    }

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Drops the elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        let Some(nr_gone) = self.len.checked_sub(len) else {
            return;
        };
        self.len = len;
        let gone = ptr::slice_from_raw_parts_mut(self.end(), nr_gone);
        // SAFETY: these were elements, and are not any more.
        unsafe { gone.drop_in_place() };
    }

    /// Takes all elements out; the room stays.
    pub fn drain_all(&mut self) -> DrainAll<'_, T> {
        let len = core::mem::take(&mut self.len);
        // SAFETY: these were elements, and are not any more.
        let elements = unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), len) };
        DrainAll {
            elements: elements.iter_mut(),
        }
    }

    /// Keeps the elements for which `f` returns true.
    pub fn retain(&mut self, mut f: impl FnMut(&mut T) -> bool) {
        let mut nr_kept = 0;
        for i in 0..self.len {
            if f(&mut self[i]) {
                self.swap(nr_kept, i);
                nr_kept += 1;
            }
        }
        self.truncate(nr_kept);
    }

    /// Returns a vector of `n` zeroed elements.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn zeroed(n: usize, flags: Flags) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        let mut v = Self::with_capacity(n, flags | __GFP_ZERO)?;
        // SAFETY: all zeroes are a value, since `T` is `Zeroable`.
        unsafe { v.inc_len(n) };
        Ok(v)
    }
}

impl<T> Vec<T, KVmalloc> {
    /// Gives back room that is not needed, down to `min_capacity`.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; nothing has changed then.
    #[track_caller]
    pub fn shrink_to(&mut self, min_capacity: usize, flags: Flags) -> Result<(), AllocError> {
        let wanted = self.len.max(min_capacity);
        if Self::IS_ZST || wanted >= self.capacity {
            return Ok(());
        }
        self.move_to(wanted, flags)
    }
}

impl<T: Clone, A: Allocator> Vec<T, A> {
    /// Appends clones of the elements of a slice.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; nothing has changed then.
    #[track_caller]
    pub fn extend_from_slice(&mut self, other: &[T], flags: Flags) -> Result<(), AllocError> {
        self.reserve(other.len(), flags)?;
        for element in other {
            // SAFETY: there is room for all of them.
            unsafe { self.push_unchecked(element.clone()) };
        }
        Ok(())
    }

    /// Appends `n` clones of an element.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; nothing has changed then.
    #[track_caller]
    pub fn extend_with(&mut self, n: usize, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(n, flags)?;
        for _ in 0..n {
            // SAFETY: there is room for all of them.
            unsafe { self.push_unchecked(value.clone()) };
        }
        Ok(())
    }

    /// Makes a vector of `n` clones of an element.
    ///
    /// # Errors
    ///
    /// [`AllocError`].
    #[track_caller]
    pub fn from_elem(value: T, n: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.extend_with(n, value, flags)?;
        Ok(v)
    }

    /// Drops elements or appends clones, until there are `new_len`.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; nothing has changed then.
    #[track_caller]
    pub fn resize(&mut self, new_len: usize, value: T, flags: Flags) -> Result<(), AllocError> {
        match new_len.checked_sub(self.len) {
            Some(n) => self.extend_with(n, value, flags),
            None => {
                self.truncate(new_len);
                Ok(())
            }
        }
    }
}

impl<T, A: Allocator> Drop for Vec<T, A> {
    fn drop(&mut self) {
        self.truncate(0);
        if let Ok(layout) = layout_of::<T>(self.capacity) {
            // SAFETY: allocated for this layout (type invariants), and without elements.
            unsafe { A::free(self.ptr.cast(), layout) };
        }
    }
}

impl<T, A: Allocator, const N: usize> From<Box<[T; N], A>> for Vec<T, A> {
    fn from(b: Box<[T; N], A>) -> Self {
        let start = Box::into_raw(b).cast();
        // SAFETY: a box of that many elements, all of them values.
        unsafe { Self::from_raw_parts(start, N, N) }
    }
}

/// Takes the elements out of a vector; made by [`Vec::drain_all`].
pub struct DrainAll<'a, T> {
    elements: core::slice::IterMut<'a, T>,
}

impl<T> Iterator for DrainAll<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let element: *mut T = self.elements.next()?;
        // SAFETY: it is not the vector's any more, and is yielded once.
        Some(unsafe { element.read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }
}

impl<T> Drop for DrainAll<'_, T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// Takes the elements out of a vector, and frees it; made by [`Vec::into_iter`].
pub struct IntoIter<T, A: Allocator> {
    /// Whose elements are gone; the next one is at `at`, the last one before `len`.
    room: Vec<T, A>,
    at: usize,
    len: usize,
}

impl<T, A: Allocator> Iterator for IntoIter<T, A> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.at >= self.len {
            return None;
        }
        // SAFETY: inside the elements.
        let element = unsafe { self.room.ptr.add(self.at) };
        self.at += 1;
        // SAFETY: it is not the vector's any more, and is yielded once.
        Some(unsafe { element.read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.at;
        (left, Some(left))
    }
}

impl<T, A: Allocator> Drop for IntoIter<T, A> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T, A: Allocator> Default for Vec<T, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug, A: Allocator> fmt::Debug for Vec<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T, A: Allocator> Deref for Vec<T, A> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the elements are there (type invariants).
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T, A: Allocator> DerefMut for Vec<T, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the elements are there (type invariants).
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: PartialEq<U>, U, A: Allocator, B: Allocator> PartialEq<Vec<U, B>> for Vec<T, A> {
    fn eq(&self, other: &Vec<U, B>) -> bool {
        **self == **other
    }
}

impl<T: Eq, A: Allocator> Eq for Vec<T, A> {}

impl<T: PartialEq<U>, U, A: Allocator> PartialEq<[U]> for Vec<T, A> {
    fn eq(&self, other: &[U]) -> bool {
        **self == *other
    }
}

impl<T: PartialEq<U>, U, A: Allocator, const N: usize> PartialEq<[U; N]> for Vec<T, A> {
    fn eq(&self, other: &[U; N]) -> bool {
        **self == *other
    }
}

impl<T, A: Allocator> IntoIterator for Vec<T, A> {
    type Item = T;
    type IntoIter = IntoIter<T, A>;

    fn into_iter(mut self) -> Self::IntoIter {
        let len = core::mem::take(&mut self.len);
        IntoIter {
            room: self,
            at: 0,
            len,
        }
    }
}

impl<'a, T, A: Allocator> IntoIterator for &'a Vec<T, A> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T, A: Allocator> IntoIterator for &'a mut Vec<T, A> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}
