// SPDX-License-Identifier: GPL-2.0

//! Changes of several stores, which a cut leaves undone or done.
//!
//! What is to be done is written down in the root page, by one store that commits it; then it is
//! done, in steps each of which may be done again from its beginning, whatever part of its stores
//! has arrived. So who finds a change written down finishes it.

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};
use kpreserve_kho::{
    refusal::Relation,
    validate::expect,
    Refusal, //
};

use super::{
    index_of,
    number_of,
    Dictionary, //
};
use crate::abi::{
    EntrySer,
    NameKind,
    PendingSer,
    Step, //
};

/// As many directories as a name can have, and itself.
const NR_LEVELS_MAX: usize = super::NAME_LEN_MAX / 2 + 2;

/// Entries from that of a name up to the topmost of its directories that goes with it. Numbers: one
/// more than an index, 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Branch {
    pub(super) leaf: u32,
    pub(super) top: u32,
}

impl Branch {
    fn load(raw: u64) -> Self {
        Self {
            leaf: raw as u32,
            top: (raw >> 32) as u32,
        }
    }

    fn into_raw(self) -> u64 {
        (u64::from(self.top) << 32) | u64::from(self.leaf)
    }
}

/// What a change is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) link: Branch,
    pub(super) unlink: Branch,
    pub(super) nr_names: u64,
}

impl Dictionary {
    /// Writes a change down, and does it. Its entries and links have been checked, those to be
    /// linked are whole, and each of them knows its parent.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] as from [`settle`](Self::settle); none if the caller has seen to it that buckets have
    /// room. The change stays written down, and is tried again by the next one.
    pub(super) fn commit(&mut self, change: Change) -> Result<(), Refusal> {
        let pending = &self.head.pending;
        pending.link.store(change.link.into_raw());
        pending.unlink.store(change.unlink.into_raw());
        pending.free_entry.store(self.head.free_entry.load());
        pending.nr_names.store(change.nr_names);
        let first = if change.link.leaf != 0 {
            Step::Link
        } else {
            Step::Unlink
        };
        self.come_to(first);
        self.settle()
    }

    /// Finishes the change that is written down, if there is one.
    ///
    /// Cost: a few stores for each entry that comes or goes.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if what is written down is no change, or names entries that are none.
    pub(super) fn settle(&mut self) -> Result<(), Refusal> {
        let pending: &'static PendingSer = &self.head.pending;
        let found = pending.step.load();
        if found == 0 {
            return Ok(());
        }
        let seal = |step| pending.seal(self.head.root_id, step);
        let step = [Step::Link, Step::Unlink, Step::Free]
            .into_iter()
            .find(|&step| seal(step) == found);
        let Some(mut step) = step else {
            let at = self.head.self_phys;
            let expected = seal(Step::Link);
            return expect(
                "PendingSer",
                "step",
                at,
                found,
                expected,
                Relation::Equal,
                false,
            );
        };
        let unlink = Branch::load(pending.unlink.load());
        if step == Step::Link {
            self.link(Branch::load(pending.link.load()))?;
            if unlink.leaf != 0 {
                step = Step::Unlink;
                self.come_to(step);
            }
        }
        if step == Step::Unlink {
            self.unlink(unlink)?;
            step = Step::Free;
            self.come_to(step);
        }
        if step == Step::Free {
            self.free(unlink, pending.free_entry.load())?;
        }
        self.head.nr_names.store(pending.nr_names.load());
        pending.step.store(0);
        Ok(())
    }

    fn come_to(&self, step: Step) {
        let pending = &self.head.pending;
        pending.step.store(pending.seal(self.head.root_id, step));
        // What a step does is plain stores, too. None of them may come before the step is written down,
        // least of all those that wipe an entry: the step before would find it damaged.
        smp_mb(Write);
    }

    /// Lets buckets refer to the entries of a branch, and links its top.
    fn link(&mut self, branch: Branch) -> Result<(), Refusal> {
        let mut top = EntrySer::FREE;
        self.for_each_of(branch, |dictionary, number| {
            top = dictionary.checked(number)?;
            dictionary.publish(number, &top)
        })?;
        if let Some(next) = self.entry_mut(top.next_sibling) {
            next.prev_sibling = branch.top;
        }
        self.set_first(top.parent, branch.top);
        Ok(())
    }

