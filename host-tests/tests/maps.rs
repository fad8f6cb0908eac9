// SPDX-License-Identifier: GPL-2.0

//! Maps and heaps of strings: against a model, over reboots, cut at each step, without memory, and with
//! bytes that the previous kernel damaged.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | the bucket refers to the entry before that is written (change.rs) | `a_cut_anywhere...` |
//! | what is free is cleared before the bucket lets go of it | the same |
//! | nothing is decided about the stack when a map is opened (open.rs) | the same |
//! | the old index of a replacement is not put on the stack before | the same |
//! | `clear` without a mark (change.rs) | the same |
//! | what is free may be cleared before the bucket's store (change.rs, `smp_mb`) | the same |
//! | free indices are not used again | `churn_takes_no_memory` |
//! | inherited free indices are believed (open.rs) | `hostile_bytes_are_refused` |
//! | an index is put on the stack before there is room for its key (change.rs) | `keys_are_counted_right_after_a_failure` |
//! | one that is not there stays on it (open.rs) | `a_cut_anywhere...` |
//! | those beneath sixteen damaged ones are believed (change.rs) | `indices_that_are_in_use...` |
//! | what is on the stack twice is cleared, though it is in use (open.rs) | the same |
//! | what a map consists of passes the gate once more to be discarded (pmap.rs) | `a_freeze_leaves_a_map_whole...` |
//! | what is not finished passes the gate to be discarded, or the first table has no room (maps.rs) | `...leaves_no_area` |
//! | the idle table is emptied before the other one is looked at (open.rs) | `what_is_refused_is_not_touched` |
//! | that no key is left is believed | the same |
//! | damaged places of the stack become more than are accepted (change.rs) | `a_map_that_was_opened_once...` |
//! | a map is ended before its head is checked (maps.rs) | `a_damaged_head_ends_no_other_map` |
//! | a key is refused since tombstones cannot be cleared (change.rs) | `keys_for_which_there_is_room...` |
//! | what is free is not cleared: its key, its value (change.rs, `wipe`) | `what_went_is_cleared` |
//! | an insertion does not look at the gate, or a removal (change.rs) | `a_frozen_map_is_read_only` |
//! | there is always room, or the table is never crowded (change.rs, `has_room`) | `a_cut_anywhere...`, `a_million_names_cross` |
//! | the table's old bucket is used in the new one (change.rs) | `a_cut_anywhere...` |
//! | the table is lost when it cannot be rebuilt (buckets.rs) | `no_memory_changes_nothing` |
//! | a string may lie across two runs (strings.rs) | `strings_are_slices` |

mod framework_common;

use std::cell::Cell;
use std::collections::{
    BTreeMap,
    BTreeSet, //
};
use std::rc::Rc;

use framework_common::{
    name,
    up, //
};
use kernel::observe::set_observer;
use kernel::prelude::*;
use kernel::print::take_complaints;
use kpreserve::{
    Anonymous as _,
    ArenaHandle,
    Framework,
    MapHeadSer,
    Named,
    Open as _,
    PMap,
    PStrings,
    PVec,
    Phys,
    Preservable,
    SharedU64,
    StrSer, //
};
use kpreserve_sim::{
    Call,
    Config,
    Cut,
    Faults,
    Image,
    Recorder,
    SimMachine, //
};
use kpreserve_vmalloc::pmap::MapAreas;
use proptest::prelude::*;

/// Eleven bytes: not a whole number of words.
type Key = [u8; 11];

fn key(number: u64) -> Key {
    let mut key = *b"key????????";
    key[3..].copy_from_slice(&number.to_be_bytes());
    key
}

type Map = PMap<Key, u64>;
type Model = BTreeMap<Key, u64>;

fn open(framework: &'static Framework) -> Result<Map> {
    Map::open_in(framework, &name("map"), GFP_KERNEL)
}

fn contents(map: &Map) -> Model {
    let found = entries(map);
    assert_eq!(map.len(), found.len());
    found
}

fn entries(map: &Map) -> Model {
    let found: Model = map.iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(found.len(), map.iter().count(), "a key is there twice");
    for (key, value) in &found {
        assert_eq!(map.get(key), Some(value));
    }
    found
}

/// One change.
#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(u64, u64),
    Remove(u64),
    Clear,
}

impl Change {
    fn of_model(self, model: &mut Model) {
        match self {
            Change::Insert(number, value) => {
                model.insert(key(number), value);
            }
            Change::Remove(number) => {
                model.remove(&key(number));
            }
            Change::Clear => model.clear(),
        }
    }

    fn of_map(self, map: &mut Map) -> Result {
        match self {
            Change::Insert(number, value) => map.insert(key(number), value).map(|_| ()),
            Change::Remove(number) => map.remove(&key(number)).map(|_| ()),
            Change::Clear => map.clear(),
        }
    }
}

