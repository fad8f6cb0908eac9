// SPDX-License-Identifier: GPL-2.0

//! What lies in what: directories, and the links between entries.
//!
//! A directory is a name that ends with a slash, and has an entry as long as something lies in it.
//! Links come from the previous kernel without a checksum: each is checked against its neighbours
//! before it is relied on, and a name is longer than that of its directory, so that no walk goes
//! round.

use kernel::prelude::*;
use kpreserve_kho::{
    refusal::Relation,
    validate::{
        expect,
        expect_at_least,
        expect_at_most,
        expect_equal, //
    },
    Refusal, //
};

use super::pending::{
    is_directory,
    Branch, //
};
use super::{
    index_of,
    number_of,
    Dictionary,
    RESERVED_PREFIX, //
};
use crate::abi::{
    end_of,
    EntrySer, //
};

/// Where a name goes that is not there yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The innermost of its directories that is there, 0 if none is.
    pub(super) parent: u32,
    /// How many are not.
    pub(super) nr_missing: usize,
}

/// Returns the name of the directory that a name lies in: up to and with its last slash, but for one
/// at its end. Empty if it lies in none, as those of the framework do.
pub(super) fn directory_of(name: &[u8]) -> &[u8] {
    if name.first() == Some(&RESERVED_PREFIX) {
        return &[];
    }
    let inner = name.split_last().map_or(&[][..], |(_, inner)| inner);
    let slash = inner.iter().rposition(|&byte| byte == b'/');
    slash
        .and_then(|slash| name.get(..=slash))
        .unwrap_or_default()
}

impl Dictionary {
    /// Finds where a name goes. Cost: a look-up for each of its directories that is not there, and
    /// one more.
    pub(super) fn place(&self, name: &[u8]) -> Result<Place, Refusal> {
        let mut nr_missing = 0;
        let mut directory = directory_of(name);
        while !directory.is_empty() {
            if let Some(found) = self.lookup_directory(directory)? {
                let parent = number_of(found.index);
                return Ok(Place { parent, nr_missing });
            }
            nr_missing += 1;
            directory = directory_of(directory);
        }
        Ok(Place {
            parent: 0,
            nr_missing,
        })
    }

    /// Returns the first of what lies in a directory, or, for 0, in none; 0 if there is nothing.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the link is damaged.
    pub(super) fn first_of(&self, directory: u32) -> Result<u32, Refusal> {
        let (structure, field, first) = match index_of(directory) {
            None => ("RootSer", "first_name", self.head.first_name.load()),
            Some(index) => {
                let directory = self.entries.get(index).copied();
                let first = directory.unwrap_or(EntrySer::FREE).first_child;
                ("EntrySer", "first_child", first.into())
            }
        };
        if first == u64::from(end_of(directory)) {
            return Ok(0);
        }
        expect_at_most(
            structure,
            field,
            index_of(directory).map_or(self.head.self_phys, |index| index as u64),
            first,
            self.entries.len() as u64,
        )?;
        self.neighbour(structure, field, first as u32, directory, 0)?;
        Ok(first as u32)
    }

    /// Returns what comes behind an entry in its directory, 0 if nothing does.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the link is damaged.
    pub(super) fn next_of(&self, number: u32, entry: &EntrySer) -> Result<u32, Refusal> {
        let next = entry.next_sibling;
        if next == end_of(entry.parent) {
            return Ok(0);
        }
        self.neighbour("EntrySer", "next_sibling", next, entry.parent, number)?;
        Ok(next)
    }

    /// Returns the directory that an entry lies in, 0 if it lies in none.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the link is damaged: if it leads to what is no directory, or to one whose
    /// name is not shorter.
    pub(super) fn parent_of(&self, number: u32, entry: &EntrySer) -> Result<u32, Refusal> {
        let Some(index) = index_of(entry.parent) else {
            return Ok(0);
        };
        self.linked("EntrySer", "parent", entry.parent)?;
        let parent = self.entry(index as u32)?.unwrap_or(EntrySer::FREE);
        expect(
            "EntrySer",
            "parent",
            number.into(),
            entry.parent.into(),
            parent.kind.into(),
            Relation::Equal,
            is_directory(&parent) && parent.name_len < entry.name_len,
        )?;
        Ok(entry.parent)
    }

    /// Returns what goes with an entry when it is taken out: itself, and those of its directories
    /// in which nothing else lies; but not `kept`, in which something will.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if a link is damaged. What has been checked then can be unlinked.
    pub(super) fn branch_of(&self, number: u32, kept: u32) -> Result<Branch, Refusal> {
        let leaf = number;
        let mut top = number;
        loop {
            let entry = self.linked("EntrySer", "parent", top)?;
            let parent = self.parent_of(top, &entry)?;
            let next = self.next_of(top, &entry)?;
            match index_of(entry.prev_sibling) {
                None => {
                    let first = self.first_of(parent)?;
                    expect_equal(
                        "EntrySer",
                        "prev_sibling",
                        top.into(),
                        top.into(),
                        first.into(),
                    )?;
                }
                Some(_) => {
                    let prev = self.linked("EntrySer", "prev_sibling", entry.prev_sibling)?;
                    let of = entry.prev_sibling.into();
                    expect_equal(
                        "EntrySer",
                        "next_sibling",
                        of,
                        prev.next_sibling.into(),
                        top.into(),
                    )?;
                    expect_equal("EntrySer", "parent", of, prev.parent.into(), parent.into())?;
                }
            }
            let is_alone = entry.prev_sibling == 0 && next == 0;
            if parent == 0 || parent == kept || !is_alone {
                return Ok(Branch { leaf, top });
            }
            // Its name is shorter: this has an end.
            top = parent;
        }
    }

    /// Returns the entry that a link leads to.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if there is none.
    pub(super) fn linked(
        &self,
        structure: &'static str,
        field: &'static str,
        number: u32,
    ) -> Result<EntrySer, Refusal> {
        let (at, nr_entries) = (u64::from(number), self.entries.len() as u64);
        expect_at_least(structure, field, at, number.into(), 1)?;
        expect_at_most(structure, field, at, number.into(), nr_entries)?;
        let entry = index_of(number).and_then(|index| self.entries.get(index));
        Ok(entry.copied().unwrap_or(EntrySer::FREE))
    }

    /// Checks that a link leads to what has the same directory, whose name is shorter,
    /// and knows who is before it.
    fn neighbour(
        &self,
        structure: &'static str,
        field: &'static str,
        number: u32,
        directory: u32,
        before: u32,
    ) -> Result<(), Refusal> {
        let entry = self.linked(structure, field, number)?;
        let at = number.into();
        let shorter = index_of(directory).and_then(|index| self.entries.get(index));
        let len_min = shorter.map_or(1, |directory| u64::from(directory.name_len) + 1);
        expect_at_least("EntrySer", "name_len", at, entry.name_len.into(), len_min)?;
        expect_at_least("EntrySer", "kind", at, entry.kind.into(), 1)?;
        expect_equal(
            "EntrySer",
            "parent",
            at,
            entry.parent.into(),
            directory.into(),
        )?;
        expect_equal(
            "EntrySer",
            "prev_sibling",
            at,
            entry.prev_sibling.into(),
            before.into(),
        )
    }
}
