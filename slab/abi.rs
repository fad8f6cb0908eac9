// SPDX-License-Identifier: GPL-2.0

//! What a slab leaves for the next kernel. Text: Documentation/abi.rst.
//!
//! This interface is a contract. The structures here do not change while `COMPATIBLE` stays the
//! same; golden bytes in host-tests/ hold them to it.
//!
//! ```text
//!   0            56                  first_slot                                 4096 << slab_order
//!   | SlabSer    | tag per slot, u8  | gap | slot 0 | slot 1 | ...              |
//! ```
//!
//! A tag is odd while its slot holds a live object. It is incremented, and wraps around from 254 to
//! 1, when an object is published and when it is freed (255 is kept for an object that moved); the object's bytes are complete before the first, and
//! are zeroed after the second. So a cut at any instruction leaves a slot either live and whole, or
//! free, and a free slot's bytes count for nothing until they have been zeroed.

use core::mem::offset_of;

use kernel::prelude::*;

use kpreserve_kho::hash::mix;

/// The name of the format.
pub const COMPATIBLE: &str = "kpreserve-slab-v1";

/// What [`SlabSer::magic`] is in a formatted slab: "KPRslab1", read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KPRslab1");

/// The head of a slab: 56 bytes, then the tags.
///
/// A slab whose `magic` is 0 is unformatted: it holds no object, whatever the other bytes are. Runs
/// come zeroed, so nothing has to be written before a slab is first allocated from. To format, all
/// other fields are written first and `magic` last.
///
/// If this structure is modified, [`COMPATIBLE`] must be updated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, IntoBytes)]
#[repr(C)]
pub struct SlabSer {
    /// [`MAGIC`]; 0 in an unformatted slab.
    pub magic: u64,
    /// Physical address of the slab.
    pub phys: u64,
    /// The id of the image that the slab belongs to.
    pub root_id: u64,
    /// [`SlabSer::checksum`].
    pub check: u64,
    /// The arena that owns the slab's run.
    pub owner: u32,
    /// Bytes from one slot to the next.
    pub stride_bytes: u32,
    /// Number of slots, and of tags.
    pub nr_slots: u32,
    /// Offset of the first slot, in bytes.
    pub first_slot: u16,
    /// The slab is `4096 << slab_order` bytes.
    pub slab_order: u8,
    /// 0.
    pub reserved0: u8,
    /// A note of the running kernel to itself, of no meaning to the next; not in the checksum.
    pub place: u32,
    /// 0.
    pub reserved1: u32,
}

/// The size of a [`SlabSer`], where the tags begin.
pub const HEADER_BYTES: usize = 56;

const _: () = assert!(size_of::<SlabSer>() == HEADER_BYTES);
const _: () = assert!(offset_of!(SlabSer, check) == 24);
const _: () = assert!(offset_of!(SlabSer, place) == PLACE_OFFSET);

/// Where [`SlabSer::place`] stands.
pub(crate) const PLACE_OFFSET: usize = 48;

impl SlabSer {
    /// Returns what `check` has to be; covers everything but `place` and itself.
    pub const fn checksum(&self) -> u64 {
        mix(&[
            self.magic,
            self.phys,
            self.root_id,
            ((self.owner as u64) << 32) | self.stride_bytes as u64,
            ((self.nr_slots as u64) << 32)
                | ((self.first_slot as u64) << 16)
                | ((self.slab_order as u64) << 8)
                | self.reserved0 as u64,
            self.reserved1 as u64,
        ])
    }
}
