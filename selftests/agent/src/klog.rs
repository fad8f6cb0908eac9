// SPDX-License-Identifier: GPL-2.0

//! The kernel's log, searched.

use crate::Machine;
use anyhow::{bail, Context, Result};
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
};

/// All messages since boot.
pub(crate) fn messages() -> Result<Vec<String>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")
        .context("/dev/kmsg")?;
    let mut messages = Vec::new();
    let mut record = vec![0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => break,
            // "6,339,5140900,-;text\n KEY=value\n"
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                let text = text.split_once(';').map_or("", |(_, text)| text);
                messages.push(text.lines().next().unwrap_or_default().to_owned());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // EPIPE: the log was overwritten while we read it; go on with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(error).context("/dev/kmsg"),
        }
    }
    Ok(messages)
}

/// `dmesg-contains "TEXT"`.
pub(crate) fn contains(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let text = arguments.join(" ");
    if !messages()?.iter().any(|message| message.contains(&text)) {
        bail!("the kernel's log does not contain {text:?}");
    }
    Ok(())
}

/// `dmesg-lacks "TEXT"`.
pub(crate) fn lacks(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let text = arguments.join(" ");
    match messages()?.iter().find(|message| message.contains(&text)) {
        Some(message) => bail!("the kernel's log contains: {message}"),
        None => Ok(()),
    }
}
