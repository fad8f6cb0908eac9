// SPDX-License-Identifier: GPL-2.0

//! Machines to which memory was added after boot, of which the next kernel knows nothing: nothing
//! that crosses comes to lie there. The simulated machine calls it a violation to preserve such a
//! run, and one to boot with it.
//!
//! Tried against code that was broken on purpose (kho/early.rs):
//!
//! | broken | noticed by |
//! | --- | --- |
//! | what the allocator gives is not looked at (the tree before) | all but `no_look_costs_a_call` |
//! | the zone below is not tried | `a_zone_below_is_used_at_once` |
//! | what is reserved below is not looked at | `the_zone_below_is_left_to_others` |
//! | nothing is kept aside | `memory_of_one_zone_is_mixed` |
//! | what was kept aside is not freed | `nothing_stays_aside`, `tries_are_bounded` |
//! | nodes are not tried | `a_node_of_added_memory_only` |
//! | what was found is not zeroed | `a_run_is_zeroed_wherever_it_comes_from` |
//! | no bound of what is kept aside | `tries_are_bounded` |

use std::vec::Vec;

use kernel::prelude::{
    ENOMEM,
    GFP_KERNEL, //
};
use kpreserve::{
    Cache,
    Handle,
    Open as _,
    PVec, //
};
use kpreserve_kho::phys::{
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::{
    Effort,
    Node,
    PageRun,
    PageSource as _, //
};
use kpreserve_sim::{
    Config,
    SimMachine, //
};

mod framework_common;

use framework_common::up;

/// Pages of the largest run.
const LARGEST: usize = 1 << MAX_ORDER;

/// 16 MiB of which 12 were added, in a zone above the 4 of boot.
fn zones() -> Config {
    Config {
        added: LARGEST..4 * LARGEST,
        added_first: true,
        nr_low_pages: LARGEST,
        ..Config::with_pages(4 * LARGEST)
    }
}

/// The same in one zone.
fn mixed() -> Config {
    Config {
        added_first: false,
        nr_low_pages: 0,
        ..zones()
    }
}

fn run(
    machine: &'static SimMachine,
    order: u8,
) -> kernel::error::Result<PageRun<kpreserve_kho::run::Owned>> {
    PageRun::alloc(machine, order, Node::ANY, Effort::Full)
}

#[test]
fn no_look_costs_a_call() {
    let machine = SimMachine::boot(Config::default());
    let _runs: Vec<_> = (0..100).map(|_| run(machine, 0).unwrap()).collect();
    let counters = machine.counters();
    assert_eq!(
        (counters.alloc, counters.free, counters.met_added),
        (100, 0, 0)
    );
}

#[test]
fn a_zone_below_is_used_at_once() {
    let machine = SimMachine::boot(zones());
    let runs: Vec<_> = (0..100).map(|_| run(machine, 0).unwrap()).collect();
    assert!(runs.iter().all(|run| machine.is_early(run.phys())));
    let counters = machine.counters();
    assert_eq!((counters.alloc, counters.free), (200, 100));
    assert_eq!(counters.met_added, 100);
}

/// The estimate says that there is nothing below for callers that can use other memory.
#[test]
fn the_zone_below_is_left_to_others() {
    let machine = SimMachine::boot(Config {
        nr_low_pages_kept: LARGEST,
        ..zones()
    });
    assert_eq!(run(machine, 0).err(), Some(ENOMEM));
    assert_eq!(machine.counters().pages_out, 0);
}

#[test]
fn memory_of_one_zone_is_mixed() {
    let machine = SimMachine::boot(Config {
        percent_taken: 50,
        ..mixed()
    });
    let runs: Vec<_> = (0..200).map(|_| run(machine, 0).unwrap()).collect();
    assert!(runs.iter().all(|run| machine.is_early(run.phys())));
    assert_eq!(machine.counters().pages_out, 200);
}

/// All that was there at boot is found, however little it is; then it is ENOMEM, and nothing stays
/// aside.
#[test]
fn nothing_stays_aside() {
    for config in [zones(), mixed()] {
        for order in [0, 3, MAX_ORDER] {
            let machine = SimMachine::boot(Config {
                added: LARGEST..LARGEST + LARGEST / 4,
                nr_pages: LARGEST + LARGEST / 4,
                ..config.clone()
            });
            let mut runs = Vec::new();
            let error = loop {
                match run(machine, order) {
                    Ok(run) => runs.push(run),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, ENOMEM);
            assert_eq!(runs.len(), LARGEST >> order);
            assert!(runs.iter().all(|run| machine.is_early(run.phys())));
            drop(runs);
            assert_eq!(machine.counters().pages_out, 0);
            assert_eq!(machine.nr_free_pages(), LARGEST + LARGEST / 4);
            machine.assert_sound();
        }
    }
}

/// Where nearly all memory was added, no request takes all of it aside.
#[test]
fn tries_are_bounded() {
    let nr_pages = 64 * LARGEST;
    for (order, nr_calls_max) in [(0, 8200), (MAX_ORDER, 40)] {
        let machine = SimMachine::boot(Config {
            added: LARGEST..nr_pages,
            nr_scratch_pages: LARGEST,
            poisons: false,
            ..Config::with_pages(nr_pages)
        });
        assert_eq!(run(machine, order).err(), Some(ENOMEM));
        let counters = machine.counters();
        assert!(counters.alloc > 30, "{counters:?}");
        assert!(counters.alloc < nr_calls_max, "{counters:?}");
        assert_eq!((counters.pages_out, counters.free), (0, counters.alloc));
    }
}

#[test]
fn a_node_of_added_memory_only() {
    let nr_pages = 64 * LARGEST;
    let machine = SimMachine::boot(Config {
        added: LARGEST..nr_pages,
        nr_nodes: 2,
        poisons: false,
        ..Config::with_pages(nr_pages)
    });
    let run = PageRun::alloc(machine, 4, Node(1), Effort::Light).unwrap();
    assert!(machine.is_early(run.phys()));
    drop(run);
    assert_eq!(machine.counters().pages_out, 0);
}

#[test]
fn a_run_is_zeroed_wherever_it_comes_from() {
    for config in [zones(), mixed()] {
        let machine = SimMachine::boot(config);
        for order in [0, 5] {
            let run = run(machine, order).unwrap();
            let mut bytes = vec![0xff; PAGE_SIZE_BYTES << order];
            machine.read_phys(run.phys(), &mut bytes);
            assert!(bytes.iter().all(|&byte| byte == 0));
        }
    }
}

kpreserve::preservable! {
    /// An eighth of a page.
    pub struct EighthSer {
        /// Anything.
        pub words: [u64; 60],
    }
    compatible = "test-eighth", version = 1
}

/// The whole framework: what was made crosses, twice, on machines of both kinds.
#[test]
fn everything_crosses() {
    let seeded = |seed| Config { seed, ..mixed() };
    let mut nr_met = 0;
    for config in [zones(), seeded(1), seeded(2), seeded(3), seeded(4)] {
        let machine = SimMachine::boot(config);
        let framework = up(machine);
        let cache = Cache::<EighthSer>::open_in(framework, c"objects", GFP_KERNEL).unwrap();
        let mut handles =
            PVec::<Handle<EighthSer>>::open_in(framework, c"handles", GFP_KERNEL).unwrap();
        for number in 0..2000 {
            let words = [number; 60];
            let object = cache.alloc(EighthSer { words }, GFP_KERNEL).unwrap();
            handles.push(object.park()).unwrap();
        }
        nr_met += u64::from(machine.counters().met_added > 0);
        machine.assert_sound();
        core::mem::forget((cache, handles));
        let machine = machine.reboot();
        machine.assert_sound();
        let framework = up(machine);
        let cache = Cache::<EighthSer>::open_in(framework, c"objects", GFP_KERNEL).unwrap();
        let handles =
            PVec::<Handle<EighthSer>>::open_in(framework, c"handles", GFP_KERNEL).unwrap();
        assert_eq!(handles.len(), 2000);
        for (number, &handle) in handles.iter().enumerate() {
            let object = cache.claim(handle).unwrap();
            assert_eq!(object.words, [number as u64; 60]);
            object.park();
        }
        machine.assert_sound();
    }
    assert!(nr_met >= 2, "{nr_met} machines had a reason to look twice");
}
