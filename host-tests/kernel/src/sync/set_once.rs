// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/sync/set_once.rs.

use std::sync::OnceLock;

/// A value that is set at most once.
#[derive(Debug)]
pub struct SetOnce<T>(OnceLock<T>);

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> SetOnce<T> {
    /// Makes an empty one.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Returns the value, if it was set.
    #[allow(clippy::should_implement_trait)]
    pub fn as_ref(&self) -> Option<&T> {
        self.0.get()
    }

    /// Sets the value; returns false, and drops it, if one was set before.
    pub fn populate(&self, value: T) -> bool {
        self.0.set(value).is_ok()
    }

    /// Returns a copy of the value, if it was set.
    pub fn copy(&self) -> Option<T>
    where
        T: Copy,
    {
        self.as_ref().copied()
    }
}
