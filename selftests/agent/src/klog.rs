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
fn messages() -> Result<Vec<String>> {
    Ok(records()?.into_iter().map(|(_, text)| text).collect())
}

/// All messages since boot, each with its time in microseconds.
fn records() -> Result<Vec<(u64, String)>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")
        .context("/dev/kmsg")?;
    let mut records = Vec::new();
    let mut record = vec![0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => break,
            // "6,339,5140900,-;text\n KEY=value\n"
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                let (head, text) = text.split_once(';').unwrap_or_default();
                let time = head.split(',').nth(2).and_then(|time| time.parse().ok());
                let first_line = text.lines().next().unwrap_or_default();
                records.push((time.unwrap_or(0), first_line.to_owned()));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // EPIPE: the log was overwritten while we read it; go on with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(error).context("/dev/kmsg"),
        }
    }
    Ok(records)
}

/// When the first message with that text was written, in nanoseconds.
pub(crate) fn when(text: &str) -> Result<u64> {
    let records = records()?;
    let record = records.iter().find(|(_, message)| message.contains(text));
    let (time, _) =
        record.with_context(|| format!("the kernel's log does not contain {text:?}"))?;
    Ok(time * 1000)
}

/// `dmesg-count N "TEXT"`: exactly so many messages.
pub(crate) fn count(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let Some((count, text)) = arguments.split_first() else {
        bail!("dmesg-count: how many?");
    };
    let expected: usize = count.parse().context("dmesg-count")?;
    let text = text.join(" ");
    let messages = messages()?;
    let found: Vec<_> = messages.iter().filter(|m| m.contains(&text)).collect();
    if found.len() != expected {
        bail!(
            "{} messages contain {text:?}, expected {expected}: {found:#?}",
            found.len()
        );
    }
    Ok(())
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
