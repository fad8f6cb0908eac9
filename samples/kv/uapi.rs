// SPDX-License-Identifier: GPL-2.0

//! The ioctl interface of /dev/kpreserve-kv.
//!
//! ```c
//! struct kv_args {
//!         __u64 key;              /* pointer */
//!         __u64 key_len;          /* bytes, 1 to 255 */
//!         __u64 value;            /* pointer */
//!         __u64 value_len;        /* bytes, up to 1 MiB */
//!         __u64 cursor;
//! };
//!
//! struct kv_stats {
//!         __u64 nr_records;
//!         __u64 nr_buckets;
//!         __u64 heap_bytes;
//!         __u64 nr_heap_runs;
//! };
//!
//! #define KV_SET          _IOW('K', 1, struct kv_args)
//! #define KV_GET          _IOWR('K', 2, struct kv_args)
//! #define KV_DELETE       _IOW('K', 3, struct kv_args)
//! #define KV_STATS        _IOR('K', 4, struct kv_stats)
//! #define KV_LIST         _IOWR('K', 5, struct kv_args)
//! #define KV_CURSOR       _IOW('K', 6, struct kv_args)
//! #define KV_NEXT         _IOWR('K', 7, struct kv_args)    /* of a cursor */
//! ```
//!
//! | ioctl | reads | writes |
//! | --- | --- | --- |
//! | `KV_SET` | key, value | |
//! | `KV_GET` | key | `*value`; `value_len`: in, room; out, length |
//! | `KV_DELETE` | key | |
//! | `KV_LIST` | `cursor`, 0 for the first | `*key`, `*value`; both lengths as above; the next `cursor` |
//! | `KV_CURSOR` | key: a prefix, up to 48 bytes | returns a descriptor, which LUO can preserve |
//! | `KV_NEXT` | | `*key`, `*value`; both lengths as above; the descriptor has the cursor |
//!
//! | errno | when |
//! | --- | --- |
//! | EINVAL | an empty key |
//! | E2BIG | a key or a value that is too long |
//! | ENOENT | no such key; the end of the list |
//! | ENOSPC | no room at `key` or `value`: the lengths say how much it takes |
//! | EFAULT | a bad pointer |
//! | ENOMEM, EBUSY | no memory; no more changes of structure, the machine is rebooting |
//! | EIO | the store is damaged |
//! | EOPNOTSUPP | a cursor, and the Live Update Orchestrator is off |
//! | EMFILE | no descriptor left |
//! | ENOTTY | another ioctl |

use kernel::ioctl::{
    _IOR,
    _IOW,
    _IOWR, //
};
use kernel::prelude::*;
use kernel::uaccess::UserSlice;

use crate::abi::RecordSer;
use crate::store::{
    Store,
    KEY_LEN_MAX,
    VALUE_LEN_MAX, //
};

/// `struct kv_args`, its fields in order.
type Args = [u64; 5];

/// `struct kv_stats`, its fields in order.
type StatsOut = [u64; 4];

const KV: u32 = b'K' as u32;
const KV_SET: u32 = _IOW::<Args>(KV, 1);
const KV_GET: u32 = _IOWR::<Args>(KV, 2);
const KV_DELETE: u32 = _IOW::<Args>(KV, 3);
const KV_STATS: u32 = _IOR::<StatsOut>(KV, 4);
const KV_LIST: u32 = _IOWR::<Args>(KV, 5);
#[cfg(CONFIG_KPRESERVE_LUO)]
pub(crate) const KV_CURSOR: u32 = _IOW::<Args>(KV, 6);
#[cfg(CONFIG_KPRESERVE_LUO)]
const KV_NEXT: u32 = _IOWR::<Args>(KV, 7);

/// Does what an ioctl asks for.
///
/// # Errors
///
/// As the table above says.
pub fn ioctl(store: &mut Store, cmd: u32, arg: usize) -> Result<isize> {
    match cmd {
        KV_SET => set(store, arg)?,
        KV_GET => get(store, arg)?,
        KV_DELETE => delete(store, arg)?,
        KV_STATS => stats(store, arg)?,
        KV_LIST => list(store, arg)?,
        _ => return Err(ENOTTY),
    }
    Ok(0)
}

