// SPDX-License-Identifier: GPL-2.0

//! The life of things, from one kernel to the next: what is created is found, once, by who says
//! what it is, and nobody else.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a second boot returns EEXIST | `a_kernel_has_one_framework` |
//! | adopting by handle does not look at the gate | `a_frozen_framework_...` |
//! | closing an arena loses its runs | 7 tests |
//! | another layout of the same version is opened | `a_type_that_is_not_the_one_...` |

mod framework_common;

use framework_common::world::{
    BigSer,
    NodeSer,
    StateSer,
    World,
    UNSET, //
};
use framework_common::{
    log_lines,
    name,
    small,
    up, //
};
use kernel::prelude::{
    Init,
    Result,
    EBUSY,
    EINVAL,
    ENAMETOOLONG,
    ENOENT,
    ENOMEM,
    EOPNOTSUPP,
    EPROBE_DEFER,
    ESTALE,
    GFP_ATOMIC,
    GFP_KERNEL, //
};
use kpreserve::global::set_framework;
use kpreserve::{
    Anonymous as _,
    Area,
    ArenaHandle,
    Cache,
    Framework,
    Handle,
    IfRefused,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Config,
    SimMachine, //
};

/// Types that differ from `NodeSer` in one respect each.
mod other {
    kpreserve::preservable! {
        /// Another version.
        pub struct NewerSer { pub id: u64, pub next: u64, pub words: [u64; 3] }
        compatible = "framework-node", version = 2

        /// The same version, another layout.
        pub struct ChangedSer { pub id: u64, pub next: u64, pub sums: [u64; 3] }
        compatible = "framework-node", version = 1

        /// Another name.
        pub struct StrangerSer { pub id: u64, pub next: u64, pub words: [u64; 3] }
        compatible = "framework-stranger", version = 1
    }
}

fn boot() -> (&'static SimMachine, &'static Framework) {
    let machine = SimMachine::boot(small());
    (machine, up(machine))
}

/// Freezes and boots the next kernel.
fn kexec(
    machine: &'static SimMachine,
    framework: &'static Framework,
) -> (&'static SimMachine, &'static Framework) {
    framework.freeze();
    machine.assert_sound();
    let machine = machine.reboot();
    (machine, up(machine))
}

fn open<T: kpreserve::Open>(framework: &'static Framework, text: &str) -> Result<T> {
    T::open_in(framework, &name(text), GFP_KERNEL)
}

fn nothing<T>(result: Result<T>) -> Result {
    result.map(|_| ())
}

