// SPDX-License-Identifier: GPL-2.0

//! Objects with a name: how the next kernel finds the first handle.

use core::ffi::CStr;
use core::mem::ManuallyDrop;
use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::alloc::Flags;
use kernel::prelude::*;
use kpreserve_kho::{
    refusal::Refusal,
    GatePass,
    Handle,
    Ledger,
    Preservable, //
};
use kpreserve_slab::{
    Cache,
    Geometry,
    Preserved, //
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
use crate::names::Names;
use crate::open::{
    can_sleep,
    check_entry,
    has_ended,
    with_cache, //
};

/// An object with a name, owned by whoever opened it.
///
/// Unlike that of a [`Preserved`], its drop does not free it: the object stays under its name, and
/// the next open, in this boot or the next kernel, finds it. [`discard`](Self::discard) ends it.
pub struct Named<T: Preservable> {
    object: ManuallyDrop<Preserved<T>>,
    framework: &'static Framework,
}

impl<T: Preservable> Named<T> {
    /// Opens the object of that name, or makes it with `init`. `flags` must allow sleeping.
    ///
    /// All named objects of a type share one cache.
    ///
    /// # Errors
    ///
    /// Those of [`Open::open`](crate::Open::open), and what `init` returns; nothing is left
    /// behind then.
    pub fn open<E>(name: &CStr, init: impl Init<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        Self::open_in(framework()?, name, init, flags)
    }

    /// The same, in a framework that is named.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_in<E>(
        framework: &'static Framework,
        name: &CStr,
        init: impl Init<T, E>,
        flags: Flags,
    ) -> Result<Self>
    where
        Error: From<E>,
    {
        can_sleep(flags)?;
        let name = check_name(name)?;
        let cache = object_cache::<T>(framework, name, flags)?;
        let pass = framework.gate().enter()?;
        let there = framework.with_names_shared(|names| claim_named(names, &cache, name))?;
        let object = match there {
            Some(object) => object,
            None => {
                // The user's code runs without a lock of ours, and may open what it likes.
                let new = cache.alloc(init, flags)?;
                framework.with_names(|names| match claim_named(names, &cache, name)? {
                    // Somebody was faster; `new` is freed.
                    Some(object) => Ok(object),
                    None => {
                        bind_named(names, &pass, name, &new)?;
                        Ok(new)
                    }
                })?
            }
        };
        Ok(Self {
            object: ManuallyDrop::new(object),
            framework,
        })
    }

    /// Ends the object: takes its name away, then frees it.
    ///
    /// # Errors
    ///
    /// EBUSY if the framework is frozen, EINVAL if the dictionary is refused; the object stays.
    pub fn discard(self, name: &CStr) -> Result {
        let name = check_name(name)?;
        let pass = self.framework.gate().enter()?;
        self.framework.with_names(|names| {
            let found = names.dictionary.lookup(name).map_err(Refusal::report)?;
            let found = found.ok_or(ENOENT)?;
            if found.entry.value != self.object.handle().into_raw() {
                return Err(EINVAL);
            }
            names.dictionary.remove(&pass, found)
        })?;
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the object is taken once.
        drop(unsafe { ManuallyDrop::take(&mut this.object) });
        Ok(())
    }
}

impl<T: Preservable> Deref for Named<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T: Preservable> DerefMut for Named<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.object
    }
}

impl<T: Preservable> Drop for Named<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, and not used afterwards.
        let object = unsafe { ManuallyDrop::take(&mut self.object) };
        let _ = object.park();
    }
}

