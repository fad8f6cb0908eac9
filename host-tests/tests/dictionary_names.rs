// SPDX-License-Identifier: GPL-2.0

//! Names against a map: opened, listed, renamed, removed, over reboots; and what each call refuses.
//!
//! Tried against code that was broken on purpose, and noticed: a directory that stays or goes too
//! early; a sibling that is forgotten; a prefix that is not compared; a rename that leaves the old
//! name, or unlinks the wrong one; a removal that does not look at what is there.

mod framework_common;

use std::collections::BTreeMap;

use framework_common::layout;
use kernel::error::code::{
    EBUSY,
    EEXIST,
    EINVAL,
    ENAMETOOLONG,
    ENOENT, //
};
use kernel::prelude::{
    Result,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::namespace::{
    list,
    remove,
    rename,
    NameKind, //
};
use kpreserve::{
    Cache,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_testing::{
    Config,
    Kernel, //
};
use proptest::prelude::{
    prop_oneof,
    proptest,
    Just,
    ProptestConfig,
    Strategy, //
};

fn name(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).unwrap()
}

fn listed(prefix: &str) -> Vec<(String, NameKind)> {
    let mut names = Vec::new();
    list(&name(prefix), |name, kind| {
        names.push((name.to_str().unwrap().to_owned(), kind));
        Ok(())
    })
    .unwrap();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    names
}

fn names(prefix: &str) -> Vec<String> {
    listed(prefix).into_iter().map(|(name, _)| name).collect()
}

fn open(text: &str) -> Result<PVec<u64>> {
    PVec::open(&name(text), GFP_KERNEL)
}

/// What a name stands for: a vector with a number in it, or one that was discarded.
type Model = BTreeMap<String, Option<u64>>;

#[derive(Clone, Debug)]
enum Op {
    Open(String),
    Discard(String),
    Remove(String),
    Rename(String, String),
    List(String),
    Reboot,
}

fn path() -> impl Strategy<Value = String> {
    let part = || prop_oneof![Just("a"), Just("b"), Just("ab"), Just(".c")];
    proptest::collection::vec(part(), 1..4)
        .prop_map(|parts| parts.join("/"))
        .prop_filter("a name of a user", |path| !path.starts_with('.'))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => path().prop_map(Op::Open),
        2 => path().prop_map(Op::Discard),
        3 => path().prop_map(Op::Remove),
        3 => (path(), path()).prop_map(|(old, new)| Op::Rename(old, new)),
        2 => (path(), 0usize..6).prop_map(|(path, len)| {
            Op::List(path.chars().take(len).collect())
        }),
        1 => Just(Op::Reboot),
    ]
}

fn apply(model: &mut Model, op: &Op, next: &mut u64) {
    match op {
        Op::Open(path) => {
            let mut vec = open(path).unwrap();
            match model.get(path).copied().flatten() {
                Some(number) => assert_eq!(vec.get(0), Some(&number)),
                None => {
                    assert!(vec.is_empty(), "{path}");
                    *next += 1;
                    vec.push(*next).unwrap();
                    model.insert(path.clone(), Some(*next));
                    // What is open can neither be removed nor opened.
                    assert_eq!(remove(&name(path)), Err(EBUSY));
                }
            }
        }
        Op::Discard(path) => {
            if model.get(path).copied().flatten().is_some() {
                open(path).unwrap().discard().unwrap();
                model.insert(path.clone(), None);
            }
        }
        Op::Remove(path) => {
            let expected = match model.get(path) {
                None => Err(ENOENT),
                Some(Some(_)) => Err(EBUSY),
                Some(None) => {
                    model.remove(path);
                    Ok(())
                }
            };
            assert_eq!(remove(&name(path)), expected, "{path}");
        }
        Op::Rename(old, new) => {
            let from = model.get(old).copied().flatten();
            let to = model.get(new).copied().flatten();
            let expected = match (from, to) {
                (None, _) => Err(ENOENT),
                (_, Some(_)) => Err(EEXIST),
                (Some(number), None) => {
                    model.remove(old);
                    model.insert(new.clone(), Some(number));
                    Ok(())
                }
            };
            assert_eq!(rename(&name(old), &name(new)), expected, "{old} to {new}");
        }
        Op::List(prefix) if prefix.starts_with('.') => {}
        Op::List(prefix) => agree(model, prefix),
        Op::Reboot => unreachable!(),
    }
}

