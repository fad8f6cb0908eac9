// SPDX-License-Identifier: GPL-2.0

//! Larson and Krishnan: a server. Each thread replaces random ones of its objects by others of random
//! sizes, and after a while hands its objects to a new thread.

use core::hint::black_box;
use std::thread;
use std::time::Duration;

use super::team;
use crate::heap::{
    write_first,
    Heap, //
};
use crate::random::Random;

const SIZE_MIN_BYTES: usize = 64;
const SIZE_MAX_BYTES: usize = 400;

/// Objects of a thread.
const NR_CHUNKS: usize = 1000;

/// Replacements of a round; what is counted.
pub const NR_REPLACED: usize = NR_CHUNKS;

/// Rounds until the objects go to the next thread.
const NR_ROUNDS: u64 = 500;

fn size(random: &mut Random) -> usize {
    SIZE_MIN_BYTES + random.below(SIZE_MAX_BYTES - SIZE_MIN_BYTES)
}

fn replace<H: Heap>(heap: &H, objects: &mut [Option<H::Object>], random: &mut Random) {
    let victim = random.below(objects.len());
    objects[victim] = None;
    let object = heap.alloc(size(random));
    // SAFETY: 64 bytes or more.
    unsafe { write_first(&object, victim as u64) };
    objects[victim] = Some(object);
}

/// Runs `nr` rounds of [`NR_REPLACED`] pairs in each thread.
pub fn run<H: Heap>(heap: &H, nr_threads: usize, nr: u64) -> Duration {
    let worker = |seed: usize| {
        move || {
            let mut random = Random::new(seed as u64);
            let mut objects: Vec<_> = (0..NR_CHUNKS)
                .map(|_| Some(heap.alloc(size(&mut random))))
                .collect();
            for _ in 0..4 * NR_CHUNKS {
                replace(heap, &mut objects, &mut random);
            }
            move || {
                let mut left = nr;
                while left > 0 {
                    let rounds = left.min(NR_ROUNDS);
                    left -= rounds;
                    let (objects, random) = (&mut objects, &mut random);
                    let next = move || {
                        for _ in 0..rounds * NR_REPLACED as u64 {
                            replace(heap, objects, random);
                        }
                        black_box(&*objects);
                    };
                    // The thread of the round before only waits.
                    thread::scope(|scope| drop(scope.spawn(next)));
                }
            }
        }
    };
    team::run((0..nr_threads).map(worker).collect())
}
