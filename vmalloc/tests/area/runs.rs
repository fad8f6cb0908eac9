// SPDX-License-Identifier: GPL-2.0

//! Which runs an area takes, and gives back.

use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::Ledger;
use kpreserve_sim::Recorder;
use kpreserve_vmalloc::Area;

use crate::common::Boot;

/// The orders of the runs of an area that is closed.
fn orders(boot: &Boot, id: u32) -> Vec<u8> {
    let arena = boot.arena(id);
    let orders = arena.runs().iter().map(|run| run.pages.order()).collect();
    // SAFETY: nobody uses the arena any more.
    unsafe { boot.ledger.close(id, arena.into_runs()) };
    orders
}

#[test]
fn runs_are_the_largest_that_the_request_fills() {
    let boot = Boot::with(20 << 10, 10);
    drop(boot.area::<u8>(1, 64 << 20));
    assert_eq!(orders(&boot, 1), [10; 16]);
    drop(boot.area::<u8>(2, 7 * 4096 - 1));
    assert_eq!(orders(&boot, 2), [2, 1, 0]);
    // The growth rule: of 8 MiB a sixteenth, rather than a page.
    drop(boot.area::<u8>(3, (8 << 20) + 1));
    assert_eq!(orders(&boot, 3), [10, 10, 7]);
}

#[test]
fn fragmented_memory_gives_smaller_runs_and_the_same_area() {
    let boot = Boot::with(4096, 3);
    let mut area = boot.area::<u64>(1, 100_000);
    for (n, element) in area.iter_mut().enumerate() {
        *element = n as u64;
    }
    assert!((0..100_000).all(|n| area.get(n) == Some(&(n as u64))));
    assert_eq!(area.get(100_000), None);
    assert!(area.nr_runs() >= 100_000 / 4096);
}

#[test]
fn an_element_larger_than_a_block_is_enomem() {
    let boot = Boot::with(4096, 3);
    let mut vec = boot.vec::<[u8; 40_000]>(1);
    assert_eq!(vec.push([0; 40_000]), Err(ENOMEM));
    // One that would fit snugly into a larger block only still gets one.
    let mut vec = boot.vec::<[u8; 17_000]>(2);
    vec.push([1; 17_000]).unwrap();
    assert_eq!(vec.get(0), Some(&[1; 17_000]));
}

#[test]
fn shrinking_gives_back_whole_runs_from_the_end() {
    let boot = Boot::first();
    let before = boot.held();
    let mut area = boot.area::<u8>(1, (4 << 20) + (2 << 20) + 4096);
    assert_eq!(area.nr_runs(), 3);
    area.resize((4 << 20) + 1).unwrap();
    assert_eq!(area.nr_runs(), 2);
    area.resize(4 << 20).unwrap();
    drop(area);
    assert_eq!(orders(&boot, 1), [10]);
    let mut area = Area::<u8>::from_arena(boot.arena(1), boot.ser(1)).unwrap();
    area.resize(0).unwrap();
    assert_eq!(boot.held(), before);
}

#[test]
fn what_is_given_back_is_clean() {
    for shrink in [false, true] {
        let boot = Boot::with(256, 10);
        let keys: Vec<_> = boot.machine.image().keys().collect();
        let mut vec = boot.vec::<[u8; 24]>(1);
        vec.extend_from_slice(&[[0xff; 24]; 500]).unwrap();
        // As a cut in the middle of a truncation would leave it.
        drop(vec);
        boot.ser(1).len.store(200);
        let mut vec = boot.reopen::<[u8; 24]>(1);
        let image = boot.machine.image();
        let ours: Vec<_> = image.keys().filter(|key| !keys.contains(key)).collect();
        let recorder = Recorder::start(boot.machine);
        if shrink {
            vec.resize(0).unwrap();
        } else {
            vec.discard().unwrap();
        }
        let cuts = recorder.finish();
        for (phys, order) in ours {
            let is_there = |key| key == (phys, order);
            let last = cuts
                .iter()
                .rfind(|cut| cut.image.keys().any(is_there))
                .unwrap();
            let mut bytes = vec![1; 4096 << order];
            last.image.read(phys, &mut bytes);
            assert!(bytes.iter().all(|&byte| byte == 0), "{}", last.step);
        }
    }
}

#[test]
fn a_growing_vector_takes_few_runs_and_wastes_little() {
    let boot = Boot::with(8 << 10, 10);
    let mut vec = boot.vec::<u64>(1);
    for n in 0..2_000_000 {
        vec.push(n).unwrap();
    }
    assert!(vec.nr_runs() < 160, "{} runs", vec.nr_runs());
    assert!(vec.capacity() < vec.len() + vec.len() / 16 + 512);
}
