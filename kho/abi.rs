// SPDX-License-Identifier: GPL-2.0

//! What the ground layer leaves for the next kernel. Text: Documentation/abi.rst.
//!
//! This interface is a contract. The structures here do not change while their `COMPATIBLE`
//! string stays the same; golden bytes in host-tests/ hold them to it.

use core::cell::UnsafeCell;
use core::mem::offset_of;

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};

use crate::hash::mix;
use crate::ordered::{
    load_acquire_u64,
    store_release_u64, //
};
use crate::phys::Phys;

/// One run of pages in the run table: 32 bytes, little pieces of it never written apart.
///
/// An entry whose `phys_order` is 0 is free, whatever the other fields hold. To publish, every
/// other field is written first and `phys_order` last, by a release store; to retract,
/// `phys_order` is cleared first. A cut at any instruction therefore leaves an entry that is
/// either free or whole.
///
/// If this structure is modified, `kpreserve-root-v1` must be updated.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct RunSer {
    /// Physical address of the first page, with the order in the low 6 bits.
    pub phys_order: u64,
    /// The arena that owns the run (an index into the arena table).
    pub owner: u32,
    /// Which run of its owner this is; a gap means that a run was given back.
    pub index: u32,
    /// 0.
    pub reserved: u64,
    /// [`RunSer::checksum`].
    pub check: u64,
}

const _: () = assert!(size_of::<RunSer>() == 32);
const _: () = assert!(offset_of!(RunSer, check) == 24);

const ORDER_MASK: u64 = 0x3f;

impl RunSer {
    /// A free entry.
    pub const FREE: RunSer = RunSer {
        phys_order: 0,
        owner: 0,
        index: 0,
        reserved: 0,
        check: 0,
    };

    /// Makes the entry that stands at `place` of the table of `root_id`.
    pub fn new(root_id: u64, place: u64, phys: Phys, order: u8, owner: u32, index: u32) -> Self {
        let mut entry = RunSer {
            phys_order: phys.get() | u64::from(order),
            owner,
            index,
            reserved: 0,
            check: 0,
        };
        entry.check = entry.checksum(root_id, place);
        entry
    }

    /// Returns whether the entry is free.
    pub const fn is_free(&self) -> bool {
        self.phys_order == 0
    }

    /// Returns the address; only a checked entry's is known to make sense.
    pub const fn phys(&self) -> Phys {
        Phys::new(self.phys_order & !ORDER_MASK)
    }

    /// Returns the order; only a checked entry's is known to be one.
    pub const fn order(&self) -> u8 {
        (self.phys_order & ORDER_MASK) as u8
    }

    /// Returns what `check` has to be: it covers the other fields, the root and the place in the
    /// table, so that an entry of another root, or one that was moved, is not mistaken for ours.
    pub const fn checksum(&self, root_id: u64, place: u64) -> u64 {
        mix(&[
            root_id,
            place,
            self.phys_order,
            ((self.owner as u64) << 32) | self.index as u64,
            self.reserved,
        ])
    }
}

/// What an arena holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum ArenaKind {
    /// Slabs of a cache.
    Cache = 1,
    /// Elements of an area.
    Area = 2,
}

impl ArenaKind {
    /// The last kind that is known.
    pub const LAST: ArenaKind = ArenaKind::Area;

    /// Returns the kind of a raw value, `None` if there is none.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            1 => Some(ArenaKind::Cache),
            2 => Some(ArenaKind::Area),
            _ => None,
        }
    }
}

/// A 64-bit counter in preserved memory that is shared by reference.
///
/// The one ABI type with interior mutability: a consumer's counters and the length of an area
/// change while others read them, and the last completed store is what crosses.
#[derive(FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct SharedU64(UnsafeCell<u64>);

// SAFETY: every access goes through an atomic operation.
unsafe impl Sync for SharedU64 {}

impl SharedU64 {
    /// Makes a counter.
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline]
    fn as_atomic(&self) -> &Atomic<u64> {
        // SAFETY:
        // - the pointer comes from a live `UnsafeCell<u64>`, so it is valid and aligned for as
        //   long as `self` is borrowed;
        // - every access to the cell goes through this function, so all are atomic.
        unsafe { Atomic::from_ptr(self.0.get()) }
    }

    /// Loads the value; what was stored before it with [`store`](Self::store) is visible.
    #[inline]
    pub fn load(&self) -> u64 {
        // SAFETY: as in `as_atomic`; `store` and `fetch_add` are the others to access the cell.
        unsafe { load_acquire_u64(self.0.get()) }
    }

    /// Stores a value, after everything that was written before (release): this publishes.
    #[inline]
    pub fn store(&self, value: u64) {
        // SAFETY: as in `as_atomic`; all who access the cell do so in one piece.
        unsafe { store_release_u64(self.0.get(), value) }
    }

    /// Adds, and returns the value from before; wraps around.
    #[inline]
    pub fn fetch_add(&self, value: u64) -> u64 {
        self.as_atomic().fetch_add(value, Relaxed)
    }
}

impl core::fmt::Debug for SharedU64 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SharedU64").field(&self.load()).finish()
    }
}

