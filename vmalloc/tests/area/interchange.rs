// SPDX-License-Identifier: GPL-2.0

//! Areas as `struct kho_vmalloc`, and the reverse. Whoever is at the other end here does what
//! `kho_preserve_vmalloc()` and `kho_restore_vmalloc()` do; the real ones are met in the VM
//! (selftests/scenarios/interchange.toml).
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | blocks are not preserved one by one (blocks.rs) | `what_grew_is_handed_over_block_by_block` |
//! | the key of the whole stays | the same, and `discarding_frees_all` |
//! | runs stay in the run table (exchange.rs) | all that hand over |
//! | bytes behind the last element are not cleared | `nothing_but_elements_leaves` |
//! | blocks that fail are not taken back | `no_memory_leaves_the_area_as_it_was` |
//! | a list may go round (take.rs) | `hostile_lists_are_refused` |
//! | blocks are not compared with each other | the same |
//! | that is noticed by the number of pages that are claimed only | `a_list_costs_what_it_is...` |
//! | bytes in which no element fits are not cleared (exchange.rs) | `nothing_of_what_was_taken_over...` |
//! | pages of the list are not freed | `a_vmalloc_area_becomes_ours` |

use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::{
    Effort,
    Handover,
    Ledger,
    Node,
    PageSource,
    Phys, //
};
use kpreserve_sim::SimMachine;
use kpreserve_vmalloc::{
    Area,
    KhoVmallocSer,
    PVec, //
};

use crate::common::{
    contents,
    log_says,
    Boot,
    Fault, //
};

const PAGE_BYTES: usize = 4096;
const NR_ENTRIES: usize = 511;

/// What `kho_preserve_vmalloc()` does with memory of `blocks`, already filled.
fn preserve_vmalloc(machine: &SimMachine, order: u8, blocks: &[Phys]) -> KhoVmallocSer {
    let page = || {
        let page = machine.alloc_run(0, Node::ANY, Effort::Full).unwrap();
        // SAFETY: just allocated.
        unsafe { machine.preserve(page, 0) }.unwrap();
        page
    };
    let first = page();
    let (mut chunk, mut entry) = (first, 0);
    for &block in blocks {
        // SAFETY: allocated with this order, says the caller.
        unsafe { machine.preserve(block, order) }.unwrap();
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
        total_pages: (blocks.len() << order) as u32,
        flags: 1,
        order: u16::from(order),
    }
}

/// Memory that C has: words that count up from 0, in `nr` blocks.
fn vmalloc(machine: &SimMachine, order: u8, nr: usize) -> Vec<Phys> {
    let size_bytes = PAGE_BYTES << order;
    let block = |number: usize| {
        let phys = machine.alloc_run(order, Node::ANY, Effort::Full).unwrap();
        let words = (0..size_bytes / 8).map(|word| (number * size_bytes / 8 + word) as u64);
        let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        machine.write_phys(phys, &bytes);
        phys
    };
    (0..nr).map(block).collect()
}

/// What `kho_restore_vmalloc()` does; returns the bytes, and frees the memory.
fn restore_vmalloc(machine: &SimMachine, ser: &KhoVmallocSer) -> Vec<u8> {
    let order = ser.order as u8;
    let number = |phys: Phys| {
        let mut bytes = [0; 8];
        machine.read_phys(phys, &mut bytes);
        u64::from_ne_bytes(bytes)
    };
    let restore = |phys: Phys, order: u8| {
        // SAFETY: preserved by the previous kernel, as the test knows.
        unsafe { machine.restore(phys, order) }.unwrap();
    };
    let mut memory = Vec::new();
    let mut chunk = Phys::new(ser.first);
    while !chunk.is_null() {
        for entry in 0..NR_ENTRIES as u64 {
            let block = Phys::new(number(chunk.checked_add(8 + 8 * entry).unwrap()));
            if block.is_null() {
                break;
            }
            restore(block, order);
            let mut bytes = vec![0; PAGE_BYTES << order];
            machine.read_phys(block, &mut bytes);
            memory.extend(bytes);
            // SAFETY: just restored.
            unsafe { machine.free_run(block, order) };
        }
        restore(chunk, 0);
        let next = Phys::new(number(chunk));
        // SAFETY: as above.
        unsafe { machine.free_run(chunk, 0) };
        chunk = next;
    }
    assert_eq!(memory.len(), ser.total_pages as usize * PAGE_BYTES);
    memory
}

fn words_of(memory: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    memory.chunks_exact(8).map(word).collect()
}

