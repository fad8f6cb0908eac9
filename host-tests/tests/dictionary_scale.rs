// SPDX-License-Identifier: GPL-2.0

//! Many names: a million in release builds, a tenth of that otherwise. What a call costs does not
//! depend on how many there are; the bounds are lax, as caches of the processor do tell, and far below
//! what a walk over all names would be.
//!
//! Tried against a hash table that is not rebuilt when it is crowded, and a list that begins at the
//! root: noticed.

use std::time::{
    Duration,
    Instant, //
};

use kernel::prelude::GFP_KERNEL;
use kpreserve::namespace::list;
use kpreserve::Named;
use kpreserve_testing::{
    Config,
    Kernel, //
};

const NR_NAMES: u64 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// Names of one directory.
const NR_IN_DIRECTORY: u64 = 100;

/// How often each call is measured.
const NR_CALLS: u64 = 2000;

fn name(i: u64) -> std::ffi::CString {
    let (top, directory) = (i / NR_IN_DIRECTORY / 100, i / NR_IN_DIRECTORY);
    std::ffi::CString::new(format!("scale/{top}/{directory}/name{i}")).unwrap()
}

fn open(i: u64, number: u64) -> Named<u64> {
    Named::open(&name(i), number, GFP_KERNEL).unwrap()
}

/// Returns what a look-up costs, by way of some among the first `nr`; with as much for making names.
fn look_up(nr: u64) -> Duration {
    let names: Vec<_> = (0..NR_CALLS)
        .map(|i| {
            let i = i.wrapping_mul(7919) % nr;
            (i, name(i))
        })
        .collect();
    let begin = Instant::now();
    for (i, name) in &names {
        assert_eq!(*Named::open(name, 0u64, GFP_KERNEL).unwrap(), *i);
    }
    begin.elapsed() / NR_CALLS as u32
}

/// Returns what it costs to list the directory of name `i`.
fn list_one(i: u64) -> Duration {
    let text = name(i).into_string().unwrap();
    let directory = std::ffi::CString::new(text.rsplit_once("name").unwrap().0).unwrap();
    let mut nr = 0;
    let begin = Instant::now();
    for _ in 0..20 {
        list(&directory, |_, _| {
            nr += 1;
            Ok(())
        })
        .unwrap();
    }
    let took = begin.elapsed() / 20;
    assert_eq!(nr, 20 * NR_IN_DIRECTORY);
    took
}

fn list_all() -> u64 {
    let mut nr = 0;
    list(c"scale/", |_, _| {
        nr += 1;
        Ok(())
    })
    .unwrap();
    nr
}

#[test]
fn many_names() {
    let kernel = Kernel::boot_with(Config::with_pages(if NR_NAMES > 100_000 {
        128 << 10
    } else {
        16 << 10
    }));
    let (mut nr, mut looked_up, mut listed) = (0, Vec::new(), Vec::new());
    let mut next = 100;
    let mut begin = Instant::now();
    while nr < NR_NAMES {
        drop(open(nr, nr));
        nr += 1;
        if nr == next {
            let bound = begin.elapsed() / (next - next / 10) as u32;
            looked_up.push(look_up(nr));
            listed.push(list_one(nr / 2));
            std::println!(
                "{nr} names: bind {bound:?}, look up {:?}, list {NR_IN_DIRECTORY} {:?}",
                looked_up.last().unwrap(),
                listed.last().unwrap()
            );
            next *= 10;
            begin = Instant::now();
        }
    }
    assert_eq!(kernel.framework().stats().nr_names, NR_NAMES + 1);
    let begin = Instant::now();
    assert_eq!(list_all(), NR_NAMES);
    std::println!("list all: {:?}", begin.elapsed());

    let begin = Instant::now();
    let kernel = kernel.kexec();
    std::println!("reboot: {:?}", begin.elapsed());
    looked_up.push(look_up(NR_NAMES));
    std::println!("look up afterwards: {:?}", looked_up.last().unwrap());
    assert_eq!(list_all(), NR_NAMES);
    // Some of them at least: a claim of an object touches its slab for the first time.
    assert!((0..NR_NAMES).step_by(997).all(|i| *open(i, 0) == i));
    for (what, took) in [("look-ups", &looked_up), ("lists", &listed)] {
        let (first, last) = (took[0], took[took.len() - 1]);
        assert!(last < first * 30, "{what}: {took:?}");
    }
    kernel.assert_sound();
}
