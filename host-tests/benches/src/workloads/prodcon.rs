// SPDX-License-Identifier: GPL-2.0

//! prod-con (Bhandari et al., Makalu): pairs of threads; one allocates and writes every byte, the
//! other one frees. A queue without locks between them.

use std::time::Duration;

use super::team;
use crate::heap::{
    fill,
    Heap, //
};

const SIZE_BYTES: usize = 64;

/// Objects of a round; what is counted.
pub const NR_ROUND: usize = 1000;

const NR_QUEUED_MAX: usize = 4096;

enum Side<T> {
    Producer(rtrb::Producer<T>),
    Consumer(rtrb::Consumer<T>),
}

/// Runs `nr` rounds of [`NR_ROUND`] pairs in each of `nr_threads / 2` pairs of threads.
pub fn run<H: Heap>(heap: &H, nr_threads: usize, nr: u64) -> Duration {
    let nr_objects = nr * NR_ROUND as u64;
    let worker = |side: Side<H::Object>| {
        move || {
            move || match side {
                Side::Producer(mut queue) => {
                    for i in 0..nr_objects {
                        let object = heap.alloc(SIZE_BYTES);
                        // SAFETY: as many as were asked for.
                        unsafe { fill(&object, i as u8, SIZE_BYTES) };
                        let mut object = Some(object);
                        while let Some(next) = object {
                            object = match queue.push(next) {
                                Ok(()) => None,
                                Err(rtrb::PushError::Full(back)) => {
                                    std::thread::yield_now();
                                    Some(back)
                                }
                            };
                        }
                    }
                }
                Side::Consumer(mut queue) => {
                    let mut left = nr_objects;
                    while left > 0 {
                        match queue.pop() {
                            Ok(object) => {
                                drop(object);
                                left -= 1;
                            }
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                }
            }
        }
    };
    let mut workers = Vec::new();
    for _ in 0..nr_threads.div_ceil(2) {
        let (producer, consumer) = rtrb::RingBuffer::new(NR_QUEUED_MAX);
        workers.push(worker(Side::Producer(producer)));
        workers.push(worker(Side::Consumer(consumer)));
    }
    team::run(workers)
}