/// Takes the object of a name; `None` if the name stands for nothing.
fn claim_named<T: Preservable>(
    names: &Names,
    cache: &Cache<T>,
    name: &[u8],
) -> Result<Option<Preserved<T>>> {
    let found = names.dictionary.lookup(name).map_err(Refusal::report)?;
    let Some(found) = found else {
        return Ok(None);
    };
    let entry = found.entry;
    if has_ended(names, &entry)? {
        return Ok(None);
    }
    check_entry(names, &entry, name, NameKind::Object, &Contents::of::<T>())?;
    names.note_opened(&found);
    let claimed = cache.claim(Handle::from_raw(entry.value));
    claimed.map(Some).map_err(|error| {
        // A name goes before its object, so one whose object is gone, or another one, is damaged.
        if error != EINVAL && error != ENOENT && error != ESTALE {
            return error;
        }
        pr_err!(
            "EntrySer: value is {:#x}, expected a handle of an object in the cache of \"{}\"; left as \
             it is, carried on, not used\n",
            entry.value,
            T::COMPATIBLE
        );
        EINVAL
    })
}

/// Gives a name to an object.
fn bind_named<T: Preservable>(
    names: &mut Names,
    pass: &GatePass<'_>,
    name: &[u8],
    object: &Preserved<T>,
) -> Result {
    names.make_room(pass, name)?;
    let meaning = Meaning {
        kind: NameKind::Object,
        compatible: T::COMPATIBLE,
        version: T::VERSION,
        fingerprint: T::FINGERPRINT,
        value: object.handle().into_raw(),
    };
    names.dictionary.insert(pass, name, meaning)?;
    names.note_made(name);
    Ok(())
}

/// The cache that all named objects of a type share, for the one of `opened`. It has a name that no
/// user can give.
fn object_cache<T: Preservable>(
    framework: &'static Framework,
    opened: &[u8],
    flags: Flags,
) -> Result<Cache<T>> {
    const PREFIX: &[u8] = b".object/";
    let mut name = KVec::with_capacity(PREFIX.len() + T::COMPATIBLE.len(), flags)?;
    name.extend_from_slice(PREFIX, flags)?;
    name.extend_from_slice(T::COMPATIBLE.as_bytes(), flags)?;
    let geometry = Geometry::of_type::<T>()?;
    let contents = Contents::of::<T>();
    with_cache(
        framework,
        &name,
        (&contents, geometry),
        flags,
        |names, entry| {
            check_type(names, entry, opened, &contents)?;
            check_entry(names, entry, &name, NameKind::Cache, &contents)
        },
        |names, handle| {
            names
                .shared_if_up(handle)
                .map(Cache::from_opened)
                .transpose()
        },
        |names, handle| Cache::from_opened(names.shared_cache(handle)?),
    )
}

/// Checks that the cache of a compatible string has objects of the type that is to be opened,
/// before anything is said of the cache, of which the one who opens an object knows nothing.
///
/// # Errors
///
/// EOPNOTSUPP for another version, EINVAL for another layout (logged, with a name that is of the
/// other type).
fn check_type(names: &Names, entry: &EntrySer, opened: &[u8], contents: &Contents) -> Result {
    let is_same_version = entry.version == contents.version;
    if is_same_version && entry.fingerprint == contents.fingerprint {
        return Ok(());
    }
    let other = names.dictionary.object_of(contents.compatible);
    let other = other.as_ref().map_or(&b""[..], |name| name.as_bytes());
    let (such_as, quote) = match other {
        [] => ("", ""),
        _ => (", such as \"", "\","),
    };
    pr_err!(
        "\"{}\" was to be opened as an object of \"{}\", version {}, layout {:#x}; objects of that \
         compatible string{}{}{} are of another type, version {}, layout {:#x}: if that is \
         of another module, give one of them another string; if a field changed, a new version and \
         string; carried on, not used\n",
        format_args!("{}", opened.escape_ascii()),
        contents.compatible,
        contents.version,
        contents.fingerprint,
        such_as,
        format_args!("{}", other.escape_ascii()),
        quote,
        entry.version,
        entry.fingerprint
    );
    if is_same_version {
        Err(EINVAL)
    } else {
        Err(EOPNOTSUPP)
    }
}