fn a_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (0..200u64, any::<u64>()).prop_map(|(number, value)| Change::Insert(number, value)),
        6 => (0..200u64).prop_map(Change::Remove),
        1 => Just(Change::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_is_a_map(rounds in prop::collection::vec(prop::collection::vec(a_change(), 0..300), 1..4)) {
        let mut machine = SimMachine::boot(Config::with_pages(1024));
        let mut model = Model::new();
        for changes in rounds {
            let framework = up(machine);
            let mut map = open(framework).unwrap();
            prop_assert_eq!(contents(&map), model.clone());
            for change in changes {
                if let Change::Insert(number, value) = change {
                    let had = model.contains_key(&key(number));
                    prop_assert_eq!(map.insert(key(number), value), Ok(had));
                } else if let Change::Remove(number) = change {
                    let value = model.get(&key(number)).copied();
                    prop_assert_eq!(map.remove(&key(number)), Ok(value));
                } else {
                    prop_assert_eq!(map.clear(), Ok(()));
                }
                change.of_model(&mut model);
            }
            prop_assert_eq!(contents(&map), model.clone());
            if let Some((&first, &value)) = model.iter().next() {
                *map.get_mut(&first).unwrap() = !value;
                model.insert(first, !value);
            }
            prop_assert_eq!(map.get(&key(1000)), None);
            drop(map);
            machine.assert_sound();
            machine = machine.reboot();
        }
    }
}

/// Runs `change` on a map of `before`, and looks at what each cut leaves.
fn cut_at_each_step(before: &[Change], change: Change) {
    let machine = SimMachine::boot(Config {
        poisons: false,
        ..Config::with_pages(256)
    });
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    let mut old = Model::new();
    for change in before {
        change.of_map(&mut map).unwrap();
        change.of_model(&mut old);
    }
    let mut new = old.clone();
    change.of_model(&mut new);
    let recorder = Recorder::start(machine).torn(2).overtaking();
    change.of_map(&mut map).unwrap();
    let cuts = recorder.finish();
    assert!(cuts.len() > 2, "{change:?} has no steps");
    let mut nr_seen = [0, 0];
    for Cut { step, image, .. } in &cuts {
        let machine = image.boot();
        let framework = up(machine);
        let mut map = open(framework).unwrap();
        let found = contents(&map);
        let is_new = usize::from(found == new);
        assert!(found == old || found == new, "{change:?} cut {step}");
        nr_seen[is_new] += 1;
        // It goes on: no index is lost or in use twice, and what is free is zeros.
        let mut model = found;
        let nr_pages = map.nr_pages();
        for number in 500..503 {
            for change in [Change::Insert(number, number), Change::Insert(1, number)] {
                change.of_map(&mut map).unwrap();
                change.of_model(&mut model);
            }
        }
        for number in 500..503 {
            assert_eq!(
                map.remove(&key(number)),
                Ok(Some(number)),
                "{change:?} cut {step}"
            );
            model.remove(&key(number));
        }
        assert_eq!(contents(&map), model, "{change:?} cut {step}");
        assert!(map.nr_pages() <= nr_pages.max(8) + 1);
        drop(map);
        machine.assert_sound();
        let framework = up(machine.reboot());
        assert_eq!(contents(&open(framework).unwrap()), model);
        // Keys are counted right, too, if the next thing is that one goes.
        let framework = up(image.boot());
        let mut map = open(framework).unwrap();
        let mut model = contents(&map);
        if let Some((first, value)) = model.pop_first() {
            assert_eq!(map.remove(&first), Ok(Some(value)));
        }
        assert_eq!(contents(&map), model, "{change:?} cut {step}");
    }
    if old != new {
        assert!(nr_seen[0] > 0 && nr_seen[1] > 0, "{change:?}: {nr_seen:?}");
    }
}

#[test]
fn a_cut_anywhere_leaves_the_old_map_or_the_new_one() {
    use Change::{Clear, Insert, Remove};
    let ten: std::vec::Vec<Change> = (0..10)
        .map(|number| Insert(number, 1000 + number))
        .collect();
    let with_free: std::vec::Vec<Change> =
        Iterator::chain(ten.iter().copied(), [Remove(3), Remove(7)]).collect();
    for (before, change) in [
        (&[][..], Insert(1, 5)),
        (&ten, Insert(20, 5)),
        (&ten, Insert(4, 5)),
        (&ten, Remove(4)),
        (&ten, Remove(44)),
        (&with_free, Insert(20, 5)),
        (&with_free, Insert(4, 5)),
        (&with_free, Remove(4)),
        (&with_free, Clear),
        (&ten, Clear),
    ] {
        if matches!(change, Remove(44)) {
            // Nothing to be done, and nothing is.
            continue;
        }
        cut_at_each_step(before, change);
    }
    // The table is rebuilt.
    let half: std::vec::Vec<Change> = (0..32).map(|number| Insert(number, number)).collect();
    cut_at_each_step(&half, Insert(100, 5));
    // Buckets side by side, where nothing is swept behind the tombstone.
    for number in 0..8 {
        cut_at_each_step(&half, Remove(number));
    }
}

