// SPDX-License-Identifier: GPL-2.0

//! What crosses a kexec.
//!
//! This interface is a contract: a changed struct needs a new version number, and the fingerprint
//! of its layout makes sure that nobody forgets.

use kpreserve::prelude::*;

/// Heap blocks come in this many sizes; see [`heap`](crate::heap).
pub const NR_CLASSES: usize = 64;

/// The longest prefix of a cursor, in bytes.
pub const PREFIX_LEN_MAX: usize = 48;

kpreserve::preservable! {
    /// Where everything is: the one object that has a name.
    pub struct KvSer {
        /// Keys and values.
        pub heap: ArenaHandle<u8>,
        /// Two hash tables, of which one is in use; the other is empty, but for the time in which
        /// the table grows. An element is a [`Handle<RecordSer>`], 0 if the chain is empty.
        pub tables: [ArenaHandle<SharedU64>; 2],
        /// Which table is in use: 0 or 1.
        pub active: SharedU64,
        /// Records; after a cut, one too many or too few. It only says when to grow.
        pub nr_records: SharedU64,
        /// Free blocks of the heap, by size: one more than where the first begins, 0 for none.
        pub free: [SharedU64; NR_CLASSES],
    }
    compatible = "kpreserve-kv", version = 1

    /// A key and its value.
    pub struct RecordSer {
        /// Hash of the key.
        pub hash: u64,
        /// Where the key begins in the heap; the value follows it.
        pub place: u64,
        /// Length of the key in bytes.
        pub key_len: u32,
        /// Length of the value in bytes.
        pub value_len: u32,
        /// The next record of the chain, in either table: a [`Handle<RecordSer>`], 0 at the end.
        pub next: [SharedU64; 2],
    }
    compatible = "kpreserve-kv-record", version = 1

    /// A cursor: what stands behind an open file.
    pub struct CursorSer {
        /// Where the next record is looked for, as `KV_LIST` counts.
        pub position: SharedU64,
        /// Length of the prefix in bytes.
        pub prefix_len: u64,
        /// Only keys that begin so are seen. Zeros behind it.
        pub prefix: [u8; PREFIX_LEN_MAX],
    }
    compatible = "kpreserve-kv-cursor", version = 1
}

impl CursorSer {
    /// Returns the prefix; `None` if the length is wrong.
    pub fn prefix(&self) -> Option<&[u8]> {
        self.prefix.get(..usize::try_from(self.prefix_len).ok()?)
    }
}
