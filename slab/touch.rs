// SPDX-License-Identifier: GPL-2.0

//! Taking a slab into use: lazily, when it is first touched.
//!
//! ```text
//!   state        header   words        free slots   left by
//!   Untouched    unread   zero         unknown      prepare(), touch()
//!   Dirty        checked  from tags    unknown      prepare(), which scrubs them
//!   Ready        checked  from tags    zeros
//!   Quarantined  refused, or a slot was given back twice. For ever, in this boot
//! ```
//!
//! The state shares a word with a lock bit and with the opening of the cache that the `incoming`
//! bits are of. The lock is held pinned, and briefly. Allocation never waits for it (it goes to
//! another slab), so allocating and freeing from an interrupt are fine; claiming, parking,
//! iterating and finishing wait, and are for tasks.

use kernel::prelude::*;
use kernel::processor::cpu_relax;
use kernel::sync::atomic::{
    Atomic,
    Full,
    Release, //
};

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::refusal::Relation;
use kpreserve_kho::{
    Pinned,
    Refusal, //
};

use crate::abi::{
    SlabSer,
    MAGIC, //
};
use crate::raw::RawCache;
use crate::slots::Slab;
use crate::words::{
    self,
    Words, //
};

const UNTOUCHED: u64 = 0;
const DIRTY: u64 = 1;
const READY: u64 = 2;
const QUARANTINED: u64 = 3;
const STATE_MASK: u64 = 3;
const LOCKED: u64 = 1 << 8;
const EPOCH_SHIFT: u32 = 32;

/// Refusals of a cache's slabs that are logged one by one.
const NR_REPORTED_MAX: u32 = 8;

/// What a touched slab is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Touched {
    /// It holds no object, and never did.
    Unformatted,
    /// Its words say what is in it.
    Known,
}

/// A locked slab; what is given back is its state.
struct Locked<'a> {
    meta: &'a Atomic<u64>,
    state: u64,
    epoch: u32,
    /// Dropped last.
    _pinned: Pinned<'a>,
}

impl<'a> Locked<'a> {
    /// Locks a slab that was `seen`; `None` if it is not like that any more.
    fn try_new(cache: &'a RawCache, meta: &'a Atomic<u64>, seen: u64) -> Option<Self> {
        let pinned = Pinned::new(cache.machine());
        if seen & LOCKED != 0 || meta.cmpxchg(seen, seen | LOCKED, Full).is_err() {
            return None;
        }
        Some(Self {
            meta,
            state: seen & STATE_MASK,
            epoch: (seen >> EPOCH_SHIFT) as u32,
            _pinned: pinned,
        })
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let mut seen = self.meta.load_relaxed();
        loop {
            // Quarantine does not wait for the lock, and is not undone.
            let state = if seen & STATE_MASK == QUARANTINED {
                QUARANTINED
            } else {
                self.state
            };
            let next = state | (u64::from(self.epoch) << EPOCH_SHIFT);
            match self.meta.cmpxchg(seen, next, Full) {
                Ok(_) => break,
                Err(other) => seen = other,
            }
        }
    }
}

impl RawCache {
    /// Makes sure that the words of a slab say what is in it, and that its `incoming` bits are of
    /// this opening. For tasks.
    ///
    /// # Errors
    ///
    /// EINVAL if the slab is quarantined.
    pub(crate) fn touch(&self, slab: &Slab<'_>) -> Result<Touched> {
        let meta = slab.meta().ok_or(EINVAL)?;
        loop {
            let seen = meta.load_acquire();
            let state = seen & STATE_MASK;
            let epoch = self.epoch();
            if state == QUARANTINED {
                return Err(EINVAL);
            }
            if state == UNTOUCHED && (!slab.is_inherited() || slab.magic() == 0) {
                return Ok(Touched::Unformatted);
            }
            if state != UNTOUCHED && (seen >> EPOCH_SHIFT) as u32 == epoch {
                return Ok(Touched::Known);
            }
            let Some(mut locked) = Locked::try_new(self, meta, seen) else {
                cpu_relax();
                continue;
            };
            if state == UNTOUCHED {
                locked.state = self.build(slab);
            } else {
                copy_incoming(slab);
            }
            locked.epoch = epoch;
        }
    }

    /// Makes a slab ready to be allocated from; returns whether it is. From any context.
    #[inline]
    pub(crate) fn prepare(&self, slab: &Slab<'_>) -> bool {
        match slab.meta() {
            Some(meta) if meta.load_acquire() & STATE_MASK == READY => true,
            Some(meta) => self.prepare_slow(slab, meta),
            None => false,
        }
    }

    #[cold]
    fn prepare_slow(&self, slab: &Slab<'_>, meta: &Atomic<u64>) -> bool {
        let seen = meta.load_acquire();
        match seen & STATE_MASK {
            READY => return true,
            QUARANTINED => return false,
            _ => {}
        }
        let Some(mut locked) = Locked::try_new(self, meta, seen) else {
            return false;
        };
        if locked.state == UNTOUCHED {
            if !slab.is_inherited() || slab.magic() == 0 {
                self.format(slab);
                locked.state = READY;
            } else {
                locked.state = self.build(slab);
            }
            locked.epoch = self.epoch();
        }
        if locked.state == DIRTY {
            scrub_free(slab);
            locked.state = READY;
        }
        locked.state == READY
    }

