// SPDX-License-Identifier: GPL-2.0

//! Runs come, wait in reserve, and go: what the worker keeps, what it gives back, and what is taken
//! before the cache grows.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | only runs that fit into the excess go (grow.rs) | `one_big_run_goes_though_it_is_more_than_the_excess` |
//! | `grow` does not look for condemned runs | `what_is_condemned_is_used_before_the_cache_grows` |
//! | the reserve is filled by growing only | `a_condemned_run_becomes_the_reserve` |
//! | a smaller reserve is not shed | `a_reserve_that_is_too_large_goes_back` |
//! | the worker fills before it gives back (framework.rs) | `one_cache_gives_back_what_another_one_lacks` |

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::prelude::*;
use kpreserve::{
    Cache,
    Framework,
    Open as _, //
};
use kpreserve_sim::{
    Config,
    SimMachine, //
};

mod framework_common;

use framework_common::{
    name,
    up, //
};

kpreserve::preservable! {
    /// A quarter of a page.
    pub struct QuarterSer {
        /// Anything.
        pub words: [u64; 120],
    }
    compatible = "test-quarter", version = 1
}

const QUARTER: QuarterSer = QuarterSer { words: [7; 120] };

fn open(framework: &'static Framework, text: &str) -> Cache<QuarterSer> {
    Cache::open_in(framework, &name(text), GFP_KERNEL).unwrap()
}

/// Leaves a cache with empty runs.
fn churn(cache: &Cache<QuarterSer>, nr_objects: usize) {
    let items: std::vec::Vec<_> = (0..nr_objects)
        .map(|_| cache.alloc(QUARTER, GFP_KERNEL).unwrap())
        .collect();
    drop(items);
    cache.raw().drain_here();
}

fn nr_pages(cache: &Cache<QuarterSer>) -> usize {
    cache.raw().counts().bytes / 4096
}

#[test]
fn one_big_run_goes_though_it_is_more_than_the_excess() {
    let machine = SimMachine::boot(Config::with_pages(8192));
    let framework = up(machine);
    let cache = open(framework, "a");
    // The first runs are small, the last one is big.
    let mut items: std::vec::Vec<_> = (0..8000)
        .map(|_| cache.alloc(QUARTER, GFP_KERNEL).unwrap())
        .collect();
    let in_last_run = items.pop().unwrap();
    items.truncate(40);
    cache.raw().drain_here();
    cache.raw().condemn_empty(usize::MAX);
    cache.raw().work().unwrap();
    assert_eq!(cache.raw().nr_pages_empty(), 0);
    drop(in_last_run);
    cache.raw().drain_here();
    let nr_empty = cache.raw().nr_pages_empty();
    cache.raw().work().unwrap();
    assert!(nr_empty > 32, "{nr_empty}");
    assert_eq!(cache.raw().nr_pages_empty(), 0);
    drop(items);
    machine.assert_sound();
}

#[test]
fn what_is_condemned_is_used_before_the_cache_grows() {
    let machine = SimMachine::boot(Config::default());
    let framework = up(machine);
    let cache = open(framework, "a");
    churn(&cache, 200);
    assert!(cache.raw().condemn_empty(usize::MAX) > 0);
    let before = machine.counters();
    cache.alloc(QUARTER, GFP_KERNEL).unwrap().park();
    assert_eq!(machine.counters().pages_out, before.pages_out, "grown");
    machine.assert_sound();
}

#[test]
fn a_condemned_run_becomes_the_reserve() {
    let machine = SimMachine::boot(Config::default());
    let framework = up(machine);
    let cache = open(framework, "a");
    churn(&cache, 200);
    assert!(cache.raw().condemn_empty(usize::MAX) > 0);
    let before = machine.counters();
    cache.raw().set_reserve(1).unwrap();
    assert_eq!(machine.counters().pages_out, before.pages_out, "grown");
    cache.raw().work().unwrap();
    assert!(machine.counters().pages_out < before.pages_out);
    // It is there, and in reserve.
    assert_eq!(cache.raw().nr_pages_empty(), 0);
    cache.alloc(QUARTER, GFP_NOWAIT).unwrap().park();
    machine.assert_sound();
}

#[test]
fn a_reserve_that_is_too_large_goes_back() {
    let machine = SimMachine::boot(Config::default());
    let framework = up(machine);
    let cache = open(framework, "a");
    cache.raw().set_reserve(9).unwrap();
    let nr_before = nr_pages(&cache);
    cache.raw().set_reserve(1).unwrap();
    cache.raw().work().unwrap();
    assert_eq!(nr_pages(&cache) * 9, nr_before);
    // Claims find it, so it is no run that went only half.
    cache.alloc(QUARTER, GFP_NOWAIT).unwrap().park();
    cache.raw().set_reserve(0).unwrap();
    cache.raw().work().unwrap();
    assert!(cache.alloc(QUARTER, GFP_NOWAIT).is_ok());
    machine.assert_sound();
}

#[test]
fn one_cache_gives_back_what_another_one_lacks() {
    let machine = SimMachine::boot(Config::with_pages(512));
    let framework = up(machine);
    let (poor, rich) = (open(framework, "poor"), open(framework, "rich"));
    // Until there is no page left.
    let mut items = std::vec::Vec::new();
    while let Ok(item) = rich.alloc(QUARTER, GFP_KERNEL) {
        items.push(item);
    }
    assert!(items.len() > 400);
    items.truncate(4);
    rich.raw().drain_here();
    assert!(poor.raw().set_reserve(1).is_err());
    assert!(poor.alloc(QUARTER, GFP_NOWAIT).is_err());
    framework.work();
    poor.alloc(QUARTER, GFP_NOWAIT).unwrap().park();
    drop(items);
    machine.assert_sound();
}
