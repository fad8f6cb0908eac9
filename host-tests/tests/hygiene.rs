// SPDX-License-Identifier: GPL-2.0

//! The objections to preserved slabs, each as a test: stale neighbours, waste, merging
//! (Documentation/upstream.rst). What of an image is not zeros though it should be: free_bytes.rs.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a freed object is not zeroed (owner.rs) | `free_slots_...`, `pages_that_are_...` |
//! | each second inherited slab is not allocated from (alloc.rs) | `fifty_updates_...`, `a_cache_does_not_...` |

use std::collections::BTreeSet;

use kernel::alloc::{
    flags::GFP_KERNEL,
    KVec, //
};
use kernel::error::code::EIO;
use kernel::error::Error;
use kpreserve::{
    Cache,
    Open as _,
    Preserved, //
};
use kpreserve_kho::Phys;
use kpreserve_testing::{
    Config,
    Kernel, //
};
use pin_init::{
    init_from_closure,
    Init, //
};

kpreserve::preservable! {
    /// 64 bytes, of which most say that somebody was here.
    pub struct MarkSer {
        /// Which one.
        pub id: u64,
        /// [`MARK`].
        pub marks: [u64; 7],
    }
    compatible = "mark", version = 1
}

/// Nothing else in a machine is likely to hold this.
const MARK: u64 = 0xb7e1_5162_8aed_2a6b;
const PAGE_BYTES: usize = 4096;

fn mark(id: u64) -> MarkSer {
    MarkSer {
        id,
        marks: [MARK; 7],
    }
}

/// Writes, and then fails.
fn failing() -> impl Init<MarkSer, Error> {
    let init = |place: *mut MarkSer| {
        // SAFETY: the slot of the object, which is the initialiser's.
        unsafe { place.write(mark(0)) };
        Err(EIO)
    };
    // SAFETY: it never succeeds; there is nothing to drop.
    unsafe { init_from_closure(init) }
}

