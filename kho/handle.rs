// SPDX-License-Identifier: GPL-2.0

//! Claim tickets: what is stored in place of a pointer.

use core::marker::PhantomData;

use kernel::prelude::*;

use crate::hash::fnv1a_u64;
use crate::phys::Phys;
use crate::preservable::Preservable;

const PHYS_BITS: u32 = 56;
const PHYS_MASK: u64 = (1 << PHYS_BITS) - 1;

/// A claim ticket for an object of a cache: 64 bits, the slot's tag (8) above its physical
/// address (56).
///
/// A handle is never a reference. It may be stored in other objects, it may be stale, and it may
/// be forged; so each use checks it: the address against the cache's slabs and slots, the tag
/// against the slot's. The value 0 is [`Handle::NULL`].
#[derive(FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct Handle<T>(u64, PhantomData<fn() -> T>);

impl<T> Handle<T> {
    /// The handle that no object has.
    pub const NULL: Self = Self(0, PhantomData);

    /// Makes a handle of the parts that [`phys`](Self::phys) and [`tag`](Self::tag) return.
    pub const fn new(phys: Phys, tag: u8) -> Self {
        Self(
            (phys.get() & PHYS_MASK) | ((tag as u64) << PHYS_BITS),
            PhantomData,
        )
    }

    /// Makes a handle of a number, say one that travelled through user space; claiming checks it.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw, PhantomData)
    }

    /// Returns the handle as a number.
    pub const fn into_raw(self) -> u64 {
        self.0
    }

    /// Returns the physical address of the slot.
    pub const fn phys(self) -> Phys {
        Phys::new(self.0 & PHYS_MASK)
    }

    /// Returns the tag that the slot had when the handle was made.
    pub const fn tag(self) -> u8 {
        (self.0 >> PHYS_BITS) as u8
    }

    /// Returns whether this is [`Handle::NULL`].
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Handle<T> {}

impl<T> core::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Handle({:#x}#{})", self.phys().get(), self.tag())
    }
}

// SAFETY: a transparent `u64`, of which any value is valid; what it names is checked at each use.
unsafe impl<T: Preservable> Preservable for Handle<T> {
    const COMPATIBLE: &'static str = "kpreserve-handle-v1";
    const VERSION: u32 = 1;
    // Only the name of `T` goes in, so that a type may hold handles to itself.
    const FINGERPRINT: u64 = crate::hash::fnv1a(fnv1a_u64(0, 8), T::COMPATIBLE.as_bytes());
}

/// A claim ticket for a whole arena, an area as a rule: generation (32) above id (32).
///
/// 0 is [`ArenaHandle::NULL`]: no arena has the id 0.
#[derive(FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct ArenaHandle<T>(u64, PhantomData<fn() -> T>);

impl<T> ArenaHandle<T> {
    /// The handle that no arena has.
    pub const NULL: Self = Self(0, PhantomData);

    /// Makes a handle of the parts that [`id`](Self::id) and [`generation`](Self::generation)
    /// return.
    pub const fn new(id: u32, generation: u32) -> Self {
        Self(((generation as u64) << 32) | id as u64, PhantomData)
    }

    /// Makes a handle of a number; opening checks it.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw, PhantomData)
    }

    /// Returns the handle as a number.
    pub const fn into_raw(self) -> u64 {
        self.0
    }

    /// Returns the arena's id, its index in the arena table.
    pub const fn id(self) -> u32 {
        self.0 as u32
    }

    /// Returns the generation of the record when the handle was made.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns whether this is [`ArenaHandle::NULL`].
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl<T> Clone for ArenaHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ArenaHandle<T> {}

impl<T> PartialEq for ArenaHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for ArenaHandle<T> {}

impl<T> core::fmt::Debug for ArenaHandle<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ArenaHandle({}#{})", self.id(), self.generation())
    }
}

// SAFETY: a transparent `u64`, of which any value is valid; what it names is checked when opened.
unsafe impl<T: Preservable> Preservable for ArenaHandle<T> {
    const COMPATIBLE: &'static str = "kpreserve-arena-handle-v1";
    const VERSION: u32 = 1;
    const FINGERPRINT: u64 = crate::hash::fnv1a(fnv1a_u64(0, 16), T::COMPATIBLE.as_bytes());
}
