// SPDX-License-Identifier: GPL-2.0

//! One flipped bit in the dictionary: a name is found, or it is refused; never is it taken for one
//! that is not there, and made anew.
//!
//! Tried against code that was broken on purpose, and noticed: a name whose string does not have
//! its hash is passed by; so is a word whose tag is not that of its entry; a hash table is rebuilt
//! of such words; a branch is taken out though an entry of it is damaged. Not noticed by itself: an
//! entry is appended without a look at what is behind the last one (links refuse it here before).

mod framework_common;

use core::mem::offset_of;

use framework_common::flip::Bit;
use framework_common::layout::{
    read,
    Layout, //
};
use framework_common::{
    name,
    small, //
};
use kernel::prelude::{
    Result,
    EBUSY,
    EEXIST,
    EINVAL,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::abi::{
    EntrySer,
    ARENA_ENTRIES,
    ARENA_STRINGS, //
};
use kpreserve::kho::ArenaSer;
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
    Image,
    SimMachine, //
};
use kpreserve_testing::Kernel;

fn vec(text: &str) -> Result<PVec<u64>> {
    PVec::open(&name(text), GFP_KERNEL)
}

fn len(text: &str) -> Result<usize> {
    vec(text).map(|vec| vec.len())
}

/// An image with a few vectors, of which `fw/vec` has three elements.
fn image() -> (Image, Layout) {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    vec("fw/other").unwrap();
    vec("fw/vec")
        .unwrap()
        .extend_from_slice(&[1, 2, 3])
        .unwrap();
    vec("last").unwrap().push(4).unwrap();
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    (image, layout)
}

fn boot_flipped(image: &Image, bit: Bit) -> Kernel {
    let mut damaged = image.clone();
    bit.flip(&mut damaged);
    let kernel = Kernel::on(damaged.boot()).unwrap();
    take_complaints();
    kernel
}

/// Mends the bit in what a kernel left, and looks whether all is there.
fn mended(kernel: Kernel, bit: Bit) {
    kernel.assert_sound();
    let mut left = kernel.machine().image();
    kernel.machine().power_off();
    bit.flip(&mut left);
    let kernel = Kernel::on(left.boot()).unwrap();
    let lens = ["fw/other", "fw/vec", "last"].map(len);
    assert_eq!(lens, [Ok(0), Ok(3), Ok(1)]);
    kernel.machine().power_off();
}

/// Nothing makes, finds or takes away `fw/vec`, and there is a line for each.
fn is_refused() -> Vec<String> {
    assert_eq!(len("fw/vec"), Err(EINVAL));
    assert_eq!(remove(c"fw/vec"), Err(EINVAL));
    assert_eq!(rename(c"fw/vec", c"fw/new"), Err(EINVAL));
    assert_eq!(rename(c"last", c"fw/vec"), Err(EINVAL));
    let said = take_complaints();
    assert_eq!(said.len(), 4, "{said:?}");
    said
}

#[test]
fn a_name() {
    let (image, layout) = image();
    let (index, entry) = layout.find(&image, "fw/vec");
    for byte in 0..entry.name_len {
        let byte = u64::from(entry.name_offset) + u64::from(byte);
        for nth in 0..8 {
            let bit = Bit::of(layout.element(ARENA_STRINGS[0], 1, byte), nth);
            let kernel = boot_flipped(&image, bit);
            let said = is_refused();
            let expected = format!("EntrySer at {index:#x}: hash is 0x");
            assert!(said.iter().all(|line| line.contains(&expected)), "{said:?}");
            assert_eq!(list(c"fw/", |_, _| Ok(())), Err(EINVAL));
            mended(kernel, bit);
        }
    }
}

/// Returns where the word stands that refers to an entry.
fn word_of(image: &Image, layout: &Layout, name: &str) -> u64 {
    let number = layout.find(image, name).0 + 1;
    let mut words = (0..64).map(|bucket| layout.bucket(image, bucket));
    let is_it = |at: &u64| u64::from(read::<u64>(image, *at) as u32) == number;
    words.find(is_it).unwrap()
}

#[test]
fn a_word_of_the_hash_table() {
    let (image, layout) = image();
    let at = word_of(&image, &layout, "fw/vec");
    for nth in 0..64 {
        let bit = Bit::of(at, nth);
        let kernel = boot_flipped(&image, bit);
        let said = is_refused();
        let says = |line: &String| {
            line.contains("dictionary at 0x")
                && (line.contains("tag is 0x") || line.contains("bucket is 0x"))
        };
        assert!(said.iter().all(says), "{said:?}");
        assert_eq!(len("last"), Ok(1));
        mended(kernel, bit);
    }
}

