// SPDX-License-Identifier: GPL-2.0

//! Empty runs go while others use them; the reserve is opened.

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::models::{
    exclusive,
    Bug, //
};
use kernel::prelude::*;
use std::vec::Vec;

use crate::world::{
    begin,
    catches,
    holds,
    on_cpu,
    BigSer,
    World, //
};

/// A cache of one run, which is empty.
fn empty_run(nr_cpus: usize) -> World {
    let world = World::new::<BigSer>(nr_cpus);
    drop(world.cache.alloc_slot(GFP_KERNEL).unwrap());
    world.drain();
    world
}

/// Whatever has been condemned goes; what somebody has got is still there.
fn finish(world: World, slots: Vec<kpreserve_slab::Slot>) {
    let handles: Vec<u64> = slots.into_iter().map(kpreserve_slab::Slot::park).collect();
    assert_eq!(world.cache.work(), Ok(()));
    for handle in handles {
        match world.cache.claim(handle) {
            Ok(slot) => slot.free(),
            Err(error) => panic!("an object went with its run: {error:?}"),
        }
    }
    world.drain();
    // It can grow again.
    drop(world.cache.alloc_slot(GFP_KERNEL).unwrap());
    world.end();
}

fn condemn_against_refill() {
    let world = empty_run(2);
    let cache = world.cache;
    let phase = begin();
    let shrinker = on_cpu(1, move || cache.condemn_empty(usize::MAX));
    let slot = cache.alloc_slot(GFP_NOWAIT).map(|vacant| {
        exclusive(vacant.as_ptr().addr());
        vacant.publish()
    });
    shrinker();
    drop(phase);
    assert!(slot.is_ok(), "ENOMEM beside free slots");
    finish(world, slot.into_iter().collect());
}

#[test]
fn a_run_that_goes_has_no_owner() {
    holds("condemn against refill", 4, condemn_against_refill);
}

#[test]
fn catches_references_without_order() {
    catches(
        Some(Bug::Fetch),
        "an object went",
        4,
        condemn_against_refill,
    );
}

/// The owner of the last slot gives it back while the shrinker looks.
fn condemn_against_free() {
    let world = empty_run(2);
    let cache = world.cache;
    let slot = cache.alloc_slot(GFP_KERNEL).unwrap().publish();
    let nr_free = world.nr_free();
    let phase = begin();
    let shrinker = on_cpu(1, move || cache.condemn_empty(usize::MAX));
    slot.free();
    cache.drain_here();
    let nr_pages = shrinker();
    drop(phase);
    assert_eq!(world.nr_free(), nr_free + 1, "a slot is lost");
    // Counting took them into use again.
    let _ = nr_pages;
    finish(world, Vec::new());
}

#[test]
fn the_last_slot_comes_back_in_time_or_not() {
    holds("condemn against free", 4, condemn_against_free);
}

/// A run with a parked object stays, and claims find it.
fn condemn_against_claim() {
    let world = empty_run(2);
    let cache = world.cache;
    let handle = cache.alloc_slot(GFP_KERNEL).unwrap().publish().park();
    world.drain();
    let phase = begin();
    let shrinker = on_cpu(1, move || cache.condemn_empty(usize::MAX));
    let claimed = cache.claim(handle);
    let nr_pages = shrinker();
    drop(phase);
    assert_eq!(nr_pages, 0, "a run went with an object");
    let slot = match claimed {
        Ok(slot) => slot,
        Err(error) => panic!("a parked object was not found: {error:?}"),
    };
    finish(world, vec![slot]);
}

#[test]
fn a_parked_object_is_found_while_the_shrinker_looks() {
    holds("condemn against claim", 4, condemn_against_claim);
}

/// Two shrinkers: a run goes once.
fn condemn_against_condemn() {
    let world = empty_run(2);
    let cache = world.cache;
    let phase = begin();
    let other = on_cpu(1, move || cache.condemn_empty(usize::MAX));
    let mine = cache.condemn_empty(usize::MAX);
    let other = other();
    drop(phase);
    assert!(mine == 0 || other == 0, "{mine} and {other} pages");
    // While the one looked, the other one may have passed by; then it is there for the next.
    assert!(
        mine + other + cache.condemn_empty(usize::MAX) > 0,
        "it never goes"
    );
    finish(world, Vec::new());
}

#[test]
fn a_run_goes_once() {
    holds("condemn against condemn", 4, condemn_against_condemn);
}

/// Two who cannot sleep find nothing but the reserve.
fn reserve_against_reserve() {
    let world = empty_run(2);
    let cache = world.cache;
    let kept = world.leave_free(0);
    assert_eq!(cache.set_reserve(1), Ok(()));
    let phase = begin();
    let other = on_cpu(1, move || {
        let vacant = cache.alloc_slot(GFP_NOWAIT);
        vacant.map(kpreserve_slab::Vacant::publish)
    });
    let mine = cache
        .alloc_slot(GFP_NOWAIT)
        .map(kpreserve_slab::Vacant::publish);
    let other = other();
    drop(phase);
    // All of it may be in the sheaf of the one who came first.
    assert!(mine.is_ok() || other.is_ok(), "ENOMEM beside a reserve");
    drop(kept);
    finish(world, Iterator::chain(mine.into_iter(), other).collect());
}

#[test]
fn the_reserve_serves_who_comes() {
    holds("reserve against refill", 2, reserve_against_reserve);
}

/// A search meets a run that is being decided about, and that stays since somebody looks into it.
/// It may find nothing; but then the cache is not dry: the next search finds the run.
fn decided_about_and_kept() {
    let world = World::new::<BigSer>(3);
    let cache = world.cache;
    let mut owned: Vec<_> = (0..10)
        .map(|_| cache.alloc_slot(GFP_KERNEL).unwrap().publish())
        .collect();
    cache.alloc_slot(GFP_KERNEL).unwrap().publish().free();
    owned.pop().unwrap().free();
    world.drain();
    owned.push(cache.alloc_slot(GFP_NOWAIT).unwrap().publish());
    let phase = begin();
    let shrinker = on_cpu(1, move || cache.condemn_empty(usize::MAX));
    let looker = on_cpu(2, move || cache.nr_pages_empty());
    let slot = cache.alloc_slot(GFP_NOWAIT);
    shrinker();
    looker();
    drop(phase);
    if slot.is_err() {
        assert!(
            cache.alloc_slot(GFP_NOWAIT).is_ok(),
            "ENOMEM beside a free run"
        );
    }
    drop(slot);
    core::mem::forget(owned);
    let machine = world.machine;
    core::mem::forget(world);
    machine.power_off();
}

#[test]
fn a_run_that_stays_is_found_again() {
    holds("decided about, and kept", 3, decided_about_and_kept);
}
