// SPDX-License-Identifier: GPL-2.0

//! Steps of the key-value sample.

pub(crate) mod cursor;
mod device;
mod stanza;

use crate::{words, Machine};
use anyhow::{bail, ensure, Context, Result};
use device::{Room, Store};
use sha2::{Digest, Sha256};
use std::{collections::HashSet, fs, sync::mpsc, thread, time::Instant};

/// Keys that `kv-churn` adds begin so; their values are the SHA-256 of the key.
const CHURN: &str = "churn/";

/// SHA-256 of a key, then SHA-256 of its value.
type Digests = [u8; 64];

/// `kv-load FILE`: sets the key and the text of each stanza of a package index.
pub(crate) fn load(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [path] = arguments else {
        bail!("kv-load: which file?");
    };
    let text = fs::read(path).with_context(|| path.clone())?;
    let store = Store::open()?;
    let started = Instant::now();
    let (mut count, mut bytes) = (0u64, 0);
    for stanza in stanza::all(&text) {
        let key = stanza::key(stanza)
            .with_context(|| format!("stanza {count} of {path} lacks a field"))?;
        store
            .set(key.as_bytes(), stanza)
            .with_context(|| format!("setting {key}"))?;
        count += 1;
        bytes += key.len() + stanza.len();
    }
    machine.reply.clear();
    reply(machine, "load_ns", started.elapsed().as_nanos());
    reply(machine, "loaded", count);
    reply(machine, "value_bytes", bytes);
    stats(machine, &store)?;
    expect(machine, "records", count)
}

/// `kv-verify FILE [extra=N]`: FILE holds the digests of all that must be in the store, N records of `kv-churn` apart.
pub(crate) fn verify(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (extra, rest) = words::option(arguments, "extra");
    let extra: u64 = extra.unwrap_or("0").parse().context("extra")?;
    let [path] = rest[..] else {
        bail!("kv-verify: which file?");
    };
    let digests = fs::read(path).with_context(|| path.to_owned())?;
    let mut expected: HashSet<Digests> = digests
        .chunks(64)
        .map(Digests::try_from)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{path} ends in the middle of a digest"))?;
    let expected_count = expected.len();

    let opening = Instant::now();
    let store = Store::open()?;
    let open_ns = opening.elapsed().as_nanos();
    let started = Instant::now();
    // One thread asks the kernel, the other hashes.
    let mut churned = 0u64;
    thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = mpsc::sync_channel(256);
        let store = &store;
        let lister = scope.spawn(move || {
            store.for_each(|key, value| sender.send((key.to_vec(), value.to_vec())).is_ok())
        });
        for (key, value) in receiver {
            let mut digests = [0; 64];
            digests[..32].copy_from_slice(&Sha256::digest(&key));
            digests[32..].copy_from_slice(&Sha256::digest(&value));
            if key.starts_with(CHURN.as_bytes()) {
                ensure!(
                    value == digests[..32],
                    "{}: not the value that was set",
                    String::from_utf8_lossy(&key)
                );
                churned += 1;
            } else if !expected.remove(&digests) {
                bail!(
                    "{}: key or value is not what it was before (or it is there twice)",
                    String::from_utf8_lossy(&key)
                );
            }
        }
        lister
            .join()
            .map_err(|_| anyhow::anyhow!("the lister panicked"))??;
        Ok(())
    })?;
    ensure!(
        expected.is_empty(),
        "{} records are missing",
        expected.len()
    );
    ensure!(
        churned == extra,
        "{churned} records of kv-churn, expected {extra}"
    );
    machine.reply.clear();
    reply(machine, "open_ns", open_ns);
    reply(machine, "verify_ns", started.elapsed().as_nanos());
    reply(machine, "verified", expected_count as u64 + churned);
    stats(machine, &store)?;
    expect(machine, "records", expected_count as u64 + extra)
}

/// `kv-churn KTH COUNT`: takes each KTH record out and sets it anew, adds 2 * COUNT records and deletes half of them.
pub(crate) fn churn(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [kth, count] = arguments else {
        bail!("kv-churn: expected KTH COUNT");
    };
    let kth: usize = kth.parse().context("KTH")?;
    let count: usize = count.parse().context("COUNT")?;
    let store = Store::open()?;
    let room = &mut Room::new();
    let mut records = Vec::new();
    let mut number = 0;
    store.for_each(|key, value| {
        if number % kth == 0 {
            records.push((key.to_vec(), value.to_vec()));
        }
        number += 1;
        true
    })?;
    let before = store.stats()?;
    // Other keys each time.
    let prefix = format!("{CHURN}{}/{}/", machine.plan.generation, before.records);
    for (key, _) in &records {
        store.delete(key)?;
    }
    for (key, _) in &records {
        gone(&store, key, room)?;
    }
    for (key, value) in &records {
        store.set(key, value)?;
        ensure!(
            store.get(key, room)? == value,
            "a record reads otherwise than it was set"
        );
    }
    for number in 0..2 * count {
        let key = format!("{prefix}{number}");
        // The first value is replaced: the place of a record in its chain is taken by another.
        store.set(key.as_bytes(), b"")?;
        store.set(key.as_bytes(), &Sha256::digest(key.as_bytes()))?;
    }
    for number in (0..2 * count).step_by(2) {
        let key = format!("{prefix}{number}");
        store.delete(key.as_bytes())?;
        gone(&store, key.as_bytes(), room)?;
    }
    machine.reply.clear();
    reply(machine, "replaced", records.len());
    reply(machine, "added", count);
    reply(machine, "heap_bytes_before", before.heap_bytes);
    stats(machine, &store)?;
    expect(machine, "records", before.records + count as u64)
}

/// `kv-errors`: each way in which an ioctl fails.
pub(crate) fn errors(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let store = Store::open()?;
    let before = store.stats()?;
    device::errors(&store)?;
    store.delete(b"selftest")?;
    stats(machine, &store)?;
    expect(machine, "records", before.records)
}

fn gone(store: &Store, key: &[u8], room: &mut Room) -> Result<()> {
    match store.get(key, room) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => bail!("a deleted key: expected ENOENT, got {other:?}"),
    }
}

fn stats(machine: &mut Machine, store: &Store) -> Result<()> {
    let stats = store.stats()?;
    reply(machine, "records", stats.records);
    reply(machine, "buckets", stats.buckets);
    reply(machine, "heap_bytes", stats.heap_bytes);
    reply(machine, "heap_runs", stats.heap_runs);
    Ok(())
}

fn reply(machine: &mut Machine, key: &str, value: impl ToString) {
    let value = value.to_string();
    machine.report.note(&format!("{key}={value}"));
    machine.reply.push((key.to_owned(), value));
}

/// Compares a figure of the reply.
fn expect(machine: &Machine, key: &str, expected: u64) -> Result<()> {
    let found = machine.reply.iter().rev().find(|(k, _)| k == key);
    let found = found.map(|(_, value)| value.as_str());
    if found != Some(expected.to_string().as_str()) {
        bail!("{key}: expected {expected}, found {found:?}");
    }
    Ok(())
}