#[test]
fn a_map_that_is_made_or_discarded_is_there_or_not() {
    let machine = SimMachine::boot(Config {
        poisons: false,
        ..Config::with_pages(256)
    });
    let framework = up(machine);
    drop(PStrings::open_in(framework, &name("other"), GFP_KERNEL).unwrap());
    let recorder = Recorder::start(machine);
    let mut map = open(framework).unwrap();
    map.insert(key(1), 1).unwrap();
    map.discard().unwrap();
    let cuts = recorder.finish();
    for Cut { step, image, .. } in &cuts {
        let machine = image.boot();
        let framework = up(machine);
        let mut map = open(framework).unwrap();
        assert!(map.len() <= 1, "cut {step}");
        map.insert(key(2), 2).unwrap();
        assert_eq!(map.get(&key(2)), Some(&2), "cut {step}");
        map.discard().unwrap();
        machine.assert_sound();
    }
}

#[test]
fn churn_takes_no_memory() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    for number in 0..100 {
        map.insert(key(number), number).unwrap();
    }
    let nr_pages = map.nr_pages();
    for number in 100..5_000 {
        map.remove(&key(number - 100)).unwrap();
        map.insert(key(number), number).unwrap();
        map.insert(key(number), number + 1).unwrap();
    }
    assert!(
        map.nr_pages() <= nr_pages + 2,
        "{} of {nr_pages}",
        map.nr_pages()
    );
    assert_eq!(map.len(), 100);
    map.clear().unwrap();
    assert!(map.nr_pages() <= 5);
    let handle = map.head().handle();
    assert!(
        Map::adopt_in(framework, handle, GFP_KERNEL).is_err(),
        "opened twice"
    );
    map.discard().unwrap();
    machine.assert_sound();
}

#[test]
fn keys_for_which_there_is_room_need_no_memory() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    for number in 0..1000 {
        map.insert(key(number), number).unwrap();
    }
    map.reserve(1).unwrap();
    // Tombstones come and go, and never can the table be rebuilt without them.
    machine.set_faults(Faults::nth(1).and_after());
    let before = machine.counters().alloc;
    for number in 1000..20_000 {
        let old = number - 1000;
        assert_eq!(map.remove(&key(old)), Ok(Some(old)));
        assert_eq!(map.insert(key(number), number), Ok(false));
    }
    assert!(machine.counters().alloc > before, "it was never tried");
    machine.set_faults(Faults::none());
    assert_eq!(contents(&map).len(), 1000);
    machine.assert_sound();
}

#[test]
fn no_memory_changes_nothing() {
    for kernel in [false, true] {
        let mut nr_failed = 0;
        for n in 1.. {
            let machine = SimMachine::boot(Config::with_pages(1024));
            let framework = up(machine);
            let fail = |n: Option<u64>| match kernel {
                true => kernel::fault::fail_nth_allocation(n),
                false => {
                    machine.set_faults(n.map_or(Faults::none(), Faults::nth));
                }
            };
            let mut map = open(framework).unwrap();
            let mut model = Model::new();
            for number in 0..200 {
                map.insert(key(number), number).unwrap();
                model.insert(key(number), number);
            }
            fail(Some(n));
            let failed = (200..900).find(|&number| {
                let failed = map.insert(key(number), number).is_err();
                if !failed {
                    model.insert(key(number), number);
                }
                failed
            });
            fail(None);
            assert_eq!(contents(&map), model);
            for number in 200..900 {
                map.insert(key(number), number).unwrap();
            }
            assert_eq!(map.len(), 900);
            drop(map);
            machine.assert_sound();
            if failed.is_none() {
                break;
            }
            nr_failed += 1;
        }
        assert!(nr_failed > 2, "nothing ever failed");
    }
}

#[test]
fn keys_are_counted_right_after_a_failure() {
    // What is missing is now a page of a table, now one of the keys.
    for nr_more in 1..8 {
        let machine = SimMachine::boot(Config::with_pages(1024));
        let framework = up(machine);
        let mut map = open(framework).unwrap();
        let mut model = Model::new();
        machine.set_faults(Faults::nth_of(Call::Alloc, nr_more).and_after());
        for number in 0.. {
            if map.insert(key(number), number).is_err() {
                break;
            }
            model.insert(key(number), number);
        }
        assert_eq!(map.len(), model.len());
        if let Some((first, value)) = model.pop_first() {
            assert_eq!(map.remove(&first), Ok(Some(value)));
        }
        assert_eq!(map.len(), model.len(), "{nr_more} pages");
    }
}

