// SPDX-License-Identifier: GPL-2.0

//! Maps that have lost their keys give their memory back, wherever a kexec stops that.
//!
//! Tried against code that was broken on purpose (vmalloc/pmap/):
//!
//! | broken | noticed by |
//! | --- | --- |
//! | nothing is given back (clear.rs) | 5 of 6 |
//! | the table is not looked through | `keys_that_were_miscounted_stay` |
//! | the old table is kept | `an_emptied_map...` |
//! | there is no threshold | `keys_that_come_and_go...` |

mod framework_common;

use framework_common::{
    name,
    up, //
};
use kernel::prelude::*;
use kernel::print::take_complaints;
use kpreserve::{
    Framework,
    Open as _,
    PMap,
    Phys, //
};
use kpreserve_sim::{
    Config,
    Cut,
    Image,
    Recorder,
    SimMachine, //
};

type Map = PMap<u64, u64>;

kpreserve::preservable! {
    /// As large as vectors take it.
    struct LargeSer { words: [u64; 8192] }
    compatible = "map-large", version = 1
}

/// What a map without keys may keep (Documentation/api.rst).
const NR_PAGES_KEPT_MAX: usize = 16;

fn open(framework: &'static Framework) -> Map {
    Map::open_in(framework, &name("map"), GFP_KERNEL).unwrap()
}

fn fill(map: &mut Map, numbers: core::ops::Range<u64>) {
    for number in numbers {
        map.insert(number, !number).unwrap();
    }
}

#[test]
fn an_emptied_map_gives_its_memory_back() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let framework = up(machine);
    let mut map = open(framework);
    for round in 0..3 {
        fill(&mut map, 0..20_000);
        assert!(map.nr_pages() > 100);
        // In another order than they came in: 7919 is prime to their number.
        for i in 0..20_000u64 {
            let number = i * 7919 % 20_000;
            assert_eq!(map.remove(&number), Ok(Some(!number)));
        }
        assert!(map.is_empty());
        assert!(
            map.nr_pages() <= NR_PAGES_KEPT_MAX,
            "round {round}: {} pages",
            map.nr_pages()
        );
    }
    fill(&mut map, 0..100);
    drop(map);
    machine.assert_sound();
    let framework = up(machine.reboot());
    let mut map = open(framework);
    assert_eq!(map.len(), 100);
    // Inherited keys and indices count like others.
    fill(&mut map, 100..20_000);
    for number in 0..20_000 {
        assert_eq!(map.remove(&number), Ok(Some(!number)));
    }
    assert!(
        map.nr_pages() <= NR_PAGES_KEPT_MAX,
        "{} pages",
        map.nr_pages()
    );
}

/// One key that comes and goes, and a few: no run is taken or given back for it.
#[test]
fn keys_that_come_and_go_cost_no_run() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let framework = up(machine);
    let mut map = open(framework);
    fill(&mut map, 0..20_000);
    for number in 0..20_000 {
        map.remove(&number).unwrap();
    }
    for nr in [1, 2, 60, 200] {
        fill(&mut map, 0..nr);
        for number in 0..nr {
            map.remove(&number).unwrap();
        }
        let before = machine.counters();
        for _ in 0..100 {
            fill(&mut map, 0..nr);
            for number in 0..nr {
                map.remove(&number).unwrap();
            }
        }
        let after = machine.counters();
        assert_eq!(
            (after.alloc, after.free),
            (before.alloc, before.free),
            "{nr} keys"
        );
    }
}

/// Each run that goes was paid for by the keys that filled it.
#[test]
fn giving_back_is_paid_for() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let framework = up(machine);
    let mut map = open(framework);
    let before = machine.counters();
    let nr_rounds = 50;
    for _ in 0..nr_rounds {
        fill(&mut map, 0..2_000);
        for number in 0..2_000 {
            map.remove(&number).unwrap();
        }
    }
    let after = machine.counters();
    let nr_calls = after.alloc + after.free - before.alloc - before.free;
    assert!(nr_calls / nr_rounds < 2_000 / 10, "{nr_calls} calls");
}

