// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/alloc/kvec.rs.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{
    Deref,
    DerefMut, //
};

use pin_init::Zeroable;

use super::allocator::{
    KVmalloc,
    Kmalloc,
    Vmalloc, //
};
use super::{
    admit,
    AllocError,
    Allocator,
    Flags, //
};

/// A growable array, whose growth may fail.
pub struct Vec<T, A: Allocator>(std::vec::Vec<T>, PhantomData<fn() -> A>);

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

impl<T, A: Allocator> Vec<T, A> {
    /// Makes an empty vector; allocates nothing.
    pub const fn new() -> Self {
        Self(std::vec::Vec::new(), PhantomData)
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

    /// Makes room for `additional` elements more.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; nothing has changed then.
    #[track_caller]
    pub fn reserve(&mut self, additional: usize, flags: Flags) -> Result<(), AllocError> {
        let (len, capacity) = (self.0.len(), self.0.capacity());
        if capacity - len >= additional {
            return Ok(());
        }
        let wanted = len.checked_add(additional).ok_or(AllocError)?;
        admit(flags)?;
        let wanted = wanted.max(capacity.saturating_mul(2));
        self.0
            .try_reserve_exact(wanted - len)
            .map_err(|_| AllocError)
    }

    /// Returns for how many elements there is room.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the elements.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// Returns the elements.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }

    /// Returns a pointer to the first element.
    pub fn as_ptr(&self) -> *const T {
        self.0.as_ptr()
    }

    /// Returns a pointer to the first element.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr()
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the element is dropped.
    #[track_caller]
    pub fn push(&mut self, v: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(v);
        Ok(())
    }

    /// Appends an element if there is room.
    ///
    /// # Errors
    ///
    /// [`PushError`] with the element.
    pub fn push_within_capacity(&mut self, v: T) -> Result<(), PushError<T>> {
        if self.0.len() == self.0.capacity() {
            return Err(PushError(v));
        }
        self.0.push(v);
        Ok(())
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
        if index > self.0.len() {
            return Err(InsertError::IndexOutOfBounds(element));
        }
        if self.0.len() == self.0.capacity() {
            return Err(InsertError::OutOfCapacity(element));
        }
        self.0.insert(index, element);
        Ok(())
    }

    /// Takes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Takes the element at `i`; those after it move up.
    ///
    /// # Errors
    ///
    /// [`RemoveError`] if there is none.
    pub fn remove(&mut self, i: usize) -> Result<T, RemoveError> {
        if i >= self.0.len() {
            return Err(RemoveError);
        }
        Ok(self.0.remove(i))
    }

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Drops the elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Takes all elements out; the room stays.
    pub fn drain_all(&mut self) -> std::vec::Drain<'_, T> {
        self.0.drain(..)
    }

    /// Keeps the elements for which `f` returns true.
    pub fn retain(&mut self, f: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(f);
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
        let mut v = Self::with_capacity(n, flags)?;
        for _ in 0..n {
            // SAFETY: all zeroes are a value, since `T` is `Zeroable`.
            v.0.push(unsafe { core::mem::zeroed() });
        }
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
        if self.0.len().max(min_capacity) < self.0.capacity() {
            admit(flags)?;
            self.0.shrink_to(min_capacity);
        }
        Ok(())
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
        self.0.extend_from_slice(other);
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
        self.0.resize(self.0.len() + n, value);
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
        match new_len.checked_sub(self.0.len()) {
            Some(n) => self.extend_with(n, value, flags),
            None => {
                self.0.truncate(new_len);
                Ok(())
            }
        }
    }
}

impl<T, A: Allocator> Default for Vec<T, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug, A: Allocator> fmt::Debug for Vec<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T, A: Allocator> Deref for Vec<T, A> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, A: Allocator> DerefMut for Vec<T, A> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: PartialEq<U>, U, A: Allocator, B: Allocator> PartialEq<Vec<U, B>> for Vec<T, A> {
    fn eq(&self, other: &Vec<U, B>) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq, A: Allocator> Eq for Vec<T, A> {}

impl<T: PartialEq<U>, U, A: Allocator> PartialEq<[U]> for Vec<T, A> {
    fn eq(&self, other: &[U]) -> bool {
        self.0 == other
    }
}

impl<T: PartialEq<U>, U, A: Allocator, const N: usize> PartialEq<[U; N]> for Vec<T, A> {
    fn eq(&self, other: &[U; N]) -> bool {
        self.0 == other
    }
}

impl<T, A: Allocator> IntoIterator for Vec<T, A> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, A: Allocator> IntoIterator for &'a Vec<T, A> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T, A: Allocator> IntoIterator for &'a mut Vec<T, A> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}