/// Runs `change`, and lets a freeze begin, on a thread of its own, when this one is about to do its
/// `n`th atomic store; returns what became of it, and whether it came to that. The freeze is over then.
fn frozen_at<R>(framework: &'static Framework, n: usize, change: impl FnOnce() -> R) -> (R, bool) {
    // What tells, without a lock, that the gate is closed.
    let mut gate = PVec::<u64>::open_in(framework, &name("gate"), GFP_KERNEL).unwrap();
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    set_observer(Some(std::boxed::Box::new(move |_| {
        counter.set(counter.get() + 1);
        if counter.get() == n {
            // It waits for whoever has passed the gate.
            std::thread::spawn(|| framework.freeze());
            while gate.truncate(0).is_ok() {
                std::thread::yield_now();
            }
        }
    })));
    let result = change();
    set_observer(None);
    framework.thaw();
    (result, count.get() >= n)
}

#[test]
fn a_freeze_leaves_a_map_whole_or_ends_it() {
    let model: Model = (0..100).map(|number| (key(number), number)).collect();
    for n in 1.. {
        let machine = SimMachine::boot(Config::with_pages(1024));
        let framework = up(machine);
        let mut map = open(framework).unwrap();
        for (key, value) in &model {
            map.insert(*key, *value).unwrap();
        }
        let (discarded, was_frozen) = frozen_at(framework, n, || map.discard());
        let left = match discarded {
            Ok(()) => Model::new(),
            Err(error) => {
                assert_eq!(error, EBUSY);
                model.clone()
            }
        };
        let is_left = contents(&open(framework).unwrap()) == left;
        assert!(is_left, "store {n}: {discarded:?}");
        machine.assert_sound();
        if !was_frozen {
            break;
        }
    }
}

/// Returns the records that the next areas get: one that was lost is not among them.
fn next_records(framework: &'static Framework) -> BTreeSet<u32> {
    let new = |_| PVec::<u64>::create_in(framework, GFP_KERNEL).unwrap();
    let areas: std::vec::Vec<PVec<u64>> = (0..8).map(new).collect();
    let ids = areas.iter().map(|area| area.raw().id()).collect();
    for area in areas {
        area.discard().unwrap();
    }
    ids
}

#[test]
fn a_map_that_cannot_be_made_leaves_no_area() {
    let mut nr_failed = [0; 3];
    for (why, nr_failed) in nr_failed.iter_mut().enumerate() {
        for n in 1.. {
            let machine = SimMachine::boot(Config::with_pages(1024));
            let framework = up(machine);
            drop(PVec::<u64>::open_in(framework, &name("gate"), GFP_KERNEL).unwrap());
            let before = (next_records(framework), machine.counters().pages_out);
            let make = || Map::create_in(framework, GFP_KERNEL);
            let (made, came_to_it) = match why {
                0 => {
                    machine.set_faults(Faults::nth(n as u64));
                    let made = make();
                    let faults = machine.set_faults(Faults::none());
                    (made, faults.count() >= n as u64)
                }
                1 => {
                    kernel::fault::fail_nth_allocation(Some(n as u64));
                    let made = make();
                    let came_to_it = kernel::fault::nr_allocations() >= n as u64;
                    kernel::fault::fail_nth_allocation(None);
                    (made, came_to_it)
                }
                _ => frozen_at(framework, n, make),
            };
            match made {
                Ok(map) => map.discard().unwrap(),
                Err(_) => *nr_failed += 1,
            }
            let after = (next_records(framework), machine.counters().pages_out);
            assert_eq!(after, before, "{why}, {n}");
            machine.assert_sound();
            if !came_to_it {
                break;
            }
        }
    }
    assert!(nr_failed.iter().all(|&nr| nr > 2), "{nr_failed:?}");
}

#[test]
fn a_map_is_not_made_of_what_is_in_use() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    fn new<T: Preservable>(framework: &'static Framework, len: usize) -> PVec<T> {
        let mut vec = PVec::create_in(framework, GFP_KERNEL).unwrap();
        vec.extend_zeroed(len).unwrap();
        vec
    }
    for used in 0..7 {
        let len = |area: usize| if used == area { 64 } else { 0 };
        let map = PMap::<Key, u64>::from_new_areas(MapAreas {
            head: new(framework, len(1)),
            keys: new(framework, len(2)),
            values: new(framework, len(3)),
            free: new(framework, len(4)),
            buckets: [new(framework, len(5)), new(framework, len(6))],
        });
        assert_eq!(map.err(), (used > 0).then_some(EINVAL), "area {used}");
    }
}