/// A vector that grew element by element: runs of several orders.
fn grown(boot: &Boot, len: usize) -> PVec<u64> {
    let mut vec = boot.vec::<u64>(1);
    for number in 0..len as u64 {
        vec.push(number).unwrap();
    }
    vec
}

/// An area that was made at once.
fn made(boot: &Boot, len: usize) -> Area<u64> {
    let mut area = boot.area::<u64>(1, len);
    for (number, word) in area.iter_mut().enumerate() {
        *word = number as u64;
    }
    area
}

fn hand_over(boot: &Boot, area: Area<u64>) -> KhoVmallocSer {
    let given = area.into_kho_vmalloc().map_err(|(error, _)| error).unwrap();
    assert_eq!(boot.ledger.retired(), [1]);
    given.ser()
}

#[test]
fn what_was_made_at_once_is_handed_over_run_by_run() {
    let boot = Boot::first();
    let len = 3 << 16;
    let area = made(&boot, len);
    assert!(area.nr_runs() > 1);
    let (_, _, nr_records) = boot.held();
    let nr_runs = area.nr_runs();
    let ser = hand_over(&boot, area);
    assert_eq!(boot.ledger.nr_records(), nr_records - nr_runs);
    assert!(ser.order > 0);
    let next = boot.reboot();
    let words = words_of(&restore_vmalloc(next.machine, &ser));
    assert!(words.iter().copied().eq(0..len as u64));
    assert_eq!(next.machine.nr_incoming_pages(), 0);
}

#[test]
fn what_grew_is_handed_over_block_by_block() {
    let boot = Boot::first();
    let len = 40_000;
    let vec = grown(&boot, len);
    let nr_pages = vec.nr_pages();
    assert!(vec.nr_runs() < nr_pages);
    let ser = hand_over(&boot, vec.into_area());
    assert_eq!((ser.order, ser.total_pages as usize), (0, nr_pages));
    let next = boot.reboot();
    let words = words_of(&restore_vmalloc(next.machine, &ser));
    assert!(words[..len].iter().copied().eq(0..len as u64));
    assert!(words[len..].iter().all(|&word| word == 0));
    assert_eq!(next.machine.nr_incoming_pages(), 0);
}

#[test]
fn nothing_but_elements_leaves() {
    // A cut between a push and its publication leaves something behind the last element.
    let boot = Boot::first();
    let mut vec = grown(&boot, 100);
    vec.push(0xdead).unwrap();
    boot.ser(1).len.store(100);
    drop(vec);
    let boot = boot.reboot();
    let ser = hand_over(&boot, boot.reopen::<u64>(1).into_area());
    let next = boot.reboot();
    let words = words_of(&restore_vmalloc(next.machine, &ser));
    assert!(words[100..].iter().all(|&word| word == 0));
}

#[test]
fn nothing_of_what_was_taken_over_leaves_but_elements() {
    // A page of somebody else's, full of words: behind the last element, and where no element fits.
    let boot = Boot::first();
    let blocks = vmalloc(boot.machine, 0, 1);
    boot.machine.write_phys(blocks[0], &[0xee; PAGE_BYTES]);
    let ser = preserve_vmalloc(boot.machine, 0, &blocks);
    let boot = boot.reboot();
    let mut area = boot.area::<[u8; 24]>(1, 0);
    // SAFETY: nobody else knows of it.
    unsafe { area.take_kho_vmalloc(&ser, 10) }.unwrap();
    let given = area.into_kho_vmalloc().map_err(|(error, _)| error).unwrap();
    let ser = given.ser();
    let next = boot.reboot();
    let memory = restore_vmalloc(next.machine, &ser);
    assert_eq!(memory[..240], [0xee; 240]);
    assert!(memory[240..].iter().all(|&byte| byte == 0));
}

#[test]
fn discarding_frees_all() {
    let boot = Boot::first();
    let before = boot.held();
    let given = grown(&boot, 40_000).into_area().into_kho_vmalloc();
    let Ok(given) = given else {
        panic!("it was handed over before");
    };
    boot.ledger.gate().freeze();
    let ser = given.ser();
    assert_eq!(given.discard(), Err(EBUSY));
    boot.ledger.gate().thaw();
    let next = boot.reboot();
    assert_eq!(words_of(&restore_vmalloc(next.machine, &ser))[7], 7);

    let boot = Boot::first();
    let given = grown(&boot, 40_000).into_area().into_kho_vmalloc();
    assert_eq!(
        given.map_err(|_| EINVAL).and_then(|given| given.discard()),
        Ok(())
    );
    assert_eq!(boot.held(), before);
}

