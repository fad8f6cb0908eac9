// SPDX-License-Identifier: GPL-2.0

//! Sheaves: slots go from CPU to CPU through the words.

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::models::{
    exclusive,
    Bug, //
};
use kpreserve_slab::RawCache;

use crate::world::{
    begin,
    catches,
    holds,
    on_cpu,
    BigSer,
    World, //
};

/// Takes a slot if there is one, uses it, gives back all that this CPU has.
fn take_and_give(cache: &'static RawCache) {
    if let Ok(vacant) = cache.alloc_slot(GFP_NOWAIT) {
        exclusive(vacant.as_ptr().addr());
        let slot = vacant.publish();
        exclusive(slot.as_ptr().addr());
        slot.free();
    }
    cache.drain_here();
}

/// Two CPUs take the last slots from a word, and give them back to it.
fn exchange() {
    let world = World::new::<BigSer>(2);
    let kept = world.leave_free(2);
    let cache = world.cache;
    let phase = begin();
    let other = on_cpu(1, move || take_and_give(cache));
    take_and_give(cache);
    other();
    drop(phase);
    assert_eq!(world.nr_free(), 2, "a slot is lost, or there twice");
    drop(kept);
    world.end();
}

#[test]
fn cpus_exchange_slots() {
    holds("sheaf exchange", 4, exchange);
}

#[test]
fn catches_exchange_without_order_of_give_back() {
    catches(Some(Bug::Cmpxchg), "a slot is lost", 4, exchange);
}

#[test]
fn catches_exchange_without_order_of_take() {
    catches(Some(Bug::Xchg), "Causality", 4, exchange);
}

/// A CPU goes with slots in its sheaf. Another one drains it, once it is gone, or too early.
fn gone(too_early: bool) {
    let world = World::new::<BigSer>(3);
    let kept = world.leave_free(1);
    let cache = world.cache;
    let phase = begin();
    let goes = on_cpu(1, move || {
        if let Ok(vacant) = cache.alloc_slot(GFP_NOWAIT) {
            exclusive(vacant.as_ptr().addr());
            drop(vacant);
        }
    });
    let goes = if too_early {
        Some(goes)
    } else {
        goes();
        None
    };
    let takes = on_cpu(2, move || {
        if let Ok(vacant) = cache.alloc_slot(GFP_NOWAIT) {
            exclusive(vacant.as_ptr().addr());
            drop(vacant);
        }
    });
    // SAFETY: the CPU is gone, if it is not too early, which loom has to notice.
    unsafe { cache.drain_cpu(1) };
    takes();
    if let Some(goes) = goes {
        goes();
    }
    drop(phase);
    assert_eq!(world.nr_free(), 1, "a slot is lost, or there twice");
    drop(kept);
    world.end();
}

#[test]
fn a_cpu_that_is_gone_is_drained() {
    holds("drain of a CPU that is gone", 2, || gone(false));
}

#[test]
fn catches_drain_of_a_cpu_that_runs() {
    catches(None, "Causality", 4, || gone(true));
}
