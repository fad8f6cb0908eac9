// SPDX-License-Identifier: GPL-2.0

//! Memory pressure: the shrinker, with KHO allocating at the same time.
//!
//! C header: `helpers.h`.

use kernel::error::to_result;
use kernel::str::CString;
use kpreserve::global::framework;
use kpreserve::prelude::*;

use crate::atomic::LargeSer;
use crate::command::{
    given,
    Words, //
};
use crate::reply::Reply;
use crate::threads;

extern "C" {
    fn selftest_take_memory() -> c_ulong;
    fn selftest_fragment_memory(order: c_uint) -> c_ulong;
    fn selftest_give_memory();
    fn selftest_grow_tree(nr_keys: c_uint) -> c_int;
}

const CACHE: &CStr = c"selftest/reclaim";

/// Objects that a thread allocates before it frees them again.
const NR_BURST: usize = 1000;

/// Keys that KHO's tree gets while there is no memory; each takes a few pages.
const NR_KEYS: u32 = 16;

/// So many times as many rounds are made as were asked for, until reclaim has met KHO once: on a
/// busy machine somebody else is often quicker.
const NR_TRIES: usize = 10;

/// Bytes of empty runs that there are before memory is taken; and pages of them that there still have
/// to be afterwards, or nobody could help KHO, and the kernel would give up.
const EMPTY_BYTES: usize = 16 << 20;
const NR_PAGES_EMPTY_MIN: usize = 1024;

fn cache() -> Result<Cache<LargeSer>> {
    given("cache", Cache::open(CACHE, GFP_KERNEL))
}

/// `reclaim.prepare BYTES`: allocates so much, which `bytes` says, and frees it: runs that are
/// empty, but still there, until the cache comes to rest.
pub(crate) fn prepare(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let size_bytes = words.number()?;
    let cache = cache()?;
    let items = fill(&cache, size_bytes)?;
    // One that stays, so that not everything goes.
    cache.alloc(LargeSer::zeroed(), GFP_KERNEL)?.park();
    reply.put("bytes", cache.raw().counts().bytes as u64);
    drop(items);
    Ok(())
}

fn fill(cache: &Cache<LargeSer>, size_bytes: usize) -> Result<KVVec<Preserved<LargeSer>>> {
    let nr_objects = size_bytes / size_of::<LargeSer>();
    let mut items = KVVec::with_capacity(nr_objects, GFP_KERNEL)?;
    for _ in 0..nr_objects {
        let item = cache.alloc(LargeSer::zeroed(), GFP_KERNEL)?;
        items.push(item, GFP_KERNEL)?;
    }
    Ok(items)
}

/// `reclaim.report`: what the cache holds now.
pub(crate) fn report(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = cache()?;
    let counts = cache.raw().counts();
    reply.put("bytes", counts.bytes as u64);
    reply.put("objects", counts.nr_objects as u64);
    Ok(())
}

/// `reclaim.squeeze ROUNDS`: so many rounds or more; in each there are empty runs, then no memory,
/// and KHO allocates under its mutex; while a thread on each CPU lets a cache of its own grow and
/// shrink.
///
/// `reclaims_for_kho` says how often reclaim asked kpreserve for memory while KHO allocated.
pub(crate) fn squeeze(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr_rounds = words.number()?;
    let cache = cache()?;
    let before = framework()?.stats();
    given("threads", threads::start(1, churn))?;
    let squeezed = (0..nr_rounds * NR_TRIES).try_fold(0, |sum, round| {
        if round >= nr_rounds && sum > 0 {
            return Ok(sum);
        }
        Ok(sum + squeeze_once(&cache, round % 2 == 0)?)
    });
    let stopped = threads::stop();
    reply.put("reclaims_for_kho", given("squeezing", squeezed)?);
    given("threads", stopped)?;
    let stats = framework()?.stats();
    reply.put("reclaims", stats.nr_reclaims - before.nr_reclaims);
    let nr_condemned = stats.nr_pages_condemned - before.nr_pages_condemned;
    reply.put("condemned_pages", nr_condemned);
    Ok(())
}

/// `memory.fragment ORDER`: takes every other block of 2^ORDER pages, so that none larger is free, but
/// for those that the page allocator keeps for emergencies.
pub(crate) fn fragment(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let order = words.number()? as u32;
    if order > 10 {
        return Err(EPROTO);
    }
    // SAFETY: no requirements.
    let nr_pages = unsafe { selftest_fragment_memory(order) };
    reply.put("taken_bytes", nr_pages as u64 * 4096);
    Ok(())
}

/// `memory.give`: gives back what was taken.
pub(crate) fn give(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    // SAFETY: no requirements.
    unsafe { selftest_give_memory() };
    Ok(())
}

/// One round. The runs become empty before memory is taken, or after it: what is empty goes by
/// itself a moment later, and memory that is not free goes to whoever comes first.
fn squeeze_once(cache: &Cache<LargeSer>, empties_first: bool) -> Result<u64> {
    let framework = framework()?;
    let mut items = fill(cache, EMPTY_BYTES)?;
    if empties_first {
        items.clear();
    }
    // SAFETY: given back below.
    let _nr_pages = unsafe { selftest_take_memory() };
    drop(items);
    framework.drain_here();
    let mut nr_reclaims = 0;
    let mut grown = Ok(());
    // Somebody else may have had them meanwhile.
    if framework.nr_pages_reclaimable() >= NR_PAGES_EMPTY_MIN {
        let before = framework.stats().nr_reclaims;
        // SAFETY: no requirements.
        grown = to_result(unsafe { selftest_grow_tree(NR_KEYS) });
        nr_reclaims = framework.stats().nr_reclaims - before;
    }
    // SAFETY: no requirements.
    unsafe { selftest_give_memory() };
    grown?;
    Ok(nr_reclaims)
}

extern "C" fn churn(number: c_uint) -> c_int {
    match churn_cache(number) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

fn churn_cache(number: u32) -> Result {
    let name = CString::try_from_fmt(fmt!("selftest/churn-{number}"))?;
    let cache = Cache::<LargeSer>::open(&name, GFP_KERNEL)?;
    let mut items = KVVec::with_capacity(NR_BURST, GFP_KERNEL)?;
    while threads::goes_on() {
        while items.len() < NR_BURST && threads::goes_on() {
            match cache.alloc(LargeSer::zeroed(), GFP_KERNEL) {
                Ok(item) => items.push(item, GFP_KERNEL)?,
                // What this is about.
                Err(error) if error == ENOMEM => break,
                Err(error) => return Err(error),
            }
        }
        items.clear();
    }
    Ok(())
}
