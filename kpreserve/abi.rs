// SPDX-License-Identifier: GPL-2.0

//! What the framework leaves for the next kernel: the root page and the dictionary. Text:
//! Documentation/abi.rst.
//!
//! This interface is a contract. The root page and the run table stay as they are for ever, so
//! that an image whose caches or dictionary are newer, or damaged, is still carried on.

use core::ffi::CStr;
use core::mem::offset_of;

use kernel::prelude::*;
use kpreserve_kho::{
    hash::{
        fnv1a,
        fnv1a_u64,
        mix, //
    },
    phys::PAGE_SIZE_BYTES,
    ArenaSer,
    RunSer,
    SharedU64, //
};

/// The name of the KHO subtree, and of the format.
pub const COMPATIBLE: &CStr = c"kpreserve-root-v1";

/// First eight bytes of a root page: `"KPRESERV"`.
pub const ROOT_MAGIC: u64 = u64::from_le_bytes(*b"KPRESERV");

/// The version of root page and run table.
pub const ROOT_VERSION: u32 = 1;

/// Reads 1, 2, 3, 4 in the order of the machine that wrote it.
pub const BYTE_ORDER: u32 = 0x0403_0201;

/// How many runs the run table may consist of.
pub const NR_TABLES: usize = 120;

/// The owner that runs of the run table itself have.
pub const OWNER_TABLE: u32 = u32::MAX;

/// The compatible string of the caches of a pool.
pub const POOL_COMPATIBLE: &str = "kpreserve-pool";

/// Their version.
pub const POOL_VERSION: u32 = 1;

/// Returns the fingerprint of the cache of a pool whose slots have `size_bytes`.
pub const fn pool_fingerprint(size_bytes: usize) -> u64 {
    fnv1a_u64(fnv1a(0, POOL_COMPATIBLE.as_bytes()), size_bytes as u64)
}

/// Arena 1: the arena table. Its descriptor stands in the root page.
pub const ARENA_TABLE: u32 = 1;
/// Arenas 2 and 6: the entries of the dictionary, of which one is in use.
pub const ARENA_ENTRIES: [u32; 2] = [2, 6];
/// Arenas 3 and 7: the strings of the dictionary, in use with the entries.
pub const ARENA_STRINGS: [u32; 2] = [3, 7];
/// Arenas 4 and 5: the hash tables of the dictionary, of which one is in use.
pub const ARENA_BUCKETS: [u32; 2] = [4, 5];
/// The first arena of a user.
pub const ARENA_FIRST: u32 = 16;

/// The first 256 bytes of the root page.
///
/// If this structure is modified, [`COMPATIBLE`] must be updated.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct RootHeadSer {
    /// [`ROOT_MAGIC`].
    pub magic: u64,
    /// [`ROOT_VERSION`].
    pub version: u32,
    /// [`BYTE_ORDER`].
    pub byte_order: u32,
    /// Bytes of a page of the kernels that share this image.
    pub page_size_bytes: u32,
    /// 0.
    pub reserved0: u32,
    /// A random number, drawn when the image was begun; every checksum of the image covers it.
    pub root_id: u64,
    /// Where this page stands.
    pub self_phys: u64,
    /// [`RootHeadSer::checksum`]; covers the fields above.
    pub check: u64,
    /// How many kernels have owned the image, the first being 1.
    pub generation: SharedU64,
    /// A random number drawn by the boot that owns the image.
    pub boot: SharedU64,
    /// Which of [`ARENA_BUCKETS`] is in use: 0 or 1.
    pub active_buckets: SharedU64,
    /// One more than the index of the first free dictionary entry, 0 if there is none.
    pub free_entry: SharedU64,
    /// Names in the dictionary.
    pub nr_names: SharedU64,
    /// One more than the index of the first entry that lies in no directory, [`end_of`] 0 if there is none.
    pub first_name: SharedU64,
    /// Which of [`ARENA_ENTRIES`] and [`ARENA_STRINGS`] are in use: 0 or 1.
    pub active_entries: SharedU64,
    /// Bytes of strings that no entry refers to, about.
    pub waste_bytes: SharedU64,
    /// 0.
    pub reserved1: [u64; 2],
    /// Descriptor of the arena table.
    pub arenas: ArenaSer,
    /// The change of the dictionary that is under way.
    pub pending: PendingSer,
    /// 0.
    pub reserved2: [u64; 3],
}

