// SPDX-License-Identifier: GPL-2.0

//! Free slots: how many there are, who has them, and that they are zeros.

use kernel::alloc::Flags;
use kpreserve::global::framework;
use kpreserve::kho::Preservable;
use kpreserve::prelude::*;

use crate::command::{
    check,
    given,
    Words, //
};
use crate::pattern::ItemSer;
use crate::reply::Reply;
use crate::threads::OnCpu;

/// What is free in a cache.
pub(crate) struct Free {
    /// Slots that could be had, and were zeros.
    pub(crate) nr_taken: usize,
    /// Slots that are free, and could not be had: another CPU has them.
    pub(crate) nr_missing: usize,
}

/// Takes every free slot that this CPU can get, looks at its bytes, and gives it back. The
/// framework has to be frozen, so that no run comes or goes meanwhile.
///
/// # Errors
///
/// EBADMSG if a byte is not zero, or if there are more free slots than there should be.
pub(crate) fn take_all<T: Preservable>(cache: &Cache<T>, flags: Flags) -> Result<Free> {
    let raw = cache.raw();
    let stride_bytes = raw.geometry().stride_bytes();
    let mut vacant = KVVec::new();
    let mut bad = None;
    while let Ok(slot) = raw.alloc_slot(flags) {
        // SAFETY: a slot has so many bytes, and is the caller's, who only reads; any bytes will do.
        let bytes = unsafe { core::slice::from_raw_parts(slot.as_ptr(), stride_bytes) };
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            bad = bad.or(Some((slot.as_ptr() as usize, at)));
        }
        vacant.push(slot, GFP_KERNEL)?;
    }
    if let Some((start, at)) = bad {
        pr_err!("byte {} of the free slot at {:#x} is not zero\n", at, start);
        return Err(EBADMSG);
    }
    // Those of the reserve are opened when nothing else is left, and count as soon as they are.
    let counts = raw.counts();
    let nr_slots = counts.nr_slabs * raw.geometry().nr_slots() as usize;
    let nr_known = counts.nr_objects + vacant.len();
    if nr_known > nr_slots {
        pr_err!("{} slots in use and free, of {}\n", nr_known, nr_slots);
        return Err(EBADMSG);
    }
    Ok(Free {
        nr_taken: vacant.len(),
        nr_missing: nr_slots - nr_known,
    })
}

/// CPUs that a test machine has, at most.
const NR_CPUS_MAX: u32 = 8;

/// Lets each CPU give back the free slots that it has.
pub(crate) fn drain_all() -> Result {
    for cpu in 0..NR_CPUS_MAX {
        // One that is not online has none.
        if let Ok(_there) = OnCpu::new(cpu) {
            framework()?.drain_here();
        }
    }
    Ok(())
}

const CACHE: &CStr = c"selftest/slots";

/// `slots.hold CPU N`: allocates N objects there, and frees them, so that the CPU has free slots.
pub(crate) fn hold(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let cpu = words.number()? as u32;
    let nr_objects = words.number()?;
    let cache = given("cache", Cache::<ItemSer>::open(CACHE, GFP_KERNEL))?;
    let _here = given("CPU", OnCpu::new(cpu))?;
    let mut items = KVVec::with_capacity(nr_objects, GFP_KERNEL)?;
    for number in 0..nr_objects {
        let item = cache.alloc(ItemSer::new(number as u64, 1), GFP_KERNEL)?;
        items.push(item, GFP_KERNEL)?;
    }
    Ok(())
}

/// `slots.take CPU`: takes all free slots from there, looks at them, gives them back; says how many
/// it got (`taken`), and how many are with other CPUs (`missing`). What that CPU has afterwards, it
/// keeps.
pub(crate) fn take(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cpu = words.number()? as u32;
    let cache = given("cache", Cache::<ItemSer>::open(CACHE, GFP_KERNEL))?;
    let framework = given("framework", framework())?;
    let _here = given("CPU", OnCpu::new(cpu))?;
    framework.freeze();
    let free = take_all(&cache, GFP_ATOMIC);
    // So that the next one finds them, whatever its CPU.
    framework.drain_here();
    framework.thaw();
    let free = free?;
    check("objects", cache.raw().counts().nr_objects, 0)?;
    reply.put("taken", free.nr_taken as u64);
    reply.put("missing", free.nr_missing as u64);
    Ok(())
}
