// SPDX-License-Identifier: GPL-2.0

//! Images whose bytes are wild: each field of each structure with each value that hurts, with its
//! checksum wrong and with its checksum mended, and bits that flip anywhere.
//!
//! What has to hold in each case: no panic, no hang, nothing that a kernel would complain about; an
//! errno that is documented; a line that names structure, field, what was found and what was
//! expected; what is not concerned opens. And a kernel that opens nothing hands all of it on: with
//! the byte mended, the one after it finds everything.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | blocks of the run table may overlap | `a_frame_that_overlaps_itself_...`, `entries_of_the_root_page` |
//! | what a refused entry names is not handed on | `entries_of_the_run_table` |
//! | the length of an area is not bounded | the process ends with SIGSEGV |
//! | the idle hash table is emptied before the other was checked | `root` |
//! | records behind a wrong length are written over | `descriptors_of_arenas` |
//! | the checksum of names is not compared | `a_refusal_names_...` |
//! | the hash table grows with the counter of names | `counters_of_names_that_lie` |

mod framework_common;

use core::mem::offset_of;
use std::time::Duration;

use framework_common::layout::{
    read,
    Layout,
    RunAt, //
};
use framework_common::world::{
    World,
    PARTS, //
};
use framework_common::{
    small,
    up,
    Watchdog, //
};
use kernel::prelude::{
    Error,
    Result,
    EBUSY,
    EINVAL,
    ENOENT,
    ENOMEM,
    EOPNOTSUPP,
    ESTALE,
    GFP_KERNEL, //
};
use kernel::print::{
    take_log,
    Level, //
};
use kpreserve::abi::{
    EntrySer,
    RootHeadSer,
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_STRINGS,
    ARENA_TABLE,
    COMPATIBLE,
    OWNER_TABLE, //
};
use kpreserve::kho::{
    ArenaSer,
    Phys,
    RunSer, //
};
use kpreserve::{
    Framework,
    IfRefused,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Image,
    Random,
    SimMachine, //
};
use kpreserve_slab::abi::SlabSer;

/// A world that a second kernel has touched, so that all there is is there.
fn world() -> (World, Image, Layout) {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let world = World::build(framework).unwrap();
    // A free entry, a tombstone, a second kernel's leavings.
    let vec = PVec::<u8>::open_in(framework, c"gone", GFP_KERNEL).unwrap();
    vec.discard().unwrap();
    let machine = machine.reboot();
    let framework = up(machine);
    world.use_on(framework);
    let image = machine.image();
    machine.power_off();
    let layout = Layout::of(&image);
    (world, image, layout)
}

/// What a kernel made of an image.
#[derive(Debug)]
struct Outcome {
    /// What the boot returned.
    boot: Result,
    /// What each of `PARTS` returned, in order; empty if there was no boot.
    parts: Vec<Result>,
    /// The lines with the level of an error or a warning.
    log: Vec<String>,
}

impl Outcome {
    /// Returns whether there is a line with all these words.
    fn says(&self, words: &[&str]) -> bool {
        self.log
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    }

    fn part(&self, part: &str) -> Result {
        let at = PARTS.iter().position(|other| *other == part).unwrap();
        self.parts[at]
    }

    fn is_all_well(&self) -> bool {
        self.boot.is_ok() && self.parts.iter().all(Result::is_ok)
    }
}

fn is_documented(error: Error) -> bool {
    [EINVAL, EOPNOTSUPP, ENOENT, ESTALE, EBUSY, ENOMEM].contains(&error)
}

/// Boots an image and tries to have each part. `exact` says whether parts that open have to be as
/// they were: so it is unless the damage may be in what they hold.
fn look(world: &World, image: &Image, exact: bool) -> Outcome {
    let machine = image.boot();
    take_log();
    let booted = Framework::boot(machine, IfRefused::Fail);
    let mut parts = Vec::new();
    if let Ok(framework) = booted {
        for part in PARTS {
            let result = if exact {
                world.try_part(framework, part)
            } else {
                world.touch_part(framework, part)
            };
            if let Err(error) = result {
                assert!(is_documented(error), "{part}: {error:?}");
            }
            parts.push(result);
        }
        if !exact {
            world.touch_all(framework);
        }
    }
    let complaints = take_log()
        .into_iter()
        .filter(|line| line.level <= Level::Warning);
    let outcome = Outcome {
        boot: booted.map(|_| ()),
        parts,
        log: complaints.map(|line| line.text).collect(),
    };
    machine.assert_sound();
    machine.power_off();
    outcome
}

/// Bytes that are changed.
#[derive(Clone, Debug)]
struct Change {
    at: u64,
    bytes: Vec<u8>,
}

