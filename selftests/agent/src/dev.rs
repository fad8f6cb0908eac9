// SPDX-License-Identifier: GPL-2.0

//! Steps of the device sample: /dev/kpreserve-dev as samples/dev describes it.

use crate::{errno, memfd, words, Machine};
use anyhow::{bail, ensure, Context, Result};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd},
};

const PATH: &str = "/dev/kpreserve-dev";

/// `struct dev_register`: number, value.
type Register = [u64; 2];

const ATTACH: u64 = (b'D' as u64) << 8 | 1;
const WRITE: u64 = 1 << 30 | (size_of::<Register>() as u64) << 16 | (b'D' as u64) << 8 | 2;
const READ: u64 = 3 << 30 | (size_of::<Register>() as u64) << 16 | (b'D' as u64) << 8 | 3;

/// The register that says whether a device is busy.
const LAST: u64 = 63;

/// `argument` is a number, or the address of what the ioctl takes.
fn ioctl(file: &File, number: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the descriptor is open; an address is one of a register that is borrowed during the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number as _, argument) };
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `dev-attach FILE DEVICE [count=N] [fails=ERRNO]`: with a count FILE.0 is DEVICE, FILE.1 the next one.
pub(crate) fn attach(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let ([count, fails], rest) = words::options(arguments, ["count", "fails"]);
    let [file, device] = rest[..] else {
        bail!("dev-attach: FILE DEVICE [count=N]");
    };
    let first: u64 = device.parse().context("DEVICE")?;
    let bus = File::open(PATH).context(PATH)?;
    for (device, file) in (first..).zip(words::several(count, file)?) {
        if let Some(fd) = errno::expect("dev-attach", ioctl(&bus, ATTACH, device), fails)? {
            // SAFETY: the kernel has just installed it for us.
            let attached = unsafe { File::from_raw_fd(fd) };
            machine.files.insert(file, attached);
        }
    }
    Ok(())
}

/// `dev-write FILE SEED`: gives each register a value of its own.
pub(crate) fn write(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    each(machine, arguments, |file, mut register| {
        ioctl(file, WRITE, register.as_mut_ptr() as u64)?;
        Ok(())
    })
}

/// `dev-check FILE SEED`: each has it. Seed 0: each is as new.
pub(crate) fn check(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    each(machine, arguments, |file, expected| {
        let mut register: Register = [expected[0], !expected[1]];
        ioctl(file, READ, register.as_mut_ptr() as u64)?;
        ensure!(
            register == expected,
            "register {}: expected {:#x}, found {:#x}",
            expected[0],
            expected[1],
            register[1]
        );
        Ok(())
    })
}

/// `dev-busy FILE 0|1`: whether it can be stopped is in its last register.
pub(crate) fn busy(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [file, busy] = arguments else {
        bail!("dev-busy: FILE 0|1");
    };
    let mut register: Register = [LAST, busy.parse().context("0 or 1")?];
    let address = register.as_mut_ptr() as u64;
    ioctl(memfd::get(machine, file)?, WRITE, address)?;
    Ok(())
}

fn each(
    machine: &Machine,
    arguments: &[String],
    work: impl Fn(&File, Register) -> Result<()>,
) -> Result<()> {
    let [file, seed] = arguments else {
        bail!("FILE SEED");
    };
    let file = memfd::get(machine, file)?;
    let seed: u64 = seed.parse().context("SEED")?;
    for register in 0..LAST {
        let value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (register << 7));
        work(file, [register, value])?;
    }
    Ok(())
}
