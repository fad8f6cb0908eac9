// SPDX-License-Identifier: GPL-2.0

//! Opening by name, and by handle.

use core::ffi::CStr;

use kernel::alloc::Flags;
use kernel::prelude::*;
use kpreserve_kho::{
    preservable::assert_preservable,
    refusal::Refusal,
    validate::expect_equal,
    ArenaHandle,
    ArenaKind,
    GatePass,
    Ledger,
    Preservable, //
};
use kpreserve_slab::{
    Cache,
    CacheOptions,
    Geometry, //
};
use kpreserve_vmalloc::{
    Area,
    PVec,
    RawArea, //
};

use crate::abi::{
    EntrySer,
    NameKind, //
};
use crate::contents::Contents;
use crate::dictionary::{
    check_name,
    Meaning, //
};
use crate::framework::Framework;
use crate::global::framework;
use crate::names::{
    ArenaPlan,
    Names, //
};

mod check;

pub(crate) use check::{
    check_cache,
    check_entry,
    has_ended, //
};

use check::check_layout;

/// What is opened by name: caches, areas, vectors, maps, heaps of strings.
///
/// Opening adopts what the previous kernel left under the name, or makes it if there is nothing.
/// It is exclusive. Closing (dropping) gives nothing up: the contents stay, and are found by the
/// next open, in this boot or the next kernel.
///
/// ```
/// use kpreserve::prelude::*;
///
/// kpreserve::preservable! {
///     struct AccountSer { name: StrSer, sum: i64 }
///     compatible = "ledger-account", version = 1
/// }
///
/// struct Ledger { accounts: PMap<u64, AccountSer>, names: PStrings }
///
/// impl Ledger {
///     fn open() -> Result<Self> {
///         let accounts = PMap::open(c"ledger/accounts", GFP_KERNEL)?;
///         Ok(Self { accounts, names: PStrings::open(c"ledger/names", GFP_KERNEL)? })
///     }
///
///     fn add(&mut self, number: u64, name: &[u8]) -> Result {
///         let name = self.names.push(name)?;
///         // The account is there, with its name, or it is not.
///         self.accounts.insert(number, AccountSer { name, sum: 0 })?;
///         Ok(())
///     }
///
///     fn name(&self, number: u64) -> Result<&[u8]> {
///         let account = self.accounts.get(&number).ok_or(ENOENT)?;
///         self.names.get(account.name)
///     }
/// }
/// ```
///
/// # Errors
///
/// Both functions:
///
/// - EPROBE_DEFER before the framework is up ([`open`](Self::open) only).
/// - EINVAL if the name is empty, begins with a dot, begins or ends with a slash or has two of them
///   in a row; ENAMETOOLONG beyond 255 bytes.
/// - EBUSY if it is open, if the name stands for something of another kind, or if the framework is
///   frozen.
/// - EINVAL if what is there has another compatible string, or another layout at the same version;
///   EOPNOTSUPP if it has another version. It is carried on.
/// - EINVAL if what is there was refused: a [`Refusal`] was logged.
/// - ENOMEM.
pub trait Open: Sized {
    /// Opens by name. `flags` must allow sleeping.
    ///
    /// Cost: one look-up, and a few instructions a run.
    fn open(name: &CStr, flags: Flags) -> Result<Self> {
        Self::open_in(framework()?, name, flags)
    }

    /// The same, in a framework that is named.
    fn open_in(framework: &'static Framework, name: &CStr, flags: Flags) -> Result<Self>;
}

/// What is reached by a handle that is kept elsewhere, instead of a name: areas, vectors, maps, heaps of strings.
///
/// ```
/// use kpreserve::prelude::*;
///
/// kpreserve::preservable! {
///     struct QueueSer {
///         jobs: ArenaHandle<u64>,
///         by_id: ArenaHandle<MapHeadSer<u64, StrSer>>,
///         names: ArenaHandle<u8>,
///     }
///     compatible = "example-queue", version = 1
/// }
///
/// fn fill(queue: &mut QueueSer) -> Result {
///     let jobs = PVec::<u64>::create(GFP_KERNEL)?;
///     let by_id = PMap::<u64, StrSer>::create(GFP_KERNEL)?;
///     let names = PStrings::create(GFP_KERNEL)?;
///     queue.jobs = jobs.handle();
///     queue.by_id = by_id.head().handle(); // a map is found by its head
///     queue.names = names.as_vec().handle(); // a heap, by its bytes
///     Ok(())
/// }
///
/// fn name(queue: &QueueSer, id: u64) -> Result<usize> {
///     let by_id = PMap::adopt(queue.by_id, GFP_KERNEL)?;
///     let names = PStrings::adopt(queue.names, GFP_KERNEL)?;
///     Ok(names.get(*by_id.get(&id).ok_or(ENOENT)?)?.len())
/// }
/// ```
///
/// # Errors
///
/// Both functions of each pair: EPROBE_DEFER before the framework is up, EBUSY if it is frozen,
/// ENOMEM; `adopt` also EINVAL for a handle that names no such area, ENOENT if the area was
/// discarded, ESTALE if another took its place, EBUSY if it is open.
pub trait Anonymous<T: Preservable>: Sized {
    /// Makes an empty one, without a name.
    fn create(flags: Flags) -> Result<Self> {
        Self::create_in(framework()?, flags)
    }

