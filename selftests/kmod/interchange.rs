// SPDX-License-Identifier: GPL-2.0

//! Areas that become `struct kho_vmalloc`, and the reverse, with C at the other end.
//!
//! C header: `helpers.h`. The descriptor crosses in a named object.

use kernel::error::to_result;
use kpreserve::prelude::*;

use crate::command::{
    check,
    given,
    Words, //
};
use crate::reply::Reply;

extern "C" {
    fn selftest_give_vmalloc(
        size: usize,
        huge: bool,
        seed: u64,
        given: *mut KhoVmallocSer,
    ) -> c_int;
    fn selftest_take_vmalloc(given: *const KhoVmallocSer, size: usize, seed: u64) -> c_int;
}

kpreserve::preservable! {
    /// Memory that changes hands, and what we have made of it.
    pub(crate) struct ParcelSer {
        given: KhoVmallocSer,
        taken: ArenaHandle<u64>,
    }
    compatible = "selftest-parcel", version = 1
}

const EMPTY: ParcelSer = ParcelSer {
    given: KhoVmallocSer::NONE,
    taken: ArenaHandle::NULL,
};

/// Which word is the `index`th.
fn word(index: usize, seed: u64) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed
}

fn parcel(words: &mut Words<'_>) -> Result<(Named<ParcelSer>, usize, u64)> {
    let name = words.name()?;
    let size_bytes = words.number()?;
    let seed = words.number()? as u64;
    let parcel = given("parcel", Named::open(&name, EMPTY, GFP_KERNEL))?;
    Ok((parcel, size_bytes, seed))
}

fn report(parcel: &ParcelSer, reply: &mut Reply) {
    reply.put("pages", u64::from(parcel.given.total_pages));
    reply.put("order", u64::from(parcel.given.order));
}

/// `interchange.give NAME BYTES SEED at-once|grown`: makes an area, and hands it over.
pub(crate) fn give(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (mut parcel, size_bytes, seed) = parcel(words)?;
    let len = size_bytes / 8;
    let mut area = given("area", PVec::<u64>::create(GFP_KERNEL))?;
    match words.word()? {
        "at-once" => given("growing", area.resize(len))?,
        "grown" => given("growing", (0..len).try_for_each(|_| area.push(0)))?,
        _ => return Err(EPROTO),
    }
    for (index, place) in area.iter_mut().enumerate() {
        *place = word(index, seed);
    }
    reply.put("runs", area.nr_runs() as u64);
    let handed = area.into_area().into_kho_vmalloc();
    parcel.given = handed.map_err(|(error, _)| error)?.ser();
    report(&parcel, reply);
    Ok(())
}

/// `interchange.take NAME BYTES SEED`: makes an area of what was handed over; the second time, of what the
/// first time has left.
pub(crate) fn take(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (mut parcel, size_bytes, seed) = parcel(words)?;
    let len = size_bytes / 8;
    let mut area = if parcel.given.first != 0 {
        report(&parcel, reply);
        let mut area = given("area", Area::<u64>::create(GFP_KERNEL))?;
        // SAFETY: nobody else knows of it, but `c_take`, which a scenario calls instead.
        unsafe { area.take_kho_vmalloc(&parcel.given, len) }?;
        parcel.taken = area.handle();
        parcel.given = KhoVmallocSer::NONE;
        area
    } else {
        given("area", Area::<u64>::adopt(parcel.taken, GFP_KERNEL))?
    };
    reply.put("runs", area.nr_runs() as u64);
    check("words", area.len(), len)?;
    for (index, found) in area.iter().enumerate() {
        if *found != word(index, seed) {
            pr_err!("word {} is {:x}\n", index, found);
            return Err(EBADMSG);
        }
    }
    // It is an area as any other.
    given("growing", area.resize(len + 100_000))?;
    check("first new word", area.get(len), Some(&0))?;
    given("shrinking", area.resize(len))
}

/// `interchange.c-give NAME BYTES SEED small|huge`: what C has from `vmalloc()`.
pub(crate) fn c_give(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (mut parcel, size_bytes, seed) = parcel(words)?;
    let huge = match words.word()? {
        "huge" => true,
        "small" => false,
        _ => return Err(EPROTO),
    };
    // SAFETY: `KhoVmallocSer` is `struct kho_vmalloc`, which is written to.
    to_result(unsafe { selftest_give_vmalloc(size_bytes, huge, seed, &mut parcel.given) })?;
    report(&parcel, reply);
    Ok(())
}

/// `interchange.c-take NAME BYTES SEED`: C restores it, looks at each word, and frees it.
pub(crate) fn c_take(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (mut parcel, size_bytes, seed) = parcel(words)?;
    report(&parcel, reply);
    let ser = core::mem::replace(&mut parcel.given, KhoVmallocSer::NONE);
    // SAFETY: `KhoVmallocSer` is `struct kho_vmalloc`; it is used once.
    to_result(unsafe { selftest_take_vmalloc(&ser, size_bytes, seed) })
}
