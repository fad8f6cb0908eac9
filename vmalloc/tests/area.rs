// SPDX-License-Identifier: GPL-2.0

//! Areas and vectors on the simulated machine: each errno, each undo, each cut, a reboot.

mod common;

use common::{
    log_says,
    small_folios,
    Boot, //
};
use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::{
    ArenaKind,
    Preservable,
    SharedU64, //
};
use kpreserve_vmalloc::{
    Area,
    PVec,
    RawArea, //
};

/// A generator that needs no crate (xorshift64): a number out of `0..below`.
fn random(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % below as u64) as usize
}

fn contents<T: Preservable + Copy>(area: &Area<T>) -> Vec<T> {
    area.iter().copied().collect()
}

// --- what a vector does -------------------------------------------------------------------------

fn agrees_with_vec<T>(make: impl Fn(u64) -> T, nr_steps: usize, seed: u64)
where
    T: Preservable + Copy + PartialEq + core::fmt::Debug,
{
    let boot = Boot::first();
    let mut vec = boot.vec::<T>(1);
    let mut model = Vec::<T>::new();
    let mut state = seed;
    for step in 0..nr_steps as u64 {
        match random(&mut state, 12) {
            0..=4 => {
                vec.push(make(step)).unwrap();
                model.push(make(step));
            }
            5 => assert_eq!(vec.pop().unwrap(), model.pop()),
            6 => {
                let more: Vec<T> = (0..random(&mut state, 90))
                    .map(|i| make(i as u64))
                    .collect();
                vec.extend_from_slice(&more).unwrap();
                model.extend_from_slice(&more);
            }
            7 => {
                let len = model.len() - random(&mut state, model.len() / 4 + 1);
                vec.truncate(len).unwrap();
                model.truncate(len);
            }
            8 => {
                let nr = random(&mut state, 40);
                vec.extend_zeroed(nr).unwrap();
                model.resize(model.len() + nr, T::new_zeroed());
            }
            9 => vec.shrink_to_fit().unwrap(),
            10 => vec.reserve(random(&mut state, 300)).unwrap(),
            _ => {
                let index = random(&mut state, model.len() + 2);
                let set = vec.set(index, make(!step));
                match model.get_mut(index) {
                    Some(element) => {
                        *element = make(!step);
                        assert_eq!(set, Ok(()));
                    }
                    None => assert_eq!(set, Err(EINVAL)),
                }
            }
        }
        assert_eq!(vec.len(), model.len());
        assert!(vec.capacity() >= vec.len());
        let index = random(&mut state, model.len() + 2);
        assert_eq!(vec.get(index), model.get(index));
    }
    assert_eq!(contents(&vec), model);
    assert_eq!(boot.nr_keys(), vec.nr_runs());
    let id = vec.raw().id();
    vec.discard().unwrap();
    assert_eq!(boot.ledger.retired(), [id]);
    assert_eq!(boot.nr_keys(), 0);
    assert_eq!(boot.nr_recorded(), 0);
}

#[test]
fn a_vector_agrees_with_vec() {
    agrees_with_vec(|n| n, 3000, 1);
    agrees_with_vec(|n| n as u8, 3000, 2);
    agrees_with_vec(|n| [n as u32; 7], 3000, 3);
    // Five pages hold no whole number of these.
    agrees_with_vec(|n| [n as u8; 2049], 400, 4);
}

#[test]
fn what_was_cut_off_comes_back_as_zeroes() {
    let boot = Boot::first();
    let mut vec = boot.vec::<[u8; 24]>(1);
    vec.extend_from_slice(&[[0xff; 24]; 1000]).unwrap();
    vec.truncate(10).unwrap();
    vec.pop().unwrap();
    let rest = vec.capacity() - vec.len();
    vec.extend_zeroed(rest).unwrap();
    assert!(vec.iter().skip(9).all(|element| *element == [0; 24]));
    assert!(vec.iter().take(9).all(|element| *element == [0xff; 24]));
}

