// SPDX-License-Identifier: GPL-2.0

//! A stop at each step of what changes names: the next kernel finds the names of before, or those of
//! afterwards, all of them linked; and can go on changing them.
//!
//! Tried against code that was broken on purpose, and noticed: a change that is not finished by who
//! opens it; entries that are freed before they are unlinked; a record without the number of names; the
//! record written after its seal.

use core::mem::offset_of;
use std::collections::BTreeMap;

use kernel::prelude::GFP_KERNEL;
use kernel::print::take_complaints;
use kpreserve::abi::{
    RootHeadSer,
    COMPATIBLE, //
};
use kpreserve::kho::Phys;
use kpreserve::namespace::{
    list,
    remove,
    rename, //
};
use kpreserve::{
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Config,
    Cut,
    Image,
    Recorder, //
};
use kpreserve_testing::Kernel;

fn name(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).unwrap()
}

fn vec(text: &str) -> PVec<u64> {
    PVec::open(&name(text), GFP_KERNEL).unwrap()
}

/// Handles of what names stand for; 0 if it was discarded.
type Model = BTreeMap<String, u64>;

#[derive(Clone, Copy, Debug)]
enum Op {
    Open(&'static str),
    Discard(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
}

use Op::{
    Discard,
    Open,
    Remove,
    Rename, //
};

const OPS: &[Op] = &[
    Open("a/b/c"),
    Open("a/b/d"),
    Open("top"),
    Rename("a/b/c", "a/b/e"),
    Rename("a/b/d", "x/y/z"),
    Rename("a/b/e", "a/f"),
    Rename("top", "a/b"),
    Rename("a/b", "a/b/c/d/e"),
    Discard("x/y/z"),
    // Over a name whose area is gone.
    Open("x/y/z"),
    Discard("a/f"),
    Rename("x/y/z", "a/f"),
    Discard("a/f"),
    Remove("a/f"),
    Open("a/f"),
    Open("x"),
    Rename("x", "y"),
    Rename("y", "x"),
    Discard("a/b/c/d/e"),
    Remove("a/b/c/d/e"),
    Discard("x"),
    Remove("x"),
];

fn apply(op: Op, model: &mut Model) {
    match op {
        Open(path) => {
            let vec = vec(path);
            model.insert(path.to_owned(), vec.handle().into_raw());
        }
        Discard(path) => {
            vec(path).discard().unwrap();
            model.insert(path.to_owned(), 0);
        }
        Remove(path) => {
            remove(&name(path)).unwrap();
            model.remove(path);
        }
        Rename(old, new) => {
            rename(&name(old), &name(new)).unwrap();
            let handle = model.remove(old).unwrap();
            model.insert(new.to_owned(), handle);
        }
    }
}

fn names() -> Vec<String> {
    let mut names = Vec::new();
    list(c"", |name, _| {
        names.push(name.to_str().unwrap().to_owned());
        Ok(())
    })
    .unwrap();
    names.sort();
    names
}

/// Names and links are those of before, or of afterwards. A rename over a name whose area is gone
/// has a state in between: the dead name has been taken away.
fn check(kernel: &Kernel, before: &Model, after: &Model) {
    let found = names();
    let keys = |model: &Model| model.keys().cloned().collect::<Vec<_>>();
    let mut between = before.clone();
    between.retain(|name, handle| *handle != 0 || !after.contains_key(name));
    let is_one = [before, after, &between]
        .iter()
        .any(|model| keys(model) == found);
    assert!(is_one, "{found:?}, neither {before:?} nor {after:?}");
    assert_eq!(kernel.framework().stats().nr_names, found.len() as u64);
    for name in &found {
        let was = before.get(name).copied().unwrap_or(0);
        let is = after.get(name).copied().unwrap_or(0);
        if was != 0 && was == is {
            assert_eq!(vec(name).handle().into_raw(), was, "{name}");
        }
    }
    // A renamed one is the same, under one of its names.
    for (name, handle) in before.iter().filter(|(_, handle)| **handle != 0) {
        if let Some((other, _)) = after.iter().find(|(_, other)| *other == handle) {
            let at = if found.contains(name) { name } else { other };
            assert_eq!(vec(at).handle().into_raw(), *handle, "{name}, {other}");
        }
    }
}

/// Goes on: more names, in directories that are there, and none left in the end.
fn use_and_empty(kernel: &Kernel) {
    for path in ["a/b/c/new", "a/new", "x/y/new", "new"] {
        drop(vec(path));
    }
    rename(c"a/new", c"x/y/new2").unwrap();
    for path in names() {
        vec(&path).discard().unwrap();
        remove(&name(&path)).unwrap();
    }
    assert_eq!(names(), [""; 0]);
    assert_eq!(kernel.framework().stats().nr_names, 0);
}

fn make_waste(nr: usize) {
    for i in 0..nr {
        let path = format!("waste{i}/{}", "x".repeat(200));
        vec(&path).discard().unwrap();
        remove(&name(&path)).unwrap();
    }
}

fn active_entries(image: &Image) -> u64 {
    let (root, _) = image.subtree(COMPATIBLE).unwrap();
    let at = root.get() + offset_of!(RootHeadSer, active_entries) as u64;
    image.read_u64(Phys::new(at))
}

fn record(ops: &[Op], nr_waste: usize, nr_torn: usize) -> (Vec<Cut>, Vec<Model>) {
    let kernel = Kernel::boot_with(Config::with_pages(256));
    // Some others, so that lists have neighbours.
    let mut models = vec![Model::new()];
    for path in ["a/first", "x/first", "first"] {
        apply(Open(path), &mut models[0]);
    }
    // Strings that are nobody's any more: the next insertions compact.
    make_waste(nr_waste);
    let kernel = kernel.kexec();
    let mut nr = 0;
    list(c"", |_, _| {
        nr += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(nr, 3);
    let recorder = Recorder::start(kernel.machine()).torn(nr_torn);
    for (i, &op) in ops.iter().enumerate() {
        recorder.phase(i);
        let mut model = models[i].clone();
        apply(op, &mut model);
        models.push(model);
    }
    let cuts = recorder.finish();
    kernel.assert_sound();
    kernel.machine().power_off();
    (cuts, models)
}

fn survive_all(ops: &[Op], nr_waste: usize, nr_torn: usize) {
    let (cuts, models) = record(ops, nr_waste, nr_torn);
    for (i, cut) in cuts.iter().enumerate() {
        let result = std::panic::catch_unwind(|| {
            let kernel = Kernel::on(cut.image.boot()).unwrap();
            take_complaints();
            let (before, after) = (&models[cut.phase], &models[cut.phase + 1]);
            check(&kernel, before, after);
            // Stopped once more, without having changed a name.
            let kernel = kernel.stop();
            check(&kernel, before, after);
            use_and_empty(&kernel);
            let complaints = take_complaints();
            assert!(complaints.is_empty(), "{complaints:#?}");
            kernel.assert_sound();
            kernel.machine().power_off();
        });
        if let Err(panic) = result {
            let (op, nr) = (ops[cut.phase], cuts.len());
            std::eprintln!("cut {i} of {nr}, in {op:?}: {}", cut.step);
            std::panic::resume_unwind(panic);
        }
    }
    assert!(cuts.len() > 8 * ops.len(), "{} cuts", cuts.len());
    let active = |cut: &Cut| active_entries(&cut.image);
    let nr_moved = cuts
        .windows(2)
        .filter(|pair| active(&pair[0]) != active(&pair[1]));
    assert_eq!(nr_moved.count() > 0, nr_waste > 0);
}

#[test]
fn a_cut_at_each_step() {
    survive_all(OPS, 0, 0);
}

#[test]
fn a_cut_at_each_step_with_stores_missing() {
    survive_all(OPS, 0, 2);
}

#[test]
fn a_cut_at_each_step_of_a_compaction() {
    survive_all(&OPS[..4], 19, 0);
    survive_all(&OPS[..4], 19, 2);
}

/// An entry that was cut while it was written is nobody's, and hinders no compaction ever after.
#[test]
fn strings_are_compacted_after_a_cut() {
    let (cuts, _) = record(&OPS[..1], 0, 4);
    let mut nr_torn = 0;
    for cut in &cuts {
        let kernel = Kernel::on(cut.image.boot()).unwrap();
        make_waste(19);
        drop(vec("fresh"));
        let complaints = take_complaints();
        assert!(complaints.is_empty(), "{}: {complaints:#?}", cut.step);
        kernel.assert_sound();
        kernel.framework().freeze();
        let image = kernel.machine().image();
        kernel.machine().power_off();
        assert_eq!(active_entries(&image), 1, "{}", cut.step);
        nr_torn += u32::from(cut.step.contains("torn"));
    }
    assert!(nr_torn > 0);
}
