// SPDX-License-Identifier: GPL-2.0

//! An object is allocated and freed, again and again: the hottest path there is.

use core::hint::black_box;

use crate::heap::{
    write_first,
    Heap,
    Object as _, //
};

const SIZE_BYTES: usize = 64;

/// `nr` pairs.
#[inline(never)]
pub fn run<H: Heap>(heap: &H, nr: u64) {
    for i in 0..nr {
        let object = heap.alloc(SIZE_BYTES);
        // SAFETY: 64 bytes.
        unsafe { write_first(&object, i) };
        // Only the address: whoever knows the size or the cache goes on knowing it.
        black_box(object.start());
    }
}

/// The same with the typed `slab`, which one thread has to itself.
#[inline(never)]
pub fn run_slab(slab: &mut slab::Slab<[u64; 8]>, nr: u64) {
    for i in 0..nr {
        let key = slab.insert([i, 0, 0, 0, 0, 0, 0, 0]);
        black_box(slab.remove(black_box(key)));
    }
}

/// The same with the typed `sharded-slab`.
#[inline(never)]
pub fn run_sharded_slab(slab: &sharded_slab::Slab<[u64; 8]>, nr: u64) {
    for i in 0..nr {
        let key = slab.insert([i, 0, 0, 0, 0, 0, 0, 0]);
        slab.remove(black_box(key.expect("it is far from full")));
    }
}
