// SPDX-License-Identifier: GPL-2.0

//! Reading and writing files, mostly of sysfs and debugfs.

use crate::{device, errno, words, Machine};
use anyhow::{bail, Result};
use std::{
    fs::{self, OpenOptions},
    io::Write,
};

/// `read-file PATH`. The content counts as a reply: `expect` sees its `key=value` pairs, and `value` for a single word.
pub(crate) fn read(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [path] = rest[..] else {
        bail!("read-file: which file?");
    };
    machine.reply.clear();
    if let Some(bytes) = errno::expect(path, fs::read(path), fails)? {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        device::take(machine, &text);
        machine
            .reply
            .push(("value".to_owned(), text.trim().to_owned()));
    }
    Ok(())
}

/// `write-file PATH TEXT [fails=ERRNO]`.
pub(crate) fn write(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let Some((path, text)) = rest.split_first() else {
        bail!("write-file: which file?");
    };
    // Never truncated: sysfs has nothing to truncate, and one value is one write(2).
    let result = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.join(" ").as_bytes()));
    errno::expect(path, result, fails)?;
    Ok(())
}