impl Change {
    fn new(at: u64, bytes: &[u8]) -> Self {
        Self {
            at,
            bytes: bytes.to_vec(),
        }
    }

    /// Makes the change; returns what undoes it.
    fn make(&self, image: &mut Image) -> Change {
        let mut bytes = vec![0; self.bytes.len()];
        image.read(Phys::new(self.at), &mut bytes);
        image.write(Phys::new(self.at), &self.bytes);
        Change::new(self.at, &bytes)
    }
}

/// Boots the damaged image without opening anything, mends the bytes in what that kernel leaves, and
/// looks whether everything is there again.
fn is_carried_on(world: &World, damaged: &Image, undo: &[Change]) -> Result<(), String> {
    let machine = damaged.boot();
    // Refused as a whole or not: it is handed on.
    let _ = Framework::boot(machine, IfRefused::Fail);
    machine.assert_sound();
    let mut image = machine.image();
    machine.power_off();
    for change in undo.iter().rev() {
        change.make(&mut image);
    }
    let outcome = look(world, &image, true);
    if !outcome.is_all_well() {
        return Err(format!("{outcome:#?}"));
    }
    Ok(())
}

/// The values of a field that hurt.
fn values(size_bytes: usize, before: u64) -> Vec<u64> {
    let max = u64::MAX >> (64 - 8 * size_bytes);
    let mut values = vec![
        0,
        1,
        max,
        before ^ 1,
        before ^ (1 << (8 * size_bytes - 1)),
        before.wrapping_add(1) & max,
        before.wrapping_sub(1) & max,
    ];
    if size_bytes == 8 {
        values.extend([
            before ^ 0x1000,
            before ^ (1 << 40),
            0x1_0000_0000,
            0xffff_ffff_ffff_f000,
            // The last page of the window, absent memory, and a page that is nobody's.
            (64 << 20) + 1535 * 4096,
            (64 << 20) + 511 * 4096,
            64 << 20,
        ]);
    }
    values.sort_unstable();
    values.dedup();
    values.retain(|&value| value != before);
    values
}

/// A structure of an image: where it stands, its fields, and how its checksum is mended.
struct Target<'a> {
    name: String,
    at: u64,
    fields: &'a [(&'a str, usize, usize)],
    mend: Box<dyn Fn(&mut Image) + 'a>,
}

macro_rules! fields {
    ($t:ty: $($field:ident $size:literal),* $(,)?) => {
        &[$((stringify!($field), offset_of!($t, $field), $size)),*]
    };
}

const ROOT_FIELDS: &[(&str, usize, usize)] = fields!(RootHeadSer:
    magic 8, version 4, byte_order 4, page_size_bytes 4, reserved0 4, root_id 8, self_phys 8, check 8,
    generation 8, boot 8, active_buckets 8, free_entry 8, nr_names 8, first_name 8, active_entries 8,
    waste_bytes 8);
const RUN_FIELDS: &[(&str, usize, usize)] = fields!(RunSer:
    phys_order 8, owner 4, index 4, reserved 8, check 8);
const ARENA_FIELDS: &[(&str, usize, usize)] = fields!(ArenaSer:
    kind 4, id 4, fingerprint 8, version 4, stride_bytes 4, slab_order 1, reserved0 1, first_slot 2,
    nr_slots 4, len 8, generation 4, reserved1 4, pending 8, check 8);
const ENTRY_FIELDS: &[(&str, usize, usize)] = fields!(EntrySer:
    hash 8, name_offset 4, name_len 2, kind 2, compatible_offset 4, compatible_len 2, reserved0 2,
    version 4, next_free 4, fingerprint 8, value 8, parent 4, first_child 4, next_sibling 4,
    prev_sibling 4, reserved1 8, check 8);
const SLAB_FIELDS: &[(&str, usize, usize)] = fields!(SlabSer:
    magic 8, phys 8, root_id 8, check 8, owner 4, stride_bytes 4, nr_slots 4, first_slot 2,
    slab_order 1, reserved0 1, place 4, reserved1 4);

fn mend_run(image: &mut Image, root_id: u64, place: u64, at: u64) {
    let run: RunSer = read(image, at);
    let check = run.checksum(root_id, place);
    image.write_u64(Phys::new(at + offset_of!(RunSer, check) as u64), check);
}

fn mend_arena(image: &mut Image, root_id: u64, at: u64) {
    let arena: ArenaSer = read(image, at);
    let check = arena.checksum(root_id);
    image.write_u64(Phys::new(at + offset_of!(ArenaSer, check) as u64), check);
}

