// SPDX-License-Identifier: GPL-2.0

//! So many objects are allocated, then all of them freed, in the order of their allocation.

use core::hint::black_box;

use crate::heap::{
    write_first,
    Heap, //
};

const SIZE_BYTES: usize = 64;

/// `nr` rounds of `objects.capacity()` objects; `objects` is empty.
#[inline(never)]
pub fn run<H: Heap>(heap: &H, objects: &mut Vec<H::Object>, nr: u64) {
    let size = objects.capacity();
    for i in 0..nr {
        for _ in 0..size {
            let object = heap.alloc(SIZE_BYTES);
            // SAFETY: 64 bytes.
            unsafe { write_first(&object, i) };
            objects.push(object);
        }
        black_box(&*objects);
        objects.clear();
    }
}

/// The same with the typed `slab`.
#[inline(never)]
pub fn run_slab(slab: &mut slab::Slab<[u64; 8]>, keys: &mut Vec<usize>, nr: u64) {
    let size = keys.capacity();
    for i in 0..nr {
        for _ in 0..size {
            keys.push(slab.insert([i, 0, 0, 0, 0, 0, 0, 0]));
        }
        for key in black_box(&mut *keys).drain(..) {
            black_box(slab.remove(key));
        }
    }
}

/// The same with the typed `sharded-slab`.
#[inline(never)]
pub fn run_sharded_slab(slab: &sharded_slab::Slab<[u64; 8]>, keys: &mut Vec<usize>, nr: u64) {
    let size = keys.capacity();
    for i in 0..nr {
        for _ in 0..size {
            let key = slab.insert([i, 0, 0, 0, 0, 0, 0, 0]);
            keys.push(key.expect("it is far from full"));
        }
        for key in black_box(&mut *keys).drain(..) {
            slab.remove(key);
        }
    }
}
