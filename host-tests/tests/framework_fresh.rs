// SPDX-License-Identifier: GPL-2.0

//! `fresh`: what is refused is given up, and a new image begun, because somebody asked for it; or
//! there is a message that says why not.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | names that are refused are not given up | `an_image_whose_names_are_refused` |
//! | what an earlier attempt handed on stays handed on | `after_an_attempt_without` |
//! | a root page that is not marked cannot be given up | `a_root_page_that_is_not_preserved` |
//! | a sound image is given up, too | `a_sound_image_is_adopted` |

mod framework_common;

use core::mem::offset_of;

use framework_common::damaged::{
    flip,
    refused,
    world, //
};
use framework_common::world::World;
use framework_common::{
    log_lines,
    up, //
};
use kernel::prelude::{
    EBUSY,
    EINVAL, //
};
use kpreserve::abi::{
    RootHeadSer,
    ARENA_BUCKETS,
    ARENA_TABLE, //
};
use kpreserve::kho::Phys;
use kpreserve::{
    Framework,
    IfRefused, //
};
use kpreserve_sim::{
    Call,
    Faults,
    Image,
    SimMachine, //
};

fn fresh(machine: &'static SimMachine) -> &'static Framework {
    let framework = Framework::boot(machine, IfRefused::BeginAnew).unwrap();
    machine.assert_sound();
    framework
}

/// A new image works, and the next kernels find it and no other.
fn is_new(machine: &'static SimMachine, framework: &'static Framework) {
    assert_eq!(framework.stats().generation, 1);
    let world = World::build(framework).unwrap();
    machine.assert_sound();
    let image = machine.image();
    // All that is handed on is the new image's.
    assert_eq!(image.keys().count(), framework.stats().nr_keys);
    let machine = machine.reboot();
    let framework = up(machine);
    assert_eq!(framework.stats().generation, 2);
    world.verify(framework);
    machine.assert_sound();
    machine.power_off();
}

#[test]
fn at_the_first_attempt() {
    let (_, mut image, layout) = world();
    flip(&mut image, layout.root, 0);
    let machine = image.boot();
    let framework = fresh(machine);
    assert_eq!(log_lines("is given up").len(), 1);
    is_new(machine, framework);
}

#[test]
fn after_an_attempt_without() {
    // As `insmod kpreserve`, which fails, and `insmod kpreserve fresh=1`.
    let (_, image, layout) = world();
    for at in [layout.root, layout.tables[0].at] {
        for nr_attempts in 1..3 {
            let mut damaged = image.clone();
            flip(&mut damaged, at, 7);
            let machine = damaged.boot();
            for _ in 0..nr_attempts {
                assert_eq!(refused(machine), EINVAL);
            }
            let framework = fresh(machine);
            // It is this boot's now.
            assert_eq!(refused(machine), EBUSY);
            is_new(machine, framework);
        }
    }
}

#[test]
fn no_memory() {
    let (_, mut image, layout) = world();
    flip(&mut image, layout.root, 0);
    for call in [Call::Alloc, Call::Preserve, Call::AddSubtree] {
        for n in 1.. {
            let machine = image.boot();
            assert_eq!(refused(machine), EINVAL);
            let held = machine.counters().held();
            machine.set_faults(Faults::nth_of(call, n));
            let booted = Framework::boot(machine, IfRefused::BeginAnew);
            let is_over = machine.set_faults(Faults::none()).count() < n;
            machine.assert_sound();
            match booted {
                Err(_) => {
                    // The old image is handed on as before.
                    assert_eq!(machine.counters().held(), held, "{call:?} {n}");
                    is_new(machine, fresh(machine));
                }
                Ok(framework) => is_new(machine, framework),
            }
            if is_over {
                break;
            }
        }
    }
}

/// Damage that is found when the names are opened, after the image was adopted.
fn names_refused(image: &Image, layout: &framework_common::layout::Layout) -> Vec<Image> {
    let set = |at: u64, word: u64| {
        let mut damaged = image.clone();
        damaged.write_u64(Phys::new(at), word);
        damaged
    };
    let in_head = |offset: usize| layout.root + offset as u64;
    let mut run = image.clone();
    flip(&mut run, layout.runs_of(ARENA_TABLE)[0].at, 3);
    vec![
        set(in_head(offset_of!(RootHeadSer, active_entries)), 2),
        set(in_head(offset_of!(RootHeadSer, active_buckets)), 2),
        set(in_head(offset_of!(RootHeadSer, pending)), 0x77),
        set(layout.arena(ARENA_TABLE) + 56, 0x1234),
        set(layout.arena(ARENA_BUCKETS[0]) + 56, 0x1234),
        run,
    ]
}

#[test]
fn an_image_whose_names_are_refused() {
    let (world, image, layout) = world();
    for (case, damaged) in names_refused(&image, &layout).iter().enumerate() {
        // Without, everything is carried on, and it is said what to do.
        let machine = damaged.boot();
        log_lines("");
        let framework = up(machine);
        let lines = log_lines("the names of the image are refused");
        assert_eq!(lines.len(), 1, "case {case}");
        assert!(lines[0].contains("fresh=1"));
        assert_eq!(world.try_part(framework, "area"), Err(EINVAL));
        let machine = machine.reboot();

        let framework = fresh(machine);
        assert_eq!(log_lines("is given up").len(), 1, "case {case}");
        // Its memory is this kernel's, but for a run that was refused, and never restored.
        assert!(machine.nr_incoming_pages() <= 1, "case {case}");
        is_new(machine, framework);
    }
}

#[test]
fn an_image_whose_names_are_refused_and_no_memory() {
    let (_, image, layout) = world();
    let damaged = &names_refused(&image, &layout)[0];
    let nr_keys = image.keys().count();
    let mut nr_kept = 0;
    for call in [Call::Alloc, Call::Preserve, Call::AddSubtree] {
        for n in 1.. {
            let machine = damaged.boot();
            machine.set_faults(Faults::nth_of(call, n));
            let booted = Framework::boot(machine, IfRefused::BeginAnew);
            let is_over = machine.set_faults(Faults::none()).count() < n;
            machine.assert_sound();
            match booted {
                Ok(framework) if framework.stats().generation == 1 => is_new(machine, framework),
                // The old one is still there, and handed on.
                Ok(_) => {
                    assert_eq!(machine.image().keys().count(), nr_keys, "{call:?} {n}");
                    nr_kept += 1;
                    let machine = machine.reboot();
                    is_new(machine, fresh(machine));
                }
                // Nothing was adopted.
                Err(_) => is_new(machine, fresh(machine)),
            }
            if is_over {
                break;
            }
        }
    }
    assert!(nr_kept >= 3, "{nr_kept}");
}

#[test]
fn a_root_page_that_is_not_preserved() {
    let (_, mut image, layout) = world();
    assert!(image.remove_key(Phys::new(layout.root), 0));
    let machine = image.boot();
    assert_eq!(refused(machine), EBUSY);
    is_new(machine, fresh(machine));
}

#[test]
fn a_sound_image_is_adopted() {
    let (world, image, _) = world();
    let machine = image.boot();
    let framework = fresh(machine);
    assert!(framework.stats().generation > 1);
    world.verify(framework);
    // A second time in a boot it does not apply, and says so.
    log_lines("");
    let again = Framework::boot(machine, IfRefused::BeginAnew);
    assert_eq!(again.err(), Some(EBUSY));
    assert_eq!(log_lines("fresh=1 does not apply").len(), 1);
    let machine = machine.reboot();
    world.verify(up(machine));
}
