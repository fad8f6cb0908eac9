// SPDX-License-Identifier: GPL-2.0

//! One flipped bit in what a map consists of: it is refused, and there again when the bit is
//! mended; it is neither freed nor made anew.
//!
//! At 110fb01 an area that is gone was ENOENT without a word, and words and keys were silent in
//! `damage_sweep`.

mod framework_common;

use core::mem::offset_of;

use framework_common::flip::Bit;
use framework_common::layout::{
    read,
    Layout, //
};
use framework_common::small;
use kernel::prelude::{
    Error,
    Result,
    EINVAL,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::kho::{
    ArenaHandle,
    ArenaSer,
    Phys, //
};
use kpreserve::{
    Anonymous as _,
    Open as _,
    PMap,
    PVec,
    SharedU64, //
};
use kpreserve_sim::{
    Image,
    SimMachine, //
};
use kpreserve_testing::Kernel;
use kpreserve_vmalloc::abi::MapSer;

const NR_KEYS: u64 = 21;

fn open() -> Result<PMap<u64, u64>> {
    PMap::open(c"fw/map", GFP_KERNEL)
}

/// An image with a map, where its head's element stands, and what it says.
fn image() -> (Image, Layout, u64, MapSer) {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    let mut map = open().unwrap();
    for key in 0..NR_KEYS {
        map.insert(key, !key).unwrap();
    }
    drop(map);
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let at = layout.element(layout.arena_of(&image, "fw/map"), 80, 0);
    let ser = read(&image, at);
    (image, layout, at, ser)
}

/// Boots an image with a bit flipped, does something, and looks whether, with the bit mended in
/// what is left, all keys are there.
#[track_caller]
fn flipped<R>(image: &Image, bit: Bit, f: impl FnOnce() -> R) -> (R, Vec<String>) {
    let mut damaged = image.clone();
    bit.flip(&mut damaged);
    let kernel = Kernel::on(damaged.boot()).unwrap();
    take_complaints();
    let result = f();
    let said = take_complaints();
    let mut left = kernel.machine().image();
    kernel.assert_sound();
    kernel.machine().power_off();
    bit.flip(&mut left);
    let kernel = Kernel::on(left.boot()).unwrap();
    let map = open().unwrap();
    assert_eq!(map.len() as u64, NR_KEYS, "{bit:x?}");
    for key in 0..NR_KEYS {
        assert_eq!(map.get(&key), Some(&!key), "{bit:x?}");
    }
    drop(map);
    kernel.machine().power_off();
    (result, said)
}

fn error() -> Option<Error> {
    open().err()
}

#[test]
fn the_record_of_an_area_of_a_map() {
    let (image, layout, _, ser) = image();
    for handle in [
        ser.keys,
        ser.values,
        ser.free,
        ser.buckets[0],
        ser.buckets[1],
    ] {
        let at = layout.arena(handle as u32);
        for offset in [offset_of!(ArenaSer, kind), offset_of!(ArenaSer, generation)] {
            let (error, said) = flipped(&image, Bit::of(at + offset as u64, 1), error);
            assert_eq!((error, said.len()), (Some(EINVAL), 1), "{said:?}");
        }
    }
}

/// An area of a map has ended, though the map has not: no single bit does that.
#[test]
fn an_area_of_a_map_that_is_gone() {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    open().unwrap().insert(1, 1).unwrap();
    let keys = open().unwrap().head().get(0).unwrap().ser().keys;
    let keys = PVec::<u64>::adopt(ArenaHandle::from_raw(keys), GFP_KERNEL).unwrap();
    keys.discard().unwrap();
    for _ in 0..2 {
        take_complaints();
        assert_eq!(error(), Some(EINVAL));
        let said = take_complaints();
        assert!(said[0].contains("MapSer at 0x10: keys is 0x1"), "{said:?}");
        // And if another one has its record.
        PVec::<u64>::open(c"another", GFP_KERNEL).unwrap();
    }
    kernel.assert_sound();
}

#[test]
fn the_state() {
    let (image, _, at, _) = image();
    for nth in 0..64 {
        let bit = Bit::of(at + offset_of!(MapSer, state) as u64, nth);
        let (error, said) = flipped(&image, bit, error);
        assert_eq!(
            (error, said.len()),
            (Some(EINVAL), 1),
            "bit {nth}: {said:?}"
        );
    }
}

/// What an earlier kernel says of a map that it ends is believed once something has ended.
#[test]
fn the_end_of_a_map_as_it_was_said_before() {
    let (mut image, _, at, ser) = image();
    let state = Phys::new(at + offset_of!(MapSer, state) as u64);
    image.write_u64(state, MapSer::ENDING_BARE);
    let kernel = Kernel::on(image.boot()).unwrap();
    assert_eq!(error(), Some(EINVAL));
    let free = PVec::<SharedU64>::adopt(ArenaHandle::from_raw(ser.free), GFP_KERNEL).unwrap();
    free.discard().unwrap();
    let map = open().unwrap();
    assert!(map.is_empty());
    drop(map);
    // Nothing is left of it.
    let keys = PVec::<u64>::adopt(ArenaHandle::from_raw(ser.keys), GFP_KERNEL);
    assert!(keys.is_err());
    kernel.assert_sound();
    take_complaints();
}

#[test]
fn the_length_of_the_head() {
    let (image, layout, _, _) = image();
    let at = layout.arena(layout.arena_of(&image, "fw/map"));
    let bit = Bit::of(at + offset_of!(ArenaSer, len) as u64, 0);
    let (error, said) = flipped(&image, bit, error);
    assert_eq!(error, Some(EINVAL));
    assert!(said[0].contains("ArenaSer at 0x10: len is 0x0, expected at least 0x1"));
}

/// There are 21 keys: without the lowest bit of their number, it seems as if one had been about to
/// come.
#[test]
fn the_length_of_the_keys() {
    let (image, layout, _, ser) = image();
    let at = layout.arena(ser.keys as u32) + offset_of!(ArenaSer, len) as u64;
    let (error, said) = flipped(&image, Bit::of(at, 0), error);
    assert_eq!(error, Some(EINVAL));
    assert!(
        said[0].contains("nr_keys is 0x14, expected exactly 0x15"),
        "{said:?}"
    );
}

/// A key whose word is damaged is not given another value, and whoever asks for it is told why it
/// is not found.
#[test]
fn a_word_and_a_key() {
    let (image, layout, _, ser) = image();
    let words = layout.element(ser.buckets[0] as u32, 8, 0);
    let number = 5 + 1;
    let mut places = (0..64).map(|bucket| words + 8 * bucket);
    let word = places.find(|&at| u64::from(read::<u64>(&image, at) as u32) == number);
    let key = layout.element(ser.keys as u32, 8, 5);
    for at in [word.unwrap(), key] {
        for nth in 0..64 {
            let (results, said) = flipped(&image, Bit::of(at, nth), || {
                let mut map = open().unwrap();
                assert_eq!(map.get(&5), None);
                assert!(!map.contains_key(&5));
                let others = map.iter().filter(|&(key, value)| *value == !*key).count() as u64;
                assert_eq!(
                    (others, map.iter().count() as u64),
                    (NR_KEYS - 1, NR_KEYS - 1)
                );
                let results = (map.insert(5, 0), map.remove(&5));
                // Neither is it lost in another table.
                for key in 100..200 {
                    let _ = map.insert(key, key);
                }
                for key in 100..200 {
                    let _ = map.remove(&key);
                }
                results
            });
            assert_eq!(results, (Err(EINVAL), Err(EINVAL)), "bit {nth}");
            let says = |line: &String| line.contains("MapSer at 0x");
            assert!(said.len() >= 6 && said.iter().all(says), "{said:?}");
        }
    }
}