#[test]
fn a_map_that_cannot_be_made_leaves_nothing() {
    for n in 1.. {
        let machine = SimMachine::boot(Config::with_pages(1024));
        let framework = up(machine);
        drop(PStrings::open_in(framework, &name("other"), GFP_KERNEL).unwrap());
        let before = machine.counters();
        machine.set_faults(Faults::nth(n));
        let made = Map::create_in(framework, GFP_KERNEL);
        machine.set_faults(Faults::none());
        if let Ok(map) = made {
            assert!(n > 1);
            map.discard().unwrap();
            break;
        }
        // But for the arena table, which may have grown.
        assert!(machine.counters().pages_out <= before.pages_out + 2);
        machine.assert_sound();
    }
}

#[test]
fn a_frozen_map_is_read_only() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    map.insert(key(1), 1).unwrap();
    framework.freeze();
    assert_eq!(map.insert(key(2), 2), Err(EBUSY));
    assert_eq!(map.remove(&key(1)), Err(EBUSY));
    assert_eq!(map.clear(), Err(EBUSY));
    assert_eq!(map.reserve(1), Err(EBUSY));
    assert_eq!(map.get(&key(1)), Some(&1));
    *map.get_mut(&key(1)).unwrap() = 3;
    framework.thaw();
    assert_eq!(contents(&map), Model::from([(key(1), 3)]));
    framework.freeze();
    assert_eq!(map.discard(), Err(EBUSY));
    framework.thaw();
}

#[test]
fn a_map_of_other_types_is_refused() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    drop(open(framework).unwrap());
    let other = PMap::<Key, u32>::open_in(framework, &name("map"), GFP_KERNEL);
    assert_eq!(other.err(), Some(EINVAL));
    let other = PMap::<u64, u64>::open_in(framework, &name("map"), GFP_KERNEL);
    assert_eq!(other.err(), Some(EINVAL));
    assert!(open(framework).is_ok());
    let complaints = take_complaints();
    let of_a_map = |line: &std::string::String| line.contains("a map was of other keys or values");
    assert_eq!(complaints.iter().filter(|line| of_a_map(line)).count(), 2);
}

/// One format in three versions: with the same fields, and with others.
mod versions {
    pub(super) mod one {
        kpreserve::preservable! { pub(crate) struct ValueSer { a: u64 } compatible = "test-value", version = 1 }
    }
    pub(super) mod two {
        kpreserve::preservable! { pub(crate) struct ValueSer { a: u64 } compatible = "test-value", version = 2 }
    }
    pub(super) mod three {
        kpreserve::preservable! { pub(crate) struct ValueSer { b: u64 } compatible = "test-value", version = 3 }
    }
}

#[test]
fn a_map_of_another_version_is_refused() {
    use versions::{one, three, two};
    fn errno<V: Preservable>(framework: &'static Framework) -> Option<Error> {
        PMap::<u64, V>::open_in(framework, &name("map"), GFP_KERNEL).err()
    }
    let framework = up(SimMachine::boot(Config::with_pages(1024)));
    assert_eq!(errno::<one::ValueSer>(framework), None);
    assert_eq!(errno::<two::ValueSer>(framework), Some(EOPNOTSUPP));
    assert_eq!(errno::<three::ValueSer>(framework), Some(EINVAL));
    assert_eq!(errno::<one::ValueSer>(framework), None);
}

kpreserve::preservable! {
    /// What an object has that finds a map and its strings.
    struct OwnerSer { map: ArenaHandle<MapHeadSer<u64, StrSer>>, strings: ArenaHandle<u8> }
    compatible = "test-owner", version = 1
}

#[test]
fn maps_and_strings_are_found_by_handles() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let new = OwnerSer {
        map: ArenaHandle::NULL,
        strings: ArenaHandle::NULL,
    };
    let mut owner = Named::open_in(framework, &name("owner"), new, GFP_KERNEL).unwrap();
    let mut map = PMap::<u64, StrSer>::create_in(framework, GFP_KERNEL).unwrap();
    let mut strings = PStrings::create_in(framework, GFP_KERNEL).unwrap();
    assert_eq!(map.insert(1, strings.push(b"one").unwrap()), Ok(false));
    (owner.map, owner.strings) = (map.head().handle(), strings.as_vec().handle());
    drop((owner, map, strings));

    let machine = machine.reboot();
    let framework = up(machine);
    let new = OwnerSer {
        map: ArenaHandle::NULL,
        strings: ArenaHandle::NULL,
    };
    let owner = Named::open_in(framework, &name("owner"), new, GFP_KERNEL).unwrap();
    let map = PMap::adopt_in(framework, owner.map, GFP_KERNEL).unwrap();
    let strings = PStrings::adopt_in(framework, owner.strings, GFP_KERNEL).unwrap();
    assert_eq!(strings.get(*map.get(&1).unwrap()), Ok(&b"one"[..]));
    drop((owner, map, strings));
    machine.assert_sound();
}

