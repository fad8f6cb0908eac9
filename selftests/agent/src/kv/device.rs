// SPDX-License-Identifier: GPL-2.0

//! /dev/kpreserve-kv as samples/kv/uapi.rs describes it.

use anyhow::{bail, Context, Result};
use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, FromRawFd},
};

/// `struct kv_args`.
#[repr(C)]
#[derive(Default)]
struct Args {
    key: u64,
    key_len: u64,
    value: u64,
    value_len: u64,
    cursor: u64,
}

/// `struct kv_stats`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) records: u64,
    pub(crate) buckets: u64,
    pub(crate) heap_bytes: u64,
    pub(crate) heap_runs: u64,
}

const WRITE: u64 = 1;
const READ: u64 = 2;
const KV_SET: u64 = ioc::<Args>(WRITE, 1);
const KV_GET: u64 = ioc::<Args>(READ | WRITE, 2);
const KV_DELETE: u64 = ioc::<Args>(WRITE, 3);
const KV_STATS: u64 = ioc::<Stats>(READ, 4);
const KV_LIST: u64 = ioc::<Args>(READ | WRITE, 5);

/// As the macro `_IOC`.
const fn ioc<T>(direction: u64, number: u64) -> u64 {
    (direction << 30) | ((size_of::<T>() as u64) << 16) | ((b'K' as u64) << 8) | number
}

const KV_CURSOR: u64 = ioc::<Args>(WRITE, 6);
const KV_NEXT: u64 = ioc::<Args>(READ | WRITE, 7);

const KEY_ROOM: usize = 255;
const VALUE_ROOM: usize = 1 << 20;

fn ioctl<T>(file: &File, number: u64, argument: &mut T) -> io::Result<i32> {
    // SAFETY: the descriptor is open; `argument` is the struct that the ioctl takes, and the pointers in it are to
    // memory that is borrowed during the call (or, in `errors`, to none at all, which the kernel has to notice).
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number as _, argument) };
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes the next record of a cursor: its key and value; `None` at the end.
pub(crate) fn next(cursor: &File, room: &mut Room) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut key = [0u8; KEY_ROOM];
    let mut args = Args {
        key: key.as_mut_ptr() as u64,
        key_len: key.len() as u64,
        value: room.0.as_mut_ptr() as u64,
        value_len: room.0.len() as u64,
        cursor: 0,
    };
    match ioctl(cursor, KV_NEXT, &mut args) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        other => other?,
    };
    let key = key.get(..args.key_len as usize);
    let value = room.0.get(..args.value_len as usize);
    match (key, value) {
        (Some(key), Some(value)) => Ok(Some((key.to_vec(), value.to_vec()))),
        _ => Err(io::Error::other(
            "a record is longer than the kernel lets one be",
        )),
    }
}

/// Room for any value.
pub(crate) struct Room(Vec<u8>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(vec![0; VALUE_ROOM])
    }
}

/// The open device.
pub(crate) struct Store {
    file: File,
}

impl Store {
    /// Opens it: the kernel opens the store.
    pub(crate) fn open() -> Result<Self> {
        const PATH: &str = "/dev/kpreserve-kv";
        let file = OpenOptions::new().read(true).write(true).open(PATH);
        Ok(Self {
            file: file.context(PATH)?,
        })
    }

    fn ioctl<T>(&self, number: u64, argument: &mut T) -> io::Result<()> {
        ioctl(&self.file, number, argument).map(drop)
    }

