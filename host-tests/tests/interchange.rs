// SPDX-License-Identifier: GPL-2.0

//! Areas as `struct kho_vmalloc`, under the framework: lists of several pages, and names.
//!
//! The cases of one list page, and each failure, are in vmalloc/tests/area/interchange.rs.
//!
//! Tried against code that was broken on purpose: with the link to the next page of the list left out (give.rs), and with lists
//! of a whole number of pages refused (take.rs), `long_lists_cross` fails; with the name's arena not retired
//! (exchange.rs), both do.

mod framework_common;

use framework_common::{
    name,
    up, //
};
use kernel::prelude::*;
use kpreserve::{
    Anonymous as _,
    Area,
    Framework,
    Open as _,
    PVec, //
};
use kpreserve_kho::{
    Effort,
    Handover,
    Node,
    PageSource, //
};
use kpreserve_sim::{
    Config,
    SimMachine, //
};
use kpreserve_vmalloc::KhoVmallocSer;

const PAGE_WORDS: usize = 512;
const NR_ENTRIES: usize = 511;

/// What `kho_preserve_vmalloc()` leaves of a `vmalloc()` of `nr_pages`, whose words count up.
fn preserve_vmalloc(machine: &SimMachine, nr_pages: usize) -> KhoVmallocSer {
    let page = || {
        let page = machine.alloc_run(0, Node::ANY, Effort::Full).unwrap();
        // SAFETY: just allocated.
        unsafe { machine.preserve(page, 0) }.unwrap();
        page
    };
    let first = page();
    let (mut chunk, mut entry) = (first, 0);
    for number in 0..nr_pages {
        let block = page();
        let words = (0..PAGE_WORDS).map(|word| (number * PAGE_WORDS + word) as u64);
        let bytes: std::vec::Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        machine.write_phys(block, &bytes);
        let at = chunk.checked_add(8 + 8 * entry as u64).unwrap();
        machine.write_phys(at, &block.get().to_ne_bytes());
        entry += 1;
        if entry == NR_ENTRIES {
            let next = page();
            machine.write_phys(chunk, &next.get().to_ne_bytes());
            (chunk, entry) = (next, 0);
        }
    }
    KhoVmallocSer {
        first: first.get(),
        total_pages: nr_pages as u32,
        flags: 1,
        order: 0,
    }
}

/// Takes over what C, or another kernel of ours, made.
fn take(framework: &'static Framework, ser: &KhoVmallocSer, len: usize) -> Area<u64> {
    let mut area = Area::<u64>::create_in(framework, GFP_KERNEL).unwrap();
    // SAFETY: nobody else knows of it.
    unsafe { area.take_kho_vmalloc(ser, len) }.unwrap();
    assert!(area.iter().copied().eq(0..len as u64));
    area
}

#[test]
fn long_lists_cross() {
    for nr_pages in [NR_ENTRIES, NR_ENTRIES + 1, 2 * NR_ENTRIES, 1200] {
        let machine = SimMachine::boot(Config::with_pages(8192));
        up(machine);
        let ser = preserve_vmalloc(machine, nr_pages);
        let machine = machine.reboot();
        let framework = up(machine);
        let len = nr_pages * PAGE_WORDS;
        let area = take(framework, &ser, len);
        assert_eq!(machine.nr_incoming_pages(), 0);
        // And on, in lists of ours.
        let given = area.into_kho_vmalloc().map_err(|(error, _)| error).unwrap();
        let ser = given.ser();
        assert_eq!((ser.total_pages as usize, ser.order), (nr_pages, 0));
        machine.assert_sound();
        let machine = machine.reboot();
        let framework = up(machine);
        take(framework, &ser, len).discard().unwrap();
        assert_eq!(machine.nr_incoming_pages(), 0);
        machine.assert_sound();
    }
}

#[test]
fn the_name_of_what_was_handed_over_stands_for_a_new_area() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let framework = up(machine);
    let mut vec = PVec::<u64>::open_in(framework, &name("log"), GFP_KERNEL).unwrap();
    for word in 0..5000 {
        vec.push(word).unwrap();
    }
    let given = vec
        .into_area()
        .into_kho_vmalloc()
        .map_err(|(error, _)| error)
        .unwrap();
    let ser = given.ser();
    let vec = PVec::<u64>::open_in(framework, &name("log"), GFP_KERNEL).unwrap();
    assert!(vec.is_empty());
    drop(vec);
    let machine = machine.reboot();
    let framework = up(machine);
    take(framework, &ser, 5000).discard().unwrap();
    assert_eq!(machine.nr_incoming_pages(), 0);
    machine.assert_sound();
}
