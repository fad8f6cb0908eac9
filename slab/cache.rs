// SPDX-License-Identifier: GPL-2.0

//! The typed face of a cache.

use core::marker::PhantomData;

use kernel::alloc::Flags;
use kernel::prelude::*;

use kpreserve_kho::preservable::assert_preservable;
use kpreserve_kho::{
    context::check_alloc,
    refusal::Relation,
    validate::expect,
    Handle,
    Preservable,
    Refusal, //
};

use crate::claim;
use crate::geometry::{
    Geometry,
    ALIGN_MAX_BYTES, //
};
use crate::owner::{
    Slot,
    Vacant, //
};
use crate::preserved::Preserved;
use crate::raw::{
    Opened,
    RawCache, //
};

/// Compile-time requirements of a cache on its type; evaluated by whoever opens one.
///
/// ```
/// const _: () = kpreserve_slab::cache::assert_fits_slab::<[u64; 500_000]>();
/// ```
///
/// Too large:
///
/// ```compile_fail
/// const _: () = kpreserve_slab::cache::assert_fits_slab::<[u64; 600_000]>();
/// ```
///
/// Aligned to more than a page:
///
/// ```compile_fail
/// #[repr(align(8192))]
/// struct Wide([u8; 8192]);
/// const _: () = kpreserve_slab::cache::assert_fits_slab::<Wide>();
/// ```
///
/// A cache of such a type does not compile, either:
///
/// ```
/// # use kpreserve_slab::Cache;
/// # let raws: [&kpreserve_slab::RawCache; 0] = [];
/// # for raw in raws {
/// let cache = Cache::<[u64; 500_000]>::from_raw(raw);
/// # }
/// ```
///
/// ```compile_fail
/// # use kpreserve_slab::Cache;
/// # let raws: [&kpreserve_slab::RawCache; 0] = [];
/// # for raw in raws {
/// let cache = Cache::<[u64; 600_000]>::from_raw(raw);
/// # }
/// ```
///
/// Nor does one of a type without a size:
///
/// ```compile_fail
/// # use kpreserve_slab::Cache;
/// # let raws: [&kpreserve_slab::RawCache; 0] = [];
/// # for raw in raws {
/// let cache = Cache::<[u64; 0]>::from_raw(raw);
/// # }
/// ```
pub const fn assert_fits_slab<T>() {
    assert!(
        align_of::<T>() <= ALIGN_MAX_BYTES,
        "an object of a cache is aligned to a page at most"
    );
    assert!(
        Geometry::try_of(size_of::<T>(), align_of::<T>()).is_some(),
        "an object of a cache has a size, and fits into a slab of 4 MiB"
    );
}

/// A cache of preserved objects of one type.
///
/// While it is open nobody else can open it; clones share it. Dropping the last one closes it,
/// which frees nothing: the objects stay, owned or parked, and a later open finds the parked ones.
///
/// # Invariants
///
/// The slots of the cache are big enough for a `T`, and aligned for it.
pub struct Cache<T: Preservable> {
    opened: Opened,
    _objects: PhantomData<fn() -> T>,
}

impl<T: Preservable> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self {
            opened: self.opened.clone(),
            _objects: PhantomData,
        }
    }
}

impl<T: Preservable> Cache<T> {
    /// Opens a raw cache for objects of type `T`.
    ///
    /// For the framework, which has compared the fingerprint and the version of the descriptor:
    /// here the bytes alone are looked at.
    ///
    /// # Errors
    ///
    /// EBUSY while the cache is open; EINVAL if a `T` does not fit into its slots.
    #[doc(hidden)]
    pub fn from_raw(raw: &'static RawCache) -> Result<Self> {
        Self::from_opened(raw.try_open()?)
    }

    /// Shares a raw cache that is open already, for objects of type `T`; for the framework, as
    /// [`from_raw`](Self::from_raw).
    ///
    /// # Errors
    ///
    /// EINVAL if a `T` does not fit into its slots.
    #[doc(hidden)]
    pub fn from_opened(opened: Opened) -> Result<Self> {
        const { assert_preservable::<T>() };
        const { assert_fits_slab::<T>() };
        let (raw, size) = (opened.raw(), size_of::<T>() as u64);
        let stride = raw.geometry().stride_bytes() as u64;
        let holds = raw.geometry().holds::<T>();
        expect(
            "ArenaSer",
            "stride_bytes",
            raw.owner().into(),
            stride,
            size,
            Relation::AtLeast,
            holds,
        )
        .map_err(Refusal::report)?;
        // INVARIANT: checked above.
        Ok(Self {
            opened,
            _objects: PhantomData,
        })
    }