/// Returns how often `bytes` stand in the preserved pages.
fn nr_times(image: &Image, bytes: &[u8]) -> usize {
    let in_run = |(at, order): (Phys, u8)| {
        let mut run = std::vec![0; 4096 << order];
        image.read(at, &mut run);
        run.windows(bytes.len())
            .filter(|found| *found == bytes)
            .count()
    };
    image.keys().map(in_run).sum()
}

#[test]
fn what_went_is_cleared() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    let (old, new) = (0x6f6c_6420_7661_6c75_u64, 0x6e65_7720_7661_6c75);
    let nr = |bytes: &[u8]| nr_times(&machine.image(), bytes);
    map.insert(key(1), old).unwrap();
    assert_eq!([nr(&key(1)), nr(&old.to_ne_bytes())], [1, 1]);
    map.insert(key(1), new).unwrap();
    assert_eq!([nr(&key(1)), nr(&old.to_ne_bytes())], [1, 0]);
    assert_eq!(map.remove(&key(1)), Ok(Some(new)));
    assert_eq!([nr(&key(1)), nr(&new.to_ne_bytes())], [0, 0]);
}

/// Finds the preserved page that begins with `words`.
fn page_of(image: &Image, words: &[u64]) -> Phys {
    let pages = pages_of(image, words);
    assert_eq!(pages.len(), 1);
    pages[0]
}