fn mend_entry(image: &mut Image, root_id: u64, index: u64, at: u64) {
    let entry: EntrySer = read(image, at);
    let check = entry.checksum(root_id, index as u32);
    image.write_u64(Phys::new(at + offset_of!(EntrySer, check) as u64), check);
}

fn mend_slab(image: &mut Image, at: u64) {
    let slab: SlabSer = read(image, at);
    let check = slab.checksum();
    image.write_u64(Phys::new(at + offset_of!(SlabSer, check) as u64), check);
}

/// Everything in an image that has fields.
fn targets<'a>(image: &Image, layout: &'a Layout) -> Vec<Target<'a>> {
    let id = layout.root_id;
    let mut targets = vec![Target {
        name: "RootSer".to_owned(),
        at: layout.root,
        fields: ROOT_FIELDS,
        mend: Box::new(move |image| {
            let head: RootHeadSer = read(image, layout.root);
            let check = head.checksum();
            let at = layout.root + offset_of!(RootHeadSer, check) as u64;
            image.write_u64(Phys::new(at), check);
        }),
    }];
    let mut owners = Vec::new();
    for entry in layout.tables.iter().chain(&layout.runs) {
        // One run of each owner; the others are no different.
        if owners.contains(&entry.run.owner) {
            continue;
        }
        owners.push(entry.run.owner);
        let (place, at) = (entry.place, entry.at);
        targets.push(Target {
            name: format!("RunSer {place} of {:#x}", entry.run.owner),
            at,
            fields: RUN_FIELDS,
            mend: Box::new(move |image| mend_run(image, id, place, at)),
        });
    }
    let names = ["fw/nodes", "fw/big", "fw/area", "fw/vec"];
    let mut arenas: Vec<u32> = names.map(|name| layout.arena_of(image, name)).to_vec();
    let [first, second] = ARENA_BUCKETS;
    arenas.extend([
        ARENA_TABLE,
        ARENA_ENTRIES[0],
        ARENA_STRINGS[0],
        first,
        second,
    ]);
    for arena in arenas {
        let at = layout.arena(arena);
        targets.push(Target {
            name: format!("ArenaSer {arena}"),
            at,
            fields: ARENA_FIELDS,
            mend: Box::new(move |image| mend_arena(image, id, at)),
        });
    }
    for name in [
        "fw/nodes",
        "fw/area",
        "fw/vec",
        "fw/state",
        ".object/framework-state",
    ] {
        let index = layout.find(image, name).0;
        let at = layout.entry(index);
        targets.push(Target {
            name: format!("EntrySer {name}"),
            at,
            fields: ENTRY_FIELDS,
            mend: Box::new(move |image| mend_entry(image, id, index, at)),
        });
    }
    for name in ["fw/nodes", "fw/big"] {
        for at in layout.slabs(image, name) {
            targets.push(Target {
                name: format!("SlabSer {at:#x} of {name}"),
                at,
                fields: SLAB_FIELDS,
                mend: Box::new(move |image| mend_slab(image, at)),
            });
        }
    }
    targets
}

/// Returns the bytes of a page around a structure, to be put back.
fn snapshot(image: &Image, at: u64) -> Change {
    let page = at & !4095;
    let mut bytes = vec![0; 4096];
    image.read(Phys::new(page), &mut bytes);
    Change::new(page, &bytes)
}

