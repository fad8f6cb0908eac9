// SPDX-License-Identifier: GPL-2.0

//! Each bit of what names and handles lead by, flipped: arena records, entries and strings of the
//! dictionary, words of hash tables, heads and states of maps, and the words of the root page.
//!
//! A kernel boots the image with the bit flipped, opens everything by name and by handle, lists,
//! tries to take names away, changes the map, makes new names. Then the bit is mended in what that
//! kernel left, and the next one looks whether everything is there. Each outcome is one of these:
//!
//! - harmless: all was right;
//! - refused: something was EINVAL (or EOPNOTSUPP), with a line, and all is there once the bit is
//!   mended;
//! - silent: something was empty, other, or gone, and nobody said so; or it was lost for good.
//!   There are none, but for the kinds that [`KNOWN`] names.
//!
//! Bits are sampled, one in `STEP`, from another beginning for each structure; with
//! `KPRESERVE_ALL_BITS=1` in the environment all of them are tried (use `--release`).

mod framework_common;

use core::mem::offset_of;
use std::collections::BTreeMap;
use std::sync::Mutex;

use framework_common::flip::Bit;
use framework_common::household::{
    Household,
    GONE,
    NAMES, //
};
use framework_common::layout::{
    read,
    Layout, //
};
use framework_common::{
    name,
    small,
    up, //
};
use kernel::prelude::{
    Error,
    Result,
    EBUSY,
    EINVAL,
    EOPNOTSUPP,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::abi::{
    EntrySer,
    RootHeadSer,
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_FIRST,
    ARENA_STRINGS,
    ARENA_TABLE, //
};
use kpreserve::kho::ArenaSer;
use kpreserve::{
    Framework,
    IfRefused,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Image,
    SimMachine, //
};
use kpreserve_vmalloc::abi::MapSer;

/// One bit in so many is tried by default.
const STEP: u64 = 5;

/// Lengths of what is a user's: no checksum covers them, and there is nothing to compare them with.
/// See
/// *Damage that is not seen* in Documentation/design-notes.rst.
const KNOWN: [&str; 1] = ["len of a user's area"];

/// What is swept: what it is called, where it stands, how many bytes it has.
struct Region {
    kind: &'static str,
    at: u64,
    len: u64,
}

/// What a flipped bit has come to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    Harmless,
    Refused,
    Silent,
}

fn household() -> (Household, Image, Layout) {
    let machine = SimMachine::boot(small());
    let household = Household::build(up(machine)).unwrap();
    let image = machine.image();
    machine.power_off();
    let layout = Layout::of(&image);
    (household, image, layout)
}

fn kind_of_record(image: &Image, layout: &Layout, id: u32) -> &'static str {
    let record: ArenaSer = read(image, layout.arena(id));
    match record.kind {
        0 => "record that is free",
        _ if id < ARENA_FIRST => "record of the framework's",
        1 => "record of a cache",
        _ => "record of an area",
    }
}

/// Everything that is swept.
fn regions(image: &Image, layout: &Layout) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut add = |kind, at, len: usize| {
        let len = len as u64;
        regions.push(Region { kind, at, len });
    };
    let nr_of = |id| read::<ArenaSer>(image, layout.arena(id)).len.load();
    let (len_at, len_end) = (offset_of!(ArenaSer, len), offset_of!(ArenaSer, generation));
    for id in 2..nr_of(ARENA_TABLE) as u32 {
        let (kind, at) = (kind_of_record(image, layout, id), layout.arena(id));
        let is_len_known = kind == "record of an area";
        add(kind, at, len_at);
        add(
            if is_len_known { KNOWN[0] } else { kind },
            at + len_at as u64,
            len_end - len_at,
        );
        add(kind, at + len_end as u64, size_of::<ArenaSer>() - len_end);
    }
    // What follows the fields that no word of which changes: those are refused, or are none.
    let generation = offset_of!(RootHeadSer, generation);
    add(
        "word of the root page",
        layout.root + generation as u64,
        size_of::<RootHeadSer>() - generation,
    );
    for index in 0..nr_of(ARENA_ENTRIES[0]) {
        add("entry", layout.entry(index), size_of::<EntrySer>());
    }
    for byte in 0..nr_of(ARENA_STRINGS[0]) {
        add("string", layout.element(ARENA_STRINGS[0], 1, byte), 1);
    }
    for bucket in 0..nr_of(ARENA_BUCKETS[0]) {
        add("word of the dictionary", layout.bucket(image, bucket), 8);
    }
    let head = layout.element(
        layout.arena_of(image, "m/map"),
        size_of::<MapSer>() as u64,
        0,
    );
    add("head of a map", head, size_of::<MapSer>());
    let map: MapSer = read(image, head);
    for bucket in 0..64 {
        let at = layout.element(map.buckets[0] as u32, 8, bucket);
        add("word of a map", at, 8);
    }
    for index in 0..nr_of(map.keys as u32) {
        let at = layout.element(map.keys as u32, 8, index);
        // What is free may be written over by what is the same.
        if read::<u64>(image, at) != 0 {
            add("key of a map", at, 8);
        }
    }
    for place in 0..nr_of(map.free as u32) {
        add(
            "free index of a map",
            layout.element(map.free as u32, 8, place),
            8,
        );
    }
    regions
}

