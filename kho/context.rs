// SPDX-License-Identifier: GPL-2.0

//! What an allocation may do in the context that it is called from.
//!
//! Flags say what a caller wants; a task may also stand in a scope in which file systems or block
//! devices must not be called back (`memalloc_nofs_save()`, `memalloc_noio_save()`), or be reclaim
//! itself (PF_MEMALLOC). KHO allocates with GFP_KERNEL under its own mutex: whoever waits for that
//! mutex waits for reclaim with everything it calls. So only those grow who could have called
//! reclaim themselves.

use kernel::alloc::Flags;
use kernel::prelude::*;

#[cfg(CONFIG_RUST)]
mod bindings {
    extern "C" {
        pub(super) fn kpreserve_may_reclaim() -> bool;
        #[cfg(any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP))]
        pub(super) fn kpreserve_debug_alloc_context(can_sleep: bool);
        #[cfg(any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP))]
        pub(super) fn kpreserve_debug_task_context();
    }
}

/// Returns whether an allocation with `flags` may add runs to a cache, which sleeps and calls KHO:
/// with GFP_KERNEL, by a task that is in no scope that forbids it. A few instructions.
pub fn may_grow(flags: Flags) -> bool {
    flags.contains(GFP_KERNEL) && may_reclaim()
}

#[cfg(CONFIG_RUST)]
#[inline(never)]
fn may_reclaim() -> bool {
    // SAFETY: no requirements.
    unsafe { bindings::kpreserve_may_reclaim() }
}

#[cfg(not(CONFIG_RUST))]
fn may_reclaim() -> bool {
    true
}

/// Complains, in a debug kernel, about an allocation where its flags have no business: with
/// GFP_KERNEL where one must not sleep or under a lock that reclaim takes, with any in an NMI.
/// Elsewhere it is nothing at all.
#[inline(always)]
pub fn check_alloc(flags: Flags) {
    #[cfg(all(CONFIG_RUST, any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP)))]
    complain_about_alloc(flags);
    #[cfg(not(all(CONFIG_RUST, any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP))))]
    let _ = flags;
}

/// Complains, in a debug kernel, about a call from an interrupt of what is for tasks: claiming,
/// parking, iterating. Elsewhere it is nothing at all.
#[inline(always)]
pub fn check_task() {
    #[cfg(all(CONFIG_RUST, any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP)))]
    complain_about_task();
}

// Never inlined, nor are the others: consumers cannot reach helpers in C.
#[cfg(all(CONFIG_RUST, any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP)))]
#[inline(never)]
fn complain_about_alloc(flags: Flags) {
    // SAFETY: no requirements.
    unsafe { bindings::kpreserve_debug_alloc_context(flags.contains(GFP_KERNEL)) }
}

#[cfg(all(CONFIG_RUST, any(CONFIG_DEBUG_ATOMIC_SLEEP, CONFIG_LOCKDEP)))]
#[inline(never)]
fn complain_about_task() {
    // SAFETY: no requirements.
    unsafe { bindings::kpreserve_debug_task_context() }
}