/// Tries every value of every field of the targets that `is_wanted` names.
fn try_fields(is_wanted: impl Fn(&str) -> bool, is_lost: impl Fn(&str, &str) -> bool) {
    let (world, image, layout) = world();
    assert!(look(&world, &image, true).is_all_well());
    let watchdog = Watchdog::new(Duration::from_secs(20));
    let mut failures = Vec::new();
    let mut nr_cases = 0;
    for target in targets(&image, &layout) {
        if !is_wanted(&target.name) {
            continue;
        }
        for &(field, offset, size_bytes) in target.fields {
            let at = target.at + offset as u64;
            let mut bytes = [0; 8];
            image.read(Phys::new(at), &mut bytes[..size_bytes]);
            let before = u64::from_le_bytes(bytes);
            for value in values(size_bytes, before) {
                for is_mended in [false, true] {
                    if is_mended && field == "check" {
                        continue;
                    }
                    let case = format!(
                        "{}.{field} = {value:#x} (was {before:#x}), checksum {}",
                        target.name,
                        if is_mended { "mended" } else { "as it was" },
                    );
                    watchdog.case(case.clone());
                    nr_cases += 1;
                    let mut damaged = image.clone();
                    let undo = snapshot(&image, target.at);
                    let change = Change::new(at, &value.to_le_bytes()[..size_bytes]);
                    change.make(&mut damaged);
                    if is_mended {
                        (target.mend)(&mut damaged);
                    }
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let outcome = look(&world, &damaged, false);
                        check_words(&case, &outcome);
                        let mut only = undo.clone();
                        only.at = target.at;
                        let from = (target.at & 4095) as usize;
                        let len = struct_len(target.fields);
                        only.bytes = undo.bytes[from..from + len].to_vec();
                        // What changes while a kernel runs is the next kernel's own.
                        if !is_lost(&target.name, field) {
                            if let Err(why) = is_carried_on(&world, &damaged, &[only]) {
                                panic!("not carried on: {why}");
                            }
                        }
                    }));
                    if let Err(panic) = result {
                        let text = panic
                            .downcast_ref::<String>()
                            .cloned()
                            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                        failures.push(format!("{case}: {}", text.unwrap_or_default()));
                    }
                }
            }
        }
    }
    std::println!("{nr_cases} cases");
    assert!(nr_cases > 50);
    assert!(
        failures.is_empty(),
        "{} of {nr_cases} cases:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn struct_len(fields: &[(&str, usize, usize)]) -> usize {
    fields
        .iter()
        .map(|(_, offset, size)| offset + size)
        .max()
        .unwrap_or(0)
}

/// Whoever could not have something must have been told why: in a line that names a structure, a
/// field, what was found and what was expected.
fn check_words(case: &str, outcome: &Outcome) {
    let refused = outcome.boot == Err(EINVAL)
        || outcome.boot == Err(EOPNOTSUPP)
        || outcome.parts.contains(&Err(EINVAL));
    if refused {
        assert!(
            !outcome.log.is_empty(),
            "{case}: refused without a word: {outcome:?}"
        );
    }
}

#[test]
fn root() {
    try_fields(|name| name == "RootSer", |_, _| false);
}

/// What an entry named, when it is the address that is wrong, nobody can tell.
fn names_another_run(_: &str, field: &str) -> bool {
    field == "phys_order"
}

#[test]
fn entries_of_the_root_page() {
    try_fields(|name| name.ends_with("of 0xffffffff"), names_another_run);
}

#[test]
fn entries_of_the_run_table() {
    try_fields(
        |name| name.starts_with("RunSer") && !name.ends_with("of 0xffffffff"),
        names_another_run,
    );
}

#[test]
fn descriptors_of_arenas() {
    try_fields(|name| name.starts_with("ArenaSer"), |_, _| false);
}

#[test]
fn entries_of_the_dictionary() {
    try_fields(|name| name.starts_with("EntrySer"), |_, _| false);
}

#[test]
fn heads_of_slabs() {
    try_fields(|name| name.starts_with("SlabSer"), |_, _| false);
}

/// Damages a world, and returns what a kernel makes of it.
fn damage(f: impl FnOnce(&mut Image, &Layout)) -> (World, Image, Outcome) {
    let (world, mut image, layout) = world();
    f(&mut image, &layout);
    let outcome = look(&world, &image, true);
    (world, image, outcome)
}

fn set<const N: usize>(image: &mut Image, at: u64, offset: usize, bytes: [u8; N]) {
    image.write(Phys::new(at + offset as u64), &bytes);
}

