// SPDX-License-Identifier: GPL-2.0

//! Each call of the machine and each allocation fails once, in each thing that can be done. What
//! failed says ENOMEM, left nothing behind, and works when it is done again, in this kernel as in
//! the next.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a cache's initialiser is dropped with its runs when the allocation fails | 7 tests |
//! | a run that could not be recorded stays preserved (arena.rs) | `a_run_table_that_grows` |
//! | a name stays after a failed open | `an_open_that_fails_leaves_no_name` |
//! | a failed adoption leaves what it preserved | `a_boot_that_adopts` |

mod framework_common;

use framework_common::world::{
    BigSer,
    NodeSer,
    StateSer,
    World,
    PARTS,
    UNSET, //
};
use framework_common::{
    name,
    small,
    up, //
};
use kernel::fault::{
    fail_nth_allocation,
    nr_allocations, //
};
use kernel::prelude::{
    Result,
    EINVAL,
    ENOMEM,
    GFP_KERNEL, //
};
use kpreserve::{
    Anonymous as _,
    Area,
    Cache,
    Framework,
    Handle,
    IfRefused,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Call,
    Faults,
    Image,
    SimMachine, //
};

/// What fails.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A call of the machine.
    Machine(Call),
    /// An allocation of ordinary memory.
    Memory,
}

const KINDS: [Kind; 5] = [
    Kind::Machine(Call::Alloc),
    Kind::Machine(Call::Preserve),
    Kind::Machine(Call::AddSubtree),
    Kind::Machine(Call::Map),
    Kind::Memory,
];

/// No operation here comes near so many.
const NR_MAX: u64 = 5000;

/// Runs `f` while the `n`-th of a kind fails; returns what it returned, and whether one failed.
fn with_fault<R>(
    machine: &'static SimMachine,
    kind: Kind,
    n: u64,
    f: impl FnOnce() -> R,
) -> (R, bool) {
    match kind {
        Kind::Machine(call) => {
            machine.set_faults(Faults::nth_of(call, n));
            let result = f();
            let faults = machine.set_faults(Faults::none());
            (result, faults.count() >= n)
        }
        Kind::Memory => {
            fail_nth_allocation(Some(n));
            let result = f();
            let failed = nr_allocations() >= n;
            fail_nth_allocation(None);
            (result, failed)
        }
    }
}

/// A world, and what the next kernel finds of it.
fn world() -> (World, Image) {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let world = World::build(framework).unwrap();
    let image = machine.image();
    machine.power_off();
    (world, image)
}

