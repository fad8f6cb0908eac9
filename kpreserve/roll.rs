// SPDX-License-Identifier: GPL-2.0

//! The caches that are up, for those who may take no lock: reclaim, a CPU that is gone, the worker.

use kernel::prelude::*;
use kernel::sync::SetOnce;
use kpreserve_slab::RawCache;

/// A list that only grows. Caches live as long as the kernel, so whoever goes through it needs
/// neither a lock nor a reference.
pub(crate) struct Roll {
    first: SetOnce<&'static Link>,
}

/// A cache on the list.
pub(crate) struct Link {
    cache: &'static RawCache,
    next: SetOnce<&'static Link>,
}

impl Roll {
    /// Makes an empty list.
    pub(crate) fn new() -> Self {
        Self {
            first: SetOnce::new(),
        }
    }

    /// Puts a cache behind the one that was added before, `last`, of which there is none for the
    /// first. One at a time: the caller holds the lock of the names. Cannot fail: the place was
    /// made before.
    pub(crate) fn add(
        &self,
        last: Option<&'static Link>,
        place: Place,
        cache: &'static RawCache,
    ) -> &'static Link {
        let link = place.0.write(Link {
            cache,
            next: SetOnce::new(),
        });
        let link: &'static Link = KBox::leak(link);
        let next = last.map_or(&self.first, |last| &last.next);
        let _is_first_to_do_so = next.populate(link);
        link
    }

    /// Goes through the caches. From any context.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static RawCache> {
        let first = self.first.copy();
        core::iter::successors(first, |link| link.next.copy()).map(|link| link.cache)
    }
}

/// Room for a cache on the list.
pub(crate) struct Place(KBox<core::mem::MaybeUninit<Link>>);

impl Place {
    /// Makes room. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KBox::new_uninit(GFP_KERNEL)?))
    }
}