/// The descriptor of an arena: one record of 64 bytes in the arena table, at the index that is
/// the arena's id.
///
/// `len` and `pending` are the only fields that change while the arena lives; the checksum covers
/// the others. A record whose `kind` and `id` are both 0 is free: no single bit leads from one that
/// is in use to there. Its `generation` stays, so that a handle to the arena that lived there
/// before is told from one to the next.
///
/// If this structure is modified, `kpreserve-root-v1` must be updated.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct ArenaSer {
    /// [`ArenaKind`], 0 if the record is free.
    pub kind: u32,
    /// Index of this record, which is what a [`RunSer::owner`] names.
    pub id: u32,
    /// [`Preservable::FINGERPRINT`](crate::Preservable::FINGERPRINT) of what is inside.
    pub fingerprint: u64,
    /// [`Preservable::VERSION`](crate::Preservable::VERSION) of what is inside.
    pub version: u32,
    /// Bytes from one slot or element to the next.
    pub stride_bytes: u32,
    /// Order of a slab; 0 in an area.
    pub slab_order: u8,
    /// 0.
    pub reserved0: u8,
    /// Offset of the first slot in a slab, in bytes; 0 in an area.
    pub first_slot: u16,
    /// Slots of a slab; 0 in an area.
    pub nr_slots: u32,
    /// Elements of an area that have been published; 0 in a cache.
    pub len: SharedU64,
    /// How often this record has been given out; the tag of an
    /// [`ArenaHandle`](crate::ArenaHandle).
    pub generation: u32,
    /// 0.
    pub reserved1: u32,
    /// 0, or where in an area the record of a change is that has to be finished before the elements
    /// are looked at; 0 in a cache.
    pub pending: SharedU64,
    /// [`ArenaSer::checksum`].
    pub check: u64,
}

const _: () = assert!(size_of::<ArenaSer>() == 64);
const _: () = assert!(offset_of!(ArenaSer, len) == 32);
const _: () = assert!(offset_of!(ArenaSer, pending) == 48);
const _: () = assert!(offset_of!(ArenaSer, check) == 56);

impl ArenaSer {
    /// A free record that was never given out, or whose checksum is still to come; the generation
    /// of the arena that was there last stays.
    pub const fn free(generation: u32) -> ArenaSer {
        ArenaSer {
            kind: 0,
            id: 0,
            fingerprint: 0,
            version: 0,
            stride_bytes: 0,
            slab_order: 0,
            reserved0: 0,
            first_slot: 0,
            nr_slots: 0,
            len: SharedU64::new(0),
            generation,
            reserved1: 0,
            pending: SharedU64::new(0),
            check: 0,
        }
    }

    /// Makes the free record of an arena that has ended: its checksum covers the generation.
    pub const fn ended(root_id: u64, generation: u32) -> ArenaSer {
        let mut record = ArenaSer::free(generation);
        record.check = record.checksum(root_id);
        record
    }

    /// Returns whether the record says that it is free; whether that is to be believed is for
    /// [`validate_free`](Self::validate_free) to find out.
    pub const fn is_free(&self) -> bool {
        self.kind == 0 && self.id == 0
    }

    /// Replaces the record so that, wherever the writing stops, it is a free one or whole: `kind`
    /// and `id` are cleared first and set last, each time by one store of both.
    ///
    /// A cut leaves a free record with the checksum of what was there, with none, or with that of
    /// what comes: `check` is 0 while anything else is written.
    pub fn replace(&mut self, record: ArenaSer) {
        let (kind, id, check) = (record.kind, record.id, record.check);
        self.store_kind_and_id(0, 0);
        // No other field may change while these still say that there is an arena.
        smp_mb(Write);
        self.check = 0;
        smp_mb(Write);
        *self = ArenaSer {
            kind: 0,
            id: 0,
            check: 0,
            ..record
        };
        smp_mb(Write);
        self.check = check;
        self.store_kind_and_id(kind, id);
    }

    fn store_kind_and_id(&mut self, kind: u32, id: u32) {
        const _: () = assert!(offset_of!(ArenaSer, kind) == 0 && offset_of!(ArenaSer, id) == 4);
        let [a, b, c, d] = kind.to_ne_bytes();
        let [e, f, g, h] = id.to_ne_bytes();
        let both = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        // SAFETY: the pointer comes from a mutable reference to a record that begins with the two
        // fields and is aligned to 8 bytes, so it is valid, and nobody else accesses them.
        unsafe { store_release_u64(core::ptr::from_mut(self).cast(), both) };
    }

    /// Returns a copy, length and pending change as they are now.
    pub fn snapshot(&self) -> ArenaSer {
        ArenaSer {
            kind: self.kind,
            id: self.id,
            fingerprint: self.fingerprint,
            version: self.version,
            stride_bytes: self.stride_bytes,
            slab_order: self.slab_order,
            reserved0: self.reserved0,
            first_slot: self.first_slot,
            nr_slots: self.nr_slots,
            len: SharedU64::new(self.len.load()),
            generation: self.generation,
            reserved1: self.reserved1,
            pending: SharedU64::new(self.pending.load()),
            check: self.check,
        }
    }

    /// Returns what `check` has to be; covers everything but `len`, `pending` and itself.
    pub const fn checksum(&self, root_id: u64) -> u64 {
        mix(&[
            root_id,
            ((self.kind as u64) << 32) | self.id as u64,
            self.fingerprint,
            ((self.version as u64) << 32) | self.stride_bytes as u64,
            ((self.slab_order as u64) << 56)
                | ((self.reserved0 as u64) << 48)
                | ((self.first_slot as u64) << 32)
                | self.nr_slots as u64,
            ((self.generation as u64) << 32) | self.reserved1 as u64,
            // In the place of `pending`: a kernel that does not know that field takes it for a part
            // of the record, and leaves an area with a pending change alone.
            0,
        ])
    }
}

// SAFETY: integers, no padding (the size assertion above is the sum of the fields); any bit
// pattern is valid; the name stands for the layout, which `kpreserve-root-v1` fixes.
unsafe impl crate::Preservable for ArenaSer {
    const COMPATIBLE: &'static str = "kpreserve-arena";
    const VERSION: u32 = 1;
    const FINGERPRINT: u64 = crate::hash::fnv1a(0, b"kpreserve-arena-v1");
}