    /// Makes a cursor.
    pub(crate) fn cursor(&self, prefix: &[u8]) -> io::Result<File> {
        let mut args = Args {
            key: prefix.as_ptr() as u64,
            key_len: prefix.len() as u64,
            ..Args::default()
        };
        let fd = ioctl(&self.file, KV_CURSOR, &mut args)?;
        // SAFETY: the kernel has just installed it for us.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.ioctl(
            KV_SET,
            &mut Args {
                key: key.as_ptr() as u64,
                key_len: key.len() as u64,
                value: value.as_ptr() as u64,
                value_len: value.len() as u64,
                cursor: 0,
            },
        )
    }

    /// Finds a value: the bytes of `room` that it fills. `room` is the caller's so that it need not be mapped anew each
    /// time, which takes an emulator longer than everything else.
    pub(crate) fn get<'a>(&self, key: &[u8], room: &'a mut Room) -> io::Result<&'a [u8]> {
        let room = &mut room.0;
        let mut args = Args {
            key: key.as_ptr() as u64,
            key_len: key.len() as u64,
            value: room.as_mut_ptr() as u64,
            value_len: room.len() as u64,
            cursor: 0,
        };
        self.ioctl(KV_GET, &mut args)?;
        room.get(..args.value_len as usize)
            .ok_or_else(|| io::Error::other("a value is longer than the kernel lets one be"))
    }

    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.ioctl(
            KV_DELETE,
            &mut Args {
                key: key.as_ptr() as u64,
                key_len: key.len() as u64,
                ..Args::default()
            },
        )
    }

    pub(crate) fn stats(&self) -> io::Result<Stats> {
        let mut stats = Stats::default();
        self.ioctl(KV_STATS, &mut stats)?;
        Ok(stats)
    }

    /// Shows each key and its value, until `show` returns false.
    pub(crate) fn for_each(&self, mut show: impl FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let mut key = [0u8; KEY_ROOM];
        let mut value = vec![0u8; VALUE_ROOM];
        let mut cursor = 0;
        loop {
            let mut args = Args {
                key: key.as_mut_ptr() as u64,
                key_len: key.len() as u64,
                value: value.as_mut_ptr() as u64,
                value_len: value.len() as u64,
                cursor,
            };
            match self.ioctl(KV_LIST, &mut args) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                other => other?,
            }
            cursor = args.cursor;
            let (key_len, value_len) = (args.key_len as usize, args.value_len as usize);
            let (Some(key), Some(value)) = (key.get(..key_len), value.get(..value_len)) else {
                return Err(io::Error::other(
                    "a record is longer than the kernel lets one be",
                ));
            };
            if !show(key, value) {
                return Ok(());
            }
        }
    }
}

/// Each way in which an ioctl fails; leaves a key `selftest` behind.
pub(crate) fn errors(store: &Store) -> Result<()> {
    let room = &mut Room::new();
    let long_key = vec![b'k'; KEY_ROOM + 1];
    let long_value = vec![b'v'; VALUE_ROOM + 1];
    let (longest_key, longest_value) = (&long_key[1..], &long_value[1..]);
    fails("an empty key", store.set(b"", b"v"), libc::EINVAL)?;
    fails("a long key", store.set(&long_key, b"v"), libc::E2BIG)?;
    fails("a long value", store.set(b"k", &long_value), libc::E2BIG)?;
    fails(
        "an unknown key",
        store.get(b"selftest/none", room).map(drop),
        libc::ENOENT,
    )?;
    fails("deleting it", store.delete(b"selftest/none"), libc::ENOENT)?;
    store
        .set(longest_key, longest_value)
        .context("the longest")?;
    if store.get(longest_key, room)? != longest_value {
        bail!("the longest record reads otherwise than it was set");
    }
    store.delete(longest_key)?;

    store.set(b"selftest", b"")?;
    if !store.get(b"selftest", room)?.is_empty() {
        bail!("an empty value is not empty");
    }
    store.set(b"selftest", b"12345")?;
    let mut little = [0u8; 4];
    let args = |key: u64, value: u64, value_len: u64| Args {
        key,
        key_len: 8,
        value,
        value_len,
        cursor: 0,
    };
    let key = b"selftest".as_ptr() as u64;
    let mut small = args(key, little.as_mut_ptr() as u64, 4);
    fails("no room", store.ioctl(KV_GET, &mut small), libc::ENOSPC)?;
    if small.value_len != 5 {
        bail!(
            "the length that it takes: expected 5, found {}",
            small.value_len
        );
    }
    let nowhere = 8;
    fails(
        "bad key",
        store.ioctl(KV_SET, &mut args(nowhere, key, 5)),
        libc::EFAULT,
    )?;
    fails(
        "bad value",
        store.ioctl(KV_SET, &mut args(key, nowhere, 5)),
        libc::EFAULT,
    )?;
    fails(
        "bad room",
        store.ioctl(KV_GET, &mut args(key, nowhere, 5)),
        libc::EFAULT,
    )?;
    fails(
        "no such ioctl",
        store.ioctl(ioc::<u64>(READ, 77), &mut 0u64),
        libc::ENOTTY,
    )?;
    let mut beyond = args(key, key, 0);
    beyond.cursor = u64::MAX;
    fails(
        "end of the list",
        store.ioctl(KV_LIST, &mut beyond),
        libc::ENOENT,
    )?;
    if store.get(b"selftest", room)? != b"12345" {
        bail!("a failed ioctl changed a value");
    }
    match OpenOptions::new().read(true).open("/dev/kpreserve-kv") {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => bail!("a second open: expected EBUSY, got {other:?}"),
    }
}

fn fails(what: &str, result: io::Result<()>, errno: i32) -> Result<()> {
    let found = result.err().and_then(|error| error.raw_os_error());
    if found != Some(errno) {
        bail!("{what}: expected errno {errno}, found {found:?}");
    }
    Ok(())
}
