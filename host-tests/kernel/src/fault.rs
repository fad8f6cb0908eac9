// SPDX-License-Identifier: GPL-2.0

//! Host only: lets allocations of the calling thread fail, so that ENOMEM at each of them can be
//! tried.

use core::cell::Cell;

std::thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static FAIL_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Lets the `n`-th allocation from now (the first is 1) fail, and no other; `None` lets all
/// succeed. Starts counting anew.
pub fn fail_nth_allocation(n: Option<u64>) {
    COUNT.set(0);
    FAIL_AT.set(n);
}

/// Returns how many allocations there were since [`fail_nth_allocation`].
pub fn nr_allocations() -> u64 {
    COUNT.get()
}

/// Counts an allocation; returns whether it has to fail.
pub(crate) fn allocation_fails() -> bool {
    let count = COUNT.get() + 1;
    COUNT.set(count);
    FAIL_AT.get() == Some(count)
}
