// SPDX-License-Identifier: GPL-2.0

//! Descriptors and run lists that make no area.

use kernel::prelude::*;
use kpreserve_kho::{
    ArenaKind,
    ArenaSer,
    Ledger, //
};
use kpreserve_vmalloc::{
    Area,
    RawArea, //
};

use crate::common::{
    log_says,
    Boot, //
};

/// Opens area 1, which has three runs, after `damage`; it must be refused with a line that
/// contains `complaint`, and nothing may be lost.
fn refused(complaint: &str, damage: impl Fn(&Boot)) {
    let boot = Boot::with(256, 2);
    let mut area = boot.area::<u64>(1, 5_000);
    area.set(0, 42).unwrap();
    let nr_runs = area.nr_runs();
    assert_eq!(nr_runs, 3);
    drop(area);
    damage(&boot);
    let held = boot.held();
    let _ = kernel::print::take_complaints();
    let result = RawArea::new(boot.arena(1), boot.ser(1));
    assert_eq!(result.err(), Some(EINVAL), "{complaint}");
    let log = kernel::print::take_complaints();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].contains(complaint), "{log:?}");
    assert_eq!(boot.nr_closed(1), nr_runs, "{complaint}");
    assert_eq!(boot.held(), held, "{complaint}");
}

fn refused_descriptor(complaint: &str, damage: impl Fn(&mut ArenaSer)) {
    refused(complaint, |boot| {
        let mut ser = boot.ser(1).snapshot();
        damage(&mut ser);
        boot.ledger.describe(1, ser);
    });
}

fn refused_run(complaint: &str, nth: usize, index: u32) {
    refused(complaint, |boot| {
        let mut runs = boot.arena(1).into_runs();
        runs[nth].index = index;
        // SAFETY: nobody uses the arena any more.
        unsafe { boot.ledger.close(1, runs) };
    });
}

#[test]
fn a_hostile_descriptor_is_refused() {
    refused_descriptor(
        "ArenaSer at 0x1: len is 0x1401, expected at most 0x1400",
        |ser| {
            ser.len.store(5_121);
        },
    );
    refused_descriptor("len is 0xffffffffffffffff", |ser| ser.len.store(u64::MAX));
    refused_descriptor("kind is 0x1", |ser| ser.kind = ArenaKind::Cache as u32);
    refused_descriptor("stride_bytes is 0x0", |ser| ser.stride_bytes = 0);
    refused_descriptor("stride_bytes is 0xffffffff", |ser| {
        ser.stride_bytes = u32::MAX
    });
    refused_descriptor("order is 0x2, expected at least 0x9", |ser| {
        ser.stride_bytes = 2 << 20
    });
    refused_descriptor("nr_slots is 0x1", |ser| ser.nr_slots = 1);
    refused_descriptor("pending is 0x1401, expected at most 0x1400", |ser| {
        ser.pending.store(5_121)
    });
}

#[test]
fn the_descriptor_of_another_arena_is_refused() {
    let boot = Boot::first();
    drop(boot.area::<u64>(1, 3));
    drop(boot.area::<u64>(2, 3));
    assert_eq!(RawArea::new(boot.arena(1), boot.ser(2)).err(), Some(EINVAL));
    assert!(log_says("id is 0x2, expected exactly 0x1"));
}

#[test]
fn a_hostile_run_list_is_refused() {
    // A gap, duplicates, disorder, a number beyond all.
    refused_run("index is 0x2, expected exactly 0x1", 1, 2);
    refused_run("index is 0x0, expected exactly 0x1", 1, 0);
    refused_run("index is 0x1, expected exactly 0x0", 0, 1);
    refused_run("index is 0xffffffff", 2, u32::MAX);
}

#[test]
fn elements_of_another_size_are_einval() {
    let boot = Boot::first();
    drop(boot.area::<u64>(1, 3));
    assert_eq!(
        Area::<u32>::from_arena(boot.arena(1), boot.ser(1)).err(),
        Some(EINVAL)
    );
    assert_eq!(boot.nr_closed(1), 1);
    assert!(Area::<i64>::from_arena(boot.arena(1), boot.ser(1)).is_ok());
}
