// SPDX-License-Identifier: GPL-2.0

//! Entries for names to come: from the free list, or appended.

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};
use kpreserve_kho::{
    refusal::Relation,
    validate::expect,
    GatePass,
    Refusal, //
};

use super::Dictionary;
use crate::abi::{
    EntrySer,
    NR_ENTRIES_MAX, //
};

impl Dictionary {
    /// Takes an entry off the free list, or appends one.
    ///
    /// # Errors
    ///
    /// ENOMEM; EINVAL if there is an entry behind the last one, which it would be written over.
    pub(super) fn free_entry(&mut self, pass: &GatePass<'_>) -> Result<u32> {
        let first = self.head.free_entry.load();
        if let Some(index) = first.checked_sub(1) {
            if let Some(entry) = self.entries.get(index as usize) {
                if entry.is_free() {
                    self.head.free_entry.store(u64::from(entry.next_free));
                    // No byte of it may change while it is the first of the list.
                    smp_mb(Write);
                    return Ok(index as u32);
                }
            }
            pr_warn!(
                "free list of the dictionary: entry {} is in use or damaged; list dropped\n",
                index
            );
            self.head.free_entry.store(0);
        }
        let index = u32::try_from(self.entries.len()).map_err(|_| ENOMEM)?;
        if index >= NR_ENTRIES_MAX - 1 {
            return Err(ENOMEM);
        }
        self.expect_nothing_behind().map_err(Refusal::report)?;
        self.entries.push_with(pass, EntrySer::FREE)?;
        // Nothing is written to it before it is published: what is behind the last one is zeros.
        smp_mb(Write);
        Ok(index)
    }

    /// Checks that no entry lies behind the last one. They are published as zeros, so whatever else
    /// is there was published once, and the length is damaged.
    fn expect_nothing_behind(&self) -> Result<(), Refusal> {
        let nr = self.entries.len() as u64;
        expect(
            "ArenaSer",
            "len",
            self.entries.raw().id().into(),
            nr,
            nr + 1,
            Relation::AtLeast,
            self.entries.is_clear_behind(),
        )
    }
}
