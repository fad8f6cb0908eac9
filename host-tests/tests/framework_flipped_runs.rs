// SPDX-License-Identifier: GPL-2.0

//! One bit of an entry of the run table is wrong: every bit, of an entry of each kind of owner.
//!
//! Whatever the entry says now, its checksum is wrong, so nothing that it says is known. All
//! consumers that have nothing to do with the run open, in the kernel that finds it and in the two
//! after; new things can be made; and with the bit mended nothing is missing.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | the owner that a damaged entry names is charged | `of_each_user`, `an_idle_arena_...` |
//! | an entry that one flip mends is not known | `of_each_user`, `of_the_framework_s_own_arenas` |
//! | an id that something refused names is not skipped | `an_arena_that_a_refused_...` |

mod framework_common;

use core::mem::offset_of;
use std::time::Duration;

use framework_common::damaged::{
    flip,
    make_new,
    others_open,
    world, //
};
use framework_common::layout::{
    read,
    Layout,
    RunAt, //
};
use framework_common::world::{
    World,
    PARTS, //
};
use framework_common::{
    up,
    Watchdog, //
};
use kernel::prelude::GFP_KERNEL;
use kernel::print::take_log;
use kpreserve::abi::{
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_FIRST,
    ARENA_STRINGS,
    ARENA_TABLE, //
};
use kpreserve::kho::{
    ArenaSer,
    Phys,
    RunSer, //
};
use kpreserve::{
    Open as _,
    PVec, //
};
use kpreserve_sim::Image;

const NR_BITS: u64 = 8 * size_of::<RunSer>() as u64;

/// Flips a bit of an entry; three kernels open everything `but` some, and make something new if
/// that can be; then the bit is mended, and a fourth kernel finds everything.
fn survives(
    world: &World,
    image: &Image,
    entry: RunAt,
    bit: u64,
    but: &[&str],
) -> Result<(), String> {
    let mut damaged = image.clone();
    flip(&mut damaged, entry.at, bit);
    for generation in 0..3 {
        let machine = damaged.boot();
        take_log();
        let framework = up(machine);
        others_open(world, framework, but).map_err(|e| format!("kernel {generation}: {e}"))?;
        if but.len() < PARTS.len() {
            make_new(framework, &format!("new/{generation}"))
                .map_err(|e| format!("kernel {generation}: something new: {e:?}"))?;
        }
        machine.assert_sound();
        damaged = machine.image();
        machine.power_off();
    }
    flip(&mut damaged, entry.at, bit);
    let machine = damaged.boot();
    others_open(world, up(machine), &[]).map_err(|e| format!("with the bit mended: {e}"))?;
    machine.assert_sound();
    machine.power_off();
    Ok(())
}

