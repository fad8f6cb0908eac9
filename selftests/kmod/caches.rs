// SPDX-License-Identifier: GPL-2.0

//! Caches of any name, which nobody keeps handles of.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::command::Words;
use crate::pattern::ItemSer;
use crate::reply::Reply;

fn open(name: &CString) -> Result<Cache<ItemSer>> {
    Cache::open(name, GFP_KERNEL)
}

/// `cache.fill NAME N SEED`: N objects more.
pub(crate) fn fill(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = open(&words.name()?)?;
    let nr_objects = words.number()?;
    let seed = words.number()? as u64;
    for number in 0..nr_objects {
        cache
            .alloc(ItemSer::new(number as u64, seed), GFP_KERNEL)?
            .park();
    }
    report(&cache, reply);
    Ok(())
}

/// `cache.verify NAME SEED`: looks at each object that can be had, and parks it again; says how many.
///
/// EBADMSG if a byte of one is not what it was.
pub(crate) fn verify(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = open(&words.name()?)?;
    let seed = words.number()? as u64;
    let mut nr_verified = 0;
    for item in cache.unclaimed() {
        let good = item.is(item.number, seed);
        item.park();
        if !good {
            return Err(EBADMSG);
        }
        nr_verified += 1;
    }
    reply.put("verified", nr_verified);
    report(&cache, reply);
    Ok(())
}

fn report(cache: &Cache<ItemSer>, reply: &mut Reply) {
    let counts = cache.raw().counts();
    reply.put("objects", counts.nr_objects as u64);
    reply.put("slabs", counts.nr_slabs as u64);
    reply.put("quarantined", counts.nr_quarantined as u64);
    reply.put("runs", counts.nr_runs as u64);
}
