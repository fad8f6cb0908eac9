// SPDX-License-Identifier: GPL-2.0

//! Links and changes under way that the previous kernel left damaged: refused by name, in bounded
//! time, and nothing but what they concern.
//!
//! Tried against code that was broken on purpose, and noticed: links not compared with their
//! neighbours, not bounded, parents not longer than their children; seals not compared.

mod framework_common;

use core::mem::offset_of;

use framework_common::layout::{
    read,
    Layout, //
};
use kernel::error::code::EINVAL;
use kernel::prelude::{
    Result,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::abi::{
    end_of,
    EntrySer,
    NameKind,
    PendingSer,
    RootHeadSer,
    Step,
    ARENA_ENTRIES,
    ARENA_STRINGS, //
};
use kpreserve::kho::{
    ArenaSer,
    Phys, //
};
use kpreserve::namespace::{
    list,
    remove,
    rename, //
};
use kpreserve::{
    Open as _,
    PVec, //
};
use kpreserve_sim::Image;
use kpreserve_testing::{
    Config,
    Kernel, //
};

const NAMES: [&str; 6] = ["a/b/c", "a/b/d", "a/b/e", "a/f", "top", "z"];

const NEW: [&str; 7] = ["a/b/x", "q/r", "a/b/new", "new", "a/g", "zz", "fresh"];

fn name(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).unwrap()
}

fn vec(text: &str) -> Result<PVec<u64>> {
    PVec::open(&name(text), GFP_KERNEL)
}

fn image() -> (Image, Layout) {
    let kernel = Kernel::boot();
    for (i, text) in NAMES.iter().enumerate() {
        vec(text).unwrap().push(i as u64).unwrap();
    }
    // An entry that is free.
    vec("a/b/gone").unwrap().discard().unwrap();
    remove(c"a/b/gone").unwrap();
    // A name that can be taken away.
    vec("a/b/e").unwrap().discard().unwrap();
    kernel.framework().freeze();
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    (image, layout)
}

fn listed() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let result = list(c"", |name, _| {
        names.push(name.to_str().unwrap().to_owned());
        Ok(())
    });
    // Never one twice, whatever is damaged.
    let nr = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), nr, "{names:?}");
    let known = |name: &String| NAMES.contains(&&name[..]) || NEW.contains(&&name[..]);
    assert!(names.iter().all(known), "{names:?}");
    result.map(|()| names)
}

/// Does all there is to do; whatever it returns, look-ups of what is there succeed throughout.
fn exercise() -> Vec<Result> {
    let results = vec![
        listed().map(drop),
        remove(c"a/b/e"),
        rename(c"a/b/c", c"a/b/x"),
        rename(c"a/b/x", c"a/b/c"),
        rename(c"a/b/d", c"q/r"),
        vec("a/b/new").map(drop),
        vec("new").map(drop),
        rename(c"top", c"a/g"),
        rename(c"z", c"zz"),
        listed().map(drop),
    ];
    for (i, ways) in [
        &["a/b/c", "a/b/x"][..],
        &["a/b/d", "q/r"],
        &[],
        &["a/f"],
        &["top", "a/g"],
        &["z", "zz"],
    ]
    .iter()
    .enumerate()
    {
        let is_there = |text: &&&str| vec(text).is_ok_and(|vec| vec.get(0) == Some(&(i as u64)));
        assert!(
            ways.is_empty() || ways.iter().any(|text| is_there(&text)),
            "{ways:?}"
        );
    }
    results
}

#[test]
fn links() {
    let (image, layout) = image();
    let nr_entries = read::<ArenaSer>(&image, layout.arena(ARENA_ENTRIES[0]))
        .len
        .load();
    let mut nr_refused = 0;
    let links = [
        ("parent", offset_of!(EntrySer, parent)),
        ("first_child", offset_of!(EntrySer, first_child)),
        ("next_sibling", offset_of!(EntrySer, next_sibling)),
        ("prev_sibling", offset_of!(EntrySer, prev_sibling)),
    ];
    for index in 0..nr_entries {
        for (field, offset) in links {
            let at = layout.entry(index) + offset as u64;
            let before = read::<u32>(&image, at);
            let entry = read::<EntrySer>(&image, layout.entry(index));
            // Each of these is met on the way through all names.
            let is_listed = match field {
                "first_child" => entry.kind == NameKind::Directory as u16,
                _ => entry.kind != 0,
            };
            let values = (0..=nr_entries as u32 + 1).chain([u32::MAX - 1, u32::MAX]);
            for value in values.filter(|&value| value != before) {
                let mut damaged = image.clone();
                damaged.write(Phys::new(at), &value.to_le_bytes());
                let kernel = Kernel::on(damaged.boot()).unwrap();
                take_complaints();
                let results = exercise();
                // But for what ends a list, too early.
                if is_listed && value != end_of(entry.parent) {
                    assert_eq!(results[0], Err(EINVAL), "entry {index}, {field} {value}");
                }
                let complaints = take_complaints();
                let is_refused = results.iter().any(Result::is_err);
                assert_eq!(
                    is_refused,
                    complaints.iter().any(|line| line.contains("Ser at")),
                    "entry {index}, {field} {value}: {results:?}, {complaints:?}"
                );
                nr_refused += u32::from(is_refused);
                kernel.assert_sound();
                kernel.machine().power_off();
            }
        }
    }
    assert!(nr_refused > 100, "{nr_refused}");
}