/// Notes what an answer makes of an outcome: whether it is right, or a refusal that was logged.
///
/// A map has no errno for a key that it does not find: a line is all there is.
fn note(outcome: &mut Outcome, why: &mut Vec<String>, what: &str, answer: Result<bool>) {
    let is_said = !take_complaints().is_empty();
    let is = match answer {
        Ok(true) => Outcome::Harmless,
        Err(error) if is_said && (error == EINVAL || error == EOPNOTSUPP) => Outcome::Refused,
        Ok(false) if is_said && what == "m/map" => Outcome::Refused,
        _ => Outcome::Silent,
    };
    if is == Outcome::Silent {
        why.push(format!("{what}: {answer:?}"));
    }
    *outcome = (*outcome).max(is);
}

fn listed(framework: &'static Framework) -> Result<bool> {
    let mut names = Vec::new();
    framework.list_names(c"", |name, _| {
        names.push(name.to_str().unwrap_or_default().to_owned());
        Ok(())
    })?;
    names.sort();
    let mut expected: Vec<&str> = NAMES.iter().chain(&[GONE]).copied().collect();
    expected.sort_unstable();
    Ok(names == expected)
}

/// A name for what is there is not taken away.
fn stays(framework: &'static Framework, text: &str) -> Result<bool> {
    match framework.remove_name(&name(text)) {
        Ok(()) => Ok(false),
        Err(error) if error == EBUSY => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes a name, of which there is none.
fn made(framework: &'static Framework, text: &str) -> Result<bool> {
    let vec = PVec::<u64>::open_in(framework, &name(text), GFP_KERNEL)?;
    Ok(vec.is_empty())
}

/// Does all there is to do with an image of which a bit is flipped.
fn use_it(household: &Household, framework: &'static Framework, why: &mut Vec<String>) -> Outcome {
    let mut outcome = Outcome::Harmless;
    let mut note = |what: &str, answer: Result<bool>| note(&mut outcome, why, what, answer);
    note("list", listed(framework));
    for text in NAMES {
        note(text, household.is_there(framework, text));
    }
    note("log", household.has_log(framework));
    note("change of the map", Household::change_map(framework));
    for text in NAMES {
        note(&format!("removal of {text}"), stays(framework, text));
    }
    note("new", made(framework, "new"));
    note("s/new", made(framework, "s/new"));
    note("fresh/new", made(framework, "fresh/new"));
    note(
        "gone",
        PVec::<u8>::open_in(framework, &name(GONE), GFP_KERNEL).map(|vec| vec.is_empty()),
    );
    outcome
}

fn flipped(household: &Household, image: &Image, bit: Bit) -> (Outcome, Vec<String>) {
    let mut damaged = image.clone();
    bit.flip(&mut damaged);
    let found = bit.byte(&damaged);
    let machine = damaged.boot();
    let mut why = Vec::new();
    take_complaints();
    let outcome = match Framework::boot(machine, IfRefused::Fail) {
        Ok(framework) => use_it(household, framework, &mut why),
        Err(error) => panic!("no boot: {error:?}"),
    };
    let mut left = machine.image();
    machine.assert_sound();
    machine.power_off();
    // What was written over was not wanted.
    if bit.byte(&left) == found {
        bit.flip(&mut left);
    }
    let machine = left.boot();
    let framework = up(machine);
    let mut is_lost = |what: &str, answer: Result<bool, Error>| {
        if answer != Ok(true) {
            why.push(format!("mended, {what}: {answer:?}"));
        }
    };
    for text in NAMES {
        is_lost(text, household.is_there(framework, text));
    }
    is_lost("log", household.has_log(framework));
    machine.assert_sound();
    machine.power_off();
    take_complaints();
    match why.is_empty() {
        true => (outcome, why),
        false => (Outcome::Silent, why),
    }
}

#[test]
fn nothing_is_taken_for_absent() {
    let (household, image, layout) = household();
    let step = match std::env::var_os("KPRESERVE_ALL_BITS") {
        Some(_) => 1,
        None => STEP,
    };
    let mut bits = Vec::new();
    let mut nr_bits = 0;
    for region in regions(&image, &layout) {
        for bit in 0..8 * region.len {
            nr_bits += 1;
            // So that each bit of some word is among them.
            if nr_bits % step == 0 {
                bits.push((region.kind, Bit::of(region.at, bit as u32)));
            }
        }
    }
    let tallies = Mutex::new(BTreeMap::<&str, [u64; 3]>::new());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in [0, 1] {
            let (tallies, failures) = (&tallies, &failures);
            let (household, image, bits) = (&household, &image, &bits);
            scope.spawn(move || {
                for &(kind, bit) in bits.iter().skip(half).step_by(2) {
                    let (outcome, why) = flipped(household, image, bit);
                    tallies.lock().unwrap().entry(kind).or_default()[outcome as usize] += 1;
                    if outcome == Outcome::Silent && !KNOWN.contains(&kind) {
                        let text = format!("{kind}, {bit:x?}: {}", why.join("; "));
                        failures.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    std::println!("{} of {nr_bits} bits:", bits.len());
    let tallies = tallies.into_inner().unwrap();
    for (kind, [harmless, refused, silent]) in &tallies {
        std::println!("  {kind}: {harmless} harmless, {refused} refused, {silent} silent");
    }
    let failures = failures.into_inner().unwrap();
    let text = failures
        .iter()
        .take(40)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(failures.is_empty(), "{} silent:\n{text}", failures.len());
    // The sweep sees what it is for.
    for kind in [
        "record of an area",
        "entry",
        "string",
        "word of the dictionary",
        "head of a map",
    ] {
        assert!(tallies[kind][Outcome::Refused as usize] > 0, "{kind}");
    }
}
