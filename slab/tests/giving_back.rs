// SPDX-License-Identifier: GPL-2.0

//! What nobody uses any more is given back: in this kernel, and of what was inherited.
//!
//! Tried against code that was broken on purpose (slab/):
//!
//! | broken | noticed by |
//! | --- | --- |
//! | the worker looks into no inherited slab (look.rs) | `what_was_left_empty...`, `looking_over_is_bounded`, 2 more |
//! | it looks into all of them at once | `looking_over_is_bounded` |
//! | opening an inherited cache wakes nobody (raw.rs) | `what_was_left_empty...` |
//! | `finish()` wakes nobody when it frees nothing (claim.rs) | `finishing_nothing...` |
//! | a sheaf stays open when it is drained (free.rs) | `a_few_that_are_freed_late...` |
//! | one that is opened by a free does not say so (free.rs) | `a_few_that_are_freed_late...` |
//! | many at once do not say so (bulk.rs) | `many_that_are_freed_at_once...` |
//! | only the opening of a sheaf says so (free.rs) | `a_cpu_that_is_left_alone...` |
//! | nobody notes that slots came back (free.rs) | `an_emptied_cache...` and others |
//! | all empty runs go (excess.rs) | `what_goes_back_and_forth...` |

mod world;

use kernel::alloc::flags::*;
use kpreserve_slab::Preserved;

use world::{
    record,
    World,
    NR_SLOTS, //
};

/// What a cache without objects may keep (Documentation/allocator.rst).
const NR_PAGES_KEPT_MAX: usize = 16;

impl World {
    /// What the kernel does a while after the cache has been used, and each time the worker is
    /// woken.
    fn settle(&self) {
        while self.raw.is_in_use() {
            self.raw.begin_settling();
            self.drain_all();
            self.raw.work().unwrap();
        }
        self.raw.work().unwrap();
    }

    fn drain_all(&self) {
        for cpu in 0..self.machine.config().nr_cpus {
            kpreserve_sim::set_cpu(cpu);
            self.raw.drain_here();
        }
        kpreserve_sim::set_cpu(0);
    }

    fn nr_pages(&self) -> usize {
        self.raw.counts().bytes / 4096
    }
}

#[test]
fn an_emptied_cache_comes_down() {
    let w = World::with_pages(4096);
    let all = w.fill(100_000);
    assert!(w.nr_pages() > 1600);
    let kicks = w.machine.counters().kick;
    drop(all);
    // Somebody has been told: nobody has to ask.
    assert!(w.raw.is_in_use());
    w.settle();
    assert!(w.machine.counters().kick > kicks);
    assert!(w.nr_pages() <= NR_PAGES_KEPT_MAX, "{} pages", w.nr_pages());
    assert!(!w.raw.is_in_use());
    // At rest it costs nothing.
    let kicks = w.machine.counters().kick;
    w.settle();
    assert_eq!(w.machine.counters().kick, kicks);
    // And it can be used again.
    let again = w.fill(1000);
    assert!(w.raw.is_in_use());
    drop(again);
    w.machine.assert_sound();
}

/// A CPU holds up to 128 free slots, of as many runs if they were freed in random order.
#[test]
fn what_cpus_hold_keeps_no_run() {
    let w = World::with_pages(4096);
    let mut all: Vec<Option<Preserved<_>>> = w.fill(100_000).into_iter().map(Some).collect();
    let nr = all.len();
    for cpu in [0, 1] {
        kpreserve_sim::set_cpu(cpu);
        // Every 787th, round and round: 787 is prime to their number.
        for i in (0..nr).filter(|i| i % 2 == cpu) {
            all[i * 787 % nr] = None;
        }
    }
    kpreserve_sim::set_cpu(0);
    w.settle();
    assert!(w.nr_pages() <= NR_PAGES_KEPT_MAX, "{} pages", w.nr_pages());
    w.machine.assert_sound();
}

/// All that is freed fits into a sheaf that was settled before: nothing slow happens but that it
/// opens.
#[test]
fn a_few_that_are_freed_late_are_noticed() {
    let w = World::with_pages(4096);
    let few = w.fill(8);
    w.settle();
    assert!(!w.raw.is_in_use());
    drop(few);
    assert!(w.raw.is_in_use());
    w.settle();
    assert_eq!(w.raw.nr_pages_empty(), w.nr_pages(), "a slot is held");
    w.machine.assert_sound();
}

/// Whole words neither come from a sheaf nor go to one.
#[test]
fn many_that_are_freed_at_once_are_noticed() {
    let w = World::with_pages(4096);
    let stays = w.alloc(1);
    w.settle();
    let mut many = kernel::alloc::KVec::new();
    let nr = NR_SLOTS - 1;
    w.cache
        .alloc_bulk(&mut many, nr, |i| record(i as u64), GFP_KERNEL)
        .unwrap();
    assert!(!w.raw.is_in_use());
    w.cache.free_bulk(&mut many);
    assert!(w.raw.is_in_use());
    drop(stays);
    w.settle();
    w.machine.assert_sound();
}

