// SPDX-License-Identifier: GPL-2.0

//! Images that a kernel refuses as a whole: it opens nothing, and hands all of it on.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a refused image is not handed on | all |
//! | the id of the image is taken from a damaged head | `a_head_that_is_wiped_and_addresses_...` |
//! | only entries with a right checksum are known | `every_bit_of_an_entry_of_the_...`, and others |
//! | what failed half-way is not undone | `no_memory` |

mod framework_common;

use core::mem::offset_of;
use std::time::Duration;

use framework_common::damaged::{
    flip,
    others_open,
    refused,
    world, //
};
use framework_common::layout::{
    read,
    Layout, //
};
use framework_common::world::World;
use framework_common::{
    log_lines,
    up,
    Watchdog, //
};
use kernel::prelude::{
    Error,
    EINVAL,
    ENOMEM,
    EOPNOTSUPP,
    GFP_KERNEL, //
};
use kpreserve::abi::{
    RootHeadSer,
    COMPATIBLE,
    OWNER_TABLE, //
};
use kpreserve::kho::{
    Phys,
    RunSer, //
};
use kpreserve::{
    Anonymous as _,
    Framework,
    IfRefused,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Call,
    Faults,
    Image, //
};

/// Two kernels refuse an image; returns what they leave.
fn refused_twice(damaged: &Image, expected: &[Error]) -> Image {
    let machine = damaged.boot();
    let keys = damaged.keys().count();
    let error = refused(machine);
    assert!(expected.contains(&error), "{error:?}");
    assert_eq!(machine.image().keys().count(), keys, "keys");
    let machine = machine.reboot();
    let error = refused(machine);
    assert!(expected.contains(&error), "the second kernel: {error:?}");
    let image = machine.image();
    machine.power_off();
    image
}

/// A kernel adopts what the others refused, and finds everything.
#[track_caller]
fn adopted(world: &World, image: &Image) {
    let machine = image.boot();
    let framework = up(machine);
    if let Err(why) = others_open(world, framework, &[]) {
        panic!("mended: {why}");
    }
    world.use_on(framework);
    machine.assert_sound();
    let machine = machine.reboot();
    world.verify(up(machine));
    machine.assert_sound();
    machine.power_off();
}

/// Two kernels refuse a damaged image, a third one finds everything once it is mended.
fn comes_back(
    world: &World,
    image: &Image,
    damage: impl FnOnce(&mut Image),
    mend: impl FnOnce(&mut Image),
) {
    let mut damaged = image.clone();
    damage(&mut damaged);
    let mut carried = refused_twice(&damaged, &[EINVAL, EOPNOTSUPP]);
    mend(&mut carried);
    adopted(world, &carried);
}

fn every_bit(from: impl Fn(&Layout) -> u64, nr_bits: u64) {
    let (world, image, layout) = world();
    let watchdog = Watchdog::new(Duration::from_secs(20));
    let at = from(&layout);
    for bit in 0..nr_bits {
        watchdog.case(format!("bit {bit} at {at:#x}"));
        std::println!("bit {bit}");
        let flip = |image: &mut Image| flip(image, at, bit);
        comes_back(&world, &image, flip, flip);
    }
}

#[test]
fn every_bit_of_the_head() {
    every_bit(
        |layout| layout.root,
        8 * offset_of!(RootHeadSer, generation) as u64,
    );
}

#[test]
fn every_bit_of_an_entry_of_the_root_page() {
    every_bit(|layout| layout.tables[0].at, 8 * size_of::<RunSer>() as u64);
}

#[test]
fn a_newer_version() {
    let (world, image, layout) = world();
    let set_version = |image: &mut Image, version: u32| {
        let at = layout.root + offset_of!(RootHeadSer, version) as u64;
        image.write(Phys::new(at), &version.to_le_bytes());
        let head: RootHeadSer = read(image, layout.root);
        let at = layout.root + offset_of!(RootHeadSer, check) as u64;
        image.write_u64(Phys::new(at), head.checksum());
    };
    let mut newer = image.clone();
    set_version(&mut newer, 2);
    log_lines("");
    let mut carried = refused_twice(&newer, &[EOPNOTSUPP]);
    let lines = log_lines("is refused and carried on");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for words in ["fresh=1", "0 runs (0 KiB, as far as known) are not there"] {
        assert!(lines[0].contains(words), "{lines:#?}");
    }
    set_version(&mut carried, 1);
    adopted(&world, &carried);
}

