// SPDX-License-Identifier: GPL-2.0

//! Host only: which context a thread is in, and a panic where the kernel would complain that it
//! sleeps in the wrong one (`might_sleep()`).

use core::cell::Cell;

use crate::task_local::TaskLocal;

std::thread_local! {
    static DEPTH: TaskLocal<Cell<usize>> = TaskLocal::default();
}

fn depth<R>(f: impl FnOnce(&Cell<usize>) -> R) -> R {
    DEPTH.with(|depth| depth.with(f))
}

/// Enters a context that must not sleep: a spin lock is held, the CPU is pinned. Nests.
pub fn enter_atomic() {
    depth(|depth| depth.set(depth.get() + 1));
}

/// Leaves what [`enter_atomic`] entered.
///
/// # Panics
///
/// If nothing was entered.
pub fn leave_atomic() {
    depth(|depth| match depth.get().checked_sub(1) {
        Some(less) => depth.set(less),
        None => panic!("left an atomic context that was never entered"),
    });
}

/// Returns whether this thread must not sleep.
pub fn is_atomic() -> bool {
    depth(|depth| depth.get() > 0)
}

/// Says that the caller may sleep.
///
/// # Panics
///
/// If it must not.
#[track_caller]
pub fn might_sleep(what: &str) {
    assert!(
        !is_atomic(),
        "{what} may sleep, but a spin lock is held or the CPU is pinned"
    );
}