#[test]
fn elements_do_not_move() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.push(7).unwrap();
    let before = core::ptr::from_ref(vec.get(0).unwrap());
    for n in 0..100_000 {
        vec.push(n).unwrap();
    }
    assert_eq!(before, core::ptr::from_ref(vec.get(0).unwrap()));
}

#[test]
fn counters_are_shared_by_reference() {
    let boot = Boot::first();
    let area = boot.area::<SharedU64>(1, 600);
    area.get(599).unwrap().fetch_add(3);
    assert_eq!(area.iter().map(SharedU64::load).sum::<u64>(), 3);
}

// --- runs ---------------------------------------------------------------------------------------

#[test]
fn runs_are_the_largest_that_the_request_fills() {
    let boot = Boot::first();
    let area = boot.area::<u8>(1, 64 << 20);
    assert_eq!(boot.orders(&area), [10; 16]);
    assert_eq!(area.capacity(), 64 << 20);
    let small = boot.area::<u8>(2, 7 * 4096 - 1);
    assert_eq!(boot.orders(&small), [2, 1, 0]);
    // The growth rule: of 8 MiB a sixteenth, rather than a page.
    let more = boot.area::<u8>(3, (8 << 20) + 1);
    assert_eq!(boot.orders(&more), [10, 10, 7]);
}

#[test]
fn fragmented_memory_gives_smaller_runs_and_the_same_area() {
    let boot = Boot::first();
    small_folios(&boot, 3);
    let mut area = boot.area::<u64>(1, 100_000);
    assert!(boot.orders(&area).iter().all(|&order| order <= 3));
    for (n, element) in area.iter_mut().enumerate() {
        *element = n as u64;
    }
    assert!((0..100_000).all(|n| area.get(n) == Some(&(n as u64))));
    assert_eq!(area.get(100_000), None);
}

#[test]
fn shrinking_gives_back_whole_runs_from_the_end() {
    let boot = Boot::first();
    let mut area = boot.area::<u8>(1, (4 << 20) + (2 << 20) + 4096);
    assert_eq!(boot.orders(&area), [10, 9, 6]);
    area.resize((4 << 20) + 1).unwrap();
    assert_eq!(boot.orders(&area), [10, 9]);
    assert_eq!(boot.nr_keys(), 2);
    area.resize(4 << 20).unwrap();
    assert_eq!(boot.orders(&area), [10]);
    area.resize(0).unwrap();
    assert_eq!(boot.nr_keys(), 0);
    assert_eq!(boot.nr_pages_used(), 0);
}

#[test]
fn a_growing_vector_takes_few_runs_and_wastes_little() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    for n in 0..2_000_000 {
        vec.push(n).unwrap();
    }
    assert!(vec.nr_runs() < 160, "{} runs", vec.nr_runs());
    assert!(vec.capacity() < vec.len() + vec.len() / 16 + 512);
}

// --- errors -------------------------------------------------------------------------------------

#[test]
fn out_of_range_is_none_or_einval() {
    let boot = Boot::first();
    let mut area = boot.area::<u8>(1, 10_000);
    assert_eq!(area.get(10_000), None);
    assert_eq!(area.get_mut(usize::MAX), None);
    assert_eq!(area.set(10_000, 1), Err(EINVAL));
    assert_eq!(area.read_at(9_999, &mut [0; 2]), Err(EINVAL));
    assert_eq!(area.read_at(usize::MAX, &mut [0; 2]), Err(EINVAL));
    assert_eq!(area.write_at(9_999, &[1; 2]), Err(EINVAL));
    assert_eq!(area.get(9_999), Some(&0));
    assert_eq!(area.read_at(10_000, &mut []), Ok(()));
    assert_eq!(area.read_at(10_001, &mut []), Err(EINVAL));
    assert!(area.chunks_from(10_000).next().is_none());
    assert!(area.chunks_from(usize::MAX).next().is_none());
}