#[test]
fn opens_get_the_errno() {
    // Built in, consumers come up all the same: those that are told to wait would wait for ever.
    let (_, image, layout) = world();
    for (bit, errno) in [(0, EINVAL), (64, EOPNOTSUPP)] {
        let mut damaged = image.clone();
        flip(&mut damaged, layout.root, bit);
        let machine = damaged.boot();
        let booted = kpreserve_testing::Kernel::on(machine);
        assert_eq!(booted.err(), Some(errno));
        let opened = PVec::<u64>::open(c"fw/vec", GFP_KERNEL);
        assert_eq!(opened.err(), Some(errno));
        let created = PVec::<u64>::create(GFP_KERNEL);
        assert_eq!(created.err(), Some(errno));
        let booted = kpreserve_testing::Kernel::on_with(machine, IfRefused::BeginAnew);
        booted.unwrap().assert_sound();
        assert!(PVec::<u64>::open(c"fw/vec", GFP_KERNEL).is_ok());
    }
    kpreserve::global::set_framework(None);
}

#[test]
fn a_head_that_is_wiped() {
    let (world, image, layout) = world();
    let len = offset_of!(RootHeadSer, generation);
    let mut before = vec![0; len];
    image.read(Phys::new(layout.root), &mut before);
    for byte in [0, 0xff, 0x55] {
        comes_back(
            &world,
            &image,
            |image| image.write(Phys::new(layout.root), &vec![byte; len]),
            |image| image.write(Phys::new(layout.root), &before),
        );
    }
}

#[test]
fn a_head_that_is_wiped_and_addresses_that_are_wrong() {
    // What the entries were is only known with the id of the image, which the head does not have
    // any more.
    let (world, image, layout) = world();
    let len = offset_of!(RootHeadSer, generation);
    let mut before = vec![0; len];
    image.read(Phys::new(layout.root), &mut before);
    let flips = |image: &mut Image| {
        for entry in &layout.runs {
            flip(image, entry.at, 30);
        }
    };
    comes_back(
        &world,
        &image,
        |image| {
            image.write(Phys::new(layout.root), &vec![0; len]);
            flips(image);
        },
        |image| {
            image.write(Phys::new(layout.root), &before);
            flips(image);
        },
    );
}

#[test]
fn a_subtree_of_another_size() {
    let (world, image, layout) = world();
    let root = Phys::new(layout.root);
    comes_back(
        &world,
        &image,
        |image| image.set_subtree(COMPATIBLE, root, 8192),
        |image| {
            assert_eq!(image.subtree(COMPATIBLE), Some((root, 8192)));
            image.set_subtree(COMPATIBLE, root, 4096);
        },
    );
}

#[test]
fn a_run_table_of_several_blocks() {
    // A wrong bit in the address or the order of a block moves the places of those behind it.
    let config = kpreserve_sim::Config {
        nr_pages: 2048,
        ..framework_common::small()
    };
    let machine = kpreserve_sim::SimMachine::boot(config);
    let framework = up(machine);
    let world = World::build(framework).unwrap();
    let fill = |framework, check: bool| {
        for i in 0..400u64 {
            let text = framework_common::name(&format!("many/{i}"));
            let mut vec = PVec::<u64>::open_in(framework, &text, GFP_KERNEL).unwrap();
            if check {
                assert_eq!(vec.get(0), Some(&i));
            } else {
                vec.push(i).unwrap();
            }
        }
    };
    fill(framework, false);
    let image = machine.image();
    machine.power_off();
    let layout = Layout::of(&image);
    assert!(layout.tables.len() >= 4, "{} blocks", layout.tables.len());
    let watchdog = Watchdog::new(Duration::from_secs(20));
    for entry in [layout.tables[0], layout.tables[2]] {
        for bit in (0..256).step_by(5) {
            watchdog.case(format!("bit {bit} of block {}", entry.place));
            let mut damaged = image.clone();
            flip(&mut damaged, entry.at, bit);
            let mut carried = refused_twice(&damaged, &[EINVAL]);
            assert_eq!(carried.keys().count(), image.keys().count());
            flip(&mut carried, entry.at, bit);
            let machine = carried.boot();
            let framework = up(machine);
            world.verify(framework);
            fill(framework, true);
            machine.assert_sound();
            machine.power_off();
        }
    }
}