    /// Lets no bucket refer to the entries of a branch any more, and unlinks its top.
    fn unlink(&mut self, branch: Branch) -> Result<(), Refusal> {
        let mut top = EntrySer::FREE;
        self.for_each_of(branch, |dictionary, number| {
            top = dictionary.checked(number)?;
            if let Some(bucket) = dictionary.bucket_of(number, &top)? {
                dictionary.buckets.clear(bucket);
            }
            Ok(())
        })?;
        match self.entry_mut(top.prev_sibling) {
            Some(prev) => prev.next_sibling = top.next_sibling,
            None => self.set_first(top.parent, top.next_sibling),
        }
        if let Some(next) = self.entry_mut(top.next_sibling) {
            next.prev_sibling = top.prev_sibling;
        }
        Ok(())
    }

    /// Puts the entries of a branch on the free list, which begins with `free_entry`. They keep
    /// what leads from one to the next.
    fn free(&mut self, branch: Branch, free_entry: u64) -> Result<(), Refusal> {
        let (mut first, mut waste_bytes) = (free_entry, 0);
        self.for_each_of(branch, |dictionary, number| {
            if let Some(entry) = dictionary.entry_mut(number) {
                waste_bytes += u64::from(entry.name_len) + u64::from(entry.compatible_len);
                // Its strings stay known: the same name often comes back.
                *entry = EntrySer {
                    next_free: first as u32,
                    name_offset: entry.name_offset,
                    name_len: entry.name_len,
                    compatible_offset: entry.compatible_offset,
                    compatible_len: entry.compatible_len,
                    parent: entry.parent,
                    ..EntrySer::FREE
                };
            }
            first = u64::from(number);
            Ok(())
        })?;
        self.head.free_entry.store(first);
        let waste_bytes = self.head.waste_bytes.load().saturating_add(waste_bytes);
        self.head.waste_bytes.store(waste_bytes);
        Ok(())
    }

    /// Goes through the entries of a branch, upwards.
    fn for_each_of(
        &mut self,
        branch: Branch,
        mut f: impl FnMut(&mut Self, u32) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut number = branch.leaf;
        for _ in 0..NR_LEVELS_MAX {
            let parent = self.linked("PendingSer", "link", number)?.parent;
            f(self, number)?;
            if number == branch.top {
                return Ok(());
            }
            number = parent;
        }
        let (at, top) = (u64::from(branch.leaf), u64::from(branch.top));
        expect(
            "EntrySer",
            "parent",
            at,
            number.into(),
            top,
            Relation::Equal,
            false,
        )
    }

    /// Lets a bucket refer to an entry, unless one does.
    fn publish(&mut self, number: u32, entry: &EntrySer) -> Result<(), Refusal> {
        if self.bucket_of(number, entry)?.is_some() {
            return Ok(());
        }
        let vacant = self.buckets.vacant(entry.hash);
        let set = vacant.map(|bucket| self.buckets.set(bucket, entry.hash, number - 1));
        let nr_buckets = self.buckets.nr_buckets() as u64;
        expect(
            "dictionary",
            "nr_buckets",
            number.into(),
            nr_buckets,
            nr_buckets + 1,
            Relation::AtLeast,
            set.is_some_and(|set| set.is_ok()),
        )
    }

    /// Returns the bucket that refers to an entry. Words that are damaged are passed by.
    pub(super) fn bucket_of(
        &self,
        number: u32,
        entry: &EntrySer,
    ) -> Result<Option<usize>, Refusal> {
        let hit = self.buckets.find(entry.hash, self.entries.len(), |index| {
            Ok((number_of(index) == number).then_some(()))
        });
        // What is damaged on the way is no bucket of this entry.
        Ok(hit.ok().flatten().map(|hit| hit.bucket))
    }

    /// Makes an entry the first of a directory, or of what lies in none.
    fn set_first(&mut self, directory: u32, number: u32) {
        match self.entry_mut(directory) {
            Some(directory) => directory.first_child = number,
            None => self.head.first_name.store(number.into()),
        }
    }

    /// Returns the entry that a number stands for, to be changed; `None` if it stands for none.
    pub(super) fn entry_mut(&mut self, number: u32) -> Option<&mut EntrySer> {
        self.entries.get_mut(index_of(number)?)
    }

    /// Returns an entry that was checked.
    pub(super) fn checked(&self, number: u32) -> Result<EntrySer, Refusal> {
        self.linked("PendingSer", "link", number)?;
        match index_of(number).map(|index| self.entry(index as u32)) {
            Some(entry) => Ok(entry?.unwrap_or(EntrySer::FREE)),
            None => Ok(EntrySer::FREE),
        }
    }
}

/// Returns whether an entry is a directory.
pub(super) fn is_directory(entry: &EntrySer) -> bool {
    entry.kind == NameKind::Directory as u16
}
