// SPDX-License-Identifier: GPL-2.0

//! A cache comes to rest: what its CPUs hold goes back, and empty runs go.
//!
//! ```text
//!   at rest    all sheaves are closed and empty
//!      | a CPU opens its sheaf, and wakes the worker if it is the first
//!   in use     the worker sees that it is, and has it settled a while later
//!      | begin_settling(), then drain_here() on each CPU, which closes the sheaf
//!   at rest    unless a CPU has opened its sheaf since
//! ```
//!
//! A closed sheaf has no room, so its CPU's next allocation and its next free are slow, and open
//! it. The fast paths know nothing of this. A cache that is used all the time is settled again and
//! again, which costs each CPU a refill; one that nobody uses holds nothing, and costs nothing.
//!
//! The mark of use is taken away *before* the sheaves are closed. A CPU that opens its sheaf in
//! between finds no mark and sets it; one that found the old mark did so before its sheaf is
//! closed, as both happen on the same CPU. So an open sheaf is closed again, whatever comes in
//! between.
//!
//! CPUs that are to be left alone (isolated ones) are not drained, and their sheaves stay open. So
//! each refill and each flush sets the mark, not only the opening of a sheaf: what such a CPU frees
//! beyond its sheaf is looked for as that of others.

use kernel::sync::atomic::Full;

use kpreserve_kho::ordered::Loads as _;

use crate::raw::RawCache;

impl RawCache {
    /// Returns whether a CPU may hold slots of the cache, so that it has to be settled.
    pub fn is_in_use(&self) -> bool {
        self.fixed.in_use.load_acquire() != 0
    }

    /// Begins to bring the cache to rest. [`drain_here`](Self::drain_here) on each CPU follows,
    /// then the worker. From any context.
    pub fn begin_settling(&self) {
        if self.is_in_use() {
            self.fixed.in_use.xchg(0, Full);
        }
    }

    /// Notes that a CPU has opened its sheaf, or gives back without one. From any context.
    #[inline]
    pub(crate) fn note_use(&self) {
        if self.fixed.in_use.load_relaxed() == 0 {
            self.note_first_use();
        }
    }

    #[cold]
    fn note_first_use(&self) {
        if self.fixed.in_use.xchg(1, Full) == 0 {
            self.machine().kick_worker();
        }
    }

    /// Notes that slots have come back to their slabs: there may be empty runs. After they have.
    #[inline]
    pub(crate) fn note_news(&self) {
        if self.fixed.has_news.load_relaxed() == 0 {
            self.fixed.has_news.xchg(1, Full);
        }
    }

    /// Returns whether slots have come back since this was last called.
    #[doc(hidden)]
    pub fn take_news(&self) -> bool {
        self.fixed.has_news.load_relaxed() != 0 && self.fixed.has_news.xchg(0, Full) != 0
    }
}
