// SPDX-License-Identifier: GPL-2.0

//! threadtest (Berger et al., Hoard): threads that have nothing to do with each other allocate many
//! objects, then free all of them, again and again.

use core::hint::black_box;
use std::time::Duration;

use super::team;
use crate::heap::{
    write_first,
    Heap, //
};

const SIZE_BYTES: usize = 64;

/// Objects of all threads together.
pub const NR_OBJECTS: usize = 100_000;

/// Runs `nr` rounds of [`NR_OBJECTS`] pairs.
pub fn run<H: Heap>(heap: &H, nr_threads: usize, nr: u64) -> Duration {
    let worker = || {
        let size = NR_OBJECTS / nr_threads;
        let mut objects = Vec::with_capacity(size);
        move || {
            for i in 0..nr {
                for _ in 0..size {
                    let object = heap.alloc(SIZE_BYTES);
                    // SAFETY: 64 bytes.
                    unsafe { write_first(&object, i) };
                    objects.push(object);
                }
                black_box(&objects);
                objects.clear();
            }
        }
    };
    team::run(vec![worker; nr_threads])
}
