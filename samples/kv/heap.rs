// SPDX-License-Identifier: GPL-2.0

//! Bytes of keys and values, in one area.
//!
//! A block has one of 64 sizes, four to each doubling, so that at most a fifth of it is spare; a
//! freed block goes to the list of its size and is taken from there again. Nothing is ever merged
//! or given back: simple, and honest about it.
//!
//! | step of a free | if the machine is cut after it |
//! | --- | --- |
//! | 1. nobody refers to the block any more | it is lost until the store is discarded |
//! | 2. its bytes are zeroed, its first 16 name the next free block | as before |
//! | 3. the head of the list names it | it is free |
//!
//! Taking a block is one store of the head, after which a cut loses the block.

use kpreserve::prelude::*;

use crate::abi::{
    KvSer,
    NR_CLASSES, //
};

/// The smallest block; it has to hold [`FREE_BYTES`].
const BLOCK_BYTES_MIN: usize = 32;

/// What stands at the beginning of a free block: the head of the rest of the list, and a mark.
const FREE_BYTES: usize = 16;

/// The mark of a free block, mixed with its place: the list is not followed into other bytes.
const FREE_MARK: u64 = u64::from_le_bytes(*b"kv: free");

/// The heap.
pub struct Heap {
    bytes: PVec<u8>,
}

/// Returns the size class that holds `len` bytes, and its block size; `None` if there is none.
///
/// Block sizes are 32, 40, 48, 56, 64, 80, ... 1.75 * 2^20 bytes.
fn class_of(len: usize) -> Option<(usize, usize)> {
    (0..NR_CLASSES)
        .map(|class| {
            let quarter = (BLOCK_BYTES_MIN / 4) << (class / 4);
            (class, quarter * (4 + class % 4))
        })
        .find(|&(_, block_bytes)| len <= block_bytes)
}

impl Heap {
    /// Makes a heap of its area.
    pub fn new(bytes: PVec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns how many bytes the heap has ever needed.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns how many runs of pages it consists of.
    pub fn nr_runs(&self) -> usize {
        self.bytes.nr_runs()
    }

    /// Takes a block of at least `len` bytes and returns where it begins.
    ///
    /// # Errors
    ///
    /// E2BIG if no block is as large; ENOMEM; EBUSY if no free block fits and kpreserve is frozen.
    pub fn alloc(&mut self, kv: &KvSer, len: usize) -> Result<usize> {
        let (class, block_bytes) = class_of(len).ok_or(E2BIG)?;
        let head = kv.free.get(class).ok_or(E2BIG)?;
        if let Some(place) = (head.load() as usize).checked_sub(1) {
            match self.free_block(place) {
                Some(next) => {
                    head.store(next);
                    self.bytes.write_at(place, &[0; FREE_BYTES])?;
                    return Ok(place);
                }
                // Not a free block: rather lose the list than a value.
                None => {
                    pr_warn!(
                        "free list {}: no free block at {:#x}; list dropped\n",
                        class,
                        place
                    );
                    head.store(0);
                }
            }
        }
        let place = self.bytes.len();
        self.bytes.extend_zeroed(block_bytes)?;
        Ok(place)
    }

    /// Gives back a block of `len` bytes, to which nothing refers any more.
    ///
    /// # Errors
    ///
    /// EINVAL if there is no such block.
    pub fn free(&mut self, kv: &KvSer, place: usize, len: usize) -> Result {
        let (class, block_bytes) = class_of(len).ok_or(EINVAL)?;
        let head = kv.free.get(class).ok_or(EINVAL)?;
        self.zero(place, block_bytes)?;
        self.bytes.write_at(place, &head.load().to_le_bytes())?;
        self.bytes.write_at(place + 8, &mark(place).to_le_bytes())?;
        head.store(place as u64 + 1);
        Ok(())
    }

    /// Writes bytes of a block.
    ///
    /// # Errors
    ///
    /// EINVAL if the heap ends before.
    pub fn write(&mut self, place: usize, bytes: &[u8]) -> Result {
        self.bytes.write_at(place, bytes)
    }

    /// Returns whether the bytes from `place` on are those.
    pub fn equals(&self, place: usize, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let same = self.pieces(place, bytes.len(), |piece| {
            let (now, later) = rest.split_at_checked(piece.len()).ok_or(EINVAL)?;
            rest = later;
            if piece == now {
                Ok(())
            } else {
                Err(ENOENT)
            }
        });
        same.is_ok()
    }

    /// Shows `len` bytes from `place` on, in as many pieces as there are runs of pages.
    ///
    /// # Errors
    ///
    /// EIO if the heap ends before, and what `show` returns.
    pub fn pieces(
        &self,
        place: usize,
        len: usize,
        mut show: impl FnMut(&[u8]) -> Result,
    ) -> Result {
        let mut rest = len;
        for piece in self.bytes.chunks_from(place) {
            if rest == 0 {
                break;
            }
            let piece = piece.get(..rest).unwrap_or(piece);
            show(piece)?;
            rest -= piece.len();
        }
        if rest == 0 {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Returns what comes after the free block at `place`; `None` if it is none.
    fn free_block(&self, place: usize) -> Option<u64> {
        let mut block = [0; FREE_BYTES];
        self.bytes.read_at(place, &mut block).ok()?;
        let (next, its_mark) = block.split_first_chunk::<8>()?;
        (its_mark == mark(place).to_le_bytes()).then_some(u64::from_le_bytes(*next))
    }

    fn zero(&mut self, place: usize, len: usize) -> Result {
        const ZEROES: [u8; 256] = [0; 256];
        let mut at = place;
        let mut rest = len;
        while rest > 0 {
            let now = ZEROES.get(..rest).unwrap_or(&ZEROES);
            self.bytes.write_at(at, now)?;
            at += now.len();
            rest -= now.len();
        }
        Ok(())
    }
}

fn mark(place: usize) -> u64 {
    FREE_MARK ^ (place as u64).rotate_left(32)
}