/// Tries an operation with every fault, on a kernel that found a world.
///
/// Done again, the operation has to succeed; whether it was done or not, the world is whole.
fn survive(what: &str, op: impl Fn(&'static Framework) -> Result) {
    let (world, image) = world();
    survive_on(what, &world, &image, op);
}

/// The same, on a world that was prepared.
fn survive_on(what: &str, world: &World, image: &Image, op: impl Fn(&'static Framework) -> Result) {
    let reference = {
        let machine = image.boot();
        let framework = up(machine);
        op(framework).unwrap();
        machine.assert_sound();
        let held = machine.counters().held();
        machine.power_off();
        held
    };
    let mut nr_failed = 0;
    for kind in KINDS {
        for n in 1.. {
            assert!(n < NR_MAX, "{what}: no end");
            let case = format!("{what}, {kind:?} {n}");
            let machine = image.boot();
            let framework = up(machine);
            let (result, failed) = with_fault(machine, kind, n, || op(framework));
            assert!(
                failed || result == Ok(()),
                "{case}: {result:?} without a fault"
            );
            assert!(
                result == Ok(()) || result == Err(ENOMEM),
                "{case}: {result:?}"
            );
            machine.assert_sound();
            let (pages, keys, mappings) = machine.counters().held();
            assert!(
                pages <= reference.0 && keys <= reference.1 && mappings == 0,
                "{case}: holds {pages} pages, {keys} keys, {mappings} mappings; {reference:?} when \
                 nothing fails",
            );
            nr_failed += u64::from(result.is_err());
            // The next kernel finds a whole world, and can do what this one could not.
            let next = machine.image().boot();
            let framework_next = up(next);
            world.verify(framework_next);
            assert_eq!(op(framework_next), Ok(()), "{case}: in the next kernel");
            next.assert_sound();
            next.power_off();
            // This one can when it tries again.
            assert_eq!(op(framework), Ok(()), "{case}: again");
            world.verify(framework);
            let held = machine.counters().held();
            assert!(
                held.0 <= reference.0 && held.1 <= reference.1,
                "{case}: holds {held:?} in the end; {reference:?} when nothing fails"
            );
            machine.assert_sound();
            machine.power_off();
            if !failed {
                break;
            }
        }
    }
    std::println!("{what}: {nr_failed} failures");
    assert!(nr_failed > 0, "{what}: nothing failed");
}

fn held_by(machine: &'static SimMachine) -> (u64, u64, u64) {
    machine.counters().held()
}

#[test]
fn a_first_boot() {
    let mut nr_failed = 0;
    for kind in KINDS {
        for n in 1.. {
            assert!(n < NR_MAX);
            let machine = SimMachine::boot(small());
            let (booted, failed) = with_fault(machine, kind, n, || {
                Framework::boot(machine, IfRefused::Fail)
            });
            let framework = match booted {
                Ok(framework) => framework,
                Err(error) => {
                    assert_eq!((error, failed), (ENOMEM, true), "{kind:?} {n}");
                    nr_failed += 1;
                    assert_eq!(held_by(machine), (0, 0, 0), "{kind:?} {n}");
                    up(machine)
                }
            };
            let world = World::build(framework).unwrap();
            machine.assert_sound();
            let machine = machine.reboot();
            world.verify(up(machine));
            machine.assert_sound();
            machine.power_off();
            if !failed {
                break;
            }
        }
    }
    assert!(nr_failed >= 4, "{nr_failed}");
}

#[test]
fn a_boot_that_adopts() {
    let (world, image) = world();
    let mut nr_failed = 0;
    for kind in KINDS {
        for n in 1.. {
            assert!(n < NR_MAX);
            let machine = image.boot();
            let nr_incoming = machine.nr_incoming_pages();
            let (booted, failed) = with_fault(machine, kind, n, || {
                Framework::boot(machine, IfRefused::Fail)
            });
            let framework = match booted {
                Ok(framework) => framework,
                Err(error) => {
                    assert_eq!((error, failed), (ENOMEM, true), "{kind:?} {n}");
                    nr_failed += 1;
                    assert_eq!(held_by(machine), (0, 0, 0), "{kind:?} {n}");
                    assert_eq!(machine.nr_incoming_pages(), nr_incoming);
                    up(machine)
                }
            };
            world.verify(framework);
            world.use_on(framework);
            machine.assert_sound();
            let machine = machine.reboot();
            world.verify(up(machine));
            machine.assert_sound();
            machine.power_off();
            if !failed {
                break;
            }
        }
    }
    assert!(nr_failed > 20, "{nr_failed}");
}

#[test]
fn a_run_that_handover_does_not_restore_costs_its_owner_this_boot() {
    let (world, image) = world();
    let mut nr_refused = 0;
    for n in 1.. {
        assert!(n < NR_MAX);
        let machine = image.boot();
        let call = Kind::Machine(Call::Restore);
        let (booted, failed) = with_fault(machine, call, n, || {
            Framework::boot(machine, IfRefused::Fail)
        });
        match booted {
            // The root page, or a block of the run table.
            Err(error) => assert_eq!((error, failed), (EINVAL, true)),
            Ok(framework) => {
                for part in PARTS {
                    match world.try_part(framework, part) {
                        Ok(()) => {}
                        Err(error) => {
                            assert_eq!((error, failed), (EINVAL, true), "{part}, restore {n}");
                            nr_refused += 1;
                        }
                    }
                }
            }
        }
        // All of it is handed on, and the next kernel may have more luck.
        let machine = machine.reboot();
        world.verify(up(machine));
        machine.assert_sound();
        machine.power_off();
        if !failed {
            break;
        }
    }
    assert!(nr_refused > 8, "{nr_refused}");
}

#[test]
fn opening_what_is_there() {
    // One after the other, so that each is opened by itself.
    for part in PARTS {
        let (world, _) = world();
        survive(part, move |framework| world.try_part(framework, part));
    }
}

#[test]
fn opening_a_new_cache() {
    survive("new cache", |framework| {
        let cache = Cache::<BigSer>::open_in(framework, c"new", GFP_KERNEL)?;
        let object = cache.alloc(BigSer::of(3), GFP_KERNEL)?;
        assert_eq!(*object, BigSer::of(3));
        Ok(())
    });
}

#[test]
fn opening_a_new_area() {
    survive("new area", |framework| {
        let mut area = Area::<u32>::open_in(framework, c"new", GFP_KERNEL)?;
        area.resize(3000)?;
        assert!(area.iter().all(|&element| element == 0));
        area.resize(2)
    });
}

#[test]
fn an_area_without_a_name() {
    survive("anonymous", |framework| {
        let mut vec = PVec::<u64>::create_in(framework, GFP_KERNEL)?;
        let pushed = vec.extend_from_slice(&[5; 1000]);
        vec.discard()?;
        pushed
    });
}

#[test]
fn a_named_object() {
    survive("named object", |framework| {
        let init = StateSer { number: 7, ..UNSET };
        let named = Named::<StateSer>::open_in(framework, c"new", init, GFP_KERNEL)?;
        assert_eq!(named.number, 7);
        named.discard(c"new")
    });
    survive("named object of a new type", |framework| {
        let named = Named::<BigSer>::open_in(framework, c"new", BigSer::of(1), GFP_KERNEL)?;
        assert_eq!(*named, BigSer::of(1));
        Ok(())
    });
}

#[test]
fn a_cache_that_grows() {
    survive("growing cache", |framework| {
        let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL)?;
        let mut nodes = Vec::new();
        for _ in 0..400 {
            nodes.push(cache.alloc(NodeSer::of(!0, Handle::NULL), GFP_KERNEL)?);
        }
        Ok(())
    });
}

#[test]
fn a_reserve() {
    survive("reserve", |framework| {
        let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL)?;
        cache.set_reserve(3)
    });
}