#[test]
fn no_memory_leaves_the_area_as_it_was() {
    for fault in Fault::ALL {
        for n in 1.. {
            let boot = Boot::first();
            let vec = grown(&boot, 20_000);
            let held = boot.held();
            boot.fail(fault, n);
            let given = vec.into_area().into_kho_vmalloc();
            boot.stop_failing();
            match given {
                Ok(given) => {
                    assert!(n > 1 || fault == Fault::Record, "{fault:?} never failed");
                    assert_eq!(given.discard(), Ok(()));
                    break;
                }
                Err((error, area)) => {
                    assert_eq!(error, ENOMEM);
                    assert_eq!(boot.held(), held);
                    assert!(contents(&area).into_iter().eq(0..20_000));
                }
            }
        }
    }
}

#[test]
fn what_is_no_array_stays() {
    let boot = Boot::with(4096, 2);
    let given = boot.vec::<u64>(1).into_area().into_kho_vmalloc();
    assert_eq!(given.map_err(|(error, _)| error).err(), Some(EINVAL));
    let odd = boot.area::<[u8; 24]>(2, 10_000);
    assert!(odd.nr_runs() > 1);
    let Err((error, odd)) = odd.into_kho_vmalloc() else {
        panic!("elements would lie apart");
    };
    assert_eq!((error, odd.len()), (EINVAL, 10_000));
    boot.ledger.gate().freeze();
    let given = odd.into_kho_vmalloc();
    assert_eq!(given.map_err(|(error, _)| error).err(), Some(EBUSY));
}

/// Takes over what C made, in the next kernel.
fn take(boot: &Boot, ser: &KhoVmallocSer, len: usize) -> Result<Area<u64>> {
    let mut area = boot.area::<u64>(1, 0);
    // SAFETY: nobody else knows of it.
    unsafe { area.take_kho_vmalloc(ser, len) }.map(|()| area)
}

#[test]
fn a_vmalloc_area_becomes_ours() {
    for (order, nr) in [(0, 1), (0, 300), (3, 40), (9, 2)] {
        let boot = Boot::first();
        let blocks = vmalloc(boot.machine, order, nr);
        let ser = preserve_vmalloc(boot.machine, order, &blocks);
        let boot = boot.reboot();
        let len = ((nr * PAGE_BYTES) << order) / 8 - 100;
        let mut area = take(&boot, &ser, len).unwrap();
        assert_eq!(boot.machine.nr_incoming_pages(), 0);
        assert_eq!((area.len(), area.nr_runs()), (len, nr));
        assert!(area.iter().copied().eq(0..len as u64));
        // It is an area as any other: it grows into what was left over, which is zeros now.
        area.resize(len + 50).unwrap();
        assert_eq!(area.get(len + 49), Some(&0));
        area.resize(len + 5_000).unwrap();
        area.set(len + 4_999, 7).unwrap();
        drop(area);
        let boot = boot.reboot();
        let area = boot.reopen::<u64>(1);
        assert!(area.iter().take(len).copied().eq(0..len as u64));
        assert_eq!(area.get(len + 4_999), Some(&7));
        area.discard().unwrap();
    }
}

#[test]
fn there_and_back() {
    let boot = Boot::first();
    let ser = hand_over(&boot, grown(&boot, 40_000).into_area());
    let boot = boot.reboot();
    let area = take(&boot, &ser, 40_000).unwrap();
    assert!(area.iter().copied().eq(0..40_000));
    area.discard().unwrap();
}

#[test]
fn a_take_that_fails_leaves_the_memory_incoming() {
    for fault in Fault::ALL {
        for n in 1.. {
            let boot = Boot::first();
            let blocks = vmalloc(boot.machine, 0, 20);
            let ser = preserve_vmalloc(boot.machine, 0, &blocks);
            let boot = boot.reboot();
            let mut area = boot.area::<u64>(1, 0);
            let held = boot.held();
            boot.fail(fault, n);
            // SAFETY: nobody else knows of it.
            let taken = unsafe { area.take_kho_vmalloc(&ser, 20 * 512) };
            boot.stop_failing();
            if taken.is_ok() {
                assert!(n > 1, "{fault:?} never failed");
                break;
            }
            if taken == Err(EINVAL) {
                // A machine that contradicts itself: what it kept is lost for this boot, no more.
                assert_eq!(area.nr_runs(), 0);
                let _ = boot.machine.take_violations();
                continue;
            }
            assert_eq!(taken, Err(ENOMEM));
            assert_eq!(boot.held(), held);
            // SAFETY: as above.
            let again = unsafe { area.take_kho_vmalloc(&ser, 20 * 512) };
            assert_eq!(again, Ok(()));
            assert!(area.iter().copied().eq(0..20 * 512));
        }
    }
}