#[test]
fn bytes_are_copied_across_runs() {
    let boot = Boot::first();
    small_folios(&boot, 1);
    let mut area = boot.area::<u8>(1, 50_000);
    assert!(area.nr_runs() > 5);
    let pattern: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
    area.write_at(5_000, &pattern).unwrap();
    let mut back = vec![0; 40_000];
    area.read_at(5_000, &mut back).unwrap();
    assert_eq!(back, pattern);
    assert_eq!(area.get(4_999), Some(&0));
    assert_eq!(area.get(45_000), Some(&0));
    let rest: Vec<u8> = area.chunks_from(5_000).flatten().copied().collect();
    assert_eq!(rest.len(), 45_000);
    assert_eq!(rest[..40_000], pattern);
}

#[test]
fn more_than_there_is_is_enomem_and_changes_nothing() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.extend_from_slice(&[1, 2, 3]).unwrap();
    let (keys, used) = (boot.nr_keys(), boot.nr_pages_used());
    let too_many = (boot.nr_pages_total() + 1) * 512;
    for additional in [usize::MAX, usize::MAX / 8, 1 << 59, too_many] {
        assert_eq!(vec.reserve(additional), Err(ENOMEM));
        assert_eq!(vec.extend_zeroed(additional), Err(ENOMEM));
        assert_eq!(vec.resize(additional), Err(ENOMEM));
        assert_eq!((boot.nr_keys(), boot.nr_pages_used()), (keys, used));
        assert_eq!(contents(&vec), [1, 2, 3]);
    }
}

#[test]
fn a_failure_at_any_step_leaves_the_area_as_it_was() {
    let mut nr_failures = 0;
    // A growth by several runs, of an area that has several; each call of the machine, each
    // allocation and each record may fail.
    for kind in common::FAULTS {
        for n in 1.. {
            let boot = Boot::first();
            small_folios(&boot, 4);
            let mut vec = boot.vec::<u64>(1);
            let old: Vec<u64> = (0..30_000).collect();
            vec.extend_from_slice(&old).unwrap();
            let before = (
                boot.nr_keys(),
                boot.nr_pages_used(),
                vec.capacity(),
                vec.nr_runs(),
            );

            boot.fail(kind, n);
            let result = vec.extend_zeroed(60_000);
            let struck = boot.stop_failing(kind);
            match result {
                Err(error) => {
                    nr_failures += 1;
                    assert_eq!(error, ENOMEM, "{kind:?} {n}");
                    let after = (
                        boot.nr_keys(),
                        boot.nr_pages_used(),
                        vec.capacity(),
                        vec.nr_runs(),
                    );
                    assert_eq!(before, after, "{kind:?} {n}");
                    assert_eq!(boot.nr_recorded(), vec.nr_runs());
                }
                Ok(()) => assert_eq!(vec.len(), 90_000),
            }
            assert_eq!(contents(&vec)[..30_000], old);
            // It works afterwards.
            vec.resize(90_000).unwrap();
            assert!(vec.iter().skip(30_000).all(|&element| element == 0));
            if !struck {
                break;
            }
        }
    }
    assert!(nr_failures > 10, "{nr_failures} failures");
}

#[test]
fn opening_survives_the_lack_of_memory() {
    for n in 1.. {
        let boot = Boot::first();
        let mut vec = boot.vec::<u64>(1);
        for n in 0..20_000 {
            vec.push(n).unwrap();
        }
        let nr_runs = vec.nr_runs();
        drop(vec);
        let arena = boot.reopen(1);
        boot.fail(common::Fault::Allocation, n);
        let result = PVec::<u64>::from_arena(arena, boot.ser(1));
        let struck = boot.stop_failing(common::Fault::Allocation);
        if let Err(error) = &result {
            assert_eq!(*error, ENOMEM);
            // Closed, whole.
            assert_eq!(boot.nr_closed(1), nr_runs);
            let again = PVec::<u64>::from_arena(boot.reopen(1), boot.ser(1)).unwrap();
            assert_eq!(again.len(), 20_000);
        }
        if !struck {
            assert!(result.is_ok() && n > 1);
            break;
        }
    }
}