#[test]
fn a_cut_leaves_the_last_key_or_an_empty_map() {
    let machine = SimMachine::boot(Config {
        poisons: false,
        ..Config::with_pages(256)
    });
    let framework = up(machine);
    let mut map = open(framework);
    fill(&mut map, 0..2_000);
    for number in 1..2_000 {
        map.remove(&number).unwrap();
    }
    assert!(map.nr_pages() > NR_PAGES_KEPT_MAX, "too few keys");
    let recorder = Recorder::start(machine);
    assert_eq!(map.remove(&0), Ok(Some(!0)));
    let cuts = recorder.finish();
    assert!(map.nr_pages() <= NR_PAGES_KEPT_MAX);
    let mut nr_seen = [0, 0];
    for Cut { step, image, .. } in cuts.iter().step_by(1 + cuts.len() / 400) {
        let machine = image.boot();
        let framework = up(machine);
        let mut map = open(framework);
        nr_seen[map.len()] += 1;
        if map.len() == 1 {
            assert_eq!(map.get(&0), Some(&!0), "cut {step}");
        }
        // It goes on, and comes down all the same, the next time that it is empty at the latest.
        fill(&mut map, 2_000..2_010);
        let keys: std::vec::Vec<u64> = map.iter().map(|(key, _)| *key).collect();
        for key in keys {
            assert_eq!(map.remove(&key), Ok(Some(!key)), "cut {step}");
        }
        assert!(map.is_empty());
        assert!(
            map.nr_pages() <= NR_PAGES_KEPT_MAX,
            "cut {step}: {} pages",
            map.nr_pages()
        );
        drop(map);
        machine.assert_sound();
    }
    assert!(nr_seen[0] > 0 && nr_seen[1] > 0, "{nr_seen:?}");
}

/// After the freeze nothing is given back; before, a removal that succeeds has removed, whatever
/// becomes of the memory.
#[test]
fn a_removal_does_not_fail_for_memory() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework);
    fill(&mut map, 0..2_000);
    for number in 1..2_000 {
        map.remove(&number).unwrap();
    }
    machine.set_faults(kpreserve_sim::Faults::nth(1).and_after());
    assert_eq!(map.remove(&0), Ok(Some(!0)));
    machine.set_faults(kpreserve_sim::Faults::none());
    assert!(map.is_empty());
    fill(&mut map, 0..3);
    assert_eq!(map.len(), 3);
    for number in 0..3 {
        assert_eq!(map.remove(&number), Ok(Some(!number)));
    }
    assert!(
        map.nr_pages() <= NR_PAGES_KEPT_MAX,
        "{} pages",
        map.nr_pages()
    );
    machine.assert_sound();
}

/// Returns where a word stands that was `before` in one image and is one more in the other.
fn word_that_rose(old: &Image, new: &Image, before: u64) -> Phys {
    let words = new.keys().flat_map(|(at, order)| {
        (0..(4096u64 << order) / 8).map(move |word| at.checked_add(8 * word).unwrap())
    });
    let found: std::vec::Vec<Phys> = words
        .filter(|&at| old.read_u64(at) == before && new.read_u64(at) == before + 1)
        .collect();
    assert_eq!(found.len(), 1);
    found[0]
}

/// The previous kernel says that all indices are free, which is not so: what is in the table stays.
#[test]
fn keys_that_were_miscounted_stay() {
    let machine = SimMachine::boot(Config::with_pages(1024));
    let framework = up(machine);
    let mut map = open(framework);
    fill(&mut map, 0..2_000);
    for number in 1..1_998 {
        map.remove(&number).unwrap();
    }
    let old = machine.image();
    map.remove(&1_998).unwrap();
    let mut image = machine.image();
    let len_at = word_that_rose(&old, &image, 1_997);
    image.write_u64(len_at, 2_001);
    let framework = up(image.boot());
    let mut map = open(framework);
    assert_eq!(map.len(), 0, "it is not what this is about");
    assert_eq!(map.remove(&1_999), Ok(Some(!1_999)));
    assert_eq!(map.get(&0), Some(&!0), "a key went that nobody has removed");
    assert_eq!(map.remove(&0), Ok(Some(!0)));
    let _ = take_complaints();
}

#[test]
fn a_large_value_that_comes_and_goes_costs_no_run() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let framework = up(machine);
    let name = name("map");
    let mut map = PMap::<u64, LargeSer>::open_in(framework, &name, GFP_KERNEL).unwrap();
    let come_and_go = |map: &mut PMap<u64, LargeSer>| {
        let words = [1; 8192];
        map.insert(1, LargeSer { words }).unwrap();
        map.remove(&1).unwrap();
    };
    come_and_go(&mut map);
    let before = machine.counters();
    for _ in 0..100 {
        come_and_go(&mut map);
    }
    let after = machine.counters();
    assert_eq!((after.alloc, after.free), (before.alloc, before.free));
}