#[test]
fn hostile_lists_are_refused() {
    type Damage = fn(&SimMachine, &mut KhoVmallocSer, &[Phys]);
    let damages: [(&str, Error, Damage); 13] = [
        ("flags", EOPNOTSUPP, |_, ser, _| ser.flags = 5),
        ("order", EINVAL, |_, ser, _| ser.order = 11),
        ("order", EINVAL, |_, ser, _| ser.order = u16::MAX),
        ("total_pages", EINVAL, |_, ser, _| ser.total_pages = 0),
        ("phys", EINVAL, |_, ser, _| ser.total_pages = 19),
        ("phys", EINVAL, |_, ser, _| ser.total_pages = 21),
        ("phys", EINVAL, |_, ser, _| ser.first = 0),
        ("phys", EINVAL, |_, ser, _| ser.first += 8),
        ("phys", EINVAL, |_, ser, _| ser.first = u64::MAX),
        // A list that goes round.
        ("next", EINVAL, |machine, ser, _| {
            machine.write_phys(Phys::new(ser.first), &ser.first.to_ne_bytes());
        }),
        // A block twice, the list as a block, and what nobody preserved.
        ("phys", EINVAL, |machine, ser, blocks| {
            let at = Phys::new(ser.first + 8);
            machine.write_phys(at, &blocks[1].get().to_ne_bytes());
        }),
        ("phys", EINVAL, |machine, ser, _| {
            let at = Phys::new(ser.first + 16);
            machine.write_phys(at, &ser.first.to_ne_bytes());
        }),
        ("phys", EINVAL, |machine, ser, _| {
            let at = Phys::new(ser.first + 16);
            machine.write_phys(at, &0xffff_ffff_ffff_f000u64.to_ne_bytes());
        }),
    ];
    for (field, errno, damage) in damages {
        let boot = Boot::first();
        let blocks = vmalloc(boot.machine, 0, 20);
        let mut ser = preserve_vmalloc(boot.machine, 0, &blocks);
        damage(boot.machine, &mut ser, &blocks);
        let boot = boot.reboot();
        let nr_incoming = boot.machine.nr_incoming_pages();
        assert_eq!(take(&boot, &ser, 100).err(), Some(errno), "{field}");
        assert!(log_says(field), "{field} is not named");
        assert_eq!(boot.machine.nr_incoming_pages(), nr_incoming);
    }
}

#[test]
fn a_list_costs_what_it_is_not_what_it_claims() {
    // Lists that go round, by way of all of their pages or of the last, and claim all there can be.
    for first in [0, 1, 5] {
        for total_pages in [1 << 16, u32::MAX] {
            let boot = Boot::first();
            let blocks = vmalloc(boot.machine, 0, 5 * NR_ENTRIES);
            let mut ser = preserve_vmalloc(boot.machine, 0, &blocks);
            ser.total_pages = total_pages;
            let mut pages = vec![Phys::new(ser.first)];
            for _ in 0..5 {
                let mut next = [0; 8];
                boot.machine.read_phys(pages[pages.len() - 1], &mut next);
                pages.push(Phys::new(u64::from_ne_bytes(next)));
            }
            let next = pages[first].get().to_ne_bytes();
            boot.machine.write_phys(pages[5], &next);
            let boot = boot.reboot();
            let nr_probes = boot.machine.counters().probe;
            assert_eq!(take(&boot, &ser, 100).err(), Some(EINVAL));
            assert!(log_says("next"), "{total_pages} pages, round to {first}");
            let nr_probes = boot.machine.counters().probe - nr_probes;
            assert!(nr_probes < 20 * 512, "{nr_probes} probes");
        }
    }
}

#[test]
fn too_many_elements_or_such_with_a_rest_are_refused() {
    let boot = Boot::first();
    let blocks = vmalloc(boot.machine, 0, 20);
    let ser = preserve_vmalloc(boot.machine, 0, &blocks);
    let boot = boot.reboot();
    assert_eq!(take(&boot, &ser, 20 * 512 + 1).err(), Some(EINVAL));
    let mut odd = boot.area::<[u8; 24]>(2, 0);
    // SAFETY: nobody else knows of it.
    assert_eq!(unsafe { odd.take_kho_vmalloc(&ser, 1) }, Err(EINVAL));
    let mut full = boot.area::<u64>(3, 5);
    // SAFETY: as above.
    assert_eq!(unsafe { full.take_kho_vmalloc(&ser, 1) }, Err(EINVAL));
    assert_eq!(full.len(), 5);
    assert!(take(&boot, &ser, 20 * 512).is_ok());
}