fn agree(model: &Model, prefix: &str) {
    let expected: Vec<&String> = model
        .keys()
        .filter(|name| name.starts_with(prefix))
        .collect();
    let found = names(prefix);
    assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn as_a_map_does(ops in proptest::collection::vec(op(), 0..60)) {
        let mut kernel = Kernel::boot();
        let mut model = Model::new();
        let mut next = 0;
        for op in &ops {
            if matches!(op, Op::Reboot) {
                kernel = kernel.stop();
            } else {
                apply(&mut model, op, &mut next);
            }
            agree(&model, "");
            assert_eq!(kernel.framework().stats().nr_names, model.len() as u64);
        }
        let live: Vec<_> = model.clone().into_iter().collect();
        for (path, number) in live {
            if number.is_some() {
                open(&path).unwrap().discard().unwrap();
            }
            remove(&name(&path)).unwrap();
            model.remove(&path);
            agree(&model, "");
        }
        let complaints = take_complaints();
        assert!(complaints.is_empty(), "{complaints:?}");
        kernel.assert_sound();
        kernel.machine().power_off();
    }
}

#[test]
fn a_name_may_begin_others() {
    let kernel = Kernel::boot();
    for path in ["kvm", "kvm/vm", "kvm/vm/1", "kvm/vm/2", "kvmx", "net/a"] {
        open(path).unwrap();
    }
    assert_eq!(names("kvm/"), ["kvm/vm", "kvm/vm/1", "kvm/vm/2"]);
    assert_eq!(
        names("kvm"),
        ["kvm", "kvm/vm", "kvm/vm/1", "kvm/vm/2", "kvmx"]
    );
    assert_eq!(names("kvm/vm/"), ["kvm/vm/1", "kvm/vm/2"]);
    assert_eq!(names("kvm/vm/2"), ["kvm/vm/2"]);
    assert_eq!(names("none/"), [""; 0]);
    assert_eq!(names("kvm/vm/2/"), [""; 0]);
    // What lies below stays when the name goes.
    rename(c"kvm/vm", c"other").unwrap();
    assert_eq!(names("kvm/"), ["kvm/vm/1", "kvm/vm/2"]);
    rename(c"kvm/vm/1", c"kvm/vm/1/deep/er").unwrap();
    assert_eq!(names("kvm/"), ["kvm/vm/1/deep/er", "kvm/vm/2"]);
    let kernel = kernel.kexec();
    assert_eq!(names("kvm/vm/1"), ["kvm/vm/1/deep/er"]);
    kernel.assert_sound();
}

#[test]
fn kinds_are_told_and_the_frameworks_names_are_not() {
    let kernel = Kernel::boot();
    drop(Cache::<u64>::open(c"x/cache", GFP_KERNEL).unwrap());
    drop(Named::<u64>::open(c"x/object", 7u64, GFP_KERNEL).unwrap());
    open("x/area").unwrap();
    let expected = [
        ("x/area".to_owned(), NameKind::Area),
        ("x/cache".to_owned(), NameKind::Cache),
        ("x/object".to_owned(), NameKind::Object),
    ];
    assert_eq!(listed(""), expected);
    assert_eq!(listed("x"), expected);
    assert_eq!(names("."), [""; 0]);
    assert_eq!(names(".object/"), [""; 0]);
    // Who is called may stop it.
    let mut nr = 0;
    let stopped = list(c"", |_, _| {
        nr += 1;
        Err(ENAMETOOLONG)
    });
    assert_eq!((stopped, nr), (Err(ENAMETOOLONG), 1));
    kernel.assert_sound();
}

