// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/types.rs.

use core::marker::PhantomData;
use core::ops::{
    Deref,
    DerefMut, //
};

use crate::ffi::c_void;

/// What C may own in place of Rust.
///
/// # Safety
///
/// The pointers of [`into_foreign`](Self::into_foreign) are as its documentation guarantees.
pub unsafe trait ForeignOwnable: Sized {
    /// The alignment of the pointers, in bytes.
    const FOREIGN_ALIGN: usize;

    /// What a borrowed value is seen as.
    type Borrowed<'a>
    where
        Self: 'a;

    /// What a mutably borrowed value is seen as.
    type BorrowedMut<'a>
    where
        Self: 'a;

    /// Gives the value away.
    ///
    /// # Guarantees
    ///
    /// The pointer is aligned to [`FOREIGN_ALIGN`](Self::FOREIGN_ALIGN) and not null.
    fn into_foreign(self) -> *mut c_void;

    /// Takes the value back.
    ///
    /// # Safety
    ///
    /// `ptr` came from [`into_foreign`](Self::into_foreign) and has not been taken back yet.
    unsafe fn from_foreign(ptr: *mut c_void) -> Self;

    /// Takes the value back, if there is one.
    ///
    /// # Safety
    ///
    /// `ptr` is null, or as [`from_foreign`](Self::from_foreign) says.
    unsafe fn try_from_foreign(ptr: *mut c_void) -> Option<Self> {
        if ptr.is_null() {
            None
        } else {
            // SAFETY: by the caller's promise.
            unsafe { Some(Self::from_foreign(ptr)) }
        }
    }

    /// Borrows the value.
    ///
    /// # Safety
    ///
    /// `ptr` came from [`into_foreign`](Self::into_foreign) and is not taken back during `'a`.
    unsafe fn borrow<'a>(ptr: *mut c_void) -> Self::Borrowed<'a>;

    /// Borrows the value mutably.
    ///
    /// # Safety
    ///
    /// As [`borrow`](Self::borrow), and nobody else borrows it during `'a`.
    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> Self::BorrowedMut<'a>;
}

/// Keeps the type that holds it from being sent to another thread.
pub type NotThreadSafe = PhantomData<*mut ()>;

/// Makes a [`NotThreadSafe`](type@NotThreadSafe).
#[allow(non_upper_case_globals)]
pub const NotThreadSafe: NotThreadSafe = PhantomData;

/// Runs a function when it goes out of scope, unless it is dismissed.
#[derive(Debug)]
pub struct ScopeGuard<T, F: FnOnce(T)>(Option<(T, F)>);

impl<T, F: FnOnce(T)> ScopeGuard<T, F> {
    /// Guards `data`.
    pub fn new_with_data(data: T, cleanup: F) -> Self {
        Self(Some((data, cleanup)))
    }

    /// Returns the data; nothing is run.
    pub fn dismiss(mut self) -> T {
        match self.0.take() {
            Some((data, _)) => data,
            None => unreachable!("taken by drop and dismiss only"),
        }
    }
}

impl ScopeGuard<(), fn(())> {
    /// Guards the scope.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(cleanup: impl FnOnce()) -> ScopeGuard<(), impl FnOnce(())> {
        ScopeGuard::new_with_data((), move |()| cleanup())
    }
}

impl<T, F: FnOnce(T)> Deref for ScopeGuard<T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some((data, _)) => data,
            None => unreachable!("taken by drop and dismiss only"),
        }
    }
}

impl<T, F: FnOnce(T)> DerefMut for ScopeGuard<T, F> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some((data, _)) => data,
            None => unreachable!("taken by drop and dismiss only"),
        }
    }
}

impl<T, F: FnOnce(T)> Drop for ScopeGuard<T, F> {
    fn drop(&mut self) {
        if let Some((data, cleanup)) = self.0.take() {
            cleanup(data);
        }
    }
}