fn every_bit(world: &World, image: &Image, entries: &[RunAt], but: &[&str]) {
    let watchdog = Watchdog::new(Duration::from_secs(20));
    let mut failures = Vec::new();
    for &entry in entries {
        for bit in 0..NR_BITS {
            let case = format!("bit {bit} of {entry:x?}");
            watchdog.case(case.clone());
            if let Err(why) = survives(world, image, entry, bit, but) {
                failures.push(format!("{case}: {why}"));
            }
        }
    }
    assert!(!entries.is_empty());
    assert!(
        failures.is_empty(),
        "{} failures, the first ones:\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
}

/// The entries of the first and the last run of an arena.
fn ends(layout: &Layout, owner: u32) -> Vec<RunAt> {
    let runs = layout.runs_of(owner);
    match runs.as_slice() {
        [] => Vec::new(),
        [only] => vec![*only],
        [first, .., last] => vec![*first, *last],
    }
}

#[test]
fn of_each_user() {
    let (world, image, layout) = world();
    let named = [
        ("nodes", "fw/nodes"),
        ("big", "fw/big"),
        ("area", "fw/area"),
        ("vec", "fw/vec"),
        ("state", ".object/framework-state"),
    ];
    let mut owners = named.map(|(part, name)| (part, layout.arena_of(&image, name)));
    owners.sort_by_key(|(_, owner)| *owner);
    assert!(owners[0].1 >= ARENA_FIRST);
    for (part, owner) in owners {
        every_bit(&world, &image, &ends(&layout, owner), &[part]);
    }
    let log = world.state.log.id();
    every_bit(&world, &image, &ends(&layout, log), &["log"]);
}

#[test]
fn of_the_framework_s_own_arenas() {
    // Each of them is needed for everything; so all that can be asked for is that nothing is lost.
    let (world, image, layout) = world();
    for owner in [ARENA_TABLE, ARENA_ENTRIES[0], ARENA_STRINGS[0]] {
        let mut entries = ends(&layout, owner);
        entries.truncate(1);
        every_bit(&world, &image, &entries, &PARTS);
    }
    let buckets = ARENA_BUCKETS.map(|owner| ends(&layout, owner)).concat();
    every_bit(&world, &image, &buckets[..1], &PARTS);
}

#[test]
fn an_idle_arena_of_the_framework_s_closes_nothing() {
    // A kernel was stopped after it had given the idle hash table a run: it is emptied by the next
    // one, if its entry is sound. If not, everything opens all the same.
    let (world, image, layout) = world();
    let idle = ARENA_BUCKETS
        .into_iter()
        .find(|&owner| layout.runs_of(owner).is_empty())
        .expect("a table that is not in use");
    let spare = image.keys().map(|(phys, _)| phys.get()).max().unwrap() + (16 << 12);
    let mut torn = image.clone();
    torn.insert_key(Phys::new(spare), 0);
    let RunAt { place, at, .. } = layout.free;
    let run = RunSer::new(layout.root_id, place, Phys::new(spare), 0, idle, 0);
    torn.write_u64(Phys::new(at), run.phys_order);
    torn.write_u64(Phys::new(at + 8), u64::from(idle));
    torn.write_u64(Phys::new(at + 16), 0);
    torn.write_u64(Phys::new(at + 24), run.check);
    let entry = RunAt { place, at, run };
    for bit in 0..NR_BITS {
        if let Err(why) = survives(&world, &torn, entry, bit, &[]) {
            panic!("bit {bit}: {why}");
        }
    }
}

#[test]
fn an_arena_that_a_refused_entry_names_is_skipped_when_arenas_are_made() {
    // The entry is whole, so its owner is known, and there is no such arena yet.
    let (world, image, layout) = world();
    let table: ArenaSer = read(&image, layout.arena(ARENA_TABLE));
    let RunAt { place, at, .. } = layout.free;
    for ahead in 0..3 {
        let mut damaged = image.clone();
        let next = table.len.load() as u32 + ahead;
        // An address that is no memory.
        let phys = Phys::new(1 << 40);
        let run = RunSer::new(layout.root_id, place, phys, 0, next, 0);
        damaged.write_u64(Phys::new(at), run.phys_order);
        damaged.write_u64(Phys::new(at + 8), u64::from(next));
        damaged.write_u64(Phys::new(at + offset_of!(RunSer, check) as u64), run.check);
        for generation in 0..3 {
            let machine = damaged.boot();
            let framework = up(machine);
            others_open(&world, framework, &[]).unwrap();
            for i in 0..5 {
                let text = framework_common::name(&format!("new/{generation}/{i}"));
                let vec = PVec::<u64>::open_in(framework, &text, GFP_KERNEL);
                vec.unwrap().push(i).unwrap();
            }
            for i in 0..5 {
                let text = framework_common::name(&format!("new/0/{i}"));
                let vec = PVec::<u64>::open_in(framework, &text, GFP_KERNEL).unwrap();
                assert_eq!(vec.get(0), Some(&i));
            }
            machine.assert_sound();
            damaged = machine.image();
            machine.power_off();
        }
    }
}
