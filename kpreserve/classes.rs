// SPDX-License-Identifier: GPL-2.0

//! The size classes of a pool: a cache for each.
//!
//! Classes are the powers of two from 8 to 16384 bytes and, from 24 on, what lies half-way between two
//! of them: 8, 16, 24, 32, 48, 64, 96, ... 12288, 16384. An allocation of more than 16 bytes wastes less
//! than a third of its slot, 17 % on average over evenly spread sizes. Slots are aligned to the largest
//! power of two that divides their size, up to a page, as those of kmalloc() are; so what asks for more
//! alignment than its size has is rounded up to it, and no class has to be searched for.

use core::ptr::NonNull;

use kernel::alloc::{
    flags::__GFP_ZERO,
    AllocError,
    Flags, //
};
use kernel::prelude::*;
use kpreserve_kho::{
    refusal::{
        Refusal,
        Relation, //
    },
    validate::expect, //
};
use kpreserve_slab::geometry::ALIGN_MAX_BYTES;
use kpreserve_slab::{
    Geometry,
    Owner,
    RawCache, //
};

use crate::abi::{
    pool_fingerprint,
    POOL_COMPATIBLE,
    POOL_VERSION, //
};
use crate::contents::Contents;
use crate::dictionary::NAME_LEN_MAX;
use crate::framework::Framework;
use crate::open::{
    check_cache,
    with_cache, //
};

/// The number of classes.
pub(crate) const NR_CLASSES: usize = 22;

/// The largest allocation of a pool, in bytes.
pub const SIZE_MAX_BYTES: usize = 16384;

/// The size of the first class, to which every slot is aligned, in bytes.
pub const MIN_ALIGN_BYTES: usize = 8;

/// Classes below this index are multiples of 8, from here on there are two for each power of two.
const NR_SMALL: usize = 2;

/// What the names of the caches begin with, and how many digits they end in, at most.
const PREFIX: &[u8] = b".pool/";
const NR_DIGITS: usize = 5;

/// Returns the size of the slots of a class, in bytes.
pub(crate) const fn class_bytes(class: usize) -> usize {
    if class < NR_SMALL {
        return 8 << class;
    }
    let order = (class - NR_SMALL) / 2 + 4;
    if (class - NR_SMALL) % 2 == 0 {
        3 << (order - 1)
    } else {
        2 << order
    }
}

/// Returns the class for an allocation; `None` if there is none.
#[inline]
pub(crate) const fn class_of(size_bytes: usize, align: usize) -> Option<usize> {
    if size_bytes > SIZE_MAX_BYTES || align > ALIGN_MAX_BYTES {
        return None;
    }
    // A class that has room for a multiple of a power of two is aligned to it.
    let size_bytes = (size_bytes + (align - 1)) & !(align - 1);
    if size_bytes <= 8 {
        return Some(0);
    }
    if size_bytes <= 16 {
        return Some(1);
    }
    let order = (size_bytes - 1).ilog2() as usize;
    let class = NR_SMALL + 2 * (order - 4);
    let class = class + (size_bytes > 3 << (order - 1)) as usize;
    if class < NR_CLASSES {
        Some(class)
    } else {
        None
    }
}

/// Returns the alignment of the slots of a class, in bytes.
const fn class_align(class: usize) -> usize {
    let natural = 1 << class_bytes(class).trailing_zeros();
    if natural < ALIGN_MAX_BYTES {
        natural
    } else {
        ALIGN_MAX_BYTES
    }
}

/// Returns what is compared when a class is opened.
pub(crate) const fn class_contents(class: usize) -> Contents {
    let size_bytes = class_bytes(class);
    Contents {
        compatible: POOL_COMPATIBLE,
        version: POOL_VERSION,
        fingerprint: pool_fingerprint(size_bytes),
        size_bytes,
    }
}

/// The caches of a pool, all of them open.
///
/// # Invariants
///
/// The slots of the cache at `class` have at least [`class_bytes`] and [`class_align`]; the framework
/// holds it open.
#[derive(Clone, Copy)]
pub(crate) struct Classes {
    caches: [&'static RawCache; NR_CLASSES],
}

impl Classes {
    /// Opens the caches of a pool, which are made if there are none. `flags` must allow sleeping.
    ///
    /// # Errors
    ///
    /// Those of [`Open`](crate::Open), but for EBUSY if it is open: everybody shares it.
    /// ENAMETOOLONG if the names of the classes would be too long.
    pub(crate) fn open(framework: &'static Framework, pool: &[u8], flags: Flags) -> Result<Self> {
        if pool.len() > NAME_LEN_MAX - PREFIX.len() - 1 - NR_DIGITS {
            return Err(ENAMETOOLONG);
        }
        let first = open_class(framework, pool, 0, flags)?;
        let mut caches = [first; NR_CLASSES];
        for (class, cache) in caches.iter_mut().enumerate().skip(1) {
            *cache = open_class(framework, pool, class, flags)?;
        }
        // INVARIANT: checked, one by one.
        Ok(Self { caches })
    }

    /// Returns the cache for an allocation; `None` if it is too large or asks for too much alignment.
    #[inline]
    pub(crate) fn of(&self, size_bytes: usize, align: usize) -> Option<&'static RawCache> {
        self.caches.get(class_of(size_bytes, align)?).copied()
    }