#[test]
fn what_is_refused() {
    let kernel = Kernel::boot();
    let long = name(&"x".repeat(256));
    let longest = name(&"y".repeat(255));
    let mut vec = open("a").unwrap();
    for (bad, error) in [
        (c"", EINVAL),
        (c".a", EINVAL),
        (c"a/", EINVAL),
        (c"/a", EINVAL),
        (c"a//b", EINVAL),
        (long.as_c_str(), ENAMETOOLONG),
    ] {
        assert_eq!(rename(bad, c"b"), Err(error));
        assert_eq!(rename(c"a", bad), Err(error));
        assert_eq!(remove(bad), Err(error));
        assert_eq!(PVec::<u64>::open(bad, GFP_KERNEL).err(), Some(error));
    }
    assert_eq!(rename(c"a", c"a"), Err(EEXIST));
    assert_eq!(rename(c"none", c"a"), Err(ENOENT));
    // What is open stays open, under its new name.
    rename(c"a", &longest).unwrap();
    vec.push(5).unwrap();
    assert_eq!(PVec::<u64>::open(&longest, GFP_KERNEL).err(), Some(EBUSY));
    drop(vec);
    let object = Named::<u64>::open(c"o/1", 7u64, GFP_KERNEL).unwrap();
    assert_eq!(remove(c"o/1"), Err(EBUSY));
    rename(c"o/1", c"o/2").unwrap();
    assert_eq!(
        Named::<u64>::open(c"o/2", 9u64, GFP_KERNEL).err(),
        Some(EBUSY)
    );
    object.discard(c"o/2").unwrap();
    assert_eq!(names(""), [longest.to_str().unwrap()]);
    drop(Cache::<u64>::open(c"cache", GFP_KERNEL).unwrap());
    assert_eq!(remove(c"cache"), Err(EBUSY));
    kernel.framework().freeze();
    assert_eq!(rename(c"cache", c"b"), Err(EBUSY));
    assert_eq!(remove(c"cache"), Err(EBUSY));
    assert_eq!(names("ca"), ["cache"]);
    kernel.framework().thaw();
    rename(c"cache", c"b").unwrap();
    kernel.assert_sound();
}

/// A name as deep as one can be: 128 parts.
#[test]
fn the_deepest_name() {
    let kernel = Kernel::boot_with(Config::with_pages(512));
    let deep = vec!["d"; 128].join("/");
    assert_eq!(deep.len(), 255);
    open(&deep).unwrap().push(1).unwrap();
    rename(&name(&deep), c"shallow").unwrap();
    rename(c"shallow", &name(&deep)).unwrap();
    let kernel = kernel.kexec();
    assert_eq!(names(""), [deep.as_str()]);
    open(&deep).unwrap().discard().unwrap();
    remove(&name(&deep)).unwrap();
    assert_eq!(names(""), [""; 0]);
    assert_eq!(kernel.framework().stats().nr_names, 0);
    kernel.assert_sound();
}

/// Directories go with the last name in them, and so does what they took.
#[test]
fn directories_that_come_and_go_take_no_room() {
    let kernel = Kernel::boot_with(Config::with_pages(1024));
    let churn = |range: core::ops::Range<u32>| {
        for i in range {
            let path = format!("dir{i}/in/name");
            open(&path).unwrap().discard().unwrap();
            remove(&name(&path)).unwrap();
        }
    };
    churn(0..20);
    let nr_names = kernel.framework().stats().nr_names;
    let before = entries(&kernel);
    churn(20..500);
    assert_eq!(entries(&kernel), before);
    assert_eq!(kernel.framework().stats().nr_names, nr_names);
    kernel.assert_sound();
}

