// SPDX-License-Identifier: GPL-2.0

//! Which calls fail.

/// A call that can fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// `alloc_run`: ENOMEM.
    Alloc,
    /// `preserve`: ENOMEM.
    Preserve,
    /// `preserve`: EINVAL, as KHO says of what lies where it must not. Only where it is asked for
    /// by name, as the same call may fail by [`Preserve`](Self::Preserve).
    Refuse,
    /// `restore`: EINVAL; the page stays as it is.
    Restore,
    /// `add_subtree`: ENOMEM.
    AddSubtree,
    /// `map_runs`: ENOMEM.
    Map,
}

/// Lets calls fail.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    nth: Option<u64>,
    only: Option<Call>,
    and_after: bool,
    count: u64,
}

impl Faults {
    /// None fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// The `n`-th from now fails (the first is 1), whatever it is.
    pub fn nth(n: u64) -> Self {
        Self {
            nth: Some(n),
            ..Self::default()
        }
    }

    /// The `n`-th call of a kind fails.
    pub fn nth_of(call: Call, n: u64) -> Self {
        Self {
            nth: Some(n),
            only: Some(call),
            ..Self::default()
        }
    }

    /// The same calls, and all like them that follow.
    pub fn and_after(self) -> Self {
        Self {
            and_after: true,
            ..self
        }
    }

    /// Returns how many calls there were that could have failed.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn fails(&mut self, call: Call) -> bool {
        let is_named = self.only == Some(call);
        if !is_named && (self.only.is_some() || call == Call::Refuse) {
            return false;
        }
        self.count += 1;
        match self.nth {
            Some(nth) if self.and_after => self.count >= nth,
            Some(nth) => self.count == nth,
            None => false,
        }
    }
}
