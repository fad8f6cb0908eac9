// SPDX-License-Identifier: GPL-2.0

//! Records of changes that the previous kernel cannot have meant.

use kernel::prelude::*;
use kpreserve_kho::Ledger;
use kpreserve_vmalloc::abi::RedoSer;
use kpreserve_vmalloc::{
    Area,
    RawArea, //
};
use zerocopy::IntoBytes;

use crate::common::{
    contents,
    Boot, //
};

const LEN: usize = 700;
const CAPACITY: u64 = 3 * 1024;

/// An area of 700 elements of 4 bytes in three runs of a page, with `record` at element `place`,
/// and `pending` in its descriptor.
fn with_record(place: usize, mut record: RedoSer, pending: u64) -> Boot {
    let boot = Boot::with(256, 2);
    let mut area = boot.vec::<u32>(1);
    for _ in 0..3 {
        area.extend_zeroed(1024).unwrap();
    }
    assert_eq!((area.nr_runs(), area.capacity() as u64), (3, CAPACITY));
    for (n, word) in record.as_mut_bytes().chunks_exact(4).enumerate() {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        if place + n < area.len() {
            area.set(place + n, word).unwrap();
        }
    }
    for n in 0..LEN {
        area.set(n, n as u32).unwrap();
    }
    drop(area);
    boot.ser(1).len.store(LEN as u64);
    boot.ser(1).pending.store(pending);
    boot.reboot()
}

fn record(boot_place: u64, dst: u64, src: u64, nr: u64, len: u64) -> RedoSer {
    // The generation is what `Boot` gives, the root the ledger's.
    let root_id = Boot::first().ledger.root_id();
    let mut ser = RedoSer {
        dst,
        src,
        nr,
        len,
        check: 0,
    };
    ser.check = ser.checksum(root_id, 1, 3, boot_place);
    ser
}

#[test]
fn a_record_that_makes_sense_is_done() {
    // 600..700 are copied down to 3..103, and are gone then.
    let record = record(2000, 3, 600, 100, 600);
    let boot = with_record(2000, record, 2001);
    let area = Area::<u32>::from_arena(boot.arena(1), boot.ser(1)).unwrap();
    let found = contents(&area);
    assert_eq!(found.len(), 600);
    assert!((0..600).all(|n| found[n] as usize == if (3..103).contains(&n) { n + 597 } else { n }));
    assert_eq!(boot.ser(1).pending.load(), 0);
}

fn refused(complaint: &str, place: usize, record: RedoSer, pending: u64) {
    let boot = with_record(place, record, pending);
    let _ = kernel::print::take_complaints();
    let held = boot.held();
    let result = RawArea::new(boot.arena(1), boot.ser(1));
    assert_eq!(result.err(), Some(EINVAL), "{complaint}");
    let log = kernel::print::take_complaints();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].contains(complaint), "{log:?}");
    // Nothing was touched: it is carried on as it is.
    assert_eq!(boot.nr_closed(1), 3);
    assert_eq!(boot.held(), held);
    assert_eq!(boot.ser(1).pending.load(), pending);
    assert_eq!(boot.ser(1).len.load(), LEN as u64);
    boot.ser(1).pending.store(0);
    let area = Area::<u32>::from_arena(boot.arena(1), boot.ser(1)).unwrap();
    assert!(area.iter().copied().eq(0..LEN as u32), "{complaint}");
}

#[test]
fn a_hostile_pending_word_is_refused() {
    let good = record(2000, 3, 600, 100, 600);
    let at = "ArenaSer at 0x1: pending is ";
    // Beyond the runs; and beyond all numbers.
    refused(
        &std::format!("{at}0xc01, expected at most 0xc00"),
        2000,
        good,
        CAPACITY + 1,
    );
    refused(
        &std::format!("{at}0xffffffffffffffff"),
        2000,
        good,
        u64::MAX,
    );
    // No run has the whole record: the first, the last.
    refused(
        &std::format!("{at}0x3f8, expected at most 0x3f7"),
        1015,
        good,
        1016,
    );
    refused(
        &std::format!("{at}0xc00, expected at most 0xbf7"),
        3071,
        good,
        3072,
    );
    // Elements are taken for a record; so is nothing.
    refused("RedoSer at 0x5: check is ", 2000, good, 6);
    refused("RedoSer at 0x3e8: check is 0x0", 2000, good, 1001);
    // It stands among the elements that there will be.
    let over = record(990, 0, 1000, 995, 995);
    refused(
        "ArenaSer at 0x1: pending is 0x3df, expected at least 0x3e4",
        990,
        over,
        991,
    );
}

#[test]
fn a_hostile_record_is_refused() {
    let at = 2000;
    let hostile =
        |complaint: &str, record: RedoSer| refused(complaint, at as usize, record, at + 1);
    hostile(
        "RedoSer at 0x7d0: len is 0xc01, expected at most 0xc00",
        record(at, 0, 2500, 1, CAPACITY + 1),
    );
    hostile("src is 0xffffffffffffffff", record(at, 0, u64::MAX, 1, 600));
    hostile(
        "nr is 0xffffffffffffffff, expected at most 0x9a8",
        record(at, 0, 600, u64::MAX, 600),
    );
    hostile(
        "nr is 0x9a9, expected at most 0x9a8",
        record(at, 0, 600, 2473, 600),
    );
    hostile(
        "dst is 0xffffffffffffffff",
        record(at, u64::MAX, 600, 1, 600),
    );
    hostile(
        "dst is 0x1f5, expected at most 0x1f4",
        record(at, 501, 600, 100, 600),
    );
    hostile(
        "len is 0x2bd, expected at most 0x2bc",
        record(at, 3, 710, 100, 701),
    );
    hostile(
        "dst is 0x2bd, expected at most 0x2bc",
        record(at, 701, 1000, 5, 706),
    );
    // Another arena's, another place's, one bit of damage.
    let good = record(at, 3, 600, 100, 600);
    hostile("check is", record(at + 1, 3, 600, 100, 600));
    hostile("check is", RedoSer { nr: 99, ..good });
    let mut other = good;
    other.check = other.checksum(Boot::first().ledger.root_id(), 2, 3, at);
    hostile("check is", other);
    other.check = other.checksum(Boot::first().ledger.root_id(), 1, 2, at);
    hostile("check is", other);
}

#[test]
fn more_than_can_be_sorted_stays() {
    // The indices of so many would take more than the kernel allocates at once without a warning.
    let boot = Boot::with(68_000, 10);
    let mut vec = boot.vec::<u8>(1);
    vec.extend_zeroed(1 << 28).unwrap();
    vec.set(0, 1).unwrap();
    assert_eq!(vec.sort_by_key(|&byte| byte), Err(ENOMEM));
    assert_eq!((vec.len(), vec.get(0)), (1 << 28, Some(&1)));
    // In order, it needs none.
    vec.truncate(3).unwrap();
    assert_eq!(vec.sort_by_key(|&byte| byte), Ok(()));
    assert_eq!(vec.get(2), Some(&1));
}