#[test]
fn after_the_freeze_structure_is_busy_and_elements_are_not() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.extend_from_slice(&[1, 2, 3]).unwrap();
    let pass = vec.raw().enter().unwrap();
    drop(pass);
    boot.ledger.freeze();
    assert_eq!(vec.push(4), Err(EBUSY));
    assert_eq!(vec.pop(), Err(EBUSY));
    assert_eq!(vec.truncate(1), Err(EBUSY));
    assert_eq!(vec.extend_from_slice(&[4]), Err(EBUSY));
    assert_eq!(vec.extend_zeroed(1), Err(EBUSY));
    assert_eq!(vec.reserve(1), Err(EBUSY));
    assert_eq!(vec.shrink_to_fit(), Err(EBUSY));
    assert_eq!(vec.resize(1), Err(EBUSY));
    assert_eq!(vec.resize(1000), Err(EBUSY));
    assert!(vec.raw().enter().is_err());
    assert_eq!(contents(&vec), [1, 2, 3]);
    // The last completed store crosses.
    vec.set(1, 20).unwrap();
    *vec.get_mut(2).unwrap() = 30;
    assert_eq!(contents(&vec), [1, 20, 30]);
    assert_eq!(vec.discard(), Err(EBUSY));
    assert_eq!(boot.nr_closed(1), 1);

    boot.ledger.thaw();
    let mut vec = PVec::<u64>::from_arena(boot.reopen(1), boot.ser(1)).unwrap();
    vec.push(4).unwrap();
    assert_eq!(contents(&vec), [1, 20, 30, 4]);
}

#[test]
fn who_holds_a_pass_is_not_stopped_half_way() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    let pass = vec.raw().enter().unwrap();
    let ledger = boot.ledger;
    let freezer = std::thread::spawn(move || ledger.freeze());
    while vec.push(0).is_ok() {
        std::thread::yield_now();
    }
    // Frozen for others; the freezer waits for us.
    vec.truncate_with(&pass, 0);
    vec.extend_from_slice_with(&pass, &[5; 2000]).unwrap();
    vec.push_with(&pass, 6).unwrap();
    assert_eq!(vec.pop_with(&pass), Some(6));
    vec.extend_zeroed_with(&pass, 1).unwrap();
    vec.resize_with(&pass, 7).unwrap();
    assert!(!freezer.is_finished());
    drop(pass);
    freezer.join().unwrap();
    assert_eq!(contents(&vec), [5; 7]);
}

// --- views --------------------------------------------------------------------------------------

#[test]
fn a_single_run_needs_no_mapping() {
    let boot = Boot::first();
    let mut area = boot.area::<[u8; 48]>(1, 80);
    assert_eq!(area.nr_runs(), 1);
    area.set(79, [9; 48]).unwrap();
    let view = area.map().unwrap();
    assert_eq!(boot.nr_mappings(), 0);
    assert_eq!(view.len(), 80);
    assert_eq!(view[79], [9; 48]);
}

#[test]
fn several_runs_are_mapped_and_unmapped() {
    let boot = Boot::first();
    small_folios(&boot, 2);
    let mut area = boot.area::<u64>(1, 10_000);
    assert!(area.nr_runs() > 2);
    {
        let mut view = area.map_mut().unwrap();
        assert_eq!(boot.nr_mappings(), 1);
        assert_eq!(view.len(), 10_000);
        for (n, element) in view.iter_mut().enumerate() {
            *element = n as u64;
        }
    }
    assert_eq!(boot.nr_mappings(), 0);
    assert!((0..10_000).all(|n| area.get(n) == Some(&(n as u64))));
    let view = area.map().unwrap();
    assert!(view.iter().copied().eq(0..10_000));
    assert!(area.iter().eq(view.iter()));
}

#[test]
fn spare_runs_are_not_mapped() {
    let boot = Boot::first();
    small_folios(&boot, 0);
    let mut vec = boot.vec::<u64>(1);
    vec.push(1).unwrap();
    vec.reserve(10_000).unwrap();
    assert!(vec.nr_runs() > 2);
    let view = vec.map().unwrap();
    assert_eq!(boot.nr_mappings(), 0);
    assert_eq!(view[..], [1]);
}

