// SPDX-License-Identifier: GPL-2.0

//! Closing, the next kernel, and cuts at each step.

use std::vec::Vec;

use kpreserve_sim::Recorder;
use kpreserve_vmalloc::{
    Area,
    PVec, //
};

use crate::common::{
    contents,
    Boot, //
};

#[test]
fn closing_gives_nothing_up() {
    let boot = Boot::first();
    let area = boot.area::<u64>(1, 5_000);
    let held = boot.held();
    drop(area);
    assert_eq!(boot.held(), held);
    let area = Area::<u64>::from_arena(boot.arena(1), boot.ser(1)).unwrap();
    assert_eq!(area.len(), 5_000);
    assert!(boot.ledger.retired().is_empty());
}

#[test]
fn the_next_kernel_finds_it_and_goes_on() {
    let mut boot = Boot::first();
    let mut vec = boot.vec::<[u32; 5]>(1);
    for n in 0..50_000 {
        vec.push([n; 5]).unwrap();
    }
    let handle = vec.handle();
    let nr_runs = vec.nr_runs();
    core::mem::forget(vec);
    for generation in 0..3 {
        boot = boot.reboot();
        let mut vec = boot.reopen::<[u32; 5]>(1);
        assert_eq!(vec.handle(), handle);
        assert_eq!(vec.len(), 50_000);
        assert!(vec.nr_runs() >= nr_runs);
        assert!((0..50_000).all(|n| vec.get(n) == Some(&[n as u32; 5])));
        for n in 0..10_000 {
            vec.push([n; 5]).unwrap();
        }
        if generation == 1 {
            // Without the reference: as if the machine had been stopped in between.
            vec.truncate(50_000).unwrap();
            core::mem::forget(vec);
        } else {
            vec.truncate(50_000).unwrap();
            vec.shrink_to_fit().unwrap();
        }
    }
}

#[test]
fn adoption_costs_by_the_run() {
    // As many runs, 32 times as many elements: the same cost.
    let cost = |order: u8| {
        let boot = Boot::with(4096, order);
        let len = 20 * (4096usize << order);
        drop(boot.area::<u8>(1, len));
        let boot = boot.reboot();
        let arena = boot.arena(1);
        let before = boot.counters().calls();
        kernel::fault::fail_nth_allocation(None);
        let area = Area::<u8>::from_arena(arena, boot.ser(1)).unwrap();
        assert_eq!((area.len(), area.nr_runs()), (len, 20));
        assert_eq!(boot.counters().mappings, 0);
        // Not one call of the machine.
        assert_eq!(boot.counters().calls(), before);
        kernel::fault::nr_allocations()
    };
    assert_eq!(cost(2), cost(7));
}

#[test]
fn what_a_cut_left_behind_the_end_does_not_come_up_again() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.extend_from_slice(&[0xdead; 300]).unwrap();
    // As if the machine had been stopped between the retraction and the clearing.
    core::mem::forget(vec);
    boot.ser(1).len.store(10);
    let boot = boot.reboot();
    let mut vec = boot.reopen::<u64>(1);
    assert_eq!(vec.len(), 10);
    vec.push(1).unwrap();
    vec.extend_zeroed(vec.capacity() - 11 + 600).unwrap();
    assert_eq!(
        contents(&vec)[..11],
        [[0xdead; 10].as_slice(), &[1]].concat()
    );
    assert!(vec.iter().skip(11).all(|&element| element == 0));
}

type Element = [u64; 3];

/// Works on a vector, and says after each operation that it is done.
type Script = fn(&mut PVec<Element>, &mut dyn FnMut(&PVec<Element>));

/// Records `script`; whatever the cut, the next kernel must find what was there before an operation or after it.
fn cut_at_each_step(nr_torn: usize, script: Script) {
    let boot = Boot::with(256, 10);
    let mut vec = boot.vec::<Element>(1);
    let mut states = vec![Vec::new()];
    let recorder = Recorder::start(boot.machine).torn(nr_torn);
    script(&mut vec, &mut |vec| {
        states.push(contents(vec));
        recorder.phase(states.len() - 1);
    });
    let cuts = recorder.finish();
    drop(vec);
    assert!(cuts.len() > states.len());
    for cut in &cuts {
        let next = Boot::after(&cut.image);
        let mut vec = next.reopen::<Element>(1);
        let found = contents(&vec);
        let may_be = &states[cut.phase..states.len().min(cut.phase + 2)];
        assert!(
            may_be.contains(&found),
            "{}: {} elements",
            cut.step,
            found.len()
        );
        // Whatever lies behind, zeroed elements are zero.
        let len = vec.len();
        vec.extend_zeroed(vec.capacity() - len + 1).unwrap();
        assert!(
            vec.iter().skip(len).all(|element| *element == [0; 3]),
            "{}",
            cut.step
        );
        vec.discard().unwrap();
        assert_eq!(next.ledger.nr_records(), 0);
        next.machine.power_off();
    }
}

#[test]
fn a_cut_while_growing_leaves_the_old_or_the_new_state() {
    cut_at_each_step(4, |vec, done| {
        for n in 1..40 {
            vec.push([n; 3]).unwrap();
            done(vec);
        }
        vec.extend_from_slice(&[[77; 3]; 500]).unwrap();
        done(vec);
        vec.extend_zeroed(400).unwrap();
        done(vec);
        vec.reserve(1000).unwrap();
        done(vec);
        vec.push([5; 3]).unwrap();
        done(vec);
    });
}

#[test]
fn a_cut_while_shrinking_leaves_the_old_or_the_new_state() {
    cut_at_each_step(0, |vec, done| {
        vec.extend_from_slice(&[[77; 3]; 1500]).unwrap();
        done(vec);
        vec.truncate(500).unwrap();
        done(vec);
        vec.pop().unwrap();
        done(vec);
        vec.extend_zeroed(400).unwrap();
        done(vec);
        vec.truncate(50).unwrap();
        done(vec);
        vec.shrink_to_fit().unwrap();
        done(vec);
        vec.resize(900).unwrap();
        done(vec);
        vec.resize(0).unwrap();
        done(vec);
    });
}