/// A change of the dictionary that takes more than one store, written down before it is begun: who
/// finds one that was cut finishes it.
///
/// If this structure is modified, `kpreserve-dict-v1` must be updated.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct PendingSer {
    /// 0 if no change is under way, else [`PendingSer::seal`] of the step that it has come to.
    pub step: SharedU64,
    /// The entries to be linked: lower half one more than the index of that of the name, upper half
    /// of the topmost directory that is new, or of the name's own; 0 for none.
    pub link: SharedU64,
    /// The entries to be unlinked, in the same way; the upper half is the topmost directory that
    /// is left empty.
    pub unlink: SharedU64,
    /// What `free_entry` is before the unlinked entries are freed.
    pub free_entry: SharedU64,
    /// What `nr_names` is afterwards.
    pub nr_names: SharedU64,
}

const _: () = assert!(size_of::<PendingSer>() == 40);

/// How far a change of the dictionary has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Step {
    /// New entries are being linked.
    Link = 1,
    /// Old entries are being unlinked.
    Unlink = 2,
    /// They are being freed.
    Free = 3,
}

impl PendingSer {
    /// No change.
    pub const fn none() -> Self {
        Self {
            step: SharedU64::new(0),
            link: SharedU64::new(0),
            unlink: SharedU64::new(0),
            free_entry: SharedU64::new(0),
            nr_names: SharedU64::new(0),
        }
    }

    /// Returns the value of `step` that says that the change has come to `step`: a checksum of the
    /// other fields, whose lower three bits are replaced by the number of the step.
    pub fn seal(&self, root_id: u64, step: Step) -> u64 {
        let sum = mix(&[
            root_id,
            step as u64,
            self.link.load(),
            self.unlink.load(),
            self.free_entry.load(),
            self.nr_names.load(),
        ]);
        (sum & !7) | step as u64
    }
}

/// The root page: the only thing that the next kernel is told of by name.
///
/// It is allocated once, reused in place by every generation, and never freed.
///
/// If this structure is modified, [`COMPATIBLE`] must be updated.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct RootSer {
    /// What the image is.
    pub head: RootHeadSer,
    /// The runs that the run table consists of, filled from the front.
    pub tables: [RunSer; NR_TABLES],
}

const _: () = assert!(size_of::<RootHeadSer>() == 256);
const _: () = assert!(size_of::<RootSer>() == PAGE_SIZE_BYTES);
const _: () = assert!(offset_of!(RootHeadSer, generation) == 48);
const _: () = assert!(offset_of!(RootHeadSer, arenas) == 128);
const _: () = assert!(offset_of!(RootHeadSer, pending) == 192);
const _: () = assert!(offset_of!(RootSer, tables) == 256);

impl RootHeadSer {
    /// Returns what `check` has to be.
    pub const fn checksum(&self) -> u64 {
        mix(&[
            self.magic,
            ((self.version as u64) << 32) | self.byte_order as u64,
            ((self.page_size_bytes as u64) << 32) | self.reserved0 as u64,
            self.root_id,
            self.self_phys,
        ])
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub enum NameKind {
    /// A cache; the value is the handle of its arena.
    Cache = 1,
    /// An area; the value is the handle of its arena.
    Area = 2,
    /// An object; the value is its handle. Its cache is that of its compatible string.
    Object = 3,
    /// A directory: nothing but a part of the names of others. It ends with a slash.
    Directory = 4,
}

impl NameKind {
    /// Returns the kind of a raw value, `None` if there is none.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        match raw {
            1 => Some(NameKind::Cache),
            2 => Some(NameKind::Area),
            3 => Some(NameKind::Object),
            4 => Some(NameKind::Directory),
            _ => None,
        }
    }
}