    /// Returns whether a slab is quarantined.
    #[inline(always)]
    pub(crate) fn is_quarantined(&self, slab: &Slab<'_>) -> bool {
        match slab.meta() {
            Some(meta) => meta.load_acquire() & STATE_MASK == QUARANTINED,
            None => true,
        }
    }

    /// Takes a slab out of use for the rest of this boot. From any context; idempotent.
    #[cold]
    pub(crate) fn quarantine(&self, slab: &Slab<'_>, why: Refusal) {
        let Some(meta) = slab.meta() else {
            return;
        };
        let mut seen = meta.load_relaxed();
        loop {
            if seen & STATE_MASK == QUARANTINED {
                return;
            }
            match meta.cmpxchg(seen, (seen & !STATE_MASK) | QUARANTINED, Full) {
                Ok(_) => break,
                Err(other) => seen = other,
            }
        }
        words::set(&slab.full(), slab.index());
        match self.note_quarantined() {
            0..NR_REPORTED_MAX => {
                why.report();
            }
            NR_REPORTED_MAX => pr_err!(
                "cache on arena {}: more slabs are quarantined, which are counted only\n",
                self.owner()
            ),
            _ => {}
        }
    }

    /// Returns the header that a slab of this cache has.
    pub(crate) fn header_for(&self, slab: &Slab<'_>) -> SlabSer {
        let geometry = self.geometry();
        let mut header = SlabSer {
            magic: MAGIC,
            phys: slab.phys().get(),
            root_id: self.root_id(),
            check: 0,
            owner: self.owner(),
            stride_bytes: geometry.stride_bytes() as u32,
            nr_slots: geometry.nr_slots(),
            first_slot: geometry.first_slot() as u16,
            slab_order: geometry.slab_order(),
            reserved0: 0,
            place: slab.place(),
            reserved1: 0,
        };
        header.check = header.checksum();
        header
    }

    /// Turns an unformatted slab into an empty one.
    fn format(&self, slab: &Slab<'_>) {
        if slab.is_inherited() {
            slab.scrub_all();
        }
        slab.start_tags(self.next_first_tag());
        slab.write_header(self.header_for(slab));
        init_words(slab, |_| 0);
    }

    /// Checks an inherited slab and derives its words from its tags; returns its state.
    fn build(&self, slab: &Slab<'_>) -> u64 {
        if let Err(refusal) = slab.header().validate(&self.header_for(slab)) {
            self.quarantine(slab, refusal);
            return QUARANTINED;
        }
        slab.note_place();
        init_words(slab, |word| slab.live_word(word));
        DIRTY
    }
}

/// Gives each word its first value: live slots are taken and unclaimed.
fn init_words(slab: &Slab<'_>, live: impl Fn(u32) -> u64) {
    for word in 0..slab.geometry().nr_words() {
        let live = live(word);
        store(&slab.unclaimed(), word, live);
        store(&slab.incoming(), word, live);
        store(
            &slab.occupancy(),
            word,
            live | !slab.geometry().word_mask(word),
        );
    }
}

/// What is unclaimed now was there when the cache was opened again.
fn copy_incoming(slab: &Slab<'_>) {
    for word in 0..slab.geometry().nr_words() {
        if let Some(unclaimed) = slab.unclaimed().get(word) {
            store(&slab.incoming(), word, unclaimed.load_acquire());
        }
    }
}

fn store<W: Words>(words: &W, word: u32, value: u64) {
    if let Some(bits) = words.get(word) {
        bits.store(value, Release);
    }
}

/// Zeroes the free slots of an inherited slab. Nobody allocates from it before it is ready, and
/// who frees in it has zeroed the slot before its bit goes: the slots whose bit is 0 are ours.
fn scrub_free(slab: &Slab<'_>) {
    for word in 0..slab.geometry().nr_words() {
        let Some(bits) = slab.occupancy().at(word) else {
            continue;
        };
        let mut free = !bits.load_acquire();
        while free != 0 {
            slab.scrub_slot(word * 64 + free.trailing_zeros());
            free &= free - 1;
        }
    }
}

/// What to say of a slab in which `slot` was freed though it was free.
pub(crate) fn freed_twice(slab: &Slab<'_>, slot: u32) -> Refusal {
    Refusal {
        structure: "Slab",
        field: "occupancy",
        at: slab.phys().get(),
        found: u64::from(slot),
        expected: u64::from(slab.geometry().nr_slots()),
        relation: Relation::Equal,
    }
}

/// Returns whether no old bytes stand in a slab's free slots: it is ready, or was never formatted.
pub(crate) fn is_clean(slab: &Slab<'_>) -> bool {
    let Some(meta) = slab.meta() else {
        return false;
    };
    let seen = meta.load_acquire();
    match seen & (STATE_MASK | LOCKED) {
        READY => true,
        UNTOUCHED => !slab.is_inherited() || slab.magic() == 0,
        _ => false,
    }
}
