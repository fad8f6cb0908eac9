// SPDX-License-Identifier: GPL-2.0

//! As much as a large host has, and as much as the run table holds.
//!
//! `examples/host_scale.rs` is the rest: what takes seconds and gigabytes.

use kernel::error::code::*;
use kernel::prelude::GFP_KERNEL;
use kpreserve::{
    Area,
    Open as _, //
};
use kpreserve_testing::{
    Config,
    Kernel, //
};

const PAGE: usize = 4096;

/// A machine whose memory costs the host nothing until it is touched.
fn sparse(size_bytes: usize) -> Config {
    Config {
        poisons: false,
        ..Config::with_pages(size_bytes / PAGE)
    }
}

fn area() -> Area<u64> {
    Area::open(c"scale/area", GFP_KERNEL).unwrap()
}

/// Where elements are looked at: both ends, the middle, and both sides of where runs meet.
fn places(len: usize) -> Vec<usize> {
    let run = (4 << 20) / 8;
    let marks = [0, len / 4, len / 2, len / 4 * 3, len - 1];
    let around = |at: usize| [(at / run * run).saturating_sub(1), at / run * run, at];
    marks.into_iter().flat_map(around).collect()
}

#[test]
fn an_area_of_64_gib_survives() {
    const BYTES: usize = 64 << 30;
    const LEN: usize = BYTES / 8;
    let first = Kernel::boot_with(sparse(BYTES + (1 << 30)));
    let mut large = area();
    large.resize(LEN).unwrap();
    assert_eq!(large.len(), LEN);
    // The largest runs there are, and nothing over.
    assert_eq!(large.nr_runs(), BYTES >> 22);
    assert_eq!(large.capacity(), LEN);
    let mut places = places(LEN);
    places.sort_unstable();
    places.dedup();
    for &at in &places {
        assert_eq!(large.get(at), Some(&0));
        large.set(at, at as u64 ^ 0x6b70).unwrap();
    }
    assert_eq!(large.set(LEN, 1), Err(EINVAL));
    // More than the machine has: nothing changes.
    assert_eq!(large.resize(LEN + (2 << 30) / 8), Err(ENOMEM));
    assert_eq!((large.len(), large.nr_runs()), (LEN, BYTES >> 22));
    drop(large);

    let second = first.kexec();
    let before = second.machine().counters();
    let mut large = area();
    // Nothing is mapped, allocated, preserved or restored to open it.
    assert_eq!(second.machine().counters().calls(), before.calls());
    assert_eq!((large.len(), large.capacity()), (LEN, LEN));
    for &at in &places {
        assert_eq!(large.get(at), Some(&(at as u64 ^ 0x6b70)));
    }
    // It goes on growing, and shrinks by whole runs.
    large.resize(LEN + 1).unwrap();
    large.set(LEN, 7).unwrap();
    large.resize(LEN - (4 << 20) / 8).unwrap();
    assert_eq!(large.nr_runs(), (BYTES >> 22) - 1);
    drop(large);

    let third = second.kexec();
    let large = area();
    let last = large.len() - 1;
    assert_eq!(large.get(0), Some(&0x6b70));
    assert_eq!(large.get(last + 1), None);
    assert_eq!(large.nr_runs(), (BYTES >> 22) - 1);
    third.assert_sound();
}

/// Fills the run table with the runs of one area; returns how many there are when it is full.
fn fill_table(order_max: u8, nr_pages: usize) -> usize {
    let config = Config {
        order_max,
        ..sparse(nr_pages * PAGE)
    };
    let first = Kernel::boot_with(config);
    let mut large = area();
    let mut len = 0;
    let run_len = (PAGE << order_max) / 8;
    // By many runs, then by one, until the table is full.
    for step in [run_len * 1000, run_len] {
        loop {
            match large.resize(len + step) {
                Ok(()) => len += step,
                Err(error) => {
                    assert_eq!(error, ENOMEM);
                    break;
                }
            }
        }
        // Nothing was lost, and nothing came half.
        assert_eq!((large.len(), large.capacity()), (len, len));
    }
    assert!(first.machine().nr_free_pages() > 1 << order_max);
    for at in [0, len / 2, len - 1] {
        large.set(at, at as u64 + 1).unwrap();
    }
    let nr_runs = large.nr_runs();
    assert_eq!(nr_runs, len / run_len);
    drop(large);

    let second = first.kexec();
    let mut large = area();
    assert_eq!((large.len(), large.nr_runs()), (len, nr_runs));
    for at in [0, len / 2, len - 1] {
        assert_eq!(large.get(at), Some(&(at as u64 + 1)));
    }
    // As full as before; a run that is given back leaves room for one, of anybody's.
    assert_eq!(large.resize(len + 1), Err(ENOMEM));
    large.resize(len - run_len).unwrap();
    let other = {
        let mut other = Area::<u64>::open(c"scale/other", GFP_KERNEL).unwrap();
        other.resize(1).map(|()| other.nr_runs())
    };
    assert_eq!(other, Ok(1));
    assert_eq!(large.resize(len), Err(ENOMEM));
    second.assert_sound();
    nr_runs
}

/// Runs of others: the arena table, entries, strings, and buckets of the dictionary.
const NR_OWN_MAX: usize = 16;

#[test]
fn a_full_run_table_says_enomem_and_loses_nothing() {
    // Pages only: 120 blocks of 128 entries.
    let nr_runs = fill_table(0, 20_000);
    assert!((120 * 128 - NR_OWN_MAX..120 * 128).contains(&nr_runs));
}

#[test]
fn blocks_are_as_large_as_fragmented_memory_has_them() {
    // Eight blocks of one page, eight of two, and then four pages each, instead of up to 1024.
    let expected = 128 * (8 + 8 * 2 + 104 * 4);
    let nr_runs = fill_table(2, 300_000);
    assert!((expected - NR_OWN_MAX..expected).contains(&nr_runs));
}
