// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of files that are open.

use crate::{errno, memfd, words, Machine};
use anyhow::{bail, ensure, Result};
use std::{ffi::CString, io, os::fd::AsRawFd};

/// `xattr-set FILE NAME VALUE [fails=ERRNO]`.
pub(crate) fn set(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [file, name, value] = rest[..] else {
        bail!("xattr-set: FILE NAME VALUE");
    };
    let fd = memfd::get(machine, file)?.as_raw_fd();
    let name = CString::new(name)?;
    // SAFETY: a descriptor that is open, a C string, and bytes of the length that is named.
    let ret = unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    let result = match ret {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    errno::expect("fsetxattr", result, fails)?;
    Ok(())
}

/// `xattr-get FILE NAME VALUE [fails=ERRNO]`: it has this value.
pub(crate) fn get(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [file, name, value] = rest[..] else {
        bail!("xattr-get: FILE NAME VALUE");
    };
    let fd = memfd::get(machine, file)?.as_raw_fd();
    let name = CString::new(name)?;
    let mut found = [0u8; 256];
    // SAFETY: a descriptor that is open, a C string, and room of the length that is named.
    let ret = unsafe { libc::fgetxattr(fd, name.as_ptr(), found.as_mut_ptr().cast(), found.len()) };
    let result = usize::try_from(ret).map_err(|_| io::Error::last_os_error());
    if let Some(length) = errno::expect("fgetxattr", result, fails)? {
        let found = String::from_utf8_lossy(&found[..length]);
        ensure!(found == value, "the value is {found:?}, not {value:?}");
    }
    Ok(())
}
