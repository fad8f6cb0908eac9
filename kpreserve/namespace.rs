// SPDX-License-Identifier: GPL-2.0

//! Names as such: what there is, another name, none any more.
//!
//! A name is a path: slashes separate its parts. Directories come with the first name that lies in
//! them and go with the last; they are names of nothing. So a name may be that of a thing and begin
//! the names of others: `kvm` and `kvm/vcpu`.
//!
//! Vectors, maps and heaps of strings are areas here ([`NameKind::Area`]), a map with one name for all
//! that it consists of; a [`Named`](crate::Named) is an [`NameKind::Object`].
//!
//! ```
//! use kpreserve::{namespace, prelude::*};
//!
//! fn nr_areas() -> Result<usize> {
//!     let mut nr = 0;
//!     namespace::list(c"kvm/", |_, kind| {
//!         nr += usize::from(kind == namespace::NameKind::Area);
//!         Ok(())
//!     })?;
//!     Ok(nr)
//! }
//! ```

use core::ffi::CStr;

use kernel::prelude::*;
use kpreserve_kho::{
    ArenaHandle,
    Ledger,
    Refusal, //
};
pub use kpreserve_slab::Counts;

pub use crate::abi::NameKind;
use crate::dictionary::check_name;
use crate::framework::Framework;
use crate::global::framework;
use crate::open::has_ended;

/// Calls `f` with each name that begins with `prefix`, and with what it stands for, in no particular
/// order; with all names if `prefix` is empty. Names of areas that were discarded are among them,
/// those of the framework are not.
///
/// May sleep. Cost: one look-up, and a few hundred instructions for each name in the innermost
/// directory of the prefix and, as far as it begins so, below: nothing for the names elsewhere. `f`
/// runs while nobody can change a name: it must not open, discard, rename or remove anything.
///
/// # Errors
///
/// EPROBE_DEFER before the framework is up; EINVAL if the dictionary is damaged there (a
/// [`Refusal`] is logged, `f` may have been called with some of the names); what `f` returns.
pub fn list(prefix: &CStr, f: impl FnMut(&CStr, NameKind) -> Result) -> Result {
    framework()?.list_names(prefix, f)
}

/// Gives what `old` stands for the name `new` instead. Names that begin with `old/` stay. What is
/// open stays open; a [`Named`](crate::Named) is discarded by its new name from then on.
///
/// May sleep. A cut leaves one of the two names. Cost: two look-ups, and that of
/// binding a name.
///
/// # Errors
///
/// - EPROBE_DEFER before the framework is up.
/// - EINVAL, ENAMETOOLONG if one of them cannot be a name, as from [`Open::open`](crate::Open).
/// - ENOENT if `old` stands for nothing, also because its area was discarded.
/// - EEXIST if `new` stands for something.
/// - EBUSY if the framework is frozen, ENOMEM, EINVAL if the dictionary is damaged there: nothing
///   has changed, but that `new` may be gone if it was the name of an area that was discarded.
pub fn rename(old: &CStr, new: &CStr) -> Result {
    framework()?.rename(old, new)
}

/// Takes away a name whose area was discarded.
///
/// What is there keeps its name, open or not: [`Area::discard`](crate::Area::discard) ends an area,
/// [`Named::discard`](crate::Named::discard) an object together with its name, and a cache stays.
///
/// May sleep. Cost: one look-up, and a few stores.
///
/// # Errors
///
/// - EPROBE_DEFER before the framework is up.
/// - EINVAL, ENAMETOOLONG as from [`rename`]; ENOENT if there is no such name.
/// - EBUSY if what it stands for is there, or if the framework is frozen.
/// - ENOMEM, EINVAL if the dictionary is damaged there: nothing has changed.
pub fn remove(name: &CStr) -> Result {
    framework()?.remove_name(name)
}

/// Counts what the cache of a name holds, also one of the framework's own, such as `.luo/<compatible>`.
///
/// For tests and for people; may sleep. Cost: a byte is read for each slot, and slabs that nobody
/// has touched yet are touched.
///
/// # Errors
///
/// - EPROBE_DEFER before the framework is up.
/// - ENOENT if there is no such name.
/// - EINVAL if it is no cache's, or the dictionary is damaged there.
/// - ENODATA if nobody has opened the cache in this boot.
pub fn counts(cache: &CStr) -> Result<Counts> {
    framework()?.counts_of(cache)
}

impl Framework {
    /// Does what [`list`] does.
    ///
    /// # Errors
    ///
    /// As from [`list`].
    pub fn list_names(
        &'static self,
        prefix: &CStr,
        f: impl FnMut(&CStr, NameKind) -> Result,
    ) -> Result {
        self.with_names_shared(|names| names.dictionary.list(prefix.to_bytes(), f))
    }

    /// Does what [`counts`] does.
    ///
    /// # Errors
    ///
    /// As from [`counts`].
    pub fn counts_of(&'static self, cache: &CStr) -> Result<Counts> {
        let raw = self.with_names_shared(|names| {
            let found = names.dictionary.lookup(cache.to_bytes());
            let entry = found.map_err(Refusal::report)?.ok_or(ENOENT)?.entry;
            if entry.kind != NameKind::Cache as u16 {
                return Err(EINVAL);
            }
            let handle = ArenaHandle::from_raw(entry.value);
            names.cache_if_up(handle).ok_or(ENODATA)
        })?;
        // Caches live for ever.
        Ok(raw.counts())
    }

    /// Does what [`rename`] does.
    ///
    /// # Errors
    ///
    /// As from [`rename`].
    pub fn rename(&'static self, old: &CStr, new: &CStr) -> Result {
        let (old, new) = (check_name(old)?, check_name(new)?);
        let pass = self.gate().enter()?;
        self.with_names(|names| {
            // Before anything is looked up: strings may move.
            names.make_room(&pass, new)?;
            let found = names.dictionary.lookup(old).map_err(Refusal::report)?;
            let found = found.ok_or(ENOENT)?;
            if has_ended(names, &found.entry)? {
                return Err(ENOENT);
            }
            if let Some(there) = names.dictionary.lookup(new).map_err(Refusal::report)? {
                if !has_ended(names, &there.entry)? {
                    return Err(EEXIST);
                }
                names.note_opened(&there);
                names.dictionary.remove(&pass, there)?;
            }
            names.note_opened(&found);
            names.dictionary.rename(&pass, found, new)?;
            names.note_made(new);
            Ok(())
        })
    }

    /// Does what [`remove`] does.
    ///
    /// # Errors
    ///
    /// As from [`remove`].
    pub fn remove_name(&'static self, name: &CStr) -> Result {
        let name = check_name(name)?;
        let pass = self.gate().enter()?;
        self.with_names(|names| {
            let found = names.dictionary.lookup(name).map_err(Refusal::report)?;
            let found = found.ok_or(ENOENT)?;
            if !has_ended(names, &found.entry)? {
                return Err(EBUSY);
            }
            names.note_opened(&found);
            names.dictionary.remove(&pass, found)
        })
    }
}
