// SPDX-License-Identifier: GPL-2.0

//! A world whose image is damaged, and what the kernels after it make of it.

use kernel::prelude::{
    Result,
    GFP_KERNEL, //
};
use kpreserve::kho::Phys;
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

use super::layout::Layout;
use super::world::{
    World,
    PARTS, //
};
use super::{
    name,
    small,
    up, //
};

/// Makes a world, which a second kernel has touched, and reads where things stand in its image.
///
/// # Panics
///
/// If that does not work.
pub fn world() -> (World, Image, Layout) {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let world = World::build(framework).unwrap();
    let vec = PVec::<u8>::open_in(framework, c"gone", GFP_KERNEL).unwrap();
    vec.discard().unwrap();
    let machine = machine.reboot();
    world.use_on(up(machine));
    let image = machine.image();
    machine.power_off();
    let layout = Layout::of(&image);
    (world, image, layout)
}

/// Changes one bit.
pub fn flip(image: &mut Image, at: u64, bit: u64) {
    let at = Phys::new(at + bit / 64 * 8);
    let word = image.read_u64(at);
    image.write_u64(at, word ^ (1 << (bit % 64)));
}

/// Boots a kernel that must refuse the image.
///
/// # Panics
///
/// If it does not, or if it does what a kernel would complain about.
#[track_caller]
pub fn refused(machine: &'static SimMachine) -> kernel::prelude::Error {
    let Err(error) = Framework::boot(machine, IfRefused::Fail) else {
        panic!("the image is not refused");
    };
    machine.assert_sound();
    error
}

/// Makes and ends something new: it has nothing to do with what is damaged.
///
/// # Errors
///
/// What the framework returns.
pub fn make_new(framework: &'static Framework, text: &str) -> Result {
    let mut vec = PVec::<u64>::open_in(framework, &name(text), GFP_KERNEL)?;
    vec.extend_zeroed(100)?;
    vec.discard()
}

/// Opens and compares all parts of a world but some.
///
/// # Errors
///
/// The first part that cannot be had, and why.
pub fn others_open(
    world: &World,
    framework: &'static Framework,
    but: &[&str],
) -> Result<(), String> {
    for part in PARTS.iter().filter(|part| !but.contains(part)) {
        let result = world.try_part(framework, part);
        result.map_err(|error| format!("{part}: {error:?}"))?;
    }
    Ok(())
}
