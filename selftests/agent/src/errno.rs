// SPDX-License-Identifier: GPL-2.0

//! Error numbers by name, and steps that are meant to fail.

use anyhow::{bail, Result};
use std::io;

/// The errnos that the kernel side returns.
const NAMES: &[(&str, i32)] = &[
    ("EPERM", libc::EPERM),
    ("ENOENT", libc::ENOENT),
    ("EIO", libc::EIO),
    ("ENXIO", libc::ENXIO),
    ("E2BIG", libc::E2BIG),
    ("EAGAIN", libc::EAGAIN),
    ("ENOMEM", libc::ENOMEM),
    ("EACCES", libc::EACCES),
    ("EFAULT", libc::EFAULT),
    ("EBUSY", libc::EBUSY),
    ("EEXIST", libc::EEXIST),
    ("ENODEV", libc::ENODEV),
    ("EINVAL", libc::EINVAL),
    ("ENOSPC", libc::ENOSPC),
    ("ERANGE", libc::ERANGE),
    ("EDEADLK", libc::EDEADLK),
    ("ENAMETOOLONG", libc::ENAMETOOLONG),
    ("ENOSYS", libc::ENOSYS),
    ("ENODATA", libc::ENODATA),
    ("EBADMSG", libc::EBADMSG),
    ("EOVERFLOW", libc::EOVERFLOW),
    ("EUCLEAN", libc::EUCLEAN),
    ("EOPNOTSUPP", libc::EOPNOTSUPP),
    ("ETIMEDOUT", libc::ETIMEDOUT),
    ("ESTALE", libc::ESTALE),
    ("EKEYREJECTED", libc::EKEYREJECTED),
    // Not for user space, but it reaches insmod all the same.
    ("EPROBE_DEFER", 517),
];

/// An error in words that a person can look up.
pub(crate) fn name(error: &io::Error) -> String {
    let known = error
        .raw_os_error()
        .and_then(|number| NAMES.iter().find(|(_, n)| *n == number));
    match known {
        Some((name, _)) => (*name).to_owned(),
        None => error.to_string(),
    }
}

/// Turns a result into a verdict: success is expected when `fails` is none, otherwise just that error.
pub(crate) fn expect<T>(
    what: &str,
    result: io::Result<T>,
    fails: Option<&str>,
) -> Result<Option<T>> {
    match (result, fails) {
        (Ok(value), None) => Ok(Some(value)),
        (Ok(_), Some(expected)) => bail!("{what}: expected {expected}, but it succeeded"),
        (Err(error), None) => bail!("{what}: {}", name(&error)),
        (Err(error), Some(expected)) if name(&error) == expected => Ok(None),
        (Err(error), Some(expected)) => {
            bail!("{what}: expected {expected}, got {}", name(&error))
        }
    }
}