/// Finds the preserved pages that begin with `words`.
fn pages_of(image: &Image, words: &[u64]) -> std::vec::Vec<Phys> {
    image
        .keys()
        .filter(|(at, _)| {
            let at = |word: usize| at.checked_add(8 * word as u64).unwrap();
            words
                .iter()
                .enumerate()
                .all(|(i, word)| image.read_u64(at(i)) == *word)
        })
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn hostile_bytes_are_refused() {
    /// What stands at a place of the map's memory, as `(field, word, is it refused when opened)`.
    type Damage = (
        &'static str,
        fn(&mut std::vec::Vec<u64>, &mut std::vec::Vec<u64>),
        bool,
    );
    // The head's words: magic, seed, state, keys, values, free, two tables, 0, checksum.
    let damages: [Damage; 8] = [
        ("magic", |head, _| head[0] ^= 1, true),
        ("check", |head, _| head[1] ^= 1, true),
        ("state", |head, _| head[2] = 5, true),
        ("state", |head, _| head[2] = u64::MAX, true),
        ("reserved", |head, _| head[8] = 1, true),
        ("check", |head, _| head[9] ^= 1 << 63, true),
        // Free indices: of what is in use, and of nothing.
        ("free", |_, free| free[1] = 3, false),
        ("free", |_, free| free[1] = 1 << 40, false),
    ];
    for (field, damage, is_refused) in damages {
        let machine = SimMachine::boot(Config::with_pages(1024));
        let framework = up(machine);
        let mut map = open(framework).unwrap();
        let mut model = Model::new();
        for number in 0..20 {
            map.insert(key(number), number).unwrap();
            model.insert(key(number), number);
        }
        for number in 10..14 {
            map.remove(&key(number)).unwrap();
            model.remove(&key(number));
        }
        let mut image = machine.image();
        let head_at = page_of(&image, &[u64::from_le_bytes(*b"KPRESMAP")]);
        let free_at = page_of(&image, &[10, 11, 12, 13]);
        let mut head: std::vec::Vec<u64> = (0..10)
            .map(|word| image.read_u64(head_at.checked_add(8 * word).unwrap()))
            .collect();
        let mut free: std::vec::Vec<u64> = (0..4)
            .map(|word| image.read_u64(free_at.checked_add(8 * word).unwrap()))
            .collect();
        damage(&mut head, &mut free);
        for (at, words) in [(head_at, &head), (free_at, &free)] {
            for (word, value) in words.iter().enumerate() {
                image.write_u64(at.checked_add(8 * word as u64).unwrap(), *value);
            }
        }
        let machine = image.boot();
        let framework = up(machine);
        let _ = take_complaints();
        let opened = open(framework);
        assert_eq!(opened.is_err(), is_refused, "{field}");
        if let Ok(mut map) = opened {
            assert_eq!(contents(&map), model);
            for number in 100..110 {
                map.insert(key(number), number).unwrap();
                model.insert(key(number), number);
            }
            // What nobody knows to be free any more is counted as in use.
            assert_eq!(entries(&map), model, "{field}");
            assert!(map.len() <= model.len() + 1);
        }
        let complaints = take_complaints();
        let is_named = complaints.iter().any(|line| line.contains(field));
        assert!(is_named, "{field}: {complaints:?}");
    }
}

/// A map of so many keys, and the image of its machine.
fn image_of(nr_keys: u64) -> (Model, Image) {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    for number in 0..nr_keys {
        map.insert(key(number), number).unwrap();
    }
    (contents(&map), machine.image())
}

#[test]
fn what_is_refused_is_not_touched() {
    // The first table is in use, or the second.
    for nr_keys in [20, 40] {
        let (model, mut image) = image_of(nr_keys);
        let magic = [u64::from_le_bytes(*b"KPRESMAP")];
        let state_at = |image: &Image| page_of(image, &magic).checked_add(16).unwrap();
        let state = image.read_u64(state_at(&image));
        for damaged in [0, 1, 2, 3, 5, 6, 7] {
            if damaged == state {
                continue;
            }
            let at = state_at(&image);
            image.write_u64(at, damaged);
            let machine = image.boot();
            let framework = up(machine);
            assert_eq!(open(framework).err(), Some(EINVAL), "state {damaged}");
            machine.assert_sound();
            // Whoever mends it finds all there is.
            image = machine.image();
            let at = state_at(&image);
            image.write_u64(at, state);
            let framework = up(image.boot());
            let map = open(framework).unwrap();
            assert!(entries(&map) == model, "state {damaged}");
        }
    }
}

#[test]
fn a_map_that_was_opened_once_can_be_opened_again() {
    // As many indices on the stack as are accepted, though all of them are in use.
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    for number in 0..8 {
        map.insert(key(number), number).unwrap();
    }
    let free = map.head().get(0).unwrap().ser().free;
    let mut model = contents(&map);
    drop(map);
    let handle = ArenaHandle::from_raw(free);
    let mut stack = PVec::<SharedU64>::adopt_in(framework, handle, GFP_KERNEL).unwrap();
    for place in 0..10 {
        stack.push(SharedU64::new(place % 8)).unwrap();
    }
    drop(stack);
    for numbers in [0..5, 5..8, 100..110] {
        let mut map = open(framework).unwrap();
        assert!(entries(&map) == model, "{numbers:?}");
        for number in numbers {
            let change = match number {
                0..8 => Change::Remove(number),
                _ => Change::Insert(number, number),
            };
            change.of_map(&mut map).unwrap();
            change.of_model(&mut model);
        }
    }
    assert!(entries(&open(framework).unwrap()) == model);
    machine.assert_sound();
}

#[test]
fn a_damaged_head_ends_no_other_map() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework).unwrap();
    let mut other = Map::open_in(framework, &name("other"), GFP_KERNEL).unwrap();
    for number in 0..20 {
        map.insert(key(number), number).unwrap();
        other.insert(key(number), number).unwrap();
    }
    let model = contents(&map);
    let mut image = machine.image();
    let heads: std::vec::Vec<Phys> = pages_of(&image, &[u64::from_le_bytes(*b"KPRESMAP")]);
    let [head, other_head] = heads[..] else {
        panic!("{heads:?}");
    };
    // One head says that its map is over, and names what the other one consists of.
    for word in 3..8 {
        let at = |head: Phys| head.checked_add(8 * word).unwrap();
        let of_other = image.read_u64(at(other_head));
        image.write_u64(at(head), of_other);
    }
    image.write_u64(head.checked_add(16).unwrap(), 4);
    let machine = image.boot();
    let framework = up(machine);
    let opened = ["map", "other"].map(|of| Map::open_in(framework, &name(of), GFP_KERNEL));
    let nr_refused = opened.iter().filter(|map| map.is_err()).count();
    assert_eq!(nr_refused, 1);
    let map = opened.into_iter().find_map(Result::ok).unwrap();
    assert!(entries(&map) == model);
    machine.assert_sound();
}

#[test]
fn indices_that_are_in_use_are_never_taken_for_free() {
    // What the stack of free indices says: many of what is in use, or one of them twice on top.
    let all: fn(u64) -> u64 = |place| place;
    let twice: fn(u64) -> u64 = |place| if place < 22 { 36 + place } else { 5 };
    for damage in [all, twice] {
        let machine = SimMachine::boot(Config::with_pages(1024));
        let framework = up(machine);
        let mut map = open(framework).unwrap();
        let mut model = Model::new();
        for number in 0..60 {
            map.insert(key(number), number).unwrap();
            model.insert(key(number), number);
        }
        for number in 36..60 {
            map.remove(&key(number)).unwrap();
            model.remove(&key(number));
        }
        let mut image = machine.image();
        let free_at = page_of(&image, &[36, 37, 38, 39]);
        for place in 0..24 {
            image.write_u64(free_at.checked_add(8 * place).unwrap(), damage(place));
        }
        let framework = up(image.boot());
        let mut map = open(framework).unwrap();
        assert_eq!(entries(&map), model);
        for number in 100..150 {
            map.insert(key(number), number).unwrap();
            model.insert(key(number), number);
            assert_eq!(entries(&map), model, "{number}");
        }
    }
}

