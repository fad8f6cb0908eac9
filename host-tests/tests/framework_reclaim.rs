// SPDX-License-Identifier: GPL-2.0

//! Memory pressure, and CPUs that go: what reclaim may do, what is left to the worker, and what a
//! CPU holds.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | reclaim runs the worker's part (reclaim.rs) | `reclaim_marks_and_the_worker_frees` |
//! | a cache is not put on the roll (names.rs) | 3 tests |
//! | the second cache takes the place of the first on the roll (roll.rs) | `every_cache_is_asked` |
//! | `drain_cpu` does nothing | `what_a_cpu_held_is_not_lost` |

mod framework_common;

use framework_common::{
    name,
    small,
    up, //
};
use kernel::prelude::GFP_KERNEL;
use kpreserve::{
    Cache,
    Framework,
    Open as _, //
};
use kpreserve_sim::{
    set_cpu,
    SimMachine, //
};

kpreserve::preservable! {
    /// A quarter of a page.
    pub struct QuarterSer {
        /// Anything.
        pub words: [u64; 120],
    }
    compatible = "test-quarter", version = 1
}

const NR_OBJECTS: usize = 200;

fn quarter(word: u64) -> QuarterSer {
    QuarterSer { words: [word; 120] }
}

/// Opens a cache, and leaves it with empty runs; one object stays.
fn churned(framework: &'static Framework, text: &str) -> Cache<QuarterSer> {
    let cache = Cache::<QuarterSer>::open_in(framework, &name(text), GFP_KERNEL).unwrap();
    let stays = cache.alloc(quarter(7), GFP_KERNEL).unwrap();
    let items: Vec<_> = (0..NR_OBJECTS)
        .map(|_| cache.alloc(quarter(1), GFP_KERNEL).unwrap())
        .collect();
    drop(items);
    stays.park();
    cache
}

#[test]
fn reclaim_marks_and_the_worker_frees() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let cache = churned(framework, "a");
    framework.drain_here();
    let (before, bytes) = (machine.counters(), cache.raw().counts().bytes);
    assert!(framework.nr_pages_reclaimable() > 8);
    let nr_condemned = framework.reclaim(usize::MAX);
    assert!(nr_condemned > 8);
    // Nothing but a kick: no call that may sleep, or end in KHO.
    let after = machine.counters();
    assert_eq!(after.calls() - after.kick, before.calls() - before.kick);
    assert!(after.kick > before.kick);
    assert_eq!(after.held(), before.held());

    framework.work();
    let freed = before.pages_out - machine.counters().pages_out;
    assert!(freed >= nr_condemned as u64, "{freed} of {nr_condemned}");
    assert!(cache.raw().counts().bytes + nr_condemned * 4096 <= bytes);
    let stats = framework.stats();
    assert_eq!(
        (stats.nr_reclaims, stats.nr_pages_condemned),
        (1, nr_condemned as u64)
    );
    drop(cache);
    machine.assert_sound();

    let machine = machine.reboot();
    let framework = up(machine);
    let cache = Cache::<QuarterSer>::open_in(framework, &name("a"), GFP_KERNEL).unwrap();
    let found: Vec<_> = cache.unclaimed().map(|item| item.words).collect();
    assert_eq!(found, [[7; 120]]);
    machine.assert_sound();
    machine.power_off();
}

#[test]
fn no_more_goes_than_was_asked_for() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let _cache = churned(framework, "a");
    framework.drain_here();
    assert_eq!(framework.reclaim(0), 0);
    let nr_condemned = framework.reclaim(2);
    assert!(nr_condemned <= 2);
    machine.assert_sound();
    machine.power_off();
}

#[test]
fn every_cache_is_asked() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let caches: Vec<_> = ["a", "b", "c"].map(|text| churned(framework, text)).into();
    framework.drain_here();
    framework.reclaim(usize::MAX);
    framework.work();
    for cache in &caches {
        // The object that stays, in its run, and nothing else.
        assert_eq!(cache.raw().counts().nr_runs, 1);
        assert_eq!(cache.raw().counts().nr_objects, 1);
    }
    machine.assert_sound();
    machine.power_off();
}

#[test]
fn what_a_cpu_held_is_not_lost() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    set_cpu(1);
    let cache = churned(framework, "a");
    set_cpu(0);
    // The other CPU has slots of it: runs are in use.
    framework.drain_here();
    framework.reclaim(usize::MAX);
    framework.work();
    assert!(cache.raw().counts().nr_runs > 1);
    // SAFETY: nothing runs on that CPU from here on, and this is the only thread.
    unsafe { framework.drain_cpu(1) };
    framework.reclaim(usize::MAX);
    framework.work();
    assert_eq!(cache.raw().counts().nr_runs, 1);
    assert_eq!(framework.stats().nr_cpus_drained, 1);
    machine.assert_sound();
    machine.power_off();
}