#[test]
fn holes_cannot_be_mapped() {
    let boot = Boot::first();
    small_folios(&boot, 0);
    let area = boot.area::<[u8; 24]>(1, 1000);
    assert_eq!(area.map().err(), Some(EINVAL));
    // A hole behind the last element is none.
    let mut one = boot.area::<[u8; 24]>(2, 100);
    assert_eq!(one.map_mut().unwrap().len(), 100);
    let empty = boot.vec::<[u8; 24]>(3);
    assert_eq!(empty.map().unwrap().len(), 0);
}

#[test]
fn no_room_for_a_mapping_is_enomem() {
    for kind in [common::Fault::Allocation, common::Fault::Machine] {
        let boot = Boot::first();
        small_folios(&boot, 0);
        let mut area = boot.area::<u64>(1, 10_000);
        boot.fail(kind, 1);
        assert_eq!(area.map().err(), Some(ENOMEM));
        boot.fail(kind, 1);
        assert_eq!(area.map_mut().err(), Some(ENOMEM));
        boot.stop_failing(kind);
        assert_eq!(boot.nr_mappings(), 0);
        assert!(area.map().is_ok());
    }
}

// --- closing, and the next kernel ---------------------------------------------------------------

#[test]
fn closing_gives_nothing_up() {
    let boot = Boot::first();
    let area = boot.area::<u64>(1, 5_000);
    let (keys, used) = (boot.nr_keys(), boot.nr_pages_used());
    drop(area);
    assert_eq!((boot.nr_keys(), boot.nr_pages_used()), (keys, used));
    let area = Area::<u64>::from_arena(boot.reopen(1), boot.ser(1)).unwrap();
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
        let mut vec = PVec::<[u32; 5]>::from_arena(boot.reopen(1), boot.ser(1)).unwrap();
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
    // The same number of runs, a thousand times as many elements: the same cost.
    let cost = |order: u8| {
        let boot = Boot::first();
        small_folios(&boot, order);
        let len = 20 * (4096usize << order);
        drop(boot.area::<u8>(1, len));
        let boot = boot.reboot();
        let arena = boot.reopen(1);
        let before = boot.nr_calls();
        kernel::fault::fail_nth_allocation(None);
        let area = Area::<u8>::from_arena(arena, boot.ser(1)).unwrap();
        assert_eq!((area.len(), area.nr_runs()), (len, 20));
        assert_eq!(boot.nr_mappings(), 0);
        // Not one call of the machine.
        assert_eq!(boot.nr_calls(), before);
        kernel::fault::nr_allocations()
    };
    assert_eq!(cost(0), cost(10));
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
    let mut vec = PVec::<u64>::from_arena(boot.reopen(1), boot.ser(1)).unwrap();
    assert_eq!(vec.len(), 10);
    vec.push(1).unwrap();
    vec.extend_zeroed(vec.capacity() - 11 + 600).unwrap();
    assert_eq!(
        contents(&vec)[..11],
        [[0xdead; 10].as_slice(), &[1]].concat()
    );
    assert!(vec.iter().skip(11).all(|&element| element == 0));
}

#[test]
fn a_cut_at_any_store_leaves_the_old_or_the_new_state() {
    let make = |n: u64| [n; 3];
    let script = |vec: &mut PVec<[u64; 3]>, states: &mut dyn FnMut(&PVec<[u64; 3]>)| {
        for n in 0..40 {
            vec.push(make(n)).unwrap();
            states(vec);
        }
        vec.extend_from_slice(&[make(77); 500]).unwrap();
        states(vec);
        vec.truncate(100).unwrap();
        states(vec);
        vec.pop().unwrap();
        states(vec);
        vec.extend_zeroed(400).unwrap();
        states(vec);
        vec.truncate(50).unwrap();
        states(vec);
        vec.shrink_to_fit().unwrap();
        states(vec);
    };
    // The states that there are between two operations.
    let boot = Boot::first();
    let mut vec = boot.vec::<[u64; 3]>(1);
    let mut states = vec![Vec::new()];
    script(&mut vec, &mut |vec| states.push(contents(vec)));
    drop(vec);

    let mut nr_cuts = 0;
    for n in 1.. {
        let boot = Boot::first();
        let mut vec = boot.vec::<[u64; 3]>(1);
        let Some(cut) = boot.cut_at(n, || script(&mut vec, &mut |_| ())) else {
            break;
        };
        let boot = cut.reboot();
        let vec = PVec::<[u64; 3]>::from_arena(boot.reopen(1), boot.ser(1)).unwrap();
        let found = contents(&vec);
        assert!(states.contains(&found), "cut {n}: {} elements", found.len());
        nr_cuts += 1;
    }
    assert!(nr_cuts >= 45, "{nr_cuts} cuts");
}

