// SPDX-License-Identifier: GPL-2.0

//! Records of the arena table: which one a handle names, and which ones are free.
//!
//! That something has ended is believed only of a record that is sound: else its name would stand
//! for nothing, and the next open would put a new, empty thing in the place of what is there.

use kernel::prelude::*;
use kpreserve_kho::{
    refusal::{
        Refusal,
        Relation, //
    },
    validate::{
        expect,
        expect_at_least,
        expect_at_most, //
    },
    ArenaHandle,
    ArenaSer,
    Ledger, //
};
use kpreserve_vmalloc::PVec;

use crate::abi::{
    ARENA_FIRST,
    ARENA_TABLE, //
};
use crate::framework::Framework;

/// Returns the record that a handle names, checked.
///
/// # Errors
///
/// EINVAL if there is no such record or it is refused; ENOENT if its arena has ended, ESTALE if
/// another one has taken the place.
pub(super) fn named_by<T>(
    framework: &'static Framework,
    arenas: &PVec<ArenaSer>,
    handle: ArenaHandle<T>,
) -> Result<&'static ArenaSer> {
    let (at, id) = (handle.into_raw(), handle.id());
    let last = (arenas.len() as u64).saturating_sub(1);
    expect_at_least("ArenaHandle", "id", at, id.into(), ARENA_FIRST.into())
        .and_then(|()| expect_at_most("ArenaHandle", "id", at, id.into(), last))
        .map_err(Refusal::report)?;
    let record = record(arenas, id)?;
    let found = record.snapshot();
    let (is_free, generation) = (found.is_free(), found.generation);
    if is_free {
        found.validate_free(framework.root_id(), id)
    } else {
        found.validate(framework.root_id(), id).map(drop)
    }
    .and_then(|()| expect_given_out(handle, generation))
    .map_err(Refusal::report)?;
    if is_free {
        // Runs are released before their arena ends, and recorded after it begins.
        expect_without_runs(framework, id)?;
        return Err(ENOENT);
    }
    if generation != handle.generation() {
        return Err(ESTALE);
    }
    Ok(record)
}

/// Checks that a record has been given out as often as a handle says: it counts up.
fn expect_given_out<T>(handle: ArenaHandle<T>, generation: u32) -> Result<(), Refusal> {
    // It wraps around, after some thousand millions of arenas.
    let ahead = handle.generation().wrapping_sub(generation) as i32;
    expect(
        "ArenaHandle",
        "generation",
        handle.into_raw(),
        handle.generation().into(),
        generation.into(),
        Relation::AtMost,
        ahead <= 0,
    )
}

/// Checks that an arena whose record is free has no runs.
fn expect_without_runs(framework: &'static Framework, id: u32) -> Result {
    expect(
        "ArenaSer",
        "kind",
        id.into(),
        0,
        1,
        Relation::AtLeast,
        !framework.is_claimed(id),
    )
    .map_err(Refusal::report)
}

/// Returns whether a record can be given out: if it is free and sound, and nobody's runs name it.
pub(super) fn is_for_all(framework: &'static Framework, arenas: &PVec<ArenaSer>, id: u32) -> bool {
    let Some(record) = arenas.get(id as usize).filter(|record| record.is_free()) else {
        return false;
    };
    let checked = record.validate_free(framework.root_id(), id);
    checked.map_err(Refusal::report).is_ok() && !framework.is_claimed(id)
}

/// Checks that no record lies behind the last one, which the next one would be written over:
/// records are published as zeros, so whatever else is there was published once.
///
/// # Errors
///
/// EINVAL if there is one.
pub(super) fn expect_nothing_behind(arenas: &PVec<ArenaSer>) -> Result {
    let nr = arenas.len() as u64;
    expect(
        "ArenaSer",
        "len",
        ARENA_TABLE.into(),
        nr,
        nr + 1,
        Relation::AtLeast,
        arenas.is_clear_behind(),
    )
    .map_err(Refusal::report)
}

/// Returns a record of the arena table.
///
/// # Errors
///
/// EINVAL if there is no such record.
pub(super) fn record(arenas: &PVec<ArenaSer>, id: u32) -> Result<&'static ArenaSer> {
    let record: *const ArenaSer = arenas.get(id as usize).ok_or(EINVAL)?;
    // SAFETY: elements of an area do not move, the arena table never shrinks, and the framework
    // that owns it is never dropped. While an arena is open its record changes only in `len`,
    // which is a `SharedU64`; it is overwritten only when the arena has ended.
    Ok(unsafe { &*record })
}
