// SPDX-License-Identifier: GPL-2.0

//! Cursors: files of the key-value sample that LUO can preserve.

use super::device::{self, Room, Store};
use crate::{errno, memfd, words, Machine};
use anyhow::{bail, ensure, Context, Result};

/// `kv-cursor FILE PREFIX [count=N] [fails=ERRNO]`: before the first of the keys that begin so. `-` is the empty prefix.
pub(crate) fn open(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let ([count, fails], rest) = words::options(arguments, ["count", "fails"]);
    let [file, prefix] = rest[..] else {
        bail!("kv-cursor: FILE PREFIX [count=N]");
    };
    let prefix = if prefix == "-" { "" } else { prefix };
    let store = Store::open()?;
    for file in words::several(count, file)? {
        let made = store.cursor(prefix.as_bytes());
        if let Some(cursor) = errno::expect("kv-cursor", made, fails)? {
            machine.files.insert(file, cursor);
        }
    }
    Ok(())
}

/// `kv-next FILE COUNT`: takes so many records, which must be there.
pub(crate) fn next(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [file, count] = arguments else {
        bail!("kv-next: FILE COUNT");
    };
    let count: usize = count.parse().context("COUNT")?;
    let cursor = memfd::get(machine, file)?;
    let room = &mut Room::new();
    for taken in 0..count {
        let record = device::next(cursor, room)?;
        ensure!(record.is_some(), "the end after {taken} of {count} records");
    }
    Ok(())
}

/// `kv-same FILE OTHER PREFIX`: what is left for two cursors is the same; replies `rest`, how many records that is. Both are
/// at the end then.
pub(crate) fn same(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [file, other, prefix] = arguments else {
        bail!("kv-same: FILE OTHER PREFIX");
    };
    let (first, second) = (memfd::get(machine, file)?, memfd::get(machine, other)?);
    let room = &mut Room::new();
    let mut rest = 0u64;
    loop {
        let (one, two) = (device::next(first, room)?, device::next(second, room)?);
        ensure!(one == two, "record {rest} of the rest is not the same");
        let Some((key, _)) = one else {
            break;
        };
        ensure!(
            key.starts_with(prefix.as_bytes()),
            "{:?} does not begin with {prefix:?}",
            String::from_utf8_lossy(&key)
        );
        rest += 1;
    }
    machine.reply.clear();
    machine.reply.push(("rest".to_owned(), rest.to_string()));
    Ok(())
}
