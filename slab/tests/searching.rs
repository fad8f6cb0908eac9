// SPDX-License-Identifier: GPL-2.0

//! Where free slots are looked for: all of them are found, and a cache that is full is not searched
//! for each run that it grows by.
//!
//! Tried against code that was broken on purpose (slab/):
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a search that was cut is not gone on with (alloc.rs) | `who_cannot_sleep...` |
//! | a cache is never dry (dry.rs) | `growing_costs_the_same...` |
//! | it stays dry when slots come back (dry.rs) | `what_comes_back...` |
//! | the cursor is not moved to the run that is added (dry.rs) | all of giving_back.rs |

mod world;

use std::cell::Cell;
use std::rc::Rc;

use kernel::alloc::flags::*;
use kernel::error::code::ENOMEM;
use kernel::observe::set_observer;
use kpreserve_sim::Config;
use kpreserve_slab::Preserved;

use world::{
    record,
    World,
    NR_SLOTS, //
};

/// A full cache of `nr_slabs` slabs in the next kernel; the slab `at` is empty.
fn inherited_with_hole(nr_slabs: usize, at: usize) -> World {
    let w = World::with_pages(nr_slabs * 2);
    let mut all = w.fill(nr_slabs * NR_SLOTS);
    while let Ok(object) = w.cache.alloc(record(0), GFP_ATOMIC) {
        all.push(object);
    }
    let from = at * NR_SLOTS;
    drop(all.drain(from..from + NR_SLOTS));
    for object in all {
        object.park();
    }
    w.raw.drain_here();
    w.reboot()
}

#[test]
fn who_cannot_sleep_gets_what_is_free_in_an_inherited_cache() {
    for at in [0, 1, 300, 500, 777, 999] {
        let w = inherited_with_hole(1000, at);
        let kicks = w.machine.counters().kick;
        let objects: Vec<_> = (0..NR_SLOTS as u64)
            .map(|id| {
                w.cache
                    .alloc(record(id), GFP_ATOMIC)
                    .map(|object| object.park())
            })
            .collect();
        assert!(
            objects.iter().all(Result::is_ok),
            "ENOMEM beside free slots of slab {at}"
        );
        // Nor was a reserve asked for, which the cache would have grown by.
        let runs = w.raw.counts().nr_runs;
        w.raw.work().unwrap();
        assert_eq!(w.raw.counts().nr_runs, runs);
        assert!(w.machine.counters().kick <= kicks + 1);
        // It was the last one.
        assert_eq!(w.cache.alloc(record(7), GFP_ATOMIC).err(), Some(ENOMEM));
        w.machine.assert_sound();
    }
}

/// Stores of a call: what goes through all runs makes two in each.
fn nr_stores<R>(call: impl FnOnce() -> R) -> (usize, R) {
    let nr = Rc::new(Cell::new(0));
    let counted = nr.clone();
    set_observer(Some(Box::new(move |_| counted.set(counted.get() + 1))));
    let result = call();
    set_observer(None);
    (nr.get(), result)
}

/// A machine that has blocks of four pages at most.
fn fragmented(nr_pages: usize) -> World {
    World::on(Config {
        order_max: 2,
        poisons: false,
        ..Config::with_pages(nr_pages)
    })
}

#[test]
fn growing_costs_the_same_with_many_runs() {
    let w = fragmented(4_000);
    let first = w.fill(100 * NR_SLOTS);
    let (few, some) = nr_stores(|| w.fill(100 * NR_SLOTS));
    let many = w.fill(500 * NR_SLOTS);
    let (more, last) = nr_stores(|| w.fill(100 * NR_SLOTS));
    assert!(w.raw.counts().nr_runs >= 180);
    assert!(
        more < few * 3 / 2,
        "{few} stores beside 50 runs, {more} beside 180"
    );
    drop(some);
    drop((first, many, last));
}

#[test]
fn what_comes_back_anywhere_is_found() {
    let w = fragmented(4_000);
    let mut all: Vec<Option<Preserved<_>>> = w.fill(500 * NR_SLOTS).into_iter().map(Some).collect();
    // Full, and known to be.
    let mut last = Vec::new();
    while let Ok(object) = w.cache.alloc(record(0), GFP_ATOMIC) {
        last.push(object);
    }
    let runs = w.raw.counts().nr_runs;
    for at in [499, 0, 250, 251, 3, 498, 77] {
        for object in &mut all[at * NR_SLOTS..(at + 1) * NR_SLOTS] {
            *object = None;
        }
        w.raw.drain_here();
        for object in &mut all[at * NR_SLOTS..(at + 1) * NR_SLOTS] {
            let again = w.cache.alloc(record(1), GFP_ATOMIC);
            *object = Some(again.unwrap_or_else(|error| panic!("{error:?} beside slab {at}")));
        }
    }
    assert_eq!(w.raw.counts().nr_runs, runs);
}
