// SPDX-License-Identifier: GPL-2.0

//! Whether what a name stands for is there, and is what is to be opened.

use core::fmt::Arguments;

use kernel::prelude::*;
use kpreserve_kho::ArenaHandle;

use crate::abi::{
    EntrySer,
    NameKind, //
};
use crate::contents::Contents;
use crate::names::Names;

/// Returns whether an entry stands for an arena that has ended.
///
/// # Errors
///
/// EINVAL if it names no arena, or one whose descriptor is refused.
pub(crate) fn has_ended(names: &Names, entry: &EntrySer) -> Result<bool> {
    // Of other kinds the value is no handle of an arena: it is that of a slot, or what a newer
    // kernel means by it.
    if ![NameKind::Cache as u16, NameKind::Area as u16].contains(&entry.kind) {
        return Ok(false);
    }
    match names.arena(ArenaHandle::<()>::from_raw(entry.value)) {
        Ok(_) => Ok(false),
        Err(error) if error == ENOENT || error == ESTALE => Ok(true),
        Err(error) => Err(error),
    }
}

/// Checks that an entry is that of the cache that is to be opened by a name.
pub(crate) fn check_cache<'a>(
    name: &'a [u8],
    contents: &'a Contents,
) -> impl Fn(&Names, &EntrySer) -> Result + 'a {
    move |names, entry| check_entry(names, entry, name, NameKind::Cache, contents)
}

/// Checks that an entry stands for what `kind` and `contents` say.
///
/// # Errors
///
/// EBUSY for another kind, EINVAL for another compatible string or layout, EOPNOTSUPP for another
/// version. All are logged: they are mistakes of whoever opens.
pub(crate) fn check_entry(
    names: &Names,
    entry: &EntrySer,
    name: &[u8],
    kind: NameKind,
    contents: &Contents,
) -> Result {
    let (name, compatible) = (name.escape_ascii(), contents.compatible);
    if entry.kind != kind as u16 {
        pr_err!(
            "\"{}\" stands for {} and was to be opened as {} of \"{}\": open another name; carried on, \
             not used\n",
            format_args!("{name}"),
            noun(NameKind::from_raw(entry.kind)),
            noun(Some(kind)),
            compatible
        );
        return Err(EBUSY);
    }
    if !names.dictionary.compatible_is(entry, compatible) {
        let there = names.dictionary.compatible_of(entry);
        pr_err!(
            "\"{}\" was to be opened as \"{}\" and stands for {} of \"{}\": open another name; \
             carried on, not used\n",
            format_args!("{name}"),
            compatible,
            noun(Some(kind)),
            format_args!("{}", there.as_bytes().escape_ascii())
        );
        return Err(EINVAL);
    }
    check_layout(
        format_args!("\"{name}\""),
        contents,
        entry.version,
        entry.fingerprint,
    )
}

fn noun(kind: Option<NameKind>) -> &'static str {
    match kind {
        Some(NameKind::Cache) => "a cache",
        Some(NameKind::Area) => "an area",
        Some(NameKind::Object) => "an object",
        Some(NameKind::Directory) | None => "something unknown",
    }
}

/// Checks version and fingerprint of `what`, a name or a handle.
pub(super) fn check_layout(
    what: Arguments<'_>,
    contents: &Contents,
    version: u32,
    fingerprint: u64,
) -> Result {
    if version != contents.version {
        pr_err!(
            "{} (\"{}\"): version is {}, this kernel knows {}: use a consumer of that version, or \
             another name and compatible string; carried on, not used\n",
            what,
            contents.compatible,
            version,
            contents.version
        );
        return Err(EOPNOTSUPP);
    }
    if fingerprint != contents.fingerprint {
        pr_err!(
            "{} (\"{}\"): layout of version {} is {:#x}, here {:#x}: a field changed without a new \
             version, or a map was of other keys or values; change it back, or use another name and \
             compatible string; carried on, not used\n",
            what,
            contents.compatible,
            version,
            fingerprint,
            contents.fingerprint
        );
        return Err(EINVAL);
    }
    Ok(())
}