#[test]
fn strings_are_slices() {
    let mut machine = SimMachine::boot(Config::with_pages(1024));
    let mut strings: std::vec::Vec<(StrSer, std::vec::Vec<u8>)> = std::vec::Vec::new();
    let mut state = 1u64;
    for _ in 0..3 {
        let framework = up(machine);
        let mut heap = PStrings::open_in(framework, &name("strings"), GFP_KERNEL).unwrap();
        for (ser, string) in &strings {
            assert_eq!(heap.get(*ser), Ok(&string[..]));
        }
        for _ in 0..200 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let len = (state >> 33) as usize % if state >> 60 == 0 { 4097 } else { 50 };
            let string = vec![(state >> 50) as u8; len];
            strings.push((heap.push(&string).unwrap(), string));
        }
        assert_eq!(heap.push(&[0; 4097]), Err(E2BIG));
        framework.freeze();
        assert_eq!(heap.push(b"x"), Err(EBUSY));
        framework.thaw();
        drop(heap);
        machine.assert_sound();
        machine = machine.reboot();
    }
    let framework = up(machine);
    let heap = PStrings::open_in(framework, &name("strings"), GFP_KERNEL).unwrap();
    let len = heap.as_vec().len() as u64;
    let ser = |offset, len| StrSer {
        offset,
        len,
        reserved: 0,
    };
    // The field that is said to be wrong, with the value that it has.
    for (bad, field) in [
        (ser(len, 1), format!("offset is {len:#x}, ")),
        (ser(u64::MAX, 1), format!("offset is {:#x}, ", u64::MAX)),
        (
            ser(0, 4097),
            "len is 0x1001, expected at most 0x1000".into(),
        ),
        (ser(len - 1, 2), format!("offset is {:#x}, ", len - 1)),
        (ser(4095, 2), "len is 0x2, ".into()),
    ] {
        let _ = take_complaints();
        assert_eq!(heap.get(bad), Err(EINVAL), "{bad:?}");
        let complaints = take_complaints();
        assert!(
            complaints
                .iter()
                .any(|line| line.contains("StrSer") && line.contains(&field)),
            "{complaints:?} has no {field:?}"
        );
    }
    let mut bytes = PVec::<u8>::open_in(framework, &name("long"), GFP_KERNEL).unwrap();
    bytes.extend_zeroed(1 << 16).unwrap();
    let long = PStrings::from_vec(bytes);
    assert!(long.get(ser(0, 4096)).is_ok());
    assert_eq!(long.get(ser(0, 4097)), Err(EINVAL));
    drop(long);
    let mut small = PStrings::open_in(framework, &name("small"), GFP_KERNEL).unwrap();
    small.push(b"one").unwrap();
    assert_eq!(small.get(ser(0, 5)), Err(EINVAL));
    let complaints = take_complaints();
    let said = |line: &std::string::String| line.contains("len is 0x5, expected at most 0x3;");
    assert!(complaints.iter().any(said), "{complaints:?}");
    heap.discard().unwrap();
}

#[test]
fn a_million_names_cross() {
    // In a debug build a tenth of it.
    let nr: u64 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let machine = SimMachine::boot(Config {
        poisons: false,
        ..Config::with_pages(32_768)
    });
    let framework = up(machine);
    let mut heap = PStrings::open_in(framework, &name("names"), GFP_KERNEL).unwrap();
    let mut map = PMap::<u64, StrSer>::open_in(framework, &name("map"), GFP_KERNEL).unwrap();
    for number in 0..nr {
        let ser = heap.push(number.to_string().as_bytes()).unwrap();
        map.insert(number, ser).unwrap();
    }
    drop((heap, map));
    let machine = machine.reboot();
    let framework = up(machine);
    let before = machine.counters();
    let heap = PStrings::open_in(framework, &name("names"), GFP_KERNEL).unwrap();
    let map = PMap::<u64, StrSer>::open_in(framework, &name("map"), GFP_KERNEL).unwrap();
    assert_eq!(machine.counters().calls() - before.calls(), 0);
    assert_eq!(map.len() as u64, nr);
    for number in (0..nr).step_by(997) {
        let ser = map.get(&number).unwrap();
        assert_eq!(heap.get(*ser), Ok(number.to_string().as_bytes()));
    }
    machine.assert_sound();
}