#[test]
fn a_refusal_names_structure_field_found_and_expected() {
    type Damage = fn(&mut Image, &Layout);
    // What is damaged, what the boot returns, the parts that do not open, and the words.
    let cases: &[(Damage, Result, &[&str], &[&str])] = &[
        (
            |image, layout| set(image, layout.root, offset_of!(RootHeadSer, magic), [0; 8]),
            Err(EINVAL),
            &PARTS,
            &["RootSer at 0x", "magic is 0x0", "exactly 0x5652455345"],
        ),
        (
            |image, layout| {
                set(
                    image,
                    layout.root,
                    offset_of!(RootHeadSer, version),
                    [9, 0, 0, 0],
                );
            },
            Err(EOPNOTSUPP),
            &PARTS,
            &["RootSer", "version is 0x9", "version 0x1"],
        ),
        (
            |image, layout| {
                set(
                    image,
                    layout.root,
                    offset_of!(RootHeadSer, byte_order),
                    [1, 2, 3, 4],
                );
                set(
                    image,
                    layout.root,
                    offset_of!(RootHeadSer, byte_order),
                    [4, 3, 2, 1],
                );
            },
            Err(EINVAL),
            &PARTS,
            &["RootSer", "byte_order is 0x1020304", "exactly 0x4030201"],
        ),
        (
            |image, layout| set(image, layout.root, offset_of!(RootHeadSer, root_id), [7; 8]),
            Err(EINVAL),
            &PARTS,
            &["RootSer", "check is 0x", "exactly 0x"],
        ),
        (
            |image, layout| set(image, layout.tables[0].at, 8, [5, 0, 0, 0]),
            Err(EINVAL),
            &PARTS,
            &["RunSer at 0x0", "check is 0x", "exactly 0x"],
        ),
        (
            |image, layout| {
                let at = layout.tables[0].at;
                set(image, at, 0, 0x2_0000_0000u64.to_le_bytes());
                mend_run(image, layout.root_id, 0, at);
            },
            Err(EINVAL),
            &PARTS,
            &[
                "RunSer at 0x0",
                "phys is 0x100",
                "preserved memory of order 0x0",
            ],
        ),
        (
            |image, layout| {
                let run = layout.runs_of(layout.arena_of(image, "fw/area"))[0];
                set(image, run.at, 0, ((64u64 << 20) + 0x1f_f000).to_le_bytes());
                mend_run(image, layout.root_id, run.place, run.at);
            },
            Ok(()),
            &["area"],
            &[
                "RunSer at 0x",
                "phys is 0x101",
                "preserved memory of order 0x0",
            ],
        ),
        (
            |image, layout| {
                let run = layout.runs_of(layout.arena_of(image, "fw/area"))[0];
                set(image, run.at, offset_of!(RunSer, index), [9, 0, 0, 0]);
                mend_run(image, layout.root_id, run.place, run.at);
            },
            Ok(()),
            &["area"],
            &["RunSer at 0x", "index is 0x"],
        ),
        (
            |image, layout| {
                let at = layout.arena(layout.arena_of(image, "fw/vec"));
                set(image, at, offset_of!(ArenaSer, len), [0xff; 8]);
            },
            Ok(()),
            &["vec"],
            &["ArenaSer", "len is 0xffffffffffffffff", "at most 0x"],
        ),
        (
            |image, layout| {
                let at = layout.arena(layout.arena_of(image, "fw/nodes"));
                set(image, at, offset_of!(ArenaSer, nr_slots), [0xff; 4]);
                mend_arena(image, layout.root_id, at);
            },
            Ok(()),
            &["nodes"],
            &["ArenaSer", "first_slot is 0x", "at least 0x"],
        ),
        (
            |image, layout| {
                let at = layout.entry(layout.find(image, "fw/area").0);
                set(image, at, offset_of!(EntrySer, fingerprint), [1; 8]);
            },
            Ok(()),
            &["area"],
            &["EntrySer at 0x", "check is 0x", "exactly 0x"],
        ),
        (
            |image, layout| {
                let (index, _) = layout.find(image, "fw/vec");
                let at = layout.entry(index);
                set(image, at, offset_of!(EntrySer, name_offset), [0xff; 4]);
                mend_entry(image, layout.root_id, index, at);
            },
            Ok(()),
            &["vec"],
            &["EntrySer at 0x", "name_offset is 0x", "at most 0x"],
        ),
        (
            |image, layout| {
                let at = layout.slabs(image, "fw/big")[0];
                set(image, at, offset_of!(SlabSer, owner), [1, 0, 0, 0]);
                mend_slab(image, at);
            },
            Ok(()),
            &["big"],
            &["SlabSer at 0x", "owner is 0x1", "exactly 0x11"],
        ),
    ];
    for (i, &(change, boot, refused, words)) in cases.iter().enumerate() {
        let (_, _, outcome) = damage(change);
        assert_eq!(outcome.boot, boot, "case {i}: {outcome:#?}");
        assert!(outcome.says(words), "case {i}, {words:?}: {outcome:#?}");
        if boot.is_ok() {
            for part in PARTS {
                let expected = if refused.contains(&part) {
                    Err(EINVAL)
                } else {
                    Ok(())
                };
                assert_eq!(
                    outcome.part(part),
                    expected,
                    "case {i}, {part}: {outcome:#?}"
                );
            }
        }
        let nr_lines = outcome
            .log
            .iter()
            .filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(nr_lines.count(), 1, "case {i}: logged once: {outcome:#?}");
    }
}

/// Writes an entry into the free place of the run table, with the right checksum.
fn add_run(image: &mut Image, layout: &Layout, phys: u64, order: u8, owner: u32, index: u32) {
    let RunAt { place, at, .. } = layout.free;
    let run = RunSer::new(layout.root_id, place, Phys::new(phys), order, owner, index);
    for (offset, word) in [
        (0, run.phys_order),
        (8, u64::from(owner) | (u64::from(index) << 32)),
        (16, 0),
        (24, run.check),
    ] {
        image.write_u64(Phys::new(at + offset), word);
    }
}