fn set(store: &mut Store, arg: usize) -> Result {
    let [key, key_len, value, value_len, _] = read_args(arg)?;
    let key = read_bytes(key, key_len, KEY_LEN_MAX)?;
    let value = read_bytes(value, value_len, VALUE_LEN_MAX)?;
    store.set(&key, &value)
}

fn get(store: &Store, arg: usize) -> Result {
    let [key, key_len, value, value_len, cursor] = read_args(arg)?;
    let bytes = read_bytes(key, key_len, KEY_LEN_MAX)?;
    let record = store.get(&bytes)?;
    write_args(
        arg,
        [key, key_len, value, u64::from(record.value_len), cursor],
    )?;
    write_bytes(value, value_len, record.value_len, |show| {
        store.value(&record, show)
    })
}

fn delete(store: &mut Store, arg: usize) -> Result {
    let [key, key_len, ..] = read_args(arg)?;
    let key = read_bytes(key, key_len, KEY_LEN_MAX)?;
    store.delete(&key)
}

fn stats(store: &Store, arg: usize) -> Result {
    let stats = store.stats();
    let out: StatsOut = [
        stats.nr_records,
        stats.nr_buckets,
        stats.heap_bytes,
        stats.nr_heap_runs,
    ];
    UserSlice::new(UserPtr::from_addr(arg), size_of::<StatsOut>())
        .writer()
        .write(&out)
}

fn list(store: &Store, arg: usize) -> Result {
    let args @ [.., cursor] = read_args(arg)?;
    let (record, next) = store.list(cursor)?;
    show(store, &record, arg, args, next)
}

/// Makes a cursor.
///
/// # Errors
///
/// As the table above says.
#[cfg(CONFIG_KPRESERVE_LUO)]
pub(crate) fn open_cursor(arg: usize) -> Result<isize> {
    let [prefix, prefix_len, ..] = read_args(arg)?;
    let prefix = read_bytes(prefix, prefix_len, crate::abi::PREFIX_LEN_MAX)?;
    Ok(crate::cursor::Cursor::open(&prefix)? as isize)
}

/// Does what an ioctl of a cursor asks for.
///
/// # Errors
///
/// As the table above says.
#[cfg(CONFIG_KPRESERVE_LUO)]
pub(crate) fn cursor_ioctl(cursor: &crate::cursor::Cursor, cmd: u32, arg: usize) -> Result<isize> {
    if cmd != KV_NEXT {
        return Err(ENOTTY);
    }
    let args = read_args(arg)?;
    cursor.next(|store, record| show(store, record, arg, args, 0))?;
    Ok(0)
}

/// Writes a record to where user space has room; returns ENOSPC, with the lengths written, if it has not.
fn show(store: &Store, record: &RecordSer, arg: usize, args: Args, next: u64) -> Result {
    let [key, key_room, value, value_room, cursor] = args;
    let fits = u64::from(record.key_len) <= key_room && u64::from(record.value_len) <= value_room;
    write_args(
        arg,
        [
            key,
            record.key_len.into(),
            value,
            record.value_len.into(),
            if fits { next } else { cursor },
        ],
    )?;
    write_bytes(key, key_room, record.key_len, |show| {
        store.key(record, show)
    })?;
    write_bytes(value, value_room, record.value_len, |show| {
        store.value(record, show)
    })
}

fn read_args(arg: usize) -> Result<Args> {
    UserSlice::new(UserPtr::from_addr(arg), size_of::<Args>())
        .reader()
        .read()
}

fn write_args(arg: usize, args: Args) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), size_of::<Args>())
        .writer()
        .write(&args)
}

fn read_bytes(at: u64, len: u64, len_max: usize) -> Result<KVVec<u8>> {
    let len = usize::try_from(len).map_err(|_| E2BIG)?;
    if len > len_max {
        return Err(E2BIG);
    }
    let mut bytes = KVVec::new();
    UserSlice::new(UserPtr::from_addr(at as usize), len).read_all(&mut bytes, GFP_KERNEL)?;
    Ok(bytes)
}

/// Writes the `len` bytes that `show_all` shows to `at`, where there is room for `room` bytes.
fn write_bytes(
    at: u64,
    room: u64,
    len: u32,
    show_all: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result) -> Result,
) -> Result {
    if u64::from(len) > room {
        return Err(ENOSPC);
    }
    let mut writer = UserSlice::new(UserPtr::from_addr(at as usize), len as usize).writer();
    show_all(&mut |piece| writer.write_slice(piece))
}
