// SPDX-License-Identifier: GPL-2.0

//! Changes in the middle: decided on by one store, done by copying, done again after a cut.
//!
//! What will stand in the middle is written behind the published elements first, and a record of
//! what is to be copied behind that. Until `pending` says where the record is, the area is the old
//! one; from then on it is the new one, and whoever opens it copies (again) before anything else.

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};

use kpreserve_kho::refusal::Relation;
use kpreserve_kho::{
    GatePass,
    Refusal, //
};

use super::{
    RawArea, //
};
use crate::abi::RedoSer;
use crate::redo::{
    Owner,
    Redo, //
};

/// A part of the spare elements to be kept, rather than given back after each change: as much as a
/// vector that is pushed to has.
const SPARE_DIVISOR: usize = 16;

/// Room behind the elements for what a change needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The first element of the room: behind the old and the new elements.
    pub(crate) first: usize,
    /// The element that the record begins at.
    record: usize,
    /// Behind the record.
    end: usize,
    /// What the capacity was before.
    capacity: usize,
}

impl RawArea {
    /// Makes room for a change: for `nr` elements and a record, behind the published elements and
    /// behind `len`, which will be their number. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM, the area as it was.
    pub(crate) fn make_room(&mut self, pass: &GatePass<'_>, len: usize, nr: usize) -> Result<Room> {
        let capacity = self.capacity();
        let nr_record = self.nr_record();
        let first = self.tail.len.max(len);
        let place = first.checked_add(nr).ok_or(ENOMEM)?;
        // The record lies in one run: where it begins, or in the next.
        let end = place.checked_add(2 * nr_record - 1).ok_or(ENOMEM)?;
        self.reserve(pass, end - self.tail.len)?;
        let span = self.inner.directory.find(place).ok_or(EINVAL)?;
        // A run has a page or more, in which each record fits.
        let record = if span.end - place < nr_record {
            span.end
        } else {
            place
        };
        Ok(Room {
            first,
            record,
            end: record + nr_record,
            capacity,
        })
    }

    /// Gives back what was added for room that nothing was written to.
    pub(crate) fn leave_room(&mut self, pass: &GatePass<'_>, room: Room) {
        self.release_runs(pass, room.capacity);
    }

    /// Decides on a change, for which everything has been written into the room, and does it.
    /// Costs a pass over the elements that are copied, and one over those that go.
    pub(crate) fn commit(&mut self, pass: &GatePass<'_>, room: Room, redo: Redo) {
        let before = self.tail.len;
        self.write_record(room.record, redo.to_ser(self.owner(), room.record));
        // Releases: the record and what it names are written before.
        self.inner.ser.pending.store(room.record as u64 + 1);
        // No element may be written over while the change is not decided on.
        smp_mb(Write);
        self.redo(redo);
        self.clear(self.tail.len, before);
        self.clear(room.first, room.end);
        let spare = self.tail.len / SPARE_DIVISOR;
        self.release_runs(pass, room.capacity.max(self.tail.len + spare));
    }

    /// Does a change that has been decided on.
    fn redo(&mut self, redo: Redo) {
        self.copy_elements(redo.src, redo.dst, redo.nr);
        // Releases: the copy is complete before.
        self.publish(redo.len);
        // Releases, too.
        self.inner.ser.pending.store(0);
        // Nothing that the change needs may be cleared while it could be done again.
        smp_mb(Write);
    }

    /// Finishes a change in which the previous kernel was stopped, if there is one.
    ///
    /// # Errors
    ///
    /// EINVAL if its record is refused; nothing has been touched then.
    pub(super) fn recover(&mut self) -> Result {
        let Some(place) = self.inner.ser.pending.load().checked_sub(1) else {
            return Ok(());
        };
        let redo = self.read_redo(place).map_err(Refusal::report)?;
        self.redo(redo);
        // INVARIANT: what the change used lies behind the elements.
        self.inner.stale = self.tail.len..self.capacity();
        Ok(())
    }

    fn read_redo(&self, place: u64) -> Result<Redo, Refusal> {
        let refusal = |last: usize| Refusal {
            structure: "ArenaSer",
            field: "pending",
            at: self.id().into(),
            found: place.saturating_add(1),
            expected: last as u64,
            relation: Relation::AtMost,
        };
        let at = usize::try_from(place).unwrap_or(usize::MAX);
        let Some(span) = self.inner.directory.find(at) else {
            return Err(refusal(self.capacity()));
        };
        let ser = self.read_record(at);
        let ser = ser.ok_or_else(|| refusal((span.end + 1).saturating_sub(self.nr_record())))?;
        Redo::from_ser(&ser, self.owner(), at, self.tail.len, self.capacity())
    }

    /// Returns how many elements a record is as large as.
    fn nr_record(&self) -> usize {
        size_of::<RedoSer>().div_ceil(self.inner.stride.bytes())
    }

    fn owner(&self) -> Owner {
        Owner {
            root_id: self.inner.arena.ledger().root_id(),
            arena: self.id(),
            generation: self.inner.ser.generation,
        }
    }
}
