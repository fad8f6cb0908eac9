// SPDX-License-Identifier: GPL-2.0

//! Files of the selftest module's, each with a number.

use crate::{device, memfd, Machine};
use anyhow::{bail, ensure, Context, Result};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd},
};

/// `probe FILE VALUE`.
pub(crate) fn make(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [file, value] = arguments else {
        bail!("probe: FILE VALUE");
    };
    let reply = device::ask("kpreserve-selftest", &format!("luo.file {value}"))?;
    let fd = reply.lines().find_map(|line| line.strip_prefix("fd="));
    let fd = fd.context("the module has said no descriptor")?.parse()?;
    // SAFETY: the kernel has just installed it for us.
    let made = unsafe { File::from_raw_fd(fd) };
    machine.files.insert(file.to_owned(), made);
    Ok(())
}

/// `probe-check FILE VALUE`.
pub(crate) fn check(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [file, value] = arguments else {
        bail!("probe-check: FILE VALUE");
    };
    let value: i32 = value.parse().context("VALUE")?;
    // SAFETY: the descriptor is open, and the module takes no argument.
    let found = unsafe { libc::ioctl(memfd::get(machine, file)?.as_raw_fd(), 0) };
    ensure!(found >= 0, "{file}: {}", io::Error::last_os_error());
    ensure!(found == value, "{file}: expected {value}, found {found}");
    Ok(())
}