    /// The same, in a framework that is named.
    fn create_in(framework: &'static Framework, flags: Flags) -> Result<Self>;

    /// Opens the one that a handle names.
    fn adopt(handle: ArenaHandle<T>, flags: Flags) -> Result<Self> {
        Self::adopt_in(framework()?, handle, flags)
    }

    /// The same, in a framework that is named.
    fn adopt_in(
        framework: &'static Framework,
        handle: ArenaHandle<T>,
        flags: Flags,
    ) -> Result<Self>;
}

impl<T: Preservable> Open for Cache<T> {
    fn open_in(framework: &'static Framework, name: &CStr, flags: Flags) -> Result<Self> {
        Self::open_with_in(framework, name, &CacheOptions::NONE, flags)
    }
}

/// Caches that something is asked of.
///
/// # Errors
///
/// Those of [`Open`], and EINVAL if no cache can have the alignment that is asked for.
pub trait OpenWith: Open {
    /// Opens by name, as [`Open::open`] does.
    ///
    /// A cache that is there already, of this boot or an earlier one, keeps its layout; see
    /// [`CacheOptions`].
    fn open_with(name: &CStr, options: &CacheOptions, flags: Flags) -> Result<Self> {
        Self::open_with_in(framework()?, name, options, flags)
    }

    /// The same, in a framework that is named.
    fn open_with_in(
        framework: &'static Framework,
        name: &CStr,
        options: &CacheOptions,
        flags: Flags,
    ) -> Result<Self>;
}

impl<T: Preservable> OpenWith for Cache<T> {
    fn open_with_in(
        framework: &'static Framework,
        name: &CStr,
        options: &CacheOptions,
        flags: Flags,
    ) -> Result<Self> {
        const { assert_preservable::<T>() };
        let name = check_name(name)?;
        let (contents, geometry) = (Contents::of::<T>(), options.geometry::<T>()?);
        let cache = with_cache(
            framework,
            name,
            (&contents, geometry),
            flags,
            check_cache(name, &contents),
            |names, handle| names.cache_if_up(handle).map(Cache::from_raw).transpose(),
            |names, handle| Cache::from_raw(names.cache(handle)?),
        )?;
        cache.raw().set_node(options.node);
        if options.reserve > 0 {
            // What is missing is asked for again by the first who misses it.
            let _ = cache.set_reserve(options.reserve);
        }
        Ok(cache)
    }
}

/// Runs `f` on the arena of the cache of a name, which is made, with slabs of that layout, if there is
/// none. If there is one, `check` has to accept its entry; then `look` comes: if it returns
/// something, all was done beside others who only look.
pub(crate) fn with_cache<R>(
    framework: &'static Framework,
    name: &[u8],
    (contents, geometry): (&Contents, Geometry),
    flags: Flags,
    check: impl Fn(&Names, &EntrySer) -> Result,
    look: impl FnOnce(&Names, ArenaHandle<()>) -> Result<Option<R>>,
    f: impl FnOnce(&mut Names, ArenaHandle<()>) -> Result<R>,
) -> Result<R> {
    can_sleep(flags)?;
    let pass = framework.gate().enter()?;
    let there = framework.with_names_shared(|names| match find(names, name, &check)? {
        Some(handle) => look(names, handle),
        None => Ok(None),
    })?;
    if let Some(there) = there {
        return Ok(there);
    }
    framework.with_names(|names| {
        if let Some(handle) = find(names, name, &check)? {
            return f(names, handle);
        }
        let plan = ArenaPlan::cache(contents, geometry);
        let handle = make(names, &pass, name, NameKind::Cache, contents, &plan)?;
        f(names, handle).inspect_err(|_| unmake(names, &pass, name, handle))
    })
}

fn open_raw_area<T: Preservable>(
    framework: &'static Framework,
    name: &CStr,
    flags: Flags,
) -> Result<RawArea> {
    const { assert_preservable::<T>() };
    can_sleep(flags)?;
    let name = check_name(name)?;
    let pass = framework.gate().enter()?;
    let contents = Contents::of::<T>();
    // Whoever finds what it opens changes no name.
    let there =
        framework.with_names_shared(|names| raw_area_of(framework, names, name, &contents))?;
    if let Some(there) = there {
        return Ok(there);
    }
    framework.with_names(|names| {
        // Somebody may have been faster.
        if let Some(there) = raw_area_of(framework, names, name, &contents)? {
            return Ok(there);
        }
        let plan = ArenaPlan::area::<T>();
        let handle = make(names, &pass, name, NameKind::Area, &contents, &plan)?;
        raw_area(framework, names, handle).inspect_err(|_| unmake(names, &pass, name, handle))
    })
}

/// Opens the area that a name stands for; `None` if it stands for nothing.
fn raw_area_of(
    framework: &'static Framework,
    names: &Names,
    name: &[u8],
    contents: &Contents,
) -> Result<Option<RawArea>> {
    let check =
        |names: &Names, entry: &EntrySer| check_entry(names, entry, name, NameKind::Area, contents);
    find(names, name, check)?
        .map(|handle| raw_area(framework, names, handle))
        .transpose()
}

fn raw_area(
    framework: &'static Framework,
    names: &Names,
    handle: ArenaHandle<()>,
) -> Result<RawArea> {
    let ser = names.arena(handle)?;
    RawArea::new(framework.open_arena(handle.id())?, ser)
}

fn create_raw_area<T: Preservable>(framework: &'static Framework, flags: Flags) -> Result<RawArea> {
    const { assert_preservable::<T>() };
    can_sleep(flags)?;
    let pass = framework.gate().enter()?;
    framework.with_names(|names| {
        let handle = names.make_arena(&pass, &ArenaPlan::area::<T>())?;
        raw_area(framework, names, handle).inspect_err(|_| names.retire_arena(handle.id()))
    })
}

fn adopt_raw_area<T: Preservable>(
    framework: &'static Framework,
    handle: ArenaHandle<T>,
    flags: Flags,
) -> Result<RawArea> {
    can_sleep(flags)?;
    let _pass = framework.gate().enter()?;
    if handle.is_null() {
        // Nothing was stored yet: no damage, and nothing to log.
        return Err(EINVAL);
    }
    framework.with_names_shared(|names| {
        let ser = names.arena(handle)?;
        let (found, area) = (ser.kind.into(), ArenaKind::Area as u64);
        expect_equal("ArenaHandle", "kind", handle.into_raw(), found, area)
            .map_err(Refusal::report)?;
        check_layout(
            format_args!("ArenaHandle {:#x}", handle.into_raw()),
            &Contents::of::<T>(),
            ser.version,
            ser.fingerprint,
        )?;
        raw_area(framework, names, ArenaHandle::from_raw(handle.into_raw()))
    })
}

macro_rules! open_areas {
    ($($area:ident),*) => {$(
        impl<T: Preservable> Open for $area<T> {
            fn open_in(framework: &'static Framework, name: &CStr, flags: Flags) -> Result<Self> {
                $area::from_raw(open_raw_area::<T>(framework, name, flags)?)
            }
        }

        impl<T: Preservable> Anonymous<T> for $area<T> {
            fn create_in(framework: &'static Framework, flags: Flags) -> Result<Self> {
                $area::from_raw(create_raw_area::<T>(framework, flags)?)
            }

            fn adopt_in(
                framework: &'static Framework,
                handle: ArenaHandle<T>,
                flags: Flags,
            ) -> Result<Self> {
                $area::from_raw(adopt_raw_area::<T>(framework, handle, flags)?)
            }
        }
    )*};
}

open_areas!(Area, PVec);

/// Finds what a name stands for, and lets `check` say whether it is what is to be opened.
///
/// A name whose arena has ended stands for nothing.
fn find(
    names: &Names,
    name: &[u8],
    check: impl Fn(&Names, &EntrySer) -> Result,
) -> Result<Option<ArenaHandle<()>>> {
    let Some(found) = names.dictionary.lookup(name).map_err(Refusal::report)? else {
        return Ok(None);
    };
    let entry = found.entry;
    if has_ended(names, &entry)? {
        names.note_opened(&found);
        return Ok(None);
    }
    check(names, &entry)?;
    names.note_opened(&found);
    Ok(Some(ArenaHandle::from_raw(entry.value)))
}

/// Makes an arena and gives it a name.
fn make(
    names: &mut Names,
    pass: &GatePass<'_>,
    name: &[u8],
    kind: NameKind,
    contents: &Contents,
    plan: &ArenaPlan,
) -> Result<ArenaHandle<()>> {
    names.make_room(pass, name)?;
    let handle = names.make_arena(pass, plan)?;
    let meaning = Meaning {
        kind,
        compatible: contents.compatible,
        version: contents.version,
        fingerprint: contents.fingerprint,
        value: handle.into_raw(),
    };
    if let Err(error) = names.dictionary.insert(pass, name, meaning) {
        names.retire_arena(handle.id());
        return Err(error);
    }
    names.note_made(name);
    Ok(handle)
}

/// Undoes [`make`], for an arena that could not be opened. Cannot fail.
fn unmake(names: &mut Names, pass: &GatePass<'_>, name: &[u8], handle: ArenaHandle<()>) {
    // It was put there by the same caller, under the same lock.
    if let Ok(Some(found)) = names.dictionary.lookup(name) {
        let _ = names.dictionary.remove(pass, found);
    }
    names.retire_arena(handle.id());
}

/// Opening takes locks and may grow areas.
pub(crate) fn can_sleep(flags: Flags) -> Result {
    if flags.contains(GFP_KERNEL) {
        Ok(())
    } else {
        Err(EINVAL)
    }
}
