// SPDX-License-Identifier: GPL-2.0

//! Views: mapped when they must be, and no longer than they live.

use kernel::prelude::*;

use crate::common::{
    Boot,
    Fault, //
};

#[test]
fn a_single_run_needs_no_mapping() {
    let boot = Boot::first();
    let mut area = boot.area::<[u8; 48]>(1, 80);
    assert_eq!(area.nr_runs(), 1);
    area.set(79, [9; 48]).unwrap();
    let view = area.map().unwrap();
    assert_eq!(boot.counters().mappings, 0);
    assert_eq!(view.len(), 80);
    assert_eq!(view[79], [9; 48]);
}

#[test]
fn several_runs_are_mapped_and_unmapped() {
    let boot = Boot::with(4096, 2);
    let mut area = boot.area::<u64>(1, 10_000);
    assert!(area.nr_runs() > 2);
    {
        let mut view = area.map_mut().unwrap();
        assert_eq!(boot.counters().mappings, 1);
        assert_eq!(view.len(), 10_000);
        for (n, element) in view.iter_mut().enumerate() {
            *element = n as u64;
        }
    }
    assert_eq!(boot.counters().mappings, 0);
    assert!((0..10_000).all(|n| area.get(n) == Some(&(n as u64))));
    let view = area.map().unwrap();
    assert!(view.iter().copied().eq(0..10_000));
    assert!(area.iter().eq(view.iter()));
}

#[test]
fn spare_runs_are_not_mapped() {
    let boot = Boot::with(4096, 2);
    let mut vec = boot.vec::<u64>(1);
    vec.push(1).unwrap();
    vec.reserve(10_000).unwrap();
    assert!(vec.nr_runs() > 2);
    let view = vec.map().unwrap();
    assert_eq!(boot.counters().mappings, 0);
    assert_eq!(view[..], [1]);
}

#[test]
fn holes_cannot_be_mapped() {
    let boot = Boot::with(4096, 2);
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
    for kind in [Fault::Allocation, Fault::Machine] {
        let boot = Boot::with(4096, 2);
        let mut area = boot.area::<u64>(1, 10_000);
        boot.fail(kind, 1);
        assert_eq!(area.map().err(), Some(ENOMEM));
        boot.fail(kind, 1);
        assert_eq!(area.map_mut().err(), Some(ENOMEM));
        boot.stop_failing();
        assert_eq!(boot.counters().mappings, 0);
        assert!(area.map().is_ok());
    }
}