#[test]
fn a_frame_that_overlaps_itself() {
    // The second block of the run table is the root page, says its entry.
    let (world, image, layout) = world();
    let at = layout.tables[0].at + size_of::<RunSer>() as u64;
    let run = RunSer::new(layout.root_id, 1, Phys::new(layout.root), 0, OWNER_TABLE, 1);
    comes_back(
        &world,
        &image,
        |image| {
            image.write_u64(Phys::new(at), run.phys_order);
            image.write_u64(Phys::new(at + 8), u64::from(OWNER_TABLE) | 1 << 32);
            image.write_u64(Phys::new(at + 24), run.check);
        },
        |image| image.write(Phys::new(at), &[0; 32]),
    );
}

#[test]
fn damage_of_more_than_one_kind() {
    // The head, and entries of users: what is known of each is handed on.
    let (world, image, layout) = world();
    let mut entries: Vec<u64> = layout.runs.iter().map(|run| run.at).collect();
    entries.push(layout.root);
    let flips = |image: &mut Image| {
        for (i, &at) in entries.iter().enumerate() {
            flip(image, at, (37 * i as u64) % 192);
        }
    };
    comes_back(&world, &image, flips, flips);
}

#[test]
fn no_memory() {
    let (world, image, layout) = world();
    let mut damaged = image.clone();
    flip(&mut damaged, layout.root, 0);
    let mut nr_failed = 0;
    for call in [Call::Preserve, Call::AddSubtree] {
        for n in 1.. {
            let machine = damaged.boot();
            machine.set_faults(Faults::nth_of(call, n));
            let error = refused(machine);
            let faults = machine.set_faults(Faults::none());
            if error == ENOMEM {
                nr_failed += 1;
                assert_eq!(machine.counters().held(), (0, 0, 0), "{call:?} {n}");
                assert_eq!(refused(machine), EINVAL);
            } else {
                assert_eq!(error, EINVAL);
                assert!(faults.count() < n);
            }
            let mut carried = machine.image();
            machine.power_off();
            flip(&mut carried, layout.root, 0);
            adopted(&world, &carried);
            if faults.count() < n {
                break;
            }
        }
    }
    assert!(nr_failed > 10, "{nr_failed}");
}

#[test]
fn a_second_attempt_changes_nothing() {
    let (world, image, layout) = world();
    let mut damaged = image.clone();
    flip(&mut damaged, layout.root, 5);
    let machine = damaged.boot();
    assert_eq!(refused(machine), EINVAL);
    let held = machine.counters().held();
    assert_eq!(refused(machine), EINVAL);
    assert_eq!(machine.counters().held(), held);
    let mut carried = machine.image();
    machine.power_off();
    flip(&mut carried, layout.root, 5);
    adopted(&world, &carried);
}

#[test]
fn a_run_that_handover_never_takes_is_given_up_alone() {
    let (world, image, _) = world();
    for if_refused in [IfRefused::Fail, IfRefused::BeginAnew] {
        let mut nr_lost = 0;
        for n in 1.. {
            let machine = image.boot();
            machine.set_faults(Faults::nth_of(Call::Refuse, n));
            log_lines("");
            let booted = Framework::boot(machine, if_refused);
            let is_over = machine.set_faults(Faults::none()).count() < n;
            machine.assert_sound();
            if is_over {
                break;
            }
            match booted {
                // The root page, or the block of the run table: without these there is no image.
                Err(error) => {
                    assert_eq!((if_refused, error), (IfRefused::Fail, EINVAL));
                    assert!(n <= 2, "run {n}");
                }
                Ok(framework) if framework.stats().generation == 1 => {
                    assert_eq!(if_refused, IfRefused::BeginAnew);
                    assert!(n <= 2, "run {n} gave up the image");
                }
                Ok(framework) => {
                    let lines = log_lines("KHO does not take the run");
                    assert_eq!(lines.len(), 1);
                    let closed = framework_common::world::PARTS
                        .iter()
                        .filter(|part| world.try_part(framework, part).is_err());
                    let nr_closed = closed.count();
                    assert!(nr_closed == 1 || nr_closed == 6, "{nr_closed} parts");
                    nr_lost += 1;
                }
            }
            machine.assert_sound();
            machine.power_off();
        }
        assert!(nr_lost > 5, "{nr_lost}");
    }
}