/// Names that come and go leave strings, which are not kept for ever: not of two types in turns, nor
/// of names that are new each time; over reboots, too. What stays is found.
#[test]
fn strings_of_names_that_come_and_go_take_bounded_room() {
    let mut kernel = Kernel::boot_with(Config::with_pages(1024));
    for i in 0..50 {
        open(&format!("stays/{}/in/{i}", i % 7))
            .unwrap()
            .push(i)
            .unwrap();
    }
    let (mut longest, mut active) = (0, Vec::new());
    for round in 0..6 {
        for i in 0..150 {
            let one = name(&format!("x/one{round}-{i}"));
            let object = Named::<u64>::open(&one, 1u64, GFP_KERNEL).unwrap();
            object.discard(&one).unwrap();
            let object = Named::<u32>::open(c"x/two", 2u32, GFP_KERNEL).unwrap();
            object.discard(c"x/two").unwrap();
        }
        let image = kernel.machine().image();
        let head: kpreserve::abi::RootHeadSer =
            layout::read(&image, layout::Layout::of(&image).root);
        active.push(head.active_entries.load());
        longest = longest.max(len_of(&kernel, kpreserve::abi::ARENA_STRINGS));
        kernel = kernel.stop();
    }
    assert!(longest < 10_000, "{longest} bytes");
    assert!(active.contains(&0) && active.contains(&1), "{active:?}");
    assert_eq!(names("stays/").len(), 50);
    for i in 0..50 {
        let path = format!("stays/{}/in/{i}", i % 7);
        assert_eq!(open(&path).unwrap().get(0), Some(&i), "{path}");
    }
    assert_eq!(names("stays/3/").len(), 7);
    let complaints = take_complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    kernel.assert_sound();
}

/// Names of two types in turns: each type's string stands there once or twice, before and after they were
/// copied.
#[test]
fn types_that_take_turns_share_their_strings() {
    let kernel = Kernel::boot_with(Config::with_pages(1024));
    let mut name_bytes = 0;
    for i in 0..300 {
        let path = name(&format!("turns/{i}"));
        name_bytes += path.as_bytes().len() as u64;
        if i % 2 == 0 {
            Named::<u64>::open(&path, 1u64, GFP_KERNEL).map(drop)
        } else {
            Named::<u32>::open(&path, 2u32, GFP_KERNEL).map(drop)
        }
        .unwrap();
    }
    let len = len_of(&kernel, kpreserve::abi::ARENA_STRINGS);
    assert!(len < name_bytes + 100, "{len}, {name_bytes} of names");
    for i in 0..20 {
        let path = format!("waste{i}/{}", "x".repeat(200));
        open(&path).unwrap().discard().unwrap();
        remove(&name(&path)).unwrap();
    }
    open("last").unwrap();
    let len = len_of(&kernel, kpreserve::abi::ARENA_STRINGS);
    // The last name that was taken away may have been so after the copy.
    assert!(len < name_bytes + 300, "{len}, {name_bytes} of names");
    kernel.assert_sound();
}

/// A hash table that was replaced has no page left.
#[test]
fn the_table_that_is_idle_takes_no_room() {
    let kernel = Kernel::boot_with(Config::with_pages(1024));
    for i in 0..600 {
        let path = name(&format!("{i}"));
        Named::<u64>::open(&path, 1u64, GFP_KERNEL).unwrap();
        if i % 50 == 0 || i == 599 {
            let image = kernel.machine().image();
            let layout = layout::Layout::of(&image);
            let head: kpreserve::abi::RootHeadSer = layout::read(&image, layout.root);
            let idle = 1 - head.active_buckets.load() as usize;
            let runs = layout.runs_of(kpreserve::abi::ARENA_BUCKETS[idle]);
            assert!(runs.is_empty(), "{i}: {runs:?}");
        }
    }
    kernel.assert_sound();
}

/// How many entries the dictionary has.
fn entries(kernel: &Kernel) -> u64 {
    len_of(kernel, kpreserve::abi::ARENA_ENTRIES)
}

/// The length of the area in use of two of the dictionary, as the next kernel reads it.
fn len_of(kernel: &Kernel, arenas: [u32; 2]) -> u64 {
    let image = kernel.machine().image();
    let layout = layout::Layout::of(&image);
    let head: kpreserve::abi::RootHeadSer = layout::read(&image, layout.root);
    let at = layout.arena(arenas[head.active_entries.load() as usize]);
    layout::read::<kpreserve::kho::ArenaSer>(&image, at)
        .len
        .load()
}