#[test]
fn what_goes_back_and_forth_is_kept() {
    let w = World::with_pages(4096);
    let stay = w.fill(50_000);
    let before = w.machine.counters();
    for _ in 0..20 {
        // A tenth more, and away again.
        drop(w.fill(5_000));
        w.settle();
    }
    let after = w.machine.counters();
    // It grew once.
    assert!(
        after.alloc - before.alloc < 20,
        "{}",
        after.alloc - before.alloc
    );
    assert_eq!(after.free, before.free);
    drop(stay);
}

/// Runs that the previous kernel left empty. Nobody touches them, nobody claims anything.
#[test]
fn what_was_left_empty_is_given_back() {
    let w = World::with_pages(1024);
    let stays = w.alloc(1);
    let many = w.fill(20_000);
    drop(many);
    let handle = stays.park();
    let w = w.reboot();
    // Counted anew in each boot.
    assert!(w.machine.counters().kick > 0, "nobody looks");
    w.raw.work().unwrap();
    // `counts()` touches slabs.
    assert!(w.nr_pages_out() < 40, "{} pages", w.nr_pages_out());
    assert!(w.raw.nr_pages_empty() <= NR_PAGES_KEPT_MAX);
    assert!(w.cache.claim(handle).is_ok());
    w.machine.assert_sound();
}

/// Each time the worker is woken it looks at a part.
#[test]
fn looking_over_is_bounded() {
    let w = World::with_pages(1024);
    let stays = w.fill(20_000);
    drop(stays);
    let w = w.reboot();
    let (before, mut nr) = (w.nr_pages_out(), 0);
    while w.raw.look_over(16) >= 16 {
        nr += 1;
        w.raw.release_empty().unwrap();
    }
    assert!(nr >= 20, "{nr} parts");
    assert_eq!(w.raw.look_over(16), 0);
    w.raw.release_empty().unwrap();
    assert!(w.nr_pages_out() < before / 4);
}

/// Every other slab became empty before the kexec; the objects of the others are claimed and freed.
#[test]
fn a_run_whose_objects_were_claimed_and_freed_is_given_back() {
    let w = World::with_pages(1024);
    let mut kept = Vec::new();
    for (i, object) in w.fill(20_000).into_iter().enumerate() {
        if i / NR_SLOTS % 2 == 0 {
            kept.push(object.park());
        }
    }
    let w = w.reboot();
    for handle in kept {
        drop(w.cache.claim(handle).unwrap());
    }
    w.settle();
    assert!(w.nr_pages_out() < 40, "{} pages", w.nr_pages_out());
    w.machine.assert_sound();
}

#[test]
fn finishing_nothing_wakes_the_worker() {
    let w = World::with_pages(1024);
    drop(w.fill(20_000));
    let w = w.reboot();
    let kicks = w.machine.counters().kick;
    assert_eq!(w.cache.finish(), 0);
    assert!(w.machine.counters().kick > kicks);
    w.raw.work().unwrap();
    assert!(w.nr_pages_out() < 40, "{} pages", w.nr_pages_out());
}

/// What the worker has looked into is adopted like anything else.
#[test]
fn looking_changes_nothing_for_owners() {
    let w = World::with_pages(1024);
    let handles = w.park(5_000);
    let w = w.reboot();
    w.raw.work().unwrap();
    assert_eq!(w.raw.counts().nr_objects, 5_000);
    for (id, handle) in handles.iter().enumerate().step_by(2) {
        assert_eq!(w.cache.claim(*handle).unwrap().park(), *handle, "{id}");
    }
    // Those that were claimed are not incoming any more.
    assert_eq!(w.cache.finish(), 2_500);
    assert_eq!(w.raw.counts().nr_objects, 2_500);
    let w = w.reboot();
    assert_eq!(w.raw.counts().nr_objects, 2_500);
    w.machine.assert_sound();
}

/// helpers.c drains no CPU that is isolated: its sheaf stays open, and what it frees is noticed all
/// the same.
#[test]
fn a_cpu_that_is_left_alone_is_noticed() {
    let w = World::with_pages(4096);
    kpreserve_sim::set_cpu(1);
    let all = w.fill(100_000);
    kpreserve_sim::set_cpu(0);
    w.raw.begin_settling();
    w.raw.drain_here();
    w.raw.work().unwrap();
    assert!(!w.raw.is_in_use());
    let kicks = w.machine.counters().kick;
    kpreserve_sim::set_cpu(1);
    drop(all);
    kpreserve_sim::set_cpu(0);
    assert!(w.machine.counters().kick > kicks, "nobody is told");
    w.raw.begin_settling();
    w.raw.drain_here();
    w.raw.work().unwrap();
    // And what its sheaf holds.
    assert!(w.nr_pages() < NR_PAGES_KEPT_MAX + 64, "{}", w.nr_pages());
}