// --- refusals -----------------------------------------------------------------------------------

/// Opens an area whose descriptor or runs were changed; it must be refused, naming the field, and
/// nothing may be lost.
fn refused(field: &str, change: impl Fn(&Boot)) {
    let boot = Boot::first();
    small_folios(&boot, 1);
    let mut area = boot.area::<u64>(1, 3_000);
    area.set(0, 42).unwrap();
    let nr_runs = area.nr_runs();
    assert!(nr_runs >= 3);
    drop(area);
    let (keys, used) = (boot.nr_keys(), boot.nr_pages_used());
    change(&boot);
    let _ = kernel::print::take_complaints();
    let result = RawArea::new(boot.reopen(1), boot.ser(1));
    assert_eq!(result.err(), Some(EINVAL), "{field}");
    assert!(log_says(field), "{field}");
    assert_eq!(boot.nr_closed(1), nr_runs, "{field}");
    assert_eq!(
        (boot.nr_keys(), boot.nr_pages_used()),
        (keys, used),
        "{field}"
    );
}

#[test]
fn a_hostile_descriptor_or_run_list_is_refused() {
    refused("ArenaSer at 0x1: len is", |boot| {
        boot.ser(1).len.store(3_073)
    });
    refused("ArenaSer at 0x1: len is", |boot| {
        boot.ser(1).len.store(u64::MAX)
    });
    refused("kind is 0x1", |boot| {
        boot.change(1, |ser| ser.kind = ArenaKind::Cache as u32)
    });
    refused("id is 0x9", |boot| boot.change(1, |ser| ser.id = 9));
    refused("stride_bytes is 0x0", |boot| {
        boot.change(1, |ser| ser.stride_bytes = 0)
    });
    refused("stride_bytes is 0xffffffff", |boot| {
        boot.change(1, |ser| ser.stride_bytes = u32::MAX);
    });
    refused(
        "RunSer at 0x0: order is 0x1, expected at least 0x9",
        |boot| {
            boot.change(1, |ser| ser.stride_bytes = 2 << 20);
        },
    );
    refused("nr_slots is 0x1", |boot| {
        boot.change(1, |ser| ser.nr_slots = 1)
    });
    // A gap, a duplicate, another order, a number beyond all.
    refused("index is 0x2, expected exactly 0x1", |boot| {
        boot.ledger.renumber(1, 1, 2)
    });
    refused("index is 0x0, expected exactly 0x1", |boot| {
        boot.ledger.renumber(1, 1, 0)
    });
    refused("index is 0x1, expected exactly 0x0", |boot| {
        boot.ledger.renumber(1, 0, 1)
    });
    refused("index is 0xffffffff", |boot| {
        boot.ledger.renumber(1, 2, u32::MAX)
    });
}

#[test]
fn elements_of_another_size_are_einval() {
    let boot = Boot::first();
    drop(boot.area::<u64>(1, 3));
    assert_eq!(
        Area::<u32>::from_arena(boot.reopen(1), boot.ser(1)).err(),
        Some(EINVAL)
    );
    assert_eq!(boot.nr_closed(1), 1);
    assert!(Area::<i64>::from_arena(boot.reopen(1), boot.ser(1)).is_ok());
}