#[test]
fn everything_is_found_bit_for_bit_in_each_of_many_generations() {
    let machine = SimMachine::boot(Config::default());
    let mut kernel = (machine, up(machine));
    let world = World::build(kernel.1).unwrap();
    world.verify(kernel.1);
    for generation in 2..10 {
        kernel = kexec(kernel.0, kernel.1);
        assert_eq!(kernel.1.stats().generation, generation);
        world.verify(kernel.1);
        world.use_on(kernel.1);
        world.verify(kernel.1);
        kernel.0.assert_sound();
        // Every page of the one before was taken over.
        assert_eq!(kernel.0.nr_incoming_pages(), 0);
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_kernels() {
    let machine = SimMachine::boot(Config::default());
    let mut kernel = (machine, up(machine));
    let world = World::build(kernel.1).unwrap();
    world.use_on(kernel.1);
    let held = kernel.0.counters().held();
    for _ in 0..20 {
        kernel = kexec(kernel.0, kernel.1);
        world.use_on(kernel.1);
        assert_eq!(kernel.0.counters().held(), held);
    }
    world.verify(kernel.1);
}

#[test]
fn what_nobody_opens_is_carried_on() {
    let (machine, framework) = boot();
    let world = World::build(framework).unwrap();
    let mut kernel = kexec(machine, framework);
    let (keys, waiting) = {
        let stats = kernel.1.stats();
        (stats.nr_keys, stats.nr_runs_waiting)
    };
    assert!(waiting > 5);
    for _ in 0..5 {
        kernel = kexec(kernel.0, kernel.1);
        assert_eq!(kernel.1.stats().nr_keys, keys);
        assert_eq!(kernel.1.stats().nr_runs_waiting, waiting);
    }
    world.verify(kernel.1);
    kernel.0.assert_sound();
}

#[test]
fn some_are_opened_and_others_carried_on() {
    let (machine, framework) = boot();
    let world = World::build(framework).unwrap();
    let mut kernel = (machine, framework);
    for part in ["nodes", "log", "vec", "state", "area"] {
        kernel = kexec(kernel.0, kernel.1);
        world.try_part(kernel.1, part).unwrap();
    }
    kernel = kexec(kernel.0, kernel.1);
    world.verify(kernel.1);
}

#[test]
fn a_stop_without_a_freeze_loses_nothing_that_was_finished() {
    let (machine, framework) = boot();
    let world = World::build(framework).unwrap();
    let machine = machine.reboot();
    world.verify(up(machine));
    let machine = machine.reboot();
    world.verify(up(machine));
    machine.assert_sound();
}

#[test]
fn an_open_cache_cannot_be_opened_and_is_shared_by_cloning() {
    let (machine, framework) = boot();
    let cache: Cache<NodeSer> = open(framework, "c").unwrap();
    assert_eq!(nothing(open::<Cache<NodeSer>>(framework, "c")), Err(EBUSY));
    let shared = cache.clone();
    let node = cache
        .alloc(NodeSer::of(1, Handle::NULL), GFP_KERNEL)
        .unwrap();
    let handle = node.handle();
    drop(cache);
    assert_eq!(nothing(open::<Cache<NodeSer>>(framework, "c")), Err(EBUSY));
    assert_eq!(shared.claim(handle).err(), Some(EBUSY));
    let handle = node.park();
    assert_eq!(shared.peek(handle), Ok(NodeSer::of(1, Handle::NULL)));
    drop(shared);
    // Closed: the same boot opens it again, and finds what was parked.
    let cache: Cache<NodeSer> = open(framework, "c").unwrap();
    assert_eq!(*cache.claim(handle).unwrap(), NodeSer::of(1, Handle::NULL));
    machine.assert_sound();
}

#[test]
fn an_open_area_cannot_be_opened() {
    let (_, framework) = boot();
    let mut area: Area<u32> = open(framework, "a").unwrap();
    area.resize(3).unwrap();
    area.set(1, 5).unwrap();
    assert_eq!(nothing(open::<Area<u32>>(framework, "a")), Err(EBUSY));
    assert_eq!(nothing(open::<PVec<u32>>(framework, "a")), Err(EBUSY));
    let handle = area.handle();
    let adopted = PVec::adopt_in(framework, handle, GFP_KERNEL);
    assert_eq!(nothing(adopted), Err(EBUSY));
    drop(area);
    // A vector is an area.
    let vec: PVec<u32> = open(framework, "a").unwrap();
    assert_eq!(vec.iter().copied().collect::<Vec<_>>(), [0, 5, 0]);
    drop(vec);
    let area = Area::adopt_in(framework, handle, GFP_KERNEL).unwrap();
    assert_eq!(area.get(1), Some(&5));
}

#[test]
fn an_owned_object_is_not_opened_again_until_it_is_dropped() {
    let (machine, framework) = boot();
    let open = |number| {
        let init = StateSer { number, ..UNSET };
        Named::<StateSer>::open_in(framework, c"s", init, GFP_KERNEL)
    };
    let first = open(1).unwrap();
    assert_eq!(nothing(open(2)), Err(EBUSY));
    drop(first);
    let mut again = open(3).unwrap();
    assert_eq!(again.number, 1);
    again.number = 4;
    drop(again);
    let again = open(5).unwrap();
    assert_eq!(again.number, 4);
    again.discard(c"s").unwrap();
    assert_eq!(open(6).unwrap().number, 6);
    machine.assert_sound();
}

#[test]
fn what_is_claimed_is_claimed_once_in_each_kernel() {
    let (machine, framework) = boot();
    let cache: Cache<NodeSer> = open(framework, "c").unwrap();
    let keep = cache
        .alloc(NodeSer::of(1, Handle::NULL), GFP_KERNEL)
        .unwrap()
        .park();
    let gone = cache
        .alloc(NodeSer::of(2, Handle::NULL), GFP_KERNEL)
        .unwrap()
        .park();
    let owned = cache
        .alloc(NodeSer::of(3, Handle::NULL), GFP_KERNEL)
        .unwrap();
    let handle = owned.handle();
    cache.discard(gone).unwrap();
    // What is owned when the kernel stops is there for the next.
    core::mem::forget(owned);
    drop(cache);
    let (machine, framework) = kexec(machine, framework);
    let cache: Cache<NodeSer> = open(framework, "c").unwrap();
    let node = cache.claim(keep).unwrap();
    assert_eq!(cache.claim(keep).err(), Some(EBUSY));
    assert_eq!(cache.claim(gone).err(), Some(ENOENT));
    assert_eq!(cache.claim(Handle::NULL).err(), Some(EINVAL));
    assert_eq!(*cache.claim(handle).unwrap(), NodeSer::of(3, Handle::NULL));
    // That one was freed by its drop; what is unclaimed now is nothing.
    assert_eq!(cache.finish(), 0);
    node.park();
    assert_eq!(cache.finish(), 0, "what was parked since is not unclaimed");
    drop(cache);
    let cache: Cache<NodeSer> = open(framework, "c").unwrap();
    assert_eq!((cache.finish(), cache.finish()), (1, 0));
    machine.assert_sound();
}

#[test]
fn a_kernel_has_one_framework() {
    let (machine, _framework) = boot();
    let twice = |machine| nothing(Framework::boot(machine, IfRefused::Fail));
    let held = machine.counters().held();
    assert_eq!(twice(machine), Err(EBUSY));
    assert_eq!(machine.counters().held(), held);
    let machine = machine.reboot();
    let framework = up(machine);
    let held = machine.counters().held();
    assert_eq!(twice(machine), Err(EBUSY));
    let anew = Framework::boot(machine, IfRefused::BeginAnew);
    assert_eq!(nothing(anew), Err(EBUSY));
    assert_eq!(machine.counters().held(), held);
    assert_eq!(framework.stats().generation, 2);
    machine.assert_sound();
}

#[test]
fn without_handover_there_is_no_framework() {
    let config = Config {
        has_kho: false,
        ..small()
    };
    let machine = SimMachine::boot(config);
    log_lines("");
    let booted = Framework::boot(machine, IfRefused::Fail);
    assert_eq!(nothing(booted), Err(EOPNOTSUPP));
    let said = kernel::print::take_complaints();
    for part in [
        "boot with kho=on",
        "Failed to reserve scratch area",
        "kho_scratch=",
    ] {
        assert!(
            said.iter().any(|line| line.contains(part)),
            "{part}: {said:?}"
        );
    }
    assert_eq!(machine.counters().held(), (0, 0, 0));
}

#[test]
fn before_the_framework_opening_is_deferred() {
    set_framework(None);
    assert_eq!(
        nothing(Cache::<NodeSer>::open(c"c", GFP_KERNEL)),
        Err(EPROBE_DEFER)
    );
    assert_eq!(
        nothing(Area::<u32>::open(c"a", GFP_KERNEL)),
        Err(EPROBE_DEFER)
    );
    assert_eq!(nothing(PVec::<u32>::create(GFP_KERNEL)), Err(EPROBE_DEFER));
    let handle = ArenaHandle::<u32>::new(16, 1);
    assert_eq!(nothing(PVec::adopt(handle, GFP_KERNEL)), Err(EPROBE_DEFER));
    assert_eq!(
        nothing(Named::open(c"s", UNSET, GFP_KERNEL)),
        Err(EPROBE_DEFER)
    );
    let (_, framework) = boot();
    set_framework(Some(framework));
    assert!(Cache::<NodeSer>::open(c"c", GFP_KERNEL).is_ok());
    set_framework(None);
}

/// Opens a name in each way there is.
fn open_each(framework: &'static Framework, text: &str) -> [Result; 4] {
    let init = StateSer { number: 9, ..UNSET };
    let object = || Named::<StateSer>::open_in(framework, &name(text), init, GFP_KERNEL);
    [
        nothing(open::<Cache<NodeSer>>(framework, text)),
        nothing(open::<Area<u32>>(framework, text)),
        nothing(open::<PVec<u32>>(framework, text)),
        nothing(object()),
    ]
}

#[test]
fn names_that_are_none_are_refused() {
    let (machine, framework) = boot();
    let long = "x".repeat(255);
    let longer = "x".repeat(256);
    let nr_names = framework.stats().nr_names;
    let held = machine.counters().held();
    assert_eq!(open_each(framework, ""), [Err(EINVAL); 4]);
    assert_eq!(open_each(framework, ".x"), [Err(EINVAL); 4]);
    assert_eq!(
        open_each(framework, ".object/framework-state"),
        [Err(EINVAL); 4]
    );
    assert_eq!(open_each(framework, &longer), [Err(ENAMETOOLONG); 4]);
    assert_eq!(
        nothing(Area::<u32>::open_in(framework, c"a", GFP_ATOMIC)),
        Err(EINVAL)
    );
    assert_eq!(framework.stats().nr_names, nr_names);
    assert_eq!(machine.counters().held(), held);
    let mut area: Area<u32> = open(framework, &long).unwrap();
    area.resize(1).unwrap();
    drop(area);
    let (_, framework) = kexec(machine, framework);
    assert_eq!(open::<Area<u32>>(framework, &long).unwrap().len(), 1);
    assert_eq!(open::<Area<u32>>(framework, &long[1..]).unwrap().len(), 0);
}

#[test]
fn a_name_that_is_taken_by_another_kind_is_busy() {
    let (machine, framework) = boot();
    let fill = |framework| {
        assert_eq!(
            open_each(framework, "cache"),
            [Ok(()), Err(EBUSY), Err(EBUSY), Err(EBUSY)]
        );
        assert_eq!(
            open_each(framework, "area")[..3],
            [Err(EBUSY), Ok(()), Ok(())]
        );
        assert_eq!(open_each(framework, "area")[3], Err(EBUSY));
        assert_eq!(
            open_each(framework, "object"),
            [Err(EBUSY), Err(EBUSY), Err(EBUSY), Ok(())]
        );
    };
    nothing(open::<Area<u32>>(framework, "area")).unwrap();
    let init = StateSer { number: 9, ..UNSET };
    Named::<StateSer>::open_in(framework, c"object", init, GFP_KERNEL).unwrap();
    fill(framework);
    let (machine, framework) = kexec(machine, framework);
    fill(framework);
    machine.assert_sound();
}

#[test]
fn a_type_that_is_not_the_one_that_was_kept_is_refused() {
    use other::{
        ChangedSer,
        NewerSer,
        StrangerSer, //
    };

    let (machine, framework) = boot();
    let world = World::build(framework).unwrap();
    let mut vec: PVec<NodeSer> = open(framework, "fw/node-vec").unwrap();
    vec.push(NodeSer::of(7, Handle::NULL)).unwrap();
    let handle = vec.handle();
    drop(vec);
    let mut kernel = (machine, framework);
    for _ in 0..2 {
        let framework = kernel.1;
        let held = kernel.0.counters().held();
        log_lines("");
        let newer = open::<Cache<NewerSer>>(framework, "fw/nodes");
        assert_eq!(nothing(newer), Err(EOPNOTSUPP));
        let version = "\"fw/nodes\" (\"framework-node\"): version is 1, this kernel knows 2: use ";
        assert_eq!(log_lines(version).len(), 1);
        let changed = open::<Cache<ChangedSer>>(framework, "fw/nodes");
        assert_eq!(nothing(changed), Err(EINVAL));
        assert_eq!(log_lines("a field changed without a new version").len(), 1);
        let stranger = open::<Cache<StrangerSer>>(framework, "fw/nodes");
        assert_eq!(nothing(stranger), Err(EINVAL));
        assert_eq!(log_lines("\"fw/nodes\" was to be opened as").len(), 1);
        let area = open::<Area<NodeSer>>(framework, "fw/nodes");
        assert_eq!(nothing(area), Err(EBUSY));
        assert_eq!(log_lines("\"fw/nodes\" stands for a cache").len(), 1);

        // The first arena of a user is the cache.
        let cache = ArenaHandle::<NodeSer>::new(16, 1);
        let adopted = PVec::adopt_in(framework, cache, GFP_KERNEL);
        assert_eq!(nothing(adopted), Err(EINVAL));
        assert_eq!(log_lines("kind is 0x1, expected exactly 0x2").len(), 1);

        // A handle that was never stored is no damage.
        let null = PVec::<NodeSer>::adopt_in(framework, ArenaHandle::NULL, GFP_KERNEL);
        assert_eq!(nothing(null), Err(EINVAL));
        assert_eq!(log_lines("").len(), 0);

        let newer = open::<Area<NewerSer>>(framework, "fw/node-vec");
        assert_eq!(nothing(newer), Err(EOPNOTSUPP));
        let changed = open::<PVec<ChangedSer>>(framework, "fw/node-vec");
        assert_eq!(nothing(changed), Err(EINVAL));
        let stranger = open::<PVec<StrangerSer>>(framework, "fw/node-vec");
        assert_eq!(nothing(stranger), Err(EINVAL));

        // The same by handle.
        let raw = handle.into_raw();
        let newer = PVec::<NewerSer>::adopt_in(framework, ArenaHandle::from_raw(raw), GFP_KERNEL);
        assert_eq!(nothing(newer), Err(EOPNOTSUPP));
        let changed =
            PVec::<ChangedSer>::adopt_in(framework, ArenaHandle::from_raw(raw), GFP_KERNEL);
        assert_eq!(nothing(changed), Err(EINVAL));
        let small = PVec::<u8>::adopt_in(framework, ArenaHandle::from_raw(raw), GFP_KERNEL);
        assert_eq!(nothing(small), Err(EINVAL));

        // As an object.
        let init = BigSer::of(0);
        let object = Named::<BigSer>::open_in(framework, c"fw/state", init, GFP_KERNEL);
        assert_eq!(nothing(object), Err(EINVAL));

        // All of it is as it was, for who says what it is.
        world.verify(framework);
        let vec: PVec<NodeSer> = open(framework, "fw/node-vec").unwrap();
        assert_eq!(vec.get(0), Some(&NodeSer::of(7, Handle::NULL)));
        drop(vec);
        // The cache of the objects of the type that was tried is all there is in addition.
        let (pages, keys, _) = kernel.0.counters().held();
        assert!(pages - held.0 <= 1 && keys - held.1 <= 1);
        kernel = kexec(kernel.0, kernel.1);
    }
}

#[test]
fn handles_of_what_was_discarded_are_told_apart() {
    let (machine, framework) = boot();
    let adopt = |framework, handle| nothing(PVec::<u32>::adopt_in(framework, handle, GFP_KERNEL));
    let create = |framework| {
        let mut vec = PVec::<u32>::create_in(framework, GFP_KERNEL).unwrap();
        vec.push(77).unwrap();
        vec
    };
    let held = machine.counters().held();
    let first = create(framework);
    let old = first.handle();
    first.discard().unwrap();
    assert_eq!(machine.counters().held(), held);
    assert_eq!(adopt(framework, old), Err(ENOENT));
    let second = create(framework);
    let new = second.handle();
    assert_eq!(new.id(), old.id(), "the record is used again");
    assert_eq!(adopt(framework, old), Err(ESTALE));
    assert_eq!(adopt(framework, new), Err(EBUSY));
    drop(second);
    assert_eq!(adopt(framework, new), Ok(()));
    let (machine, framework) = kexec(machine, framework);
    assert_eq!(adopt(framework, old), Err(ESTALE));
    assert_eq!(adopt(framework, new), Ok(()));
    // Handles that were never given out.
    for (id, generation) in [
        (0, 0),
        (0, 1),
        (1, 1),
        (2, 1),
        (15, 1),
        (17, 1),
        (u32::MAX, 1),
    ] {
        let forged = ArenaHandle::new(id, generation);
        assert_eq!(adopt(framework, forged), Err(EINVAL), "{forged:?}");
    }
    PVec::<u32>::adopt_in(framework, new, GFP_KERNEL)
        .unwrap()
        .discard()
        .unwrap();
    assert_eq!(adopt(framework, new), Err(ENOENT));
    let (_, framework) = kexec(machine, framework);
    assert_eq!(adopt(framework, new), Err(ENOENT));
    assert_eq!(adopt(framework, old), Err(ENOENT));
    // A cache is no area.
    let cache: Cache<u32> = open(framework, "c").unwrap();
    let of_cache = ArenaHandle::new(cache.raw().owner(), 3);
    assert_eq!(adopt(framework, of_cache), Err(EINVAL));
}

#[test]
fn a_discarded_area_leaves_its_name_to_others() {
    let (machine, framework) = boot();
    let mut kernel = (machine, framework);
    for _ in 0..2 {
        let framework = kernel.1;
        let mut area: Area<u32> = open(framework, "x").unwrap();
        area.resize(5000).unwrap();
        area.discard().unwrap();
        // To a cache, an area of another type, an object.
        let vec: PVec<u64> = open(framework, "x").unwrap();
        assert!(vec.is_empty());
        vec.discard().unwrap();
        let init = StateSer { number: 1, ..UNSET };
        let state = Named::<StateSer>::open_in(framework, c"x", init, GFP_KERNEL).unwrap();
        assert_eq!(state.number, 1);
        state.discard(c"x").unwrap();
        kernel = kexec(kernel.0, kernel.1);
    }
    assert_eq!(nothing(open::<Cache<NodeSer>>(kernel.1, "x")), Ok(()));
    kernel.0.assert_sound();
}

#[test]
fn a_failed_initialiser_leaves_nothing() {
    let (machine, framework) = boot();
    let open = |fails: bool| {
        let init = move |slot: *mut StateSer| {
            // SAFETY: the slot is valid for writes.
            unsafe { slot.write(StateSer { number: 3, ..UNSET }) };
            if fails {
                Err(ENOENT)
            } else {
                Ok(())
            }
        };
        // SAFETY: the slot is written whenever the closure succeeds.
        let init = unsafe { pin_init::init_from_closure::<StateSer, kernel::error::Error>(init) };
        Named::<StateSer>::open_in(framework, c"s", init, GFP_KERNEL)
    };
    assert_eq!(nothing(open(true)), Err(ENOENT));
    let init = StateSer { number: 8, ..UNSET };
    let named = Named::<StateSer>::open_in(framework, c"s", init, GFP_KERNEL).unwrap();
    assert_eq!(named.number, 8, "there was nothing of that name");
    named.discard(c"s").unwrap();
    assert_eq!(open(false).unwrap().number, 3);
    machine.assert_sound();
    fn _is_init(init: impl Init<StateSer>) -> impl Init<StateSer> {
        init
    }
}

#[test]
fn a_frozen_framework_keeps_its_structure_and_goes_on_with_its_slots() {
    let (machine, framework) = boot();
    let world = World::build(framework).unwrap();
    let cache: Cache<NodeSer> = open(framework, "fw/nodes").unwrap();
    let mut vec: PVec<u64> = open(framework, "fw/vec").unwrap();
    let anonymous = PVec::<u32>::create_in(framework, GFP_KERNEL).unwrap();
    let handle = anonymous.handle();
    drop(anonymous);

    let calls = machine.counters();
    framework.freeze();
    framework.freeze();
    assert_eq!(
        machine.counters(),
        calls,
        "freezing asks the machine for nothing"
    );

    assert_eq!(nothing(open::<Cache<BigSer>>(framework, "new")), Err(EBUSY));
    assert_eq!(
        nothing(open::<Cache<BigSer>>(framework, "fw/big")),
        Err(EBUSY)
    );
    assert_eq!(nothing(open::<Area<u32>>(framework, "fw/area")), Err(EBUSY));
    assert_eq!(
        nothing(PVec::<u32>::create_in(framework, GFP_KERNEL)),
        Err(EBUSY)
    );
    assert_eq!(
        nothing(PVec::adopt_in(framework, handle, GFP_KERNEL)),
        Err(EBUSY)
    );
    let named = Named::<StateSer>::open_in(framework, c"fw/state", UNSET, GFP_KERNEL);
    assert_eq!(nothing(named), Err(EBUSY));
    assert_eq!(vec.push(1), Err(EBUSY));
    assert_eq!(vec.pop(), Err(EBUSY));
    assert_eq!(vec.truncate(0), Err(EBUSY));
    assert_eq!(vec.shrink_to_fit(), Err(EBUSY));
    assert_eq!(vec.resize(1), Err(EBUSY));
    assert_eq!(cache.set_reserve(4), Err(EBUSY));
    // Elements and slots go on, until there is no slot left.
    let value = *vec.get(3).unwrap();
    vec.set(3, value).unwrap();
    let mut nodes = Vec::new();
    let error = loop {
        match cache.alloc(NodeSer::of(5, Handle::NULL), GFP_KERNEL) {
            Ok(node) => nodes.push(node),
            Err(error) => break error,
        }
    };
    assert_eq!(error, EBUSY);
    assert!(nodes.len() > 30, "{} slots were free", nodes.len());
    let last = nodes.pop().unwrap().park();
    drop(nodes);
    cache.discard(last).unwrap();
    framework.work();
    let now = machine.counters();
    assert_eq!((now.alloc, now.held()), (calls.alloc, calls.held()));

    framework.thaw();
    vec.push(1).unwrap();
    assert_eq!(vec.pop(), Ok(Some(1)));
    drop((vec, cache));
    world.verify(framework);
    nothing(open::<Cache<BigSer>>(framework, "new")).unwrap();
    let (_, framework) = kexec(machine, framework);
    world.verify(framework);
}

/// Boots a kernel on `nr_nodes` objects; returns what it asked for, and how many keys there are.
fn cost_of_boot(nr_nodes: u64) -> (kpreserve_sim::Counters, u64) {
    let config = Config {
        nr_pages: 4096,
        poisons: false,
        ..Config::default()
    };
    let machine = SimMachine::boot(config);
    let framework = up(machine);
    let world = World::build_sized(framework, nr_nodes, 1000, 500).unwrap();
    let calls = machine.counters();
    framework.freeze();
    assert_eq!(machine.counters(), calls);
    let keys = calls.keys;
    let machine = machine.reboot();
    let framework = up(machine);
    let booted = machine.counters();
    // Opening asks the machine for nothing, but that the worker looks over the cache later.
    let woken = kpreserve_sim::Counters {
        kick: booted.kick + 1,
        ..booted
    };
    drop(open::<Cache<NodeSer>>(framework, "fw/nodes").unwrap());
    drop(open::<Area<u32>>(framework, "fw/area").unwrap());
    drop(open::<PVec<u64>>(framework, "fw/vec").unwrap());
    assert_eq!(machine.counters(), woken);
    world.try_part(framework, "nodes").unwrap();
    // Other caches of it were opened.
    let woken = kpreserve_sim::Counters {
        kick: machine.counters().kick,
        ..booted
    };
    assert_eq!(machine.counters(), woken);
    machine.power_off();
    (booted, keys)
}

#[test]
fn a_boot_costs_a_preserve_and_a_restore_a_run_and_nothing_an_object() {
    let (few, few_keys) = cost_of_boot(1000);
    let (many, many_keys) = cost_of_boot(70_000);
    for (counters, keys) in [(few, few_keys), (many, many_keys)] {
        assert_eq!(counters.preserve, keys);
        assert_eq!(counters.restore, keys);
        assert_eq!(counters.keys, keys);
        // The root page is probed twice: whether it was restored already, and what it is.
        assert_eq!(counters.probe, keys + 1);
        assert_eq!(counters.add_subtree, 1);
        assert_eq!(
            (
                counters.alloc,
                counters.free,
                counters.unpreserve,
                counters.map
            ),
            (0, 0, 0, 0)
        );
    }
    // Seventy times as many objects: the growth rule makes a few dozen runs of them.
    assert!(
        many_keys < few_keys + 120,
        "{few_keys} keys, {many_keys} keys"
    );
}

#[test]
fn thousands_of_names_come_and_go() {
    let config = Config {
        nr_pages: 4096,
        ..small()
    };
    let machine = SimMachine::boot(config);
    let mut kernel = (machine, up(machine));
    let text = |i: usize| format!("dir-{}/name-{i}", i % 7);
    for i in 0..1500 {
        let init = StateSer {
            number: i as u64,
            ..UNSET
        };
        drop(Named::<StateSer>::open_in(kernel.1, &name(&text(i)), init, GFP_KERNEL).unwrap());
        if i % 5 == 0 {
            let mut area: PVec<u8> = open(kernel.1, &format!("area-{i}")).unwrap();
            area.push(i as u8).unwrap();
        }
    }
    assert_eq!(kernel.1.stats().nr_names, 1500 + 300 + 1);
    kernel = kexec(kernel.0, kernel.1);
    let object = |framework, i: usize| {
        Named::<StateSer>::open_in(framework, &name(&text(i)), UNSET, GFP_KERNEL).unwrap()
    };
    for i in 0..1500 {
        let named = object(kernel.1, i);
        assert_eq!(named.number, i as u64);
        if i % 2 == 0 {
            named.discard(&name(&text(i))).unwrap();
        }
        if i % 5 == 0 {
            let area: PVec<u8> = open(kernel.1, &format!("area-{i}")).unwrap();
            assert_eq!(area.get(0), Some(&(i as u8)));
            if i % 10 == 0 {
                area.discard().unwrap();
            }
        }
    }
    kernel = kexec(kernel.0, kernel.1);
    for i in 0..1500 {
        let mut named = object(kernel.1, i);
        if i % 2 == 0 {
            assert_eq!(named.number, UNSET.number, "name {i} was discarded");
            named.number = 3 * i as u64;
        } else {
            assert_eq!(named.number, i as u64);
        }
        if i % 5 == 0 {
            let mut area: PVec<u8> = open(kernel.1, &format!("area-{i}")).unwrap();
            assert_eq!(area.len(), (i % 10) / 5, "area {i}");
            if area.is_empty() {
                area.push(9).unwrap();
            }
        }
    }
    kernel = kexec(kernel.0, kernel.1);
    assert_eq!(kernel.1.stats().nr_names, 1500 + 300 + 1);
    for i in 0..1500 {
        let factor = if i % 2 == 0 { 3 } else { 1 };
        assert_eq!(object(kernel.1, i).number, factor * i as u64);
    }
    kernel.0.assert_sound();
}

/// Does something many times over, and checks that no memory is gone for it.
fn assert_no_growth(turn: impl Fn(&'static Framework, u64)) {
    let (machine, framework) = boot();
    (0..10).for_each(|i| turn(framework, i));
    let held = machine.counters().held();
    (10..3000).for_each(|i| turn(framework, i));
    assert_eq!(machine.counters().held(), held, "pages, keys, mappings");
    machine.assert_sound();
}

#[test]
fn an_area_made_and_discarded_over_and_over_does_not_fill_the_dictionary() {
    assert_no_growth(|framework, _| {
        let mut area: Area<u32> = open(framework, "turn/area").unwrap();
        area.resize(3).unwrap();
        area.discard().unwrap();
    });
}

#[test]
fn an_object_made_and_discarded_over_and_over_does_not_fill_the_dictionary() {
    assert_no_growth(|framework, i| {
        let init = StateSer { number: i, ..UNSET };
        let named = Named::<StateSer>::open_in(framework, c"turn/object", init, GFP_KERNEL);
        let named = named.unwrap();
        assert_eq!(named.number, i);
        named.discard(c"turn/object").unwrap();
    });
}

#[test]
fn what_is_refused_for_want_of_memory_is_had_later() {
    let config = Config {
        nr_pages: 64,
        ..small()
    };
    let machine = SimMachine::boot(config);
    let framework = up(machine);
    let mut area: Area<u64> = open(framework, "a").unwrap();
    assert_eq!(area.resize(1 << 20), Err(ENOMEM));
    assert_eq!(area.len(), 0);
    let held = machine.counters().held();
    assert_eq!(area.resize(usize::MAX), Err(ENOMEM));
    assert_eq!(machine.counters().held(), held);
    area.resize(10_000).unwrap();
    area.set(9_999, 5).unwrap();
    drop(area);
    let (machine, framework) = kexec(machine, framework);
    assert_eq!(
        open::<Area<u64>>(framework, "a").unwrap().get(9_999),
        Some(&5)
    );
    machine.assert_sound();
}
