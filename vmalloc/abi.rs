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
//! - bytes behind the last published element mean nothing. They are zero, except after a cut
//!   between the write of an element and its publication, or between the retraction of a length
//!   and the clearing of what it gave up.
//!
//! To add elements: record runs if need be, write the elements, then store `len`. To remove: store
//! `len`, then clear, then take runs away, the last one first.
//!
//! If any of this is modified, [`COMPATIBLE`] must be updated, and with it `kpreserve-root-v1`,
//! which carries areas.

use core::mem::offset_of;

use kernel::prelude::*;

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

const _: () = assert!(STRIDE_BYTES_MAX == 4 << 20);
const _: () = assert!(PAGE_SIZE_BYTES == 4096);
const _: () = assert!(ArenaKind::Area as u32 == 2);
const _: () = assert!(size_of::<ArenaSer>() == 64);
const _: () = assert!(offset_of!(ArenaSer, stride_bytes) == 20);
const _: () = assert!(offset_of!(ArenaSer, len) == 32);
const _: () = assert!(size_of::<SharedU64>() == 8);