/// A word whose tag is another is not carried on to a table in which it would stand where nobody
/// looks for it.
#[test]
fn a_table_that_is_rebuilt() {
    let (image, layout) = image();
    for nth in [7, 33, 50] {
        let bit = Bit::of(word_of(&image, &layout, "fw/vec"), nth);
        let kernel = boot_flipped(&image, bit);
        let made = (0..60).map(|i| vec(&format!("new/{i}")).map(drop));
        let results: Vec<Result> = made.collect();
        assert!(
            results.contains(&Err(EINVAL)),
            "the table did not want to be rebuilt"
        );
        mended(kernel, bit);
    }
}

/// The last name of a directory whose entry is damaged: nothing is begun that cannot be finished.
#[test]
fn an_entry_of_a_directory() {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    vec("d/only").unwrap().discard().unwrap();
    vec("fw/other").unwrap();
    vec("fw/vec")
        .unwrap()
        .extend_from_slice(&[1, 2, 3])
        .unwrap();
    vec("last").unwrap().push(4).unwrap();
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let entry = layout.entry(layout.find(&image, "d/").0);
    let word = word_of(&image, &layout, "d/");
    for at in [
        entry + offset_of!(EntrySer, check) as u64,
        entry + offset_of!(EntrySer, fingerprint) as u64,
        word,
        word + 4,
    ] {
        let bit = Bit::of(at, 3);
        let kernel = boot_flipped(&image, bit);
        assert_eq!(remove(c"d/only"), Err(EINVAL));
        assert_eq!(take_complaints().len(), 1);
        // In others' way it is not, in this kernel or the next.
        assert_eq!(len("fw/vec"), Ok(3));
        vec("fresh").unwrap();
        let kernel = kernel.kexec();
        assert_eq!(len("fw/vec"), Ok(3));
        mended(kernel, bit);
    }
}

/// Entries or strings seem to end before they do: nothing is written over.
#[test]
fn lengths() {
    let (image, layout) = image();
    for id in [ARENA_ENTRIES[0], ARENA_STRINGS[0]] {
        let at = layout.arena(id) + offset_of!(ArenaSer, len) as u64;
        let len_before = read::<u64>(&image, at);
        for nth in (0..64).filter(|nth| len_before & (1 << nth) != 0) {
            let bit = Bit::of(at, nth);
            let kernel = boot_flipped(&image, bit);
            for text in ["some/new", "new", "fw/new"] {
                assert_eq!(
                    vec(text).err(),
                    Some(EINVAL),
                    "arena {id}, bit {nth}, {text}"
                );
                assert!(!take_complaints().is_empty());
            }
            mended(kernel, bit);
        }
    }
}

/// A string that was not published: no entry has it, and the next one may be written over it.
#[test]
fn what_a_cut_leaves_behind_the_strings() {
    let (mut image, layout) = image();
    let strings: ArenaSer = read(&image, layout.arena(ARENA_STRINGS[0]));
    let behind = layout.element(ARENA_STRINGS[0], 1, strings.len.load());
    image.write(kpreserve::kho::Phys::new(behind), b"half a na");
    let kernel = Kernel::on(image.boot()).unwrap();
    assert_eq!(len("a/b/new"), Ok(0));
    let kernel = kernel.kexec();
    assert_eq!(len("fw/vec"), Ok(3));
    assert!(take_complaints().is_empty());
    kernel.assert_sound();
}

/// A name of a kind that only a newer kernel knows is there, whatever its value looks like here: of
/// a handle it would be one to an arena that has ended.
#[test]
fn a_kind_of_a_newer_kernel() {
    let (mut image, layout) = image();
    let (index, mut entry) = layout.find(&image, "fw/vec");
    let record: ArenaSer = read(&image, layout.arena(layout.arena_of(&image, "last")));
    entry.kind = 5;
    entry.value = (u64::from(record.generation - 1) << 32) | u64::from(record.id);
    entry.check = entry.checksum(layout.root_id, index as u32);
    let at = kpreserve::kho::Phys::new(layout.entry(index));
    image.write(at, kernel::prelude::IntoBytes::as_mut_bytes(&mut entry));
    let kernel = Kernel::on(image.boot()).unwrap();
    take_complaints();
    assert_eq!(vec("fw/vec").err(), Some(EBUSY));
    assert!(take_complaints()[0].contains("something unknown"));
    assert_eq!(remove(c"fw/vec"), Err(EBUSY));
    assert_eq!(rename(c"last", c"fw/vec"), Err(EEXIST));
    assert_eq!(len("last"), Ok(1));
    kernel.assert_sound();
}