/// A name, and what it stands for: one entry of the dictionary, 80 bytes.
///
/// An entry is whole before a bucket refers to it, and is not changed while one does, but for its
/// links: a name gets another meaning by another entry. Links are one more than the index of an
/// entry, or 0; they lie outside the checksum, and are checked where they are followed.
///
/// If this structure is modified, `kpreserve-dict-v1` must be updated.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes)]
#[repr(C)]
pub struct EntrySer {
    /// FNV-1a of the name.
    pub hash: u64,
    /// Where the name begins in the strings, in bytes.
    pub name_offset: u32,
    /// Length of the name in bytes.
    pub name_len: u16,
    /// [`NameKind`]; 0 in a free entry.
    pub kind: u16,
    /// Where the compatible string begins in the strings, in bytes.
    pub compatible_offset: u32,
    /// Length of the compatible string in bytes.
    pub compatible_len: u16,
    /// 0.
    pub reserved0: u16,
    /// Version of what the name stands for.
    pub version: u32,
    /// In a free entry, one more than the index of the next free one; otherwise 0.
    pub next_free: u32,
    /// Fingerprint of what the name stands for.
    pub fingerprint: u64,
    /// A handle: of an arena for a cache or an area, of the object for an object.
    pub value: u64,
    /// The directory that the name lies in.
    pub parent: u32,
    /// Of a directory: the first of what lies in it.
    pub first_child: u32,
    /// The next one in the same directory; of the last one, [`end_of`] the directory.
    pub next_sibling: u32,
    /// The one before in the same directory.
    pub prev_sibling: u32,
    /// 0.
    pub reserved1: u64,
    /// [`EntrySer::checksum`].
    pub check: u64,
}

const _: () = assert!(size_of::<EntrySer>() == 80);

/// Entries that there may be, so that no link is what ends a list.
pub const NR_ENTRIES_MAX: u32 = 1 << 31;

/// Returns what ends the list of what lies in a directory, 0 for that of what lies in none. It is
/// no link, and not 0 either: a link that was wiped does not pass for an end.
pub const fn end_of(directory: u32) -> u32 {
    !directory
}
const _: () = assert!(offset_of!(EntrySer, check) == 72);

impl EntrySer {
    /// A free entry, the last of the free list.
    pub const FREE: EntrySer = EntrySer {
        hash: 0,
        name_offset: 0,
        name_len: 0,
        kind: 0,
        compatible_offset: 0,
        compatible_len: 0,
        reserved0: 0,
        version: 0,
        next_free: 0,
        fingerprint: 0,
        value: 0,
        parent: 0,
        first_child: 0,
        next_sibling: 0,
        prev_sibling: 0,
        reserved1: 0,
        check: 0,
    };

    /// Returns whether the entry is free: it may know strings, the next free entry, and its
    /// directory, and nothing else.
    pub const fn is_free(&self) -> bool {
        self.kind == 0
            && self.hash == 0
            && self.reserved0 == 0
            && self.version == 0
            && self.fingerprint == 0
            && self.value == 0
            && self.first_child == 0
            && self.next_sibling == 0
            && self.prev_sibling == 0
            && self.reserved1 == 0
            && self.check == 0
    }

    /// Returns what `check` has to be; covers everything but itself and the links.
    pub const fn checksum(&self, root_id: u64, index: u32) -> u64 {
        mix(&[
            root_id,
            index as u64,
            self.hash,
            ((self.name_offset as u64) << 32) | ((self.name_len as u64) << 16) | self.kind as u64,
            ((self.compatible_offset as u64) << 32)
                | ((self.compatible_len as u64) << 16)
                | self.reserved0 as u64,
            ((self.version as u64) << 32) | self.next_free as u64,
            self.fingerprint,
            self.value,
            self.reserved1,
        ])
    }
}

// SAFETY: integers without padding, as the derives prove; any bit pattern is valid.
unsafe impl kpreserve_kho::Preservable for EntrySer {
    const COMPATIBLE: &'static str = "kpreserve-dict";
    const VERSION: u32 = 1;
    const FINGERPRINT: u64 = kpreserve_kho::hash::fnv1a(0, b"kpreserve-dict-v1");
}
