// SPDX-License-Identifier: GPL-2.0

//! Strings, one behind the other.

use kernel::prelude::*;

use kpreserve_kho::validate::expect_at_most;
use kpreserve_kho::{
    GatePass,
    Preservable,
    Refusal, //
};

use crate::pvec::PVec;

/// The longest string, in bytes: one that fits into any run.
pub const STRING_LEN_MAX: usize = kpreserve_kho::phys::PAGE_SIZE_BYTES;

/// Where a string stands in a [`PStrings`]: to be stored in whatever it is of.
///
/// If this structure is modified, `kpreserve-strings-v1` must be updated.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Hash, IntoBytes, PartialEq)]
#[repr(C)]
pub struct StrSer {
    /// Index of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StrSer>() == 16);

impl StrSer {
    /// The empty string.
    pub const EMPTY: StrSer = StrSer {
        offset: 0,
        len: 0,
        reserved: 0,
    };
}

// SAFETY: integers without padding, as the derives prove; any bit pattern is valid; the name stands
// for the layout.
unsafe impl Preservable for StrSer {
    const COMPATIBLE: &'static str = "kpreserve-strings";
    const VERSION: u32 = 1;
    const FINGERPRINT: u64 = kpreserve_kho::hash::fnv1a(0, b"kpreserve-strings-v1");
}

/// A heap of byte strings in preserved memory: they are added at the end, and stay. What refers to one
/// holds a [`StrSer`].
///
/// A string lies whole in one run, so that it is one slice: what is left of a run in which the next one
/// has no room is skipped, at most 4095 bytes of a run.
///
/// Opening touches no string. A cut while one is added leaves it out.
pub struct PStrings {
    bytes: PVec<u8>,
}

impl PStrings {
    /// Makes a heap of a vector that was opened.
    pub fn from_vec(bytes: PVec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns the vector.
    pub fn into_vec(self) -> PVec<u8> {
        self.bytes
    }

    /// Returns the vector, for its size and its handle.
    pub fn as_vec(&self) -> &PVec<u8> {
        &self.bytes
    }

    /// Adds a string. May sleep. Cost: a copy.
    ///
    /// # Errors
    ///
    /// E2BIG beyond [`STRING_LEN_MAX`] bytes; ENOMEM; EBUSY once the framework is frozen. The heap is as
    /// it was, but that some bytes may have been skipped.
    pub fn push(&mut self, string: &[u8]) -> Result<StrSer> {
        let pass = self.bytes.raw().enter()?;
        self.push_with(&pass, string)
    }

    /// Does what [`push`](Self::push) does, for one who has passed the gate.
    ///
    /// # Errors
    ///
    /// E2BIG, ENOMEM, as from [`push`](Self::push).
    pub fn push_with(&mut self, pass: &GatePass<'_>, string: &[u8]) -> Result<StrSer> {
        if string.len() > STRING_LEN_MAX {
            return Err(E2BIG);
        }
        if string.is_empty() {
            return Ok(StrSer::EMPTY);
        }
        if let Some(nr_left) = self.bytes.raw().nr_left_in_run() {
            if nr_left < string.len() {
                self.bytes.extend_zeroed_with(pass, nr_left)?;
            }
        }
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice_with(pass, string)?;
        Ok(StrSer {
            offset,
            len: string.len() as u32,
            reserved: 0,
        })
    }

    /// Returns a string. One table lookup.
    ///
    /// # Errors
    ///
    /// EINVAL if it does not lie in the heap, or not whole in one run: what says so was damaged, which is
    /// logged with the field and its value.
    pub fn get(&self, string: StrSer) -> Result<&[u8]> {
        if string.len == 0 {
            return Ok(&[]);
        }
        self.find(string).map_err(Refusal::report)
    }

    fn find(&self, string: StrSer) -> Result<&[u8], Refusal> {
        const S: &str = "StrSer";
        let (at, len) = (string.offset, u64::from(string.len));
        let len_all = self.bytes.len() as u64;
        let len_max = len_all.min(STRING_LEN_MAX as u64);
        expect_at_most(S, "len", at, len, len_max)?;
        expect_at_most(S, "offset", at, at, len_all - len)?;
        let (from, to) = (at as usize, (at + len) as usize);
        let bytes = self.bytes.raw().slice(from, to).unwrap_or(&[]);
        expect_at_most(S, "len", at, len, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Ends the heap and frees its memory.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen; the heap is closed then, as if it had been dropped.
    pub fn discard(self) -> Result {
        self.bytes.discard()
    }
}

impl core::fmt::Debug for PStrings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.bytes.fmt(f)
    }
}