#[test]
fn roots_of_the_tree() {
    let (image, layout) = image();
    let nr_entries = read::<ArenaSer>(&image, layout.arena(ARENA_ENTRIES[0]))
        .len
        .load();
    let at = layout.root + offset_of!(RootHeadSer, first_name) as u64;
    let before = image.read_u64(Phys::new(at));
    for value in (0..nr_entries + 2).chain([1 << 32, (1 << 32) | before, u64::MAX]) {
        if value == before {
            continue;
        }
        let mut damaged = image.clone();
        damaged.write_u64(Phys::new(at), value);
        let kernel = Kernel::on(damaged.boot()).unwrap();
        take_complaints();
        assert_eq!(listed(), Err(EINVAL), "{value:#x}");
        assert!(exercise().iter().any(Result::is_err));
        let complaints = take_complaints();
        let says = |word| complaints.iter().any(|line| line.contains(word));
        assert!(says("first_name") || says("EntrySer at"), "{complaints:?}");
        kernel.assert_sound();
        kernel.machine().power_off();
    }
}

/// Writes a change that is under way into an image.
fn with_pending(image: &Image, layout: &Layout, pending: &PendingSer) -> Image {
    let at = layout.root + offset_of!(RootHeadSer, pending) as u64;
    let words = [
        &pending.step,
        &pending.link,
        &pending.unlink,
        &pending.free_entry,
        &pending.nr_names,
    ];
    let mut image = image.clone();
    for (i, word) in words.into_iter().enumerate() {
        image.write_u64(Phys::new(at + 8 * i as u64), word.load());
    }
    image
}

#[test]
fn changes_under_way_that_are_none() {
    let (image, layout) = image();
    let pending = PendingSer::none();
    let seal = pending.seal(layout.root_id, Step::Unlink);
    for step in [1, 2, 3, 4, 7, seal ^ 8, seal ^ 1, seal + 2, !seal, u64::MAX] {
        pending.step.store(step);
        let damaged = with_pending(&image, &layout, &pending);
        let kernel = Kernel::on(damaged.boot()).unwrap();
        assert_eq!(vec("top").err(), Some(EINVAL), "{step:#x}");
        assert_eq!(listed(), Err(EINVAL));
        let complaints = take_complaints();
        let found = format!("step is {step:#x}");
        let says = |line: &String| line.contains("PendingSer") && line.contains(&found);
        assert!(complaints.iter().any(says), "{complaints:?}");
        // It is carried on, and whoever mends it has everything.
        let carried = kernel.machine().image();
        kernel.assert_sound();
        kernel.machine().power_off();
        let mended = with_pending(&carried, &layout, &PendingSer::none());
        let kernel = Kernel::on(mended.boot()).unwrap();
        assert_eq!(listed().map(|names| names.len()), Ok(NAMES.len()));
        assert!(exercise().iter().all(Result::is_ok));
        kernel.machine().power_off();
    }
}

#[test]
fn changes_under_way_that_name_no_entries() {
    let (image, layout) = image();
    let nr_entries = read::<ArenaSer>(&image, layout.arena(ARENA_ENTRIES[0]))
        .len
        .load();
    let (mut nr_refused, mut nr_done) = (0, 0);
    for step in [Step::Link, Step::Unlink, Step::Free] {
        for leaf in (0..nr_entries + 3).chain([u64::from(u32::MAX)]) {
            for top in [0, 1, leaf, nr_entries, nr_entries + 1, 0xffff_ffff] {
                let raw = (top << 32) | leaf;
                for (link, unlink) in [(raw, 0), (0, raw), (raw, raw)] {
                    let pending = PendingSer::none();
                    pending.link.store(link);
                    pending.unlink.store(unlink);
                    pending.free_entry.store(u64::MAX);
                    pending.nr_names.store(u64::MAX);
                    pending.step.store(pending.seal(layout.root_id, step));
                    let damaged = with_pending(&image, &layout, &pending);
                    let kernel = Kernel::on(damaged.boot()).unwrap();
                    // Done or refused; and whatever follows has an end.
                    match vec("fresh") {
                        Ok(_) => nr_done += 1,
                        Err(error) => {
                            assert_eq!(error, EINVAL);
                            nr_refused += 1;
                        }
                    }
                    let _ = listed();
                    let _ = rename(c"a/b/c", c"a/b/x");
                    let _ = remove(c"a/b/e");
                    kernel.assert_sound();
                    kernel.machine().power_off();
                }
            }
        }
    }
    take_complaints();
    assert!(nr_refused > 100 && nr_done > 10, "{nr_refused}, {nr_done}");
}