#[test]
fn runs_that_overlap_cost_both_owners_and_nobody_else() {
    // With a run of another arena, with a part of one that has a key of its own, with the root page,
    // with a block of the run table.
    let (world, image, layout) = world();
    let area = layout.arena_of(&image, "fw/area");
    let vec = layout.runs_of(layout.arena_of(&image, "fw/vec"))[0].run;
    let big = layout.runs_of(layout.arena_of(&image, "fw/big"));
    let big = big
        .iter()
        .find(|entry| entry.run.order() > 0)
        .expect("a larger run")
        .run;
    let part = big.phys().get() + 4096;
    let cases: [(u64, u8, &[&str]); 4] = [
        (vec.phys().get(), vec.order(), &["area", "vec"]),
        (part, 0, &["area", "big"]),
        (layout.root, 0, &["area"]),
        (layout.tables[0].run.phys().get(), 0, &["area"]),
    ];
    for (phys, order, refused) in cases {
        let mut damaged = image.clone();
        if phys == part {
            damaged.insert_key(Phys::new(phys), order);
        }
        let undo = snapshot(&image, layout.free.at);
        add_run(&mut damaged, &layout, phys, order, area, 77);
        let outcome = look(&world, &damaged, true);
        assert_eq!(outcome.boot, Ok(()), "{outcome:#?}");
        assert!(outcome.says(&["RunSer at 0x", "phys is 0x", "no overlap with"]));
        for part in PARTS {
            let is_refused = refused.contains(&part);
            assert_eq!(
                outcome.part(part).is_err(),
                is_refused,
                "{part}: {outcome:#?}"
            );
        }
        let entry = Change::new(
            layout.free.at,
            &undo.bytes[(layout.free.at & 4095) as usize..][..32],
        );
        is_carried_on(&world, &damaged, &[entry]).unwrap();
    }
}

#[test]
fn a_frame_that_overlaps_itself_is_refused() {
    for block in [0, 1] {
        let (_, _, outcome) = damage(|image, layout| {
            // A block that is the root page, or the first block again.
            let phys = if block == 0 {
                layout.root
            } else {
                layout.tables[0].run.phys().get()
            };
            let at = layout.tables[0].at + block * 32;
            let run = RunSer::new(
                layout.root_id,
                block,
                Phys::new(phys),
                0,
                OWNER_TABLE,
                block as u32,
            );
            image.write_u64(Phys::new(at), run.phys_order);
            image.write_u64(Phys::new(at + 8), u64::from(OWNER_TABLE) | (block << 32));
            image.write_u64(Phys::new(at + 16), 0);
            image.write_u64(Phys::new(at + 24), run.check);
        });
        assert_eq!(outcome.boot, Err(EINVAL));
        assert!(outcome.says(&["RunSer", "no overlap with"]), "{outcome:#?}");
    }
}

#[test]
fn a_key_that_is_missing_or_of_another_order() {
    let (world, image, layout) = world();
    let area = layout.runs_of(layout.arena_of(&image, "fw/area"));
    let run = area
        .iter()
        .find(|entry| entry.run.order() > 0)
        .expect("a larger run")
        .run;
    // Missing.
    let mut damaged = image.clone();
    assert!(damaged.remove_key(run.phys(), run.order()));
    let outcome = look(&world, &damaged, true);
    assert_eq!((outcome.boot, outcome.part("area")), (Ok(()), Err(EINVAL)));
    assert!(outcome.says(&["RunSer", "phys is 0x101"]), "{outcome:#?}");
    assert_eq!(outcome.parts.iter().filter(|part| part.is_err()).count(), 1);
    // Of another order.
    damaged.insert_key(run.phys(), run.order() - 1);
    let outcome = look(&world, &damaged, true);
    assert_eq!((outcome.boot, outcome.part("area")), (Ok(()), Err(EINVAL)));
    assert!(
        outcome.says(&["RunSer", "preserved memory of order"]),
        "{outcome:#?}"
    );
    // The root page.
    let mut damaged = image.clone();
    assert!(damaged.remove_key(Phys::new(layout.root), 0));
    let outcome = look(&world, &damaged, true);
    assert!(outcome.boot.is_err());
}

