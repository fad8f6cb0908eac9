// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/types.rs.

use core::marker::PhantomData;
use core::ops::{
    Deref,
    DerefMut, //
};

/// Keeps the type that holds it from being sent to another thread.
pub type NotThreadSafe = PhantomData<*mut ()>;

/// Makes a [`NotThreadSafe`].
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
