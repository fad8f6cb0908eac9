// SPDX-License-Identifier: GPL-2.0

//! One flipped bit in a record of the arena table: what it describes is refused, and there again
//! when the bit is mended; nothing takes its place, its name, or its record.
//!
//! Tried against code that was broken on purpose, and noticed: a record is free whose `kind` is 0;
//! its generation is compared before its checksum; free records have no checksum; what lies behind
//! the arena table is not looked at.

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
    ENOENT,
    ESTALE,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::abi::RootHeadSer;
use kpreserve::kho::ArenaSer;
use kpreserve::namespace::remove;
use kpreserve::{
    Anonymous as _,
    ArenaHandle,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Image,
    SimMachine, //
};
use kpreserve_testing::Kernel;

fn open() -> Result<PVec<u64>> {
    PVec::open(c"fw/vec", GFP_KERNEL)
}

/// An image with a vector of three elements, and where its record stands.
fn image() -> (Image, u64) {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    open().unwrap().extend_from_slice(&[1, 2, 3]).unwrap();
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let at = layout.arena(layout.arena_of(&image, "fw/vec"));
    (image, at)
}

/// Boots an image with a bit flipped, does something, mends the bit in what is left, and boots
/// that.
fn flipped<R>(image: &Image, bit: Bit, f: impl FnOnce() -> R) -> (R, Vec<String>, Kernel) {
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
    (result, said, Kernel::on(left.boot()).unwrap())
}

#[test]
fn a_record_in_use() {
    let (image, at) = image();
    for (field, offset, nr_bits) in [
        ("kind", offset_of!(ArenaSer, kind), 32),
        ("id", offset_of!(ArenaSer, id), 32),
        ("fingerprint", offset_of!(ArenaSer, fingerprint), 64),
        ("version", offset_of!(ArenaSer, version), 32),
        ("generation", offset_of!(ArenaSer, generation), 32),
        ("check", offset_of!(ArenaSer, check), 64),
    ] {
        for nth in 0..nr_bits {
            let bit = Bit::of(at + offset as u64, nth);
            let (errors, said, kernel) = flipped(&image, bit, || {
                [open().err(), remove(c"fw/vec").err(), open().err()]
            });
            assert_eq!(errors, [Some(EINVAL); 3], "{field}, bit {nth}");
            let says = |line: &String| line.contains("ArenaSer at 0x10: check is 0x");
            assert_eq!(said.iter().filter(|line| says(line)).count(), 3, "{said:?}");
            assert_eq!(open().unwrap().len(), 3, "{field}, bit {nth}");
            kernel.machine().power_off();
        }
    }
}

/// A vector was discarded, and its record is free: whatever flips in it, nobody gets a handle that
/// somebody has still.
#[test]
fn a_record_that_is_free() {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    // Used a few times, so that there is a generation to flip.
    let mut handles: Vec<ArenaHandle<u64>> = Vec::new();
    for _ in 0..5 {
        let vec = PVec::<u64>::create(GFP_KERNEL).unwrap();
        handles.push(vec.handle());
        vec.discard().unwrap();
    }
    let (first, last) = (handles[0], handles[4]);
    assert_eq!((last.id(), last.generation()), (16, 5));
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let at = Layout::of(&image).arena(16);
    let adopt = |handle| -> Option<Error> { PVec::<u64>::adopt(handle, GFP_KERNEL).err() };
    for nth in 0..8 * size_of::<ArenaSer>() as u32 {
        let (errors, _, kernel) = flipped(&image, Bit::of(at, nth), || {
            let before = [adopt(first), adopt(last)];
            let new = PVec::<u64>::create(GFP_KERNEL).unwrap();
            assert!(!handles.contains(&new.handle()), "bit {nth}");
            drop(new);
            assert!(adopt(first).is_some() && adopt(last).is_some(), "bit {nth}");
            before
        });
        let field = (nth / 32) as usize * 4;
        let is_refused = errors == [Some(EINVAL); 2];
        assert!(is_refused || errors == [Some(ENOENT); 2], "bit {nth}");
        // Those that say whether it is free, and how often it was used.
        let decide = [
            offset_of!(ArenaSer, kind),
            offset_of!(ArenaSer, id),
            offset_of!(ArenaSer, generation),
        ];
        assert!(is_refused || !decide.contains(&field), "bit {nth}");
        kernel.machine().power_off();
    }
}

#[test]
fn a_handle_of_what_is_to_come() {
    let _kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    let vec = PVec::<u64>::create(GFP_KERNEL).unwrap();
    let (id, generation) = (vec.handle().id(), vec.handle().generation());
    drop(vec);
    let adopt = |generation| {
        let handle = ArenaHandle::<u64>::new(id, generation);
        PVec::<u64>::adopt(handle, GFP_KERNEL).err()
    };
    assert_eq!(adopt(generation - 1), Some(ESTALE));
    take_complaints();
    assert_eq!(adopt(generation + 1), Some(EINVAL));
    let said = take_complaints();
    assert!(said[0].contains("generation is 0x2, expected at most 0x1"));
}

/// The arena table seems to end before it does: no record is written over.
#[test]
fn the_length_of_the_table() {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    // Record 16 has no run: nothing but the record says that it is in use.
    let empty = PVec::<u64>::open(c"empty", GFP_KERNEL).unwrap();
    assert_eq!(empty.raw().id(), 16);
    open().unwrap().extend_from_slice(&[1, 2, 3]).unwrap();
    drop(empty);
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    let at = layout.root + (offset_of!(RootHeadSer, arenas) + offset_of!(ArenaSer, len)) as u64;
    assert_eq!(read::<u64>(&image, at), 18);
    // It ends among the framework's own, as if these were still to be made.
    let (error, _, kernel) = flipped(&image, Bit::of(at, 4), || open().err());
    assert_eq!(error, Some(EINVAL));
    assert_eq!(open().unwrap().len(), 3);
    kernel.machine().power_off();
    let (new, said, kernel) = flipped(&image, Bit::of(at, 1), || {
        PVec::<u64>::create(GFP_KERNEL).err()
    });
    assert_eq!(new, Some(EINVAL));
    let says = |line: &String| line.contains("ArenaSer at 0x1: len is 0x10, expected at least");
    assert!(said.iter().any(says), "{said:?}");
    assert_eq!(open().unwrap().len(), 3);
    kernel.assert_sound();
}
