// SPDX-License-Identifier: GPL-2.0

//! A cache comes to rest, runs that become empty are noticed, and no free slot is forgotten.

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::models::Bug;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Release, //
};
use kpreserve_slab::Slot;
use std::sync::Arc;
use std::vec::Vec;

use crate::world::{
    begin,
    catches,
    holds,
    on_cpu,
    BigSer,
    World, //
};

/// A CPU goes on using its sheaf while the cache is settled. `settle` says in which order.
fn settling_against_use(begins_first: bool) {
    let world = World::new::<BigSer>(2);
    let cache = world.cache;
    let mut slots: Vec<Slot> = (0..2)
        .map(|_| cache.alloc_slot(GFP_KERNEL).unwrap().publish())
        .collect();
    world.drain();
    assert!(cache.is_in_use());
    // The work item that drains a CPU; it comes after what queued it.
    let queued = Arc::new(Atomic::<u32>::new(0));
    let (first, second) = (slots.pop().unwrap(), slots.pop().unwrap());
    let phase = begin();
    let user = on_cpu(1, {
        let queued = queued.clone();
        move || {
            first.free();
            let comes = queued.load(Acquire) != 0;
            if comes {
                cache.drain_here();
            }
            second.free();
            comes
        }
    });
    if begins_first {
        cache.begin_settling();
    }
    queued.store(1, Release);
    if !begins_first {
        cache.begin_settling();
    }
    let is_drained = user();
    drop(phase);
    if !is_drained {
        kpreserve_sim::set_cpu(1);
        cache.drain_here();
        kpreserve_sim::set_cpu(0);
    }
    // Both slots are free: the run is empty, unless the sheaf has one of them.
    let holds = cache.nr_pages_empty() == 0;
    assert!(!holds || cache.is_in_use(), "a CPU holds a slot for ever");
    world.end();
}

#[test]
fn what_a_cpu_holds_goes_back() {
    holds("settling against use", 4, || settling_against_use(true));
}

#[test]
fn catches_settling_in_the_wrong_order() {
    catches(None, "holds a slot for ever", 4, || {
        settling_against_use(false)
    });
}

/// The last slot of a run comes back while the worker looks for empty runs.
fn news_against_a_look() {
    let world = World::new::<BigSer>(2);
    let cache = world.cache;
    let other = cache.alloc_slot(GFP_KERNEL).unwrap().publish();
    let last = cache.alloc_slot(GFP_KERNEL).unwrap().publish();
    other.free();
    world.drain();
    // There are news already, of `other`.
    let phase = begin();
    let giver = on_cpu(1, move || {
        last.free();
        cache.drain_here();
    });
    let seen = cache.take_news() && cache.nr_pages_empty() != 0;
    giver();
    drop(phase);
    assert!(cache.nr_pages_empty() != 0);
    assert!(seen || cache.take_news(), "nobody looks at an empty run");
    world.end();
}

#[test]
fn an_empty_run_is_noticed() {
    holds("news against a look", 4, news_against_a_look);
}

#[test]
fn catches_news_without_order() {
    catches(
        Some(Bug::Cmpxchg),
        "nobody looks at an empty run",
        4,
        news_against_a_look,
    );
}

/// A slot comes back to a full run while somebody finds that all are full.
fn dryness_against_free() {
    let world = World::new::<BigSer>(2);
    let cache = world.cache;
    let mut first = world.leave_free(0);
    let mut second = world.leave_free(0);
    // The cache is dry; make the next search look into both runs.
    first.pop().unwrap().free();
    world.drain();
    first.push(cache.alloc_slot(GFP_NOWAIT).unwrap().publish());
    world.drain();
    let free = second.pop().unwrap();
    let phase = begin();
    let giver = on_cpu(1, move || {
        free.free();
        cache.drain_here();
    });
    let taken = cache.alloc_slot(GFP_NOWAIT).is_ok();
    giver();
    drop(phase);
    let _ = taken;
    // It is given back when it was taken.
    assert_eq!(world.nr_free(), 1, "a free slot is forgotten");
    drop((first, second));
    world.end();
}

#[test]
fn a_free_slot_is_not_forgotten() {
    holds("dryness against free", 2, dryness_against_free);
}
