// SPDX-License-Identifier: GPL-2.0

//! mstress (Leijen, mimalloc): finds out whether an allocator hands memory out twice, or changes it.
//! Not a benchmark.
//!
//! Threads allocate objects of 8 bytes to 1.28 MB with a pattern in each word, keep some, free others
//! in random order, and exchange them with other threads; new threads go on with what the last ones
//! left. The pattern is checked when an object is freed.

use core::ptr::NonNull;
use std::sync::atomic::{
    AtomicUsize,
    Ordering, //
};
use std::sync::{
    Mutex,
    PoisonError, //
};
use std::thread;

use crate::heap::{
    Heap,
    Object, //
};
use crate::random::Random;

const NR_TRANSFER: usize = 1000;

/// What the pattern is made of.
const COOKIE: u64 = 0xbf58_476d_1ce4_e5b9;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Threads at a time.
    pub nr_threads: usize,
    /// Objects of a thread, in hundreds.
    pub hundreds: usize,
    /// How often new threads begin.
    pub nr_rounds: usize,
}

/// An object and what stands in it: its number of words, and the pattern of each.
struct Marked<O> {
    object: O,
    nr_words: usize,
    cookie: u64,
}

impl<O: Object> Marked<O> {
    fn new<H: Heap<Object = O>>(heap: &H, nr_words: usize, random: &mut Random) -> Self {
        let marked = Self {
            object: heap.alloc(nr_words * 8),
            nr_words,
            cookie: COOKIE ^ random.next_u64(),
        };
        for at in 0..nr_words {
            // SAFETY: below the number of words that the object has.
            let word = unsafe { marked.word(at) };
            // SAFETY: the object's.
            unsafe { word.write_unaligned(marked.pattern(at)) };
        }
        marked
    }

    fn pattern(&self, at: usize) -> u64 {
        (self.nr_words - at) as u64 ^ self.cookie
    }

    /// # Safety
    ///
    /// `at` is below `nr_words`.
    unsafe fn word(&self, at: usize) -> NonNull<u64> {
        // SAFETY: inside the object, says the caller.
        unsafe { self.object.start().cast::<u64>().add(at) }
    }

    fn is_intact(&self) -> bool {
        (0..self.nr_words).all(|at| {
            // SAFETY: below the number of words.
            let word = unsafe { self.word(at) };
            // SAFETY: the object's, and written when it was made.
            unsafe { word.read_unaligned() == self.pattern(at) }
        })
    }
}

struct Stress<'a, H: Heap> {
    heap: &'a H,
    scale: Scale,
    transfer: Vec<Mutex<Option<Marked<H::Object>>>>,
    nr_freed: AtomicUsize,
    nr_damaged: AtomicUsize,
}

impl<H: Heap> Stress<'_, H> {
    fn free(&self, marked: Option<Marked<H::Object>>) {
        if let Some(marked) = marked {
            self.nr_freed.fetch_add(1, Ordering::Relaxed);
            if !marked.is_intact() {
                self.nr_damaged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn exchange(&self, at: usize, object: Option<Marked<H::Object>>) -> Option<Marked<H::Object>> {
        let mut place = self.transfer[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        core::mem::replace(&mut *place, object)
    }

    fn thread(&self, number: usize, round: usize) {
        let mut random = Random::new(((number + 1) * 43 + round * 7919) as u64);
        let mut allocs = self.scale.hundreds * 100 * (number % 8 + 1);
        let mut retain = allocs / 2;
        let mut data: Vec<Option<Marked<H::Object>>> = Vec::new();
        let mut retained = Vec::new();
        while allocs > 0 || retain > 0 {
            if retain == 0 || (random.chance(50) && allocs > 0) {
                allocs = allocs.saturating_sub(1);
                let nr_words = large(1 << random.below(5), &mut random);
                data.push(Some(Marked::new(self.heap, nr_words, &mut random)));
            } else {
                retain -= 1;
                let nr_words = 1 << random.below(7);
                retained.push(Some(Marked::new(self.heap, nr_words, &mut random)));
            }
            if random.chance(66) && !data.is_empty() {
                let at = random.below(data.len());
                self.free(data[at].take());
            }
            if random.chance(25) && !data.is_empty() {
                let at = random.below(data.len());
                data[at] = self.exchange(random.below(NR_TRANSFER), data[at].take());
            }
        }
        for object in retained.into_iter().chain(data) {
            self.free(object);
        }
    }
}

/// Makes one in a hundred objects large, few of them very large.
fn large(nr_words: usize, random: &mut Random) -> usize {
    if !random.chance(1) {
        nr_words
    } else if random.chance(1) {
        nr_words * 10_000
    } else if random.chance(10) {
        nr_words * 1000
    } else {
        nr_words * 100
    }
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Objects that were freed.
    pub nr_freed: usize,
    /// Those among them in which something else stood than was written.
    pub nr_damaged: usize,
}

/// Runs it.
pub fn run<H: Heap>(heap: &H, scale: Scale) -> Found {
    let stress = Stress {
        heap,
        scale,
        transfer: (0..NR_TRANSFER).map(|_| Mutex::new(None)).collect(),
        nr_freed: AtomicUsize::new(0),
        nr_damaged: AtomicUsize::new(0),
    };
    for round in 0..scale.nr_rounds {
        thread::scope(|scope| {
            for number in 0..scale.nr_threads {
                let stress = &stress;
                scope.spawn(move || stress.thread(number, round));
            }
        });
        let mut random = Random::new(round as u64);
        for at in 0..NR_TRANSFER {
            // The rest goes to the next threads, or is freed at the end.
            if random.chance(50) || round + 1 == scale.nr_rounds {
                stress.free(stress.exchange(at, None));
            }
        }
    }
    Found {
        nr_freed: stress.nr_freed.load(Ordering::Relaxed),
        nr_damaged: stress.nr_damaged.load(Ordering::Relaxed),
    }
}
