// SPDX-License-Identifier: GPL-2.0

//! The stack of free indices.

use kernel::prelude::*;

use kpreserve_kho::validate::{
    expect_at_most,
    expect_equal, //
};

use super::open::S;
use super::*;

/// Places of the stack that a change may take.
pub(super) const NR_FREE_ROOM: usize = 2;

/// So many damaged places of the stack are passed over in one go.
const NR_DAMAGED_MAX: usize = 16;

impl<K: Preservable + Copy, V: Preservable> PMap<K, V> {
    /// Returns the index on top of the stack of free ones.
    pub(super) fn top(&self) -> Option<u64> {
        let top = self.free.len().checked_sub(1)?;
        self.free.get(top).map(SharedU64::load)
    }

    /// Returns whether the stack of free indices needs no run for a change.
    pub(super) fn has_room_to_free(&self) -> bool {
        self.free.capacity() - self.free.len() >= NR_FREE_ROOM
    }

    /// Returns the index on top of the stack, if it is free; damaged ones are taken off, up to
    /// [`NR_DAMAGED_MAX`] of them, after which an index that was never used does as well.
    pub(super) fn top_unused(&mut self) -> Result<Option<u64>> {
        for _ in 0..NR_DAMAGED_MAX {
            let Some(top) = self.top() else {
                return Ok(None);
            };
            if self.free.len() > self.nr_free_inherited {
                return Ok(Some(top));
            }
            // What the previous kernel left may name what is in use. It is looked at once.
            let refusal = self.check_inherited(top)?;
            self.nr_free_inherited = self.free.len() - 1;
            let Some(refusal) = refusal else {
                return Ok(Some(top));
            };
            refusal.report();
            self.pop_free();
        }
        Ok(None)
    }

    /// Puts an index on the stack, which has room.
    pub(super) fn push_free(&mut self, index: u32) -> Result {
        let place = SharedU64::new(index.into());
        self.free.push_within_capacity(place).map_err(|_| ENOMEM)
    }

    /// Takes the topmost index off the stack.
    pub(super) fn pop_free(&mut self) {
        let _ = self.free.pop_unseen();
    }

    /// Checks an index that is said to be free.
    pub(super) fn check_free(&self, index: u64) -> Result<(), Refusal> {
        let last = (self.keys.len() as u64).saturating_sub(1);
        expect_at_most(S, "free", self.head.raw().id().into(), index, last)
    }

    /// Checks an index that the previous kernel says is free.
    pub(super) fn check_inherited(&self, index: u64) -> Result<Option<Refusal>> {
        let id = u64::from(self.head.raw().id());
        let nr_keys = self.keys.len() as u64;
        let checked = expect_at_most(S, "free", id, index, nr_keys);
        if checked.is_ok() && self.is_used(index)? {
            // Two of the same key would have to be told apart otherwise.
            return Ok(expect_equal(S, "free", id, index, nr_keys).err());
        }
        Ok(checked.err())
    }
}
