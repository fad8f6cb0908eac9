// SPDX-License-Identifier: GPL-2.0

//! Names that begin alike.

use core::ffi::CStr;

use kernel::prelude::*;
use kpreserve_kho::{
    hash::fnv1a,
    validate::expect_equal,
    Refusal, //
};

use super::pending::is_directory;
use super::{
    number_of,
    Dictionary,
    NAME_LEN_MAX,
    RESERVED_PREFIX, //
};
use crate::abi::{
    EntrySer,
    NameKind, //
};

/// The bytes of a name, and room for a NUL; or the first bytes of another string.
pub(crate) struct Name {
    bytes: [u8; NAME_LEN_MAX + 1],
    len: usize,
}

impl Name {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Dictionary {
    /// Returns the compatible string of an entry, as far as there is room.
    pub(crate) fn compatible_of(&self, entry: &EntrySer) -> Name {
        self.string_at(entry.compatible_offset, entry.compatible_len)
    }

    /// Returns the name of some object of that compatible string, `None` if there is none. For
    /// messages: costs a pass over the entries.
    pub(crate) fn object_of(&self, compatible: &str) -> Option<Name> {
        let mut indices = 0..self.entries.len() as u32;
        indices.find_map(|index| {
            let entry = self.entry(index).ok()??;
            let is_it = entry.kind == NameKind::Object as u16
                && self.compatible_is(&entry, compatible)
                && self.expect_name(index, &entry).is_ok();
            is_it.then(|| self.string_at(entry.name_offset, entry.name_len))
        })
    }

    /// Calls `f` with each name that begins with `prefix`, in no particular order; not with those of
    /// the framework.
    ///
    /// Cost: a look-up, then that of what lies in the innermost directory of the prefix.
    ///
    /// # Errors
    ///
    /// EINVAL if an entry or a link is damaged: the [`Refusal`] is logged, and the rest is left out.
    /// What `f` returns.
    pub(crate) fn list(
        &self,
        prefix: &[u8],
        mut f: impl FnMut(&CStr, NameKind) -> Result,
    ) -> Result {
        let slash = prefix.iter().rposition(|&byte| byte == b'/');
        let base = match slash.and_then(|slash| prefix.get(..=slash)) {
            None => 0,
            Some(directory) => match self.lookup_directory(directory).map_err(Refusal::report)? {
                None => return Ok(()),
                Some(found) => number_of(found.index),
            },
        };
        let mut number = self.first_of(base).map_err(Refusal::report)?;
        // Each link has been checked against its neighbours, so none is met twice; but for that.
        for _ in 0..self.entries.len() {
            if number == 0 {
                return Ok(());
            }
            let (entry, name) = self.name_of(number).map_err(Refusal::report)?;
            let begins_so = name.as_bytes().starts_with(prefix)
                && name.as_bytes().first() != Some(&RESERVED_PREFIX);
            if begins_so && !is_directory(&entry) {
                let kind = NameKind::from_raw(entry.kind).ok_or(EINVAL)?;
                let text = name.bytes.get(..=name.len).unwrap_or_default();
                f(CStr::from_bytes_with_nul(text).map_err(|_| EINVAL)?, kind)?;
            }
            let enter = begins_so && is_directory(&entry);
            number = self
                .behind(number, entry, enter, base)
                .map_err(Refusal::report)?;
        }
        Ok(())
    }

    /// Returns what comes behind an entry: what lies in it, the next one, or the one next to its
    /// directory, as long as that lies in `base`; 0 at the end.
    fn behind(&self, number: u32, entry: EntrySer, enter: bool, base: u32) -> Result<u32, Refusal> {
        if enter {
            let first = self.first_of(number)?;
            if first != 0 {
                return Ok(first);
            }
        }
        let (mut number, mut entry) = (number, entry);
        loop {
            let next = self.next_of(number, &entry)?;
            if next != 0 {
                return Ok(next);
            }
            // Its name is shorter: this has an end.
            let parent = self.parent_of(number, &entry)?;
            if parent == base || parent == 0 {
                return Ok(0);
            }
            entry = self.linked("EntrySer", "parent", parent)?;
            number = parent;
        }
    }

    /// Returns an entry that is linked, and its name.
    fn name_of(&self, number: u32) -> Result<(EntrySer, Name), Refusal> {
        let index = number.wrapping_sub(1);
        let entry = self.entry(index)?.unwrap_or(EntrySer::FREE);
        let name = self.string_at(entry.name_offset, entry.name_len);
        // The bytes themselves have no other checksum.
        let hash = fnv1a(0, name.as_bytes());
        expect_equal("EntrySer", "hash", index.into(), hash, entry.hash)?;
        Ok((entry, name))
    }

    /// Returns the string of a checked entry, as far as there is room.
    fn string_at(&self, offset: u32, len: u16) -> Name {
        let mut name = Name {
            bytes: [0; NAME_LEN_MAX + 1],
            len: usize::from(len).min(NAME_LEN_MAX),
        };
        if let Some(bytes) = name.bytes.get_mut(..name.len) {
            // Checked: the strings have as many bytes.
            let _ = self.strings.read_at(offset as usize, bytes);
        }
        name
    }
}
