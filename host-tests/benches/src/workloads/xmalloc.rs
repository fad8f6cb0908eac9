// SPDX-License-Identifier: GPL-2.0

//! xmalloc-test (Lever and Boreham): one thread allocates, another one frees.
//!
//! Batches of 4096 objects of mixed sizes pass through a stack under a lock. The stack holds 10 of
//! them (100 in the original), so that the memory of all runs together stays small.

use std::sync::{
    Condvar,
    Mutex,
    PoisonError, //
};
use std::time::Duration;

use super::team;
use crate::heap::{
    fill,
    Heap, //
};
use crate::random::Random;

/// Objects of a batch.
pub const NR_BATCH: usize = 4096;

const NR_WAITING_MAX: usize = 10;

const SIZES_BYTES: [usize; 17] = [
    8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
];

const NR_WRITTEN_MAX: usize = 128;

struct Stack<T> {
    batches: Mutex<Vec<T>>,
    not_empty: Condvar,
    not_full: Condvar,
}

impl<T> Stack<T> {
    fn push(&self, batch: T) {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batches = self
            .not_full
            .wait_while(batches, |batches| batches.len() >= NR_WAITING_MAX)
            .unwrap_or_else(PoisonError::into_inner);
        batches.push(batch);
        self.not_empty.notify_one();
    }

    fn pop(&self) -> Option<T> {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batches = self
            .not_empty
            .wait_while(batches, |batches| batches.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        self.not_full.notify_one();
        batches.pop()
    }
}

/// Passes `nr` batches in each of `nr_threads / 2` pairs of threads, which share the stack.
pub fn run<H: Heap>(heap: &H, nr_threads: usize, nr: u64) -> Duration {
    let stack = &Stack {
        batches: Mutex::new(Vec::with_capacity(NR_WAITING_MAX)),
        not_empty: Condvar::new(),
        not_full: Condvar::new(),
    };
    let worker = |number: usize| {
        move || {
            let mut random = Random::new(number as u64);
            move || {
                for _ in 0..nr {
                    if number % 2 == 1 {
                        drop(stack.pop());
                        continue;
                    }
                    let mut batch = Vec::with_capacity(NR_BATCH);
                    for _ in 0..NR_BATCH {
                        let size = SIZES_BYTES[random.below(SIZES_BYTES.len())];
                        let object = heap.alloc(size);
                        // SAFETY: not more than were asked for.
                        unsafe { fill(&object, 0x5a, size.min(NR_WRITTEN_MAX)) };
                        batch.push(object);
                    }
                    stack.push(batch);
                }
            }
        }
    };
    team::run((0..nr_threads.next_multiple_of(2)).map(worker).collect())
}