#[test]
fn a_vector_that_grows() {
    survive("growing vector", |framework| {
        let mut vec = PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL)?;
        let len = vec.len();
        let pushed = (0..1500).try_for_each(|i| vec.push(i));
        vec.truncate(len)?;
        pushed
    });
}

#[test]
fn an_area_that_grows_is_mapped_and_shrinks() {
    survive("growing area", |framework| {
        let mut area = Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL)?;
        let len = area.len();
        area.resize(20_000)?;
        let mapped = area.map().map(|view| assert_eq!(view.len(), 20_000));
        area.resize(len)?;
        mapped
    });
}

#[test]
fn a_dictionary_that_grows() {
    survive("dictionary", |framework| {
        for i in 0..45u64 {
            let text = name(&format!("grow/{i}"));
            let init = StateSer { number: i, ..UNSET };
            let named = Named::<StateSer>::open_in(framework, &text, init, GFP_KERNEL)?;
            assert_eq!(named.number, i);
        }
        Ok(())
    });
}

/// Opens a name that is not there, with every fault; where that fails, there must be no name.
/// Returns how often it failed.
fn leaves_no_name(what: &str, op: impl Fn(&'static Framework) -> Result) -> u32 {
    let (_, image) = world();
    let mut nr_failed = 0;
    for kind in KINDS {
        for n in 1.. {
            let machine = image.boot();
            let framework = up(machine);
            let nr_names = framework.stats().nr_names;
            let (result, failed) = with_fault(machine, kind, n, || op(framework));
            if result.is_err() {
                nr_failed += 1;
                let now = framework.stats().nr_names;
                assert_eq!(now, nr_names, "{what}, {kind:?} {n}");
                // The name is there for something else.
                let area = Area::<i8>::open_in(framework, c"new", GFP_KERNEL).unwrap();
                area.discard().unwrap();
                machine.assert_sound();
            }
            machine.power_off();
            if !failed {
                break;
            }
        }
    }
    nr_failed
}

#[test]
fn an_open_that_fails_leaves_no_name() {
    let cache = leaves_no_name("cache", |framework| {
        Cache::<BigSer>::open_in(framework, c"new", GFP_KERNEL).map(|_| ())
    });
    let vector = leaves_no_name("vector", |framework| {
        PVec::<u64>::open_in(framework, c"new", GFP_KERNEL).map(|_| ())
    });
    let object = leaves_no_name("object", |framework| {
        Named::<StateSer>::open_in(framework, c"new", UNSET, GFP_KERNEL).map(|_| ())
    });
    assert!(
        cache > 2 && vector > 0 && object > 2,
        "{cache}, {vector}, {object} failures"
    );
}

#[test]
fn a_run_table_that_grows() {
    // A block of the table has 128 entries, which are nearly all in use here.
    let (world, image) = world();
    let machine = image.boot();
    let framework = up(machine);
    for _ in 0..122 - framework.stats().nr_keys {
        let mut vec = PVec::<u64>::create_in(framework, GFP_KERNEL).unwrap();
        vec.push(1).unwrap();
    }
    let image = machine.image();
    machine.power_off();
    survive_on("run table", &world, &image, |framework| {
        let mut vecs = Vec::new();
        let made = (0..12).try_for_each(|i| {
            let mut vec = PVec::<u64>::create_in(framework, GFP_KERNEL)?;
            let pushed = vec.push(i);
            vecs.push(vec);
            pushed
        });
        for vec in vecs {
            vec.discard()?;
        }
        made
    });
}
