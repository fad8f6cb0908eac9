// SPDX-License-Identifier: GPL-2.0

//! Each errno, and that the area is as it was.

use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::Ledger;
use kpreserve_vmalloc::PVec;

use crate::common::{
    contents,
    Boot,
    Fault, //
};

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
    let boot = Boot::with(4096, 2);
    let mut area = boot.area::<u8>(1, 50_000);
    assert!(area.nr_runs() >= 4);
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
    let held = boot.held();
    let too_many = (boot.machine.config().nr_pages + 1) * 512;
    for additional in [usize::MAX, usize::MAX / 8, 1 << 59, too_many] {
        assert_eq!(vec.reserve(additional), Err(ENOMEM));
        assert_eq!(vec.extend_zeroed(additional), Err(ENOMEM));
        assert_eq!(vec.resize(additional), Err(ENOMEM));
        assert_eq!(boot.held(), held);
        assert_eq!(contents(&vec), [1, 2, 3]);
    }
}

#[test]
fn a_failure_at_any_step_leaves_the_area_as_it_was() {
    let mut nr_failures = 0;
    // A growth by several runs, of an area that has several; each call of the machine, each
    // allocation and each record may fail.
    for kind in Fault::ALL {
        for n in 1.. {
            let boot = Boot::with(1024, 4);
            let mut vec = boot.vec::<u64>(1);
            let old: Vec<u64> = (0..30_000).collect();
            vec.extend_from_slice(&old).unwrap();
            let before = (boot.held(), vec.capacity(), vec.nr_runs(), vec.len());

            boot.fail(kind, n);
            let result = vec.extend_zeroed(60_000);
            boot.stop_failing();
            if let Err(error) = result {
                nr_failures += 1;
                assert_eq!(error, ENOMEM, "{kind:?} {n}");
                let after = (boot.held(), vec.capacity(), vec.nr_runs(), vec.len());
                assert_eq!(before, after, "{kind:?} {n}");
            }
            assert_eq!(contents(&vec)[..30_000], old);
            // It works afterwards.
            vec.resize(90_000).unwrap();
            assert!(vec.iter().skip(30_000).all(|&element| element == 0));
            // Beyond the last of its kind, or a failure that a smaller run made good.
            if result.is_ok() && n > 60 {
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
        let arena = boot.arena(1);
        boot.fail(Fault::Allocation, n);
        let result = PVec::<u64>::from_arena(arena, boot.ser(1));
        boot.stop_failing();
        match result {
            Err(error) => {
                assert_eq!(error, ENOMEM);
                // Closed, whole.
                assert_eq!(boot.nr_closed(1), nr_runs);
                assert_eq!(boot.reopen::<u64>(1).len(), 20_000);
            }
            Ok(_) => {
                assert!(n > 2);
                break;
            }
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
    boot.ledger.gate().freeze();
    // Pushing goes on into the run that elements were added to last.
    assert_eq!(vec.push(4), Ok(()));
    while vec.push(5).is_ok() {}
    assert_eq!(vec.len(), 512);
    assert_eq!(vec.push(6), Err(EBUSY));
    assert_eq!(vec.pop(), Err(EBUSY));
    assert_eq!(vec.truncate(1), Err(EBUSY));
    assert_eq!(vec.extend_from_slice(&[4]), Err(EBUSY));
    assert_eq!(vec.extend_zeroed(1), Err(EBUSY));
    assert_eq!(vec.reserve(1), Err(EBUSY));
    assert_eq!(vec.shrink_to_fit(), Err(EBUSY));
    assert_eq!(vec.resize(1), Err(EBUSY));
    assert_eq!(vec.resize(1000), Err(EBUSY));
    assert!(vec.raw().enter().is_err());
    assert_eq!(contents(&vec)[..5], [1, 2, 3, 4, 5]);
    assert_eq!(vec.len(), 512);
    // The last completed store crosses.
    vec.set(1, 20).unwrap();
    *vec.get_mut(2).unwrap() = 30;
    assert_eq!(contents(&vec)[..4], [1, 20, 30, 4]);
    assert_eq!(vec.discard(), Err(EBUSY));
    assert_eq!(boot.nr_closed(1), 1);

    boot.ledger.gate().thaw();
    let mut vec = boot.reopen::<u64>(1);
    vec.push(6).unwrap();
    assert_eq!(contents(&vec)[..4], [1, 20, 30, 4]);
    assert_eq!(vec.get(512), Some(&6));
}

#[test]
fn who_holds_a_pass_is_not_stopped_half_way() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    let pass = vec.raw().enter().unwrap();
    let ledger = boot.ledger;
    let freezer = std::thread::spawn(move || ledger.gate().freeze());
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
