// SPDX-License-Identifier: GPL-2.0

//! What an area leaves for the next kernel. Text: Documentation/abi.rst.
//!
//! This interface is a contract. An area has no structure of its own: its descriptor is the
//! [`ArenaSer`] of kind [`ArenaKind::Area`], its list of runs are the
//! [`RunSer`](kpreserve_kho::RunSer)s that name it as their owner. What is added here is the
//! meaning:
//!
//! - the runs, in the order of `RunSer::index`, are numbered 0, 1, 2, ... without a gap; they may
//!   have any orders, but each is large enough for an element;
//! - element size and distance are `ArenaSer::stride_bytes`, 1 to [`STRIDE_BYTES_MAX`];
//! - a run of B bytes holds floor(B / stride) elements, from its first byte on, one after the
//!   other: no element lies across two runs. The first run holds the first elements, and so on;
//! - `ArenaSer::len` is the number of elements that have been published, at most what the runs
//!   hold; `slab_order`, `first_slot`, `nr_slots` and the reserved fields are 0;
//! - `ArenaSer::pending` is 0, or one more than the index of the element that a [`RedoSer`] begins
//!   with: a change in the middle that was decided on. Whoever opens the area finishes it;
//! - bytes behind the last published element mean nothing. They are zero, except after a cut
//!   between the write of an element and its publication, or between the retraction of a length
//!   and the clearing of what it gave up, or while a change in the middle was made.
//!
//! To add elements: record runs if need be, write the elements, then store `len`. To remove: store
//! `len`, then clear, then take runs away, the last one first.
//!
//! To change anything in the middle: write what will stand there behind the published elements,
//! and a [`RedoSer`] behind that, then store `pending`; then copy, then store `len`, then store 0
//! to `pending`, then clear what was written behind the elements.
//!
//! If any of this is modified, [`COMPATIBLE`] must be updated, and with it `kpreserve-root-v1`,
//! which carries areas.

use core::mem::offset_of;

use kernel::prelude::*;

use kpreserve_kho::hash::mix;
use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::{
    ArenaKind,
    ArenaSer,
    SharedU64, //
};

/// The name and the version of the format.
pub const COMPATIBLE: &CStr = c"kpreserve-area-v1";

/// The largest element, in bytes: one that fills the largest run.
pub const STRIDE_BYTES_MAX: usize = match run_size_bytes(MAX_ORDER) {
    Some(size_bytes) => size_bytes,
    None => PAGE_SIZE_BYTES,
};

/// A change in the middle of an area that was decided on: elements to be copied, and the length
/// that there is then. Doing it twice does no harm.
///
/// Stands behind the published elements, the old and the new ones; begins where an element does,
/// lies whole in one run, and is aligned to nothing.
///
/// If this structure is modified, [`COMPATIBLE`] must be updated.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct RedoSer {
    /// Index of the first element that is written.
    pub dst: u64,
    /// Index of the first element that is copied; at least `dst + nr`.
    pub src: u64,
    /// How many elements are copied.
    pub nr: u64,
    /// The number of published elements afterwards.
    pub len: u64,
    /// [`RedoSer::checksum`].
    pub check: u64,
}

impl RedoSer {
    /// Returns what `check` has to be for a record at element `place` of an arena: one of another
    /// arena, or one that was left elsewhere, is not mistaken for the one that was decided on.
    pub const fn checksum(&self, root_id: u64, arena: u32, generation: u32, place: u64) -> u64 {
        mix(&[
            root_id,
            ((generation as u64) << 32) | arena as u64,
            place,
            self.dst,
            self.src,
            self.nr,
            self.len,
        ])
    }
}

/// The name and the version of the format of maps.
pub const MAP_COMPATIBLE: &CStr = c"kpreserve-map-v1";

/// What a map is: the only element of its head, which is an area.
///
/// Keys, values and free indices are areas; so are the two tables, of which [`state`](Self::state) says
/// which one is in use. `vmalloc/pmap.rs` and Documentation/abi.rst say what they hold.
///
/// If this structure is modified, [`MAP_COMPATIBLE`] must be updated.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct MapSer {
    /// [`MapSer::MAGIC`].
    pub magic: u64,
    /// What hashes of keys begin with: drawn when the map was made.
    pub seed: u64,
    /// Which of the tables is in use: 0 or 1; with [`CLEARING`](Self::CLEARING) until what the other one
    /// referred to is gone; or [`ENDING`](Self::ENDING).
    pub state: SharedU64,
    /// Handle of the area of keys.
    pub keys: u64,
    /// Handle of the area of values.
    pub values: u64,
    /// Handle of the area of free indices.
    pub free: u64,
    /// Handles of the tables.
    pub buckets: [u64; 2],
    /// 0.
    pub reserved: u64,
    /// [`MapSer::checksum`]; covers everything but `state` and itself.
    pub check: u64,
}

impl MapSer {
    /// First eight bytes: `"KPRESMAP"`.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"KPRESMAP");

    /// In `state`: no key is left, but keys, values and free indices are still to be dropped.
    pub const CLEARING: u64 = 2;

    /// As `state`: the map is over, and what it consists of is to be freed. The bytes `"KPRENDED"`:
    /// no other state becomes this one by a few bits.
    pub const ENDING: u64 = u64::from_le_bytes(*b"KPRENDED");

    /// What earlier kernels stored for [`ENDING`](Self::ENDING). One bit makes it of the state of a
    /// map that is whole, so it is believed only if the area of free indices, which ends first, has
    /// ended.
    pub const ENDING_BARE: u64 = 4;

    /// Returns what `check` has to be.
    pub const fn checksum(&self) -> u64 {
        mix(&[
            self.magic,
            self.seed,
            self.keys,
            self.values,
            self.free,
            self.buckets[0],
            self.buckets[1],
            self.reserved,
        ])
    }
}

const _: () = assert!(size_of::<MapSer>() == 80);
const _: () = assert!(offset_of!(MapSer, state) == 16);
const _: () = assert!(offset_of!(MapSer, check) == 72);
const _: () = assert!(size_of::<RedoSer>() == 40);
const _: () = assert!(offset_of!(RedoSer, check) == 32);
const _: () = assert!(STRIDE_BYTES_MAX == 4 << 20);
const _: () = assert!(PAGE_SIZE_BYTES == 4096);
const _: () = assert!(ArenaKind::Area as u32 == 2);
const _: () = assert!(size_of::<ArenaSer>() == 64);
const _: () = assert!(offset_of!(ArenaSer, stride_bytes) == 20);
const _: () = assert!(offset_of!(ArenaSer, len) == 32);
const _: () = assert!(offset_of!(ArenaSer, pending) == 48);
const _: () = assert!(size_of::<SharedU64>() == 8);