fn open(kernel: &Kernel) -> Cache<MarkSer> {
    Cache::open_in(kernel.framework(), c"hygiene", GFP_KERNEL).unwrap()
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// How often the mark stands anywhere in what a machine hands over.
fn nr_marks(kernel: &Kernel) -> usize {
    let image = kernel.machine().image();
    let mut page = [0; PAGE_BYTES];
    let mut nr = 0;
    for (phys, order) in image.keys() {
        for at in 0..1u64 << order {
            let Some(phys) = phys.checked_add(at * PAGE_BYTES as u64) else {
                continue;
            };
            image.read(phys, &mut page);
            let words = page.chunks_exact(8);
            nr += words.filter(|word| *word == MARK.to_le_bytes()).count();
        }
    }
    nr
}

#[test]
fn free_slots_carry_no_old_bytes() {
    let mut dice = Dice(1);
    let kernel = Kernel::boot_with(Config::with_pages(4096));
    let cache = open(&kernel);
    let mut live: Vec<Preserved<MarkSer>> = Vec::new();
    for round in 0..40 {
        for id in 0..200 {
            live.push(cache.alloc(mark(id), GFP_KERNEL).unwrap());
        }
        // In any order, also by rows; and some never become objects.
        let mut many = KVec::new();
        cache
            .alloc_bulk(&mut many, 150, |i| mark(i as u64), GFP_KERNEL)
            .unwrap();
        for _ in 0..100 {
            drop(live.swap_remove(dice.below(live.len())));
            assert!(cache.alloc(failing(), GFP_KERNEL).is_err());
        }
        cache.free_bulk(&mut many);
        if round % 10 == 9 {
            kernel.framework().work();
        }
        // Sheaves are full of slots that were freed just now.
        assert_eq!(nr_marks(&kernel), 7 * live.len(), "round {round}");
    }
    // What crosses is what is live, and what is handed out there holds zeros (`expecting_zeros` in
    // cut.rs); no byte of anybody who is gone reaches the next kernel at all.
    core::mem::forget(live);
}

#[test]
fn pages_that_are_given_back_carry_no_objects() {
    // Or the machine itself would write over them.
    let kernel = Kernel::boot_with(Config {
        poisons: false,
        ..Config::with_pages(4096)
    });
    let cache = open(&kernel);
    let mut objects: Vec<_> = (0..20_000)
        .map(|id| cache.alloc(mark(id), GFP_KERNEL).unwrap())
        .collect();
    let pages: BTreeSet<u64> = objects
        .iter()
        .map(|object| object.handle().phys().get() & !(PAGE_BYTES as u64 - 1))
        .collect();
    objects.clear();
    let held = kernel.machine().counters().pages_out;
    cache.raw().drain_here();
    kernel.framework().work();
    assert!(kernel.machine().counters().pages_out < held / 2);
    let mut page = [0; PAGE_BYTES];
    for phys in pages {
        kernel.machine().read_phys(Phys::new(phys), &mut page);
        let mut words = page.chunks_exact(8);
        assert!(words.all(|word| word != MARK.to_le_bytes()), "{phys:#x}");
    }
}

/// What is done to a population in one generation. It is the same size afterwards.
type Churn = fn(&Cache<MarkSer>, Vec<Preserved<MarkSer>>, &mut Dice) -> Vec<Preserved<MarkSer>>;

const NR_OBJECTS: usize = 3000;

fn refill(cache: &Cache<MarkSer>, live: &mut Vec<Preserved<MarkSer>>) {
    while live.len() < NR_OBJECTS {
        live.push(cache.alloc(mark(0), GFP_KERNEL).unwrap());
    }
}

/// Half of it goes, from anywhere.
fn half(
    cache: &Cache<MarkSer>,
    mut live: Vec<Preserved<MarkSer>>,
    dice: &mut Dice,
) -> Vec<Preserved<MarkSer>> {
    for _ in 0..NR_OBJECTS / 2 {
        live.swap_remove(dice.below(live.len()));
    }
    refill(cache, &mut live);
    live
}

/// One goes and one comes, many times.
fn one_by_one(
    cache: &Cache<MarkSer>,
    mut live: Vec<Preserved<MarkSer>>,
    dice: &mut Dice,
) -> Vec<Preserved<MarkSer>> {
    for _ in 0..2 * NR_OBJECTS {
        live.swap_remove(dice.below(live.len()));
        live.push(cache.alloc(mark(0), GFP_KERNEL).unwrap());
    }
    live
}

/// Nearly everything goes, and comes back.
fn sawtooth(
    cache: &Cache<MarkSer>,
    mut live: Vec<Preserved<MarkSer>>,
    dice: &mut Dice,
) -> Vec<Preserved<MarkSer>> {
    while live.len() > NR_OBJECTS / 20 {
        live.swap_remove(dice.below(live.len()));
    }
    refill(cache, &mut live);
    live
}

/// The oldest third goes.
fn oldest(
    cache: &Cache<MarkSer>,
    mut live: Vec<Preserved<MarkSer>>,
    _dice: &mut Dice,
) -> Vec<Preserved<MarkSer>> {
    live.drain(..NR_OBJECTS / 3);
    refill(cache, &mut live);
    live
}

#[test]
fn fifty_updates_hold_no_more_than_one() {
    let churns: [(&str, Churn); 4] = [
        ("half", half),
        ("one by one", one_by_one),
        ("sawtooth", sawtooth),
        ("oldest", oldest),
    ];
    for (name, churn) in churns {
        let mut dice = Dice(7);
        let mut kernel = Kernel::boot_with(Config::with_pages(2048));
        let mut nr_pages = Vec::new();
        for _ in 0..51 {
            let cache = open(&kernel);
            let mut live: Vec<_> = cache.unclaimed().collect();
            refill(&cache, &mut live);
            let live = churn(&cache, live, &mut dice);
            assert_eq!(live.len(), NR_OBJECTS);
            nr_pages.push(kernel.machine().counters().pages_out);
            core::mem::forget(live);
            drop(cache);
            kernel = kernel.kexec();
        }
        // After one update, and the most that there was at any time after it.
        let (first, most) = (nr_pages[1], *nr_pages[1..].iter().max().unwrap());
        assert!(
            most * 10 <= first * 11,
            "{name}: {first} pages after one update, later {most}"
        );
    }
}

#[test]
fn a_cache_does_not_grow_while_it_has_inherited_free_slots() {
    let mut dice = Dice(3);
    let kernel = Kernel::boot();
    let cache = open(&kernel);
    let mut live = Vec::new();
    refill(&cache, &mut live);
    for _ in 0..NR_OBJECTS / 2 {
        live.swap_remove(dice.below(live.len()));
    }
    core::mem::forget(live);
    drop(cache);

    let kernel = kernel.kexec();
    let cache = open(&kernel);
    let held = cache.raw().counts();
    assert_eq!(held.nr_objects, NR_OBJECTS / 2);
    let room = held.nr_slabs * 62 - held.nr_objects;
    let before = kernel.machine().counters().alloc;
    let more: Vec<_> = (0..room)
        .map(|id| cache.alloc(mark(id as u64), GFP_KERNEL).unwrap())
        .collect();
    assert_eq!(kernel.machine().counters().alloc, before, "it grew");
    let last = cache.alloc(mark(0), GFP_KERNEL).unwrap();
    assert_eq!(kernel.machine().counters().alloc, before + 1);
    core::mem::forget((more, last));
}

#[test]
fn caches_are_not_merged() {
    let kernel = Kernel::boot();
    let pages = |name| {
        let cache = Cache::<MarkSer>::open_in(kernel.framework(), name, GFP_KERNEL).unwrap();
        let objects: Vec<_> = (0..500)
            .map(|id| cache.alloc(mark(id), GFP_KERNEL).unwrap())
            .collect();
        let pages: BTreeSet<u64> = objects
            .iter()
            .map(|object| object.handle().phys().get() / PAGE_BYTES as u64)
            .collect();
        core::mem::forget(objects);
        pages
    };
    let (first, second) = (pages(c"first"), pages(c"second"));
    assert!(first.is_disjoint(&second));
}

#[test]
fn runs_of_any_size_go_under_pressure() {
    let kernel = Kernel::boot_with(Config::with_pages(4096));
    let cache = open(&kernel);
    let objects: Vec<_> = (0..50_000)
        .map(|id| cache.alloc(mark(id), GFP_KERNEL).unwrap())
        .collect();
    drop(objects);
    cache.raw().drain_here();
    // A shrinker is asked for less at a time than a big run has.
    let mut largest = 0;
    while cache.raw().nr_pages_empty() > 0 {
        let nr_pages = cache.raw().condemn_empty(1);
        assert!(nr_pages > 0, "a run is too big to go");
        largest = largest.max(nr_pages);
    }
    assert!(largest > 1);
}
