// SPDX-License-Identifier: GPL-2.0

//! Entries of the run table of which one bit is wrong.

use kpreserve_kho::RunSer;

/// Refused entries that are tried in a survey: a few microseconds each, and a bound for a block
/// that is nothing but garbage.
const NR_TRIED_MAX: usize = 1024;

/// Finds out what damaged entries were.
pub(crate) struct Mender {
    nr_tried: usize,
}

impl Mender {
    /// Begins.
    pub(crate) fn new() -> Self {
        Self { nr_tried: 0 }
    }

    /// Returns what the entry at `place` was if its checksum is right, or would be with one bit of
    /// the entry changed; `None` if it would not, or if too many were tried.
    ///
    /// The checksum has 64 bits: what is returned is as good as verified. Nothing is written.
    pub(crate) fn know(&mut self, entry: RunSer, root_id: u64, place: u64) -> Option<RunSer> {
        let is_right = |entry: &RunSer| entry.check == entry.checksum(root_id, place);
        if is_right(&entry) {
            return Some(entry);
        }
        if self.nr_tried >= NR_TRIED_MAX {
            return None;
        }
        self.nr_tried += 1;
        let sum = entry.checksum(root_id, place);
        if (entry.check ^ sum).is_power_of_two() {
            return Some(RunSer {
                check: sum,
                ..entry
            });
        }
        (0..192).map(|bit| flipped(entry, bit)).find(is_right)
    }
}

/// Returns the entry with a bit of the fields before the checksum changed.
fn flipped(entry: RunSer, bit: u32) -> RunSer {
    let mut entry = entry;
    match bit {
        0..=63 => entry.phys_order ^= 1 << bit,
        64..=95 => entry.owner ^= 1 << (bit - 64),
        96..=127 => entry.index ^= 1 << (bit - 96),
        _ => entry.reserved ^= 1 << (bit & 63),
    }
    entry
}
