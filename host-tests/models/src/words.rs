// SPDX-License-Identifier: GPL-2.0

//! slab/words.rs, alone.

use std::sync::Arc;

use kernel::models::{
    begin,
    exclusive,
    spawn,
    Bug,
    Size, //
};
use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Relaxed,
    Release, //
};
use kpreserve_slab::dry::Dry;
use kpreserve_slab::words::{
    self,
    Taken,
    Words, //
};

use crate::world::{
    catches,
    holds, //
};

struct Row(Atomic<u64>);

impl Row {
    fn new(bits: u64) -> Arc<Self> {
        Arc::new(Row(Atomic::new(bits)))
    }

    fn bits(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Words for Row {
    fn get(&self, word: u32) -> Option<&Atomic<u64>> {
        (word == 0).then_some(&self.0)
    }

    fn len(&self) -> u32 {
        1
    }
}

const SIZE: Size = Size {
    nr_atomics: 8,
    nr_cells: 8,
};

/// Uses the slots that were taken, each by its owner only.
fn use_slots(mut taken: Taken) -> u64 {
    let mut used = 0;
    while let Some(slot) = taken.pop() {
        // The address of its bytes, so to say.
        exclusive(0x1000 + slot as usize);
        used |= 1 << slot;
    }
    used
}

/// One gives back what it used, one takes all, one takes up to two.
fn refill_against_give_back() {
    let row = Row::new(!0b111);
    let given = words::take_some(&*row, 0, 2).unwrap();
    assert_eq!(given.len(), 2);
    let phase = begin(SIZE);
    for slot in 0..3 {
        exclusive(0x1000 + slot);
    }
    let giver = spawn({
        let row = row.clone();
        move || {
            for slot in 0..2 {
                exclusive(0x1000 + slot);
            }
            assert_eq!(words::give_back(&*row, given), Ok(()));
        }
    });
    let taker = spawn({
        let row = row.clone();
        move || words::take(&*row, 0).map_or(0, use_slots)
    });
    let some = words::take_some(&*row, 0, 2).map_or(0, use_slots);
    giver.join().unwrap();
    let all = taker.join().unwrap();
    drop(phase);
    let free = !row.bits();
    assert_eq!(some & all | all & free | some & free, 0, "two owners");
    assert_eq!(some | all | free, 0b111, "a slot is lost");
}

#[test]
fn a_word_loses_no_slot() {
    holds("refill against give-back", 3, refill_against_give_back);
}

#[test]
fn catches_give_back_without_order() {
    catches(Some(Bug::Cmpxchg), "Causality", 3, refill_against_give_back);
}

#[test]
fn catches_take_without_order() {
    catches(Some(Bug::Xchg), "Causality", 3, refill_against_give_back);
}

/// What is given back twice, at once, is refused once.
fn give_back_against_give_back() {
    let row = Row::new(!0b11);
    let first = words::take_some(&*row, 0, 1).unwrap();
    // A forged one, as a bug elsewhere would have it.
    let other = Row::new(!0b11);
    let second = words::take_some(&*other, 0, 1).unwrap();
    let phase = begin(SIZE);
    let task = spawn({
        let row = row.clone();
        move || words::give_back(&*row, first)
    });
    let mine = words::give_back(&*row, second);
    let other = task.join().unwrap();
    drop(phase);
    assert!(mine.is_ok() != other.is_ok());
    assert_eq!(row.bits(), !0b11);
}

#[test]
fn a_slot_goes_back_once() {
    holds("give-back twice", 3, give_back_against_give_back);
}

#[test]
fn catches_give_back_that_is_torn() {
    // Loom's atomics cannot be torn; shuttle tears them in `mix`. Here the giver does.
    catches(None, "a slot is lost", 3, || {
        let row = Row::new(u64::MAX);
        let phase = begin(SIZE);
        let give = |row: &Row, bit: u64| row.0.store(row.0.load(Acquire) & !bit, Release);
        let task = spawn({
            let row = row.clone();
            move || give(&row, 1)
        });
        give(&row, 2);
        task.join().unwrap();
        drop(phase);
        assert_eq!(row.bits(), !0b11, "a slot is lost");
    });
}

/// Who finds a slab full notes so while the last slot comes back. `look` is the real one, or not.
fn full_against_free(note_full: fn(&Row, &Row)) {
    let (full, occupancy) = (Row::new(0), Row::new(!1));
    let last = words::take(&*occupancy, 0).unwrap();
    let phase = begin(SIZE);
    let giver = spawn({
        let (full, occupancy) = (full.clone(), occupancy.clone());
        move || {
            assert_eq!(words::give_back(&*occupancy, last), Ok(()));
            words::note_free(&*full, 0);
        }
    });
    let taken = words::take(&*occupancy, 0);
    if taken.is_none() {
        note_full(&full, &occupancy);
    }
    giver.join().unwrap();
    drop(phase);
    if taken.is_none() {
        assert_eq!(occupancy.bits(), !1);
        assert_eq!(full.bits(), 0, "a slab with a free slot is noted as full");
    }
}

fn note_full(full: &Row, occupancy: &Row) {
    let _ = words::note_full(full, 0, occupancy);
}

#[test]
fn a_slab_with_a_free_slot_is_not_full() {
    holds("noting that a slab is full", 3, || {
        full_against_free(note_full)
    });
}

#[test]
fn catches_full_without_order() {
    catches(Some(Bug::Cmpxchg), "noted as full", 3, || {
        full_against_free(note_full)
    });
}

#[test]
fn catches_full_without_a_second_look() {
    catches(None, "noted as full", 3, || {
        full_against_free(|full, _| {
            words::set(full, 0);
        })
    });
}

/// Two slabs that are noted as full; a slot comes back to one while a search goes through both.
/// What the search leaves is void, unless there is no free slot.
fn dry_against_free(gives: fn(&Row, &Dry)) {
    let (dry, full, occupancy) = (
        Arc::new(Dry::new()),
        Row::new(0b11),
        [Row::new(!1), Row::new(!0)],
    );
    let slot = words::take(&*occupancy[0], 0).unwrap();
    let phase = begin(SIZE);
    let giver = spawn({
        let (dry, full, occupancy) = (dry.clone(), full.clone(), occupancy[0].clone());
        move || {
            assert_eq!(words::give_back(&*occupancy, slot), Ok(()));
            gives(&full, &dry);
        }
    });
    let (nr_reopened, _) = dry.look();
    let found = (0..2).find_map(|slab| {
        if words::test(&*full, slab) {
            return None;
        }
        words::take(&*occupancy[slab as usize], 0)
    });
    if found.is_none() {
        dry.note_dry(nr_reopened);
    }
    giver.join().unwrap();
    drop(phase);
    let (_, is_dry) = dry.look();
    let is_free = occupancy[0].bits() != !0;
    assert!(!is_dry || !is_free, "a free slot is forgotten");
}

#[test]
fn a_cache_with_a_free_slot_is_not_dry() {
    holds("a search against give-back", 4, || {
        dry_against_free(|full, dry| {
            if words::note_free(full, 0) {
                dry.note_reopened();
            }
        })
    });
}

#[test]
fn catches_dryness_noted_before_the_slab_is_open() {
    catches(None, "a free slot is forgotten", 4, || {
        dry_against_free(|full, dry| {
            dry.note_reopened();
            words::note_free(full, 0);
        })
    });
}

#[test]
fn catches_dryness_that_nothing_ends() {
    catches(None, "a free slot is forgotten", 4, || {
        dry_against_free(|full, _| {
            words::note_free(full, 0);
        })
    });
}

/// One claims, frees, and parks another object in the slot; one has an old handle.
fn claim_against_reuse(looks_twice: bool) {
    let unclaimed = Row::new(1);
    let tag = Arc::new(Atomic::<i32>::new(1));
    let phase = begin(SIZE);
    let claimer = spawn({
        let (unclaimed, tag) = (unclaimed.clone(), tag.clone());
        move || {
            let check = || match tag.load(Acquire) {
                1 => Ok(()),
                _ => Err(ESTALE),
            };
            let won = words::claim(&*unclaimed, 0, check).is_ok();
            if won {
                exclusive(0x1000);
                tag.store(2, Release);
                tag.store(3, Release);
                words::set(&*unclaimed, 0);
            }
            won
        }
    });
    let nr_looks = core::cell::Cell::new(0);
    let mine = words::claim(&*unclaimed, 0, || {
        nr_looks.set(nr_looks.get() + 1);
        match tag.load(Acquire) {
            1 => Ok(()),
            _ if nr_looks.get() == 2 && !looks_twice => Ok(()),
            _ => Err(ESTALE),
        }
    });
    if mine.is_ok() {
        exclusive(0x1000);
        assert_eq!(tag.load(Acquire), 1, "claimed what the handle is not of");
    }
    let other = claimer.join().unwrap();
    drop(phase);
    assert!(mine.is_ok() != other, "one of the two has it");
    // Who gave it up again has left it claimable.
    assert_eq!(unclaimed.bits(), u64::from(other));
}

#[test]
fn a_stale_handle_claims_nothing() {
    holds("claim against reuse", 3, || claim_against_reuse(true));
}

#[test]
fn catches_claim_without_a_second_look() {
    catches(None, "claimed what", 3, || claim_against_reuse(false));
}

#[test]
fn catches_claim_without_order() {
    catches(Some(Bug::Cmpxchg), "Causality", 3, || {
        claim_against_reuse(true)
    });
}