/// A directory in what lies in it, each link as its neighbours have it.
#[test]
fn a_tree_that_goes_round() {
    let kernel = Kernel::boot();
    vec("a/b/c").unwrap().push(0).unwrap();
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let number = |name: &str| layout.find(&image, name).0 as u32 + 1;
    let (outer, inner, leaf) = (number("a/"), number("a/b/"), number("a/b/c"));
    let mut damaged = image.clone();
    let mut set = |number: u32, offset: usize, value: u32| {
        let at = layout.entry(u64::from(number) - 1) + offset as u64;
        damaged.write(Phys::new(at), &value.to_le_bytes());
    };
    set(outer, offset_of!(EntrySer, parent), inner);
    set(outer, offset_of!(EntrySer, next_sibling), leaf);
    set(leaf, offset_of!(EntrySer, prev_sibling), outer);
    set(inner, offset_of!(EntrySer, first_child), outer);
    let kernel = Kernel::on(damaged.boot()).unwrap();
    for prefix in [c"a/", c"a/b/", c"a/b"] {
        let mut nr = 0;
        let result = list(prefix, |_, _| {
            nr += 1;
            Ok(())
        });
        assert_eq!((result, nr), (Err(EINVAL), 0), "{prefix:?}");
    }
    let complaints = take_complaints();
    assert!(complaints[0].contains("name_len is 0x2, expected at least 0x5"));
    let _ = rename(c"a/b/c", c"a/b/d");
    assert!(vec("a/b/c").is_ok_and(|vec| vec.len() == 1) || vec("a/b/d").is_ok());
    kernel.assert_sound();
}

/// A number of wasted bytes that lies makes a copy, no more; and none if an entry is damaged, which
/// stays where it is.
#[test]
fn waste_that_is_none() {
    let (mut image, layout) = image();
    let at = |offset: usize| Phys::new(layout.root + offset as u64);
    image.write_u64(at(offset_of!(RootHeadSer, waste_bytes)), u64::MAX);
    for is_damaged in [false, true] {
        let mut image = image.clone();
        let check = layout.find(&image, "z").0;
        let check = Phys::new(layout.entry(check) + offset_of!(EntrySer, check) as u64);
        let before = image.read_u64(check);
        if is_damaged {
            image.write_u64(check, before ^ 1);
        }
        let kernel = Kernel::on(image.boot()).unwrap();
        take_complaints();
        vec("fresh").unwrap();
        vec("a/f").unwrap();
        assert_eq!(vec("z").is_err(), is_damaged);
        let mut left = kernel.machine().image();
        kernel.assert_sound();
        kernel.machine().power_off();
        let has_moved = left.read_u64(at(offset_of!(RootHeadSer, active_entries))) == 1;
        assert_eq!(has_moved, !is_damaged);
        if is_damaged {
            left.write_u64(check, before);
        }
        let kernel = Kernel::on(left.boot()).unwrap();
        assert_eq!(vec("z").unwrap().get(0), Some(&5));
        assert_eq!(listed().map(|names| names.len()), Ok(NAMES.len() + 1));
        kernel.assert_sound();
    }
}