    /// Returns the caches.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static RawCache> + '_ {
        self.caches.iter().copied()
    }

    /// Allocates: zeros.
    pub(crate) fn alloc(
        &self,
        layout: core::alloc::Layout,
        flags: Flags,
    ) -> Result<NonNull<u8>, AllocError> {
        let cache = self.of(layout.size(), layout.align()).ok_or(AllocError)?;
        let vacant = cache.alloc_slot(flags).map_err(|_| AllocError)?;
        Ok(vacant.into_raw())
    }

    /// Frees. From any context but NMI.
    ///
    /// # Safety
    ///
    /// `start` was allocated here, for `layout`, and is not used any more.
    pub(crate) unsafe fn free(&self, start: NonNull<u8>, layout: core::alloc::Layout) {
        if let Some(cache) = self.of(layout.size(), layout.align()) {
            // SAFETY: a slot of the class, which was given up when it was allocated.
            drop(unsafe { Owner::from_raw(start, cache) });
        }
    }

    /// Changes the size of an allocation: in place while it stays in its class.
    ///
    /// # Safety
    ///
    /// `start` was allocated here, for `old`, and is not used any more unless this fails.
    pub(crate) unsafe fn resize(
        &self,
        start: NonNull<u8>,
        layout: core::alloc::Layout,
        old: core::alloc::Layout,
        flags: Flags,
    ) -> Result<NonNull<u8>, AllocError> {
        let class = class_of(layout.size(), layout.align());
        if class.is_some() && class == class_of(old.size(), old.align()) {
            if flags.contains(__GFP_ZERO) {
                // It may have been larger once, so the rest need not be zeros.
                let nr_new = layout.size().saturating_sub(old.size());
                if nr_new > 0 {
                    // SAFETY: the old size is below the new one, and both are within the slot.
                    let rest = unsafe { start.add(old.size()) };
                    // SAFETY: up to the new size, within the slot, which is the caller's.
                    unsafe { rest.write_bytes(0, nr_new) };
                }
            }
            return Ok(start);
        }
        let new = self.alloc(layout, flags)?;
        // SAFETY: both have that many bytes, the new one is another slot.
        unsafe { new.copy_from_nonoverlapping(start, layout.size().min(old.size())) };
        // SAFETY: says the caller.
        unsafe { self.free(start, old) };
        Ok(new)
    }
}

fn open_class(
    framework: &'static Framework,
    pool: &[u8],
    class: usize,
    flags: Flags,
) -> Result<&'static RawCache> {
    let name = class_name(pool, class, flags)?;
    let (size_bytes, align) = (class_bytes(class), class_align(class));
    let geometry = Geometry::of(size_bytes, align)?;
    let contents = class_contents(class);
    let cache = with_cache(
        framework,
        &name,
        (&contents, geometry),
        flags,
        check_cache(&name, &contents),
        |names, handle| Ok(names.shared_if_up(handle).map(|opened| opened.raw())),
        |names, handle| Ok(names.shared_cache(handle)?.raw()),
    )?;
    expect(
        "ArenaSer",
        "stride_bytes",
        cache.owner().into(),
        cache.geometry().stride_bytes() as u64,
        size_bytes as u64,
        Relation::AtLeast,
        cache.geometry().fits(size_bytes, align),
    )
    .map_err(Refusal::report)?;
    Ok(cache)
}

/// The cache of a class has a name that no user can give.
fn class_name(pool: &[u8], class: usize, flags: Flags) -> Result<KVec<u8>> {
    let mut name = KVec::with_capacity(PREFIX.len() + pool.len() + 1 + NR_DIGITS, flags)?;
    name.extend_from_slice(PREFIX, flags)?;
    name.extend_from_slice(pool, flags)?;
    name.push(b'/', flags)?;
    let (size_bytes, mut unit) = (class_bytes(class), 10_000);
    while unit > 0 {
        if size_bytes >= unit {
            name.push(b'0' + (size_bytes / unit % 10) as u8, flags)?;
        }
        unit /= 10;
    }
    Ok(name)
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_classes)
)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_up_to_the_largest() {
        for class in 1..NR_CLASSES {
            assert!(class_bytes(class - 1) < class_bytes(class));
        }
        assert_eq!(class_bytes(NR_CLASSES - 1), SIZE_MAX_BYTES);
        assert_eq!(class_bytes(0), MIN_ALIGN_BYTES);
        assert_eq!(class_of(SIZE_MAX_BYTES + 1, 1), None);
        assert_eq!(class_of(usize::MAX, 1), None);
        assert_eq!(class_of(1, 2 * ALIGN_MAX_BYTES), None);
    }

    #[test]
    fn each_allocation_gets_the_smallest_class_that_holds_it() {
        for shift in 0..13 {
            let align = 1 << shift;
            for size_bytes in 1..=SIZE_MAX_BYTES {
                let found = class_of(size_bytes, align);
                let smallest = (0..NR_CLASSES)
                    .find(|&class| class_bytes(class) >= size_bytes && class_align(class) >= align);
                assert_eq!(found, smallest);
            }
        }
    }

    #[test]
    fn less_than_a_third_is_wasted() {
        for size_bytes in 17..=SIZE_MAX_BYTES {
            let slot_bytes = class_of(size_bytes, 8).map_or(0, class_bytes);
            assert!((slot_bytes - size_bytes) * 3 < slot_bytes);
        }
    }

    #[test]
    fn each_class_has_a_layout() {
        for class in 0..NR_CLASSES {
            let geometry = Geometry::try_of(class_bytes(class), class_align(class));
            assert!(geometry.is_some_and(|geometry| {
                let used = geometry.nr_slots() as usize * class_bytes(class);
                geometry.fits(class_bytes(class), class_align(class))
                    && geometry.stride_bytes() == class_bytes(class)
                    && used * 8 >= geometry.slab_bytes() * 7
            }));
        }
    }
}