#[test]
fn a_subtree_that_points_anywhere() {
    let (world, image, layout) = world();
    let run = layout.runs_of(layout.arena_of(&image, "fw/area"))[0].run;
    for phys in [
        0,
        1,
        layout.root + 8,
        run.phys().get(),
        (64 << 20) + (511 << 12),
        1 << 40,
        u64::MAX,
    ] {
        let mut damaged = image.clone();
        damaged.set_subtree(COMPATIBLE, Phys::new(phys), 4096);
        let outcome = look(&world, &damaged, true);
        let boot = outcome.boot;
        assert!(
            boot == Err(EINVAL) || boot == Err(EBUSY),
            "{phys:#x}: {boot:?}"
        );
        assert!(!outcome.log.is_empty());
    }
}

#[test]
fn what_is_refused_can_be_given_up() {
    let (world, mut image, layout) = world();
    set(
        &mut image,
        layout.root,
        offset_of!(RootHeadSer, magic),
        [0; 8],
    );
    let machine = image.boot();
    let nr_incoming = machine.nr_incoming_pages();
    assert_eq!(
        Framework::boot(machine, IfRefused::Fail).err(),
        Some(EINVAL)
    );
    let framework = Framework::boot(machine, IfRefused::BeginAnew).unwrap();
    assert_eq!(framework.stats().generation, 1);
    // Nothing of the old image was touched.
    assert_eq!(machine.nr_incoming_pages(), nr_incoming);
    let fresh = World::build(framework).unwrap();
    machine.assert_sound();
    let machine = machine.reboot();
    fresh.verify(up(machine));
    machine.assert_sound();
    drop(world);
}

#[test]
fn buckets_that_lead_nowhere() {
    let (world, image, layout) = world();
    let head: RootHeadSer = read(&image, layout.root);
    let active = ARENA_BUCKETS[usize::from(head.active_buckets.load() == 1)];
    let ser: ArenaSer = read(&image, layout.arena(active));
    let nr_entries = read::<ArenaSer>(&image, layout.arena(ARENA_ENTRIES[0]))
        .len
        .load();
    // All tombstones, all the same entry, all beyond the last entry, only some of them.
    for word in [
        u64::MAX,
        1,
        nr_entries,
        nr_entries + 1,
        1 << 40,
        u64::MAX - 1,
    ] {
        for step in [1, 3] {
            let mut damaged = image.clone();
            for bucket in (0..ser.len.load()).step_by(step) {
                damaged.write_u64(Phys::new(layout.bucket(&image, bucket)), word);
            }
            let outcome = look(&world, &damaged, false);
            assert_eq!(outcome.boot, Ok(()));
            // Whoever looks has an end, and nothing of the old is freed.
            let mut undo = Vec::new();
            for bucket in 0..ser.len.load() {
                let at = layout.bucket(&image, bucket);
                undo.push(Change::new(
                    at,
                    &image.read_u64(Phys::new(at)).to_le_bytes(),
                ));
            }
            is_carried_on(&world, &damaged, &undo).unwrap();
        }
    }
}

#[test]
fn free_lists_that_go_round() {
    let (world, image, layout) = world();
    let nr_entries = read::<ArenaSer>(&image, layout.arena(ARENA_ENTRIES[0]))
        .len
        .load();
    let used = layout.find(&image, "fw/area").0;
    for first in [1, used + 1, nr_entries, nr_entries + 1, u64::MAX] {
        for next in [0, 1, used + 1, nr_entries, u64::from(u32::MAX)] {
            let mut damaged = image.clone();
            let at = layout.root + offset_of!(RootHeadSer, free_entry) as u64;
            damaged.write_u64(Phys::new(at), first);
            for index in 0..nr_entries {
                let entry: EntrySer = read(&image, layout.entry(index));
                if entry.kind == 0 {
                    let at = layout.entry(index) + offset_of!(EntrySer, next_free) as u64;
                    damaged.write(Phys::new(at), &(next as u32).to_le_bytes());
                }
            }
            let outcome = look(&world, &damaged, true);
            assert!(outcome.is_all_well(), "{outcome:#?}");
            // New names take entries that are free, and no others.
            let machine = damaged.boot();
            let framework = up(machine);
            for i in 0..20 {
                let text = framework_common::name(&format!("new/{i}"));
                drop(PVec::<u8>::open_in(framework, &text, GFP_KERNEL).unwrap());
            }
            world.verify(framework);
            machine.assert_sound();
            machine.power_off();
        }
    }
}