/// A directory whose link leads to a free entry that still knows a name of its: a copy must not take the
/// string of the directory from there, where it is not any more.
#[test]
fn a_copy_of_a_directory_that_leads_to_a_free_entry() {
    let kernel = Kernel::boot();
    for text in ["first", "d/x", "d/y"] {
        vec(text).unwrap();
    }
    vec("d/x").unwrap().discard().unwrap();
    remove(c"d/x").unwrap();
    let mut image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let (index, directory) = layout.find(&image, "d/");
    let free = read::<RootHeadSer>(&image, layout.root).free_entry.load();
    assert!((1..=index).contains(&free));
    let at = |offset: usize| Phys::new(layout.root + offset as u64);
    image.write_u64(at(offset_of!(RootHeadSer, waste_bytes)), u64::MAX);
    image.write(
        first_child(&layout, ARENA_ENTRIES[0], index),
        &(free as u32).to_le_bytes(),
    );
    let kernel = Kernel::on(image.boot()).unwrap();
    vec("fresh").unwrap();
    let list_of = |prefix| list(prefix, |_, _| Ok(()));
    assert_eq!(list_of(c"d/"), Err(EINVAL));
    let mut left = kernel.machine().image();
    kernel.machine().power_off();
    take_complaints();
    assert_eq!(
        left.read_u64(at(offset_of!(RootHeadSer, active_entries))),
        1
    );
    // Whoever mends the link has everything.
    let layout = Layout::of(&left);
    left.write(
        first_child(&layout, ARENA_ENTRIES[1], index),
        &directory.first_child.to_le_bytes(),
    );
    let kernel = Kernel::on(left.boot()).unwrap();
    let mut names = Vec::new();
    list(c"d/", |name, _| {
        names.push(name.to_str().unwrap().to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["d/y"]);
    kernel.assert_sound();
}

fn first_child(layout: &Layout, entries: u32, index: u64) -> Phys {
    let entry = layout.element(entries, size_of::<EntrySer>() as u64, index);
    Phys::new(entry + offset_of!(EntrySer, first_child) as u64)
}

/// Entries that all claim all of the strings, under checksums that are right: a copy ends before it takes more
/// than there was.
#[test]
fn strings_that_would_grow() {
    let kernel = Kernel::boot_with(Config::with_pages(16384));
    for i in 0..500 {
        vec(&format!("claims/{i}/{}", "x".repeat(100))).unwrap();
    }
    let mut image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let strings: ArenaSer = read(&image, layout.arena(ARENA_STRINGS[0]));
    let entries: ArenaSer = read(&image, layout.arena(ARENA_ENTRIES[0]));
    for index in 0..entries.len.load() {
        let mut entry: EntrySer = read(&image, layout.entry(index));
        entry.name_offset = index as u32;
        entry.name_len = (strings.len.load() - index).min(u16::MAX.into()) as u16;
        entry.check = entry.checksum(layout.root_id, index as u32);
        let at = |offset: usize| Phys::new(layout.entry(index) + offset as u64);
        image.write(
            at(offset_of!(EntrySer, name_offset)),
            &entry.name_offset.to_le_bytes(),
        );
        image.write(
            at(offset_of!(EntrySer, name_len)),
            &entry.name_len.to_le_bytes(),
        );
        image.write_u64(at(offset_of!(EntrySer, check)), entry.check);
    }
    let at = |offset: usize| Phys::new(layout.root + offset as u64);
    image.write_u64(at(offset_of!(RootHeadSer, waste_bytes)), u64::MAX);
    let kernel = Kernel::on(image.boot()).unwrap();
    take_complaints();
    vec("fresh").unwrap();
    let image = kernel.machine().image();
    assert_eq!(
        image.read_u64(at(offset_of!(RootHeadSer, active_entries))),
        0
    );
    kernel.assert_sound();
}

/// A hash table without a vacant word: no name can be added, and that is all.
#[test]
fn a_table_without_room() {
    let (mut image, layout) = image();
    let hash = read::<EntrySer>(&image, layout.entry(0)).hash;
    let tag = (hash ^ (hash >> 32)) << 32;
    for bucket in 0..64 {
        let at = Phys::new(layout.bucket(&image, bucket));
        if matches!(image.read_u64(at), 0 | u64::MAX) {
            // An entry that there is, once more.
            image.write_u64(at, tag | 1);
        }
    }
    let kernel = Kernel::on(image.boot()).unwrap();
    take_complaints();
    for text in ["fresh", "new/fresh"] {
        assert_eq!(vec(text).err(), Some(EINVAL));
    }
    assert_eq!(rename(c"z", c"zz"), Err(EINVAL));
    let complaints = take_complaints();
    let says = |line: &String| line.contains("dictionary") && line.contains("nr_buckets");
    assert!(complaints.iter().all(says), "{complaints:?}");
    // What is not there yet cannot be under way.
    let kernel = kernel.kexec();
    for (i, text) in NAMES.iter().enumerate().filter(|(i, _)| *i != 2) {
        assert_eq!(vec(text).unwrap().get(0), Some(&(i as u64)), "{text}");
    }
    assert_eq!(listed().map(|names| names.len()), Ok(NAMES.len()));
    // And whoever takes one away has room again.
    assert_eq!(remove(c"a/b/e"), Ok(()));
    vec("fresh").unwrap();
    assert!(take_complaints().is_empty());
    kernel.assert_sound();
}