    /// Returns the cache behind.
    #[inline]
    pub fn raw(&self) -> &'static RawCache {
        self.opened.raw()
    }

    /// Allocates an object, initialises it in place, and publishes it: from then on it is
    /// preserved.
    ///
    /// With GFP_KERNEL it may sleep and the cache may grow; with other flags it is taken from what
    /// is there and from the reserve. The initialiser finds zeros. One that fails leaves the slot
    /// free, and zeroed; so does a kexec while it runs.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no memory; EBUSY if there is no slot and the framework is frozen; what
    /// the initialiser returns.
    #[inline]
    pub fn alloc<E>(&self, init: impl Init<T, E>, flags: Flags) -> Result<Preserved<T>>
    where
        Error: From<E>,
    {
        check_alloc(flags);
        let vacant = match self.raw().pop() {
            Some(free) => Vacant::new(free, self.raw()),
            None => self.raw().alloc_slot_slow(flags)?,
        };
        // SAFETY: the slot is big enough and aligned for a `T` (type invariants), and nobody
        // else's; what a failed initialiser leaves is zeroed when `vacant` is dropped.
        unsafe { init.__init(vacant.as_ptr().cast::<T>()) }?;
        // SAFETY: by the type invariants.
        Ok(unsafe { Preserved::from_slot(vacant.publish()) })
    }

    /// Takes the object of a handle, of this kernel or the one before. For tasks.
    ///
    /// # Errors
    ///
    /// - EINVAL if the handle is null, or not of a slot of this cache, or its slab is quarantined;
    /// - ENOENT if the slot is free;
    /// - ESTALE if another object has the slot now;
    /// - EBUSY if the object has an owner.
    pub fn claim(&self, handle: Handle<T>) -> Result<Preserved<T>> {
        let slot = self.raw().claim(handle.into_raw())?;
        // SAFETY: by the type invariants.
        Ok(unsafe { Preserved::from_slot(slot) })
    }

    /// Frees the object of a handle. For tasks.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn discard(&self, handle: Handle<T>) -> Result {
        self.claim(handle).map(drop)
    }

    /// Returns a copy of the object of a handle, which stays claimable. For tasks.
    ///
    /// While the copy is made, others who claim the object get EBUSY.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn peek(&self, handle: Handle<T>) -> Result<T> {
        self.raw().peek(handle.into_raw(), |slot| {
            // SAFETY: a live slot, big enough and aligned for a `T` (type invariants), that is
            // owned meanwhile; any bytes are a `T`, and a `T` has no destructor.
            unsafe { slot.as_ptr().cast::<T>().read() }
        })
    }

    /// Goes through the objects that were unclaimed when the cache was opened and still are, and
    /// takes each. For tasks.
    ///
    /// Dropping an object that was yielded frees it; park it to keep it.
    pub fn unclaimed(&self) -> Unclaimed<T> {
        Unclaimed {
            slots: self.raw().unclaimed(),
            _cache: self.clone(),
        }
    }

    /// Frees the objects that were unclaimed when the cache was opened and still are; returns how
    /// many. Idempotent. May sleep.
    ///
    /// Whether something refers to them makes no difference: who reaches objects by links, when they
    /// are needed, does not call this.
    pub fn finish(&self) -> usize {
        self.raw().finish()
    }

    /// Keeps `nr_runs` runs in reserve for those who cannot sleep, and fills it up. May sleep.
    ///
    /// # Errors
    ///
    /// EBUSY while the framework is frozen, ENOMEM.
    pub fn set_reserve(&self, nr_runs: u32) -> Result {
        self.raw().set_reserve(nr_runs)
    }
}

/// Goes through a cache; made by [`Cache::unclaimed`].
pub struct Unclaimed<T: Preservable> {
    slots: claim::Unclaimed,
    _cache: Cache<T>,
}

impl<T: Preservable> Iterator for Unclaimed<T> {
    type Item = Preserved<T>;

    fn next(&mut self) -> Option<Preserved<T>> {
        let slot: Slot = self.slots.next()?;
        // SAFETY: by the invariants of the cache that made this.
        Some(unsafe { Preserved::from_slot(slot) })
    }
}