#[test]
fn counters_of_names_that_lie() {
    let (world, image, layout) = world();
    for nr_names in [0, 1, 31, 63, 1 << 32, u64::MAX - 1, u64::MAX] {
        let mut damaged = image.clone();
        let at = layout.root + offset_of!(RootHeadSer, nr_names) as u64;
        damaged.write_u64(Phys::new(at), nr_names);
        let machine = damaged.boot();
        let framework = up(machine);
        let held = machine.counters().held();
        for i in 0..200 {
            let text = framework_common::name(&format!("new/{i}"));
            drop(PVec::<u8>::open_in(framework, &text, GFP_KERNEL).unwrap());
        }
        world.verify(framework);
        // The hash table has grown with the names, not with the number.
        let pages = machine.counters().held().0 - held.0;
        assert!(
            pages < 30,
            "{pages} pages for 200 names, counter {nr_names:#x}"
        );
        machine.assert_sound();
        let machine = machine.reboot();
        world.verify(up(machine));
        machine.power_off();
    }
}

#[test]
fn tags_that_lie() {
    // A tag says whether there is an object, and no checksum covers it. A lie costs or makes
    // objects; it does not reach others.
    let (world, image, layout) = world();
    let mut random = Random::new(11);
    for name in ["fw/nodes", "fw/big"] {
        for slab in layout.slabs(&image, name) {
            let ser: SlabSer = read(&image, slab);
            for _ in 0..6 {
                let mut damaged = image.clone();
                let mut undo = Vec::new();
                for tag in 0..u64::from(ser.nr_slots) {
                    let at = Phys::new(slab + size_of::<SlabSer>() as u64 + tag);
                    let mut before = [0];
                    image.read(at, &mut before);
                    undo.push(Change::new(at.get(), &before));
                    damaged.write(at, &[random.next_u64() as u8]);
                }
                let outcome = look(&world, &damaged, false);
                assert_eq!(outcome.boot, Ok(()));
                is_carried_on(&world, &damaged, &undo).unwrap();
            }
        }
    }
}

/// Flips bits, boots, touches all there is, and boots once more.
fn flip(seed: u64, nr_images: u32, nr_bits: u64, only_structure: bool) {
    let (world, image, layout) = world();
    let watchdog = Watchdog::new(Duration::from_secs(20));
    let mut random = Random::new(seed);
    let keys: Vec<(Phys, u8)> = image.keys().collect();
    let frame: Vec<u64> = {
        let mut pages = vec![layout.root];
        pages.extend(layout.tables.iter().map(|entry| entry.run.phys().get()));
        for owner in [
            ARENA_TABLE,
            ARENA_ENTRIES[0],
            ARENA_STRINGS[0],
            ARENA_BUCKETS[0],
        ] {
            pages.extend(
                layout
                    .runs_of(owner)
                    .iter()
                    .map(|entry| entry.run.phys().get()),
            );
        }
        pages
    };
    let (mut nr_boots, mut nr_well) = (0, 0);
    for nr in 0..nr_images {
        let mut damaged = image.clone();
        let mut flipped = Vec::new();
        for _ in 0..1 + random.below(nr_bits) {
            let (page, size_bytes) = if only_structure {
                (frame[random.below(frame.len() as u64) as usize], 2048)
            } else {
                let (phys, order) = keys[random.below(keys.len() as u64) as usize];
                (phys.get(), 4096 << order)
            };
            let at = Phys::new(page + random.below(size_bytes / 8) * 8);
            let bit = random.below(64);
            let word = damaged.read_u64(at);
            damaged.write_u64(at, word ^ (1 << bit));
            flipped.push((at.get(), bit));
        }
        watchdog.case(format!("image {nr}, seed {seed}, {flipped:x?}"));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let outcome = look(&world, &damaged, false);
            check_words("flip", &outcome);
            if outcome.boot.is_err() {
                return (false, false);
            }
            // What a kernel makes of it is an image, too.
            let machine = damaged.boot();
            let framework = up(machine);
            world.touch_all(framework);
            machine.assert_sound();
            let machine = machine.reboot();
            let framework = up(machine);
            for part in PARTS {
                let _ = world.touch_part(framework, part);
            }
            machine.assert_sound();
            machine.power_off();
            (true, outcome.is_all_well())
        }));
        match result {
            Ok((booted, is_well)) => {
                nr_boots += u32::from(booted);
                nr_well += u32::from(is_well);
            }
            Err(panic) => {
                std::eprintln!("image {nr} of seed {seed}: {flipped:x?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    std::println!("{nr_images} images: {nr_boots} booted, {nr_well} without a loss");
    assert!(nr_boots > nr_images / 4 && nr_well < nr_images);
}

#[test]
fn bits_that_flip_anywhere() {
    flip(1, 600, 1, false);
    flip(2, 300, 40, false);
}

#[test]
fn bits_that_flip_in_structures() {
    flip(3, 800, 1, true);
    flip(4, 300, 6, true);
}
