// SPDX-License-Identifier: GPL-2.0

//! Many objects in a cache, and their handles in a vector.

use kpreserve::prelude::*;

use crate::command::{
    check,
    given,
    Words, //
};
use crate::pattern::ItemSer;
use crate::reply::Reply;

const CACHE: &CStr = c"selftest/objects";
const HANDLES: &CStr = c"selftest/handles";

/// The cache of the objects.
pub(crate) fn cache() -> Result<Cache<ItemSer>> {
    Cache::open(CACHE, GFP_KERNEL)
}

fn handles() -> Result<PVec<Handle<ItemSer>>> {
    PVec::open(HANDLES, GFP_KERNEL)
}

/// `objects.fill N SEED`: N objects more.
pub(crate) fn fill(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr_objects = words.number()?;
    let seed = words.number()? as u64;
    let cache = cache()?;
    let mut handles = handles()?;
    handles.reserve(nr_objects)?;
    let first = handles.len();
    reply.timed("fill_ns", || {
        for number in first..first + nr_objects {
            let item = cache.alloc(ItemSer::new(number as u64, seed), GFP_KERNEL)?;
            handles
                .push_within_capacity(item.park())
                .map_err(|_| ENOMEM)?;
        }
        Ok(())
    })?;
    report(&cache, reply);
    Ok(())
}

/// `objects.verify N SEED`: claims each object, compares its bytes, parks it again.
///
/// EBADMSG if a byte, or the number of objects, is not what it was.
pub(crate) fn verify(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr_objects = words.number()?;
    let seed = words.number()? as u64;
    let cache = reply.timed("open_ns", cache)?;
    let handles = handles()?;
    if handles.len() != nr_objects {
        pr_err!("{} handles, expected {}\n", handles.len(), nr_objects);
        return Err(EBADMSG);
    }
    reply.timed("verify_ns", || {
        for (number, &handle) in handles.iter().enumerate() {
            let item = cache.claim(handle)?;
            let good = item.is(number as u64, seed);
            item.park();
            if !good {
                pr_err!("object {} is not what was written\n", number);
                return Err(EBADMSG);
            }
        }
        Ok(())
    })?;
    report(&cache, reply);
    let counts = cache.raw().counts();
    if counts.nr_objects != nr_objects {
        pr_err!(
            "{} live objects, expected {}\n",
            counts.nr_objects,
            nr_objects
        );
        return Err(EBADMSG);
    }
    reply.put("verified", nr_objects as u64);
    Ok(())
}

/// `objects.thin KTH SEED`: frees every KTH object, and looks at its neighbours.
pub(crate) fn thin(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let kth = words.number()?.max(1);
    let seed = words.number()? as u64;
    let cache = cache()?;
    let mut handles = handles()?;
    let mut nr_freed = 0u64;
    reply.timed("free_ns", || {
        for handle in handles.iter().step_by(kth) {
            drop(cache.claim(*handle)?);
            nr_freed += 1;
        }
        Ok(())
    })?;
    for (number, handle) in handles.iter_mut().enumerate() {
        if number % kth == 0 {
            check("a freed object", cache.peek(*handle).err(), Some(ENOENT))?;
            *handle = Handle::NULL;
        } else if number % kth == 1 || number % kth == kth - 1 {
            if !cache.peek(*handle)?.is(number as u64, seed) {
                pr_err!("object {} is not what was written\n", number);
                return Err(EBADMSG);
            }
        }
    }
    reply.put("freed", nr_freed);
    report(&cache, reply);
    Ok(())
}

/// `objects.leave-empty N SEED`: N objects more, which are freed behind a closed gate: the worker
/// gives no run back, and the next kernel finds empty ones. The gate stays closed.
pub(crate) fn leave_empty(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr_objects = words.number()?;
    let seed = words.number()? as u64;
    let cache = cache()?;
    let mut items = KVVec::with_capacity(nr_objects, GFP_KERNEL)?;
    for number in 0..nr_objects {
        let item = cache.alloc(ItemSer::new(number as u64, seed), GFP_KERNEL)?;
        items.push(item, GFP_KERNEL)?;
    }
    given("framework", kpreserve::global::framework())?.freeze();
    drop(items);
    report(&cache, reply);
    Ok(())
}

/// `objects.refill SEED`: allocates anew what `objects.thin` freed, in this kernel or an earlier one.
///
/// The free slots of the slabs that are there have to do: EBADMSG if the cache grew.
pub(crate) fn refill(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let seed = words.number()? as u64;
    let cache = cache()?;
    let mut handles = handles()?;
    let before = cache.raw().counts();
    let mut nr_allocated = 0u64;
    reply.timed("alloc_ns", || {
        for (number, handle) in handles.iter_mut().enumerate() {
            if handle.is_null() {
                let item = cache.alloc(ItemSer::new(number as u64, seed), GFP_KERNEL)?;
                *handle = item.park();
                nr_allocated += 1;
            }
        }
        Ok(())
    })?;
    let after = cache.raw().counts();
    reply.put("allocated", nr_allocated);
    report(&cache, reply);
    if after.bytes > before.bytes {
        pr_err!(
            "the cache grew from {} to {} bytes\n",
            before.bytes,
            after.bytes
        );
        return Err(EBADMSG);
    }
    Ok(())
}

/// `objects.first`: what it takes until the first object can be allocated, and one claimed.
pub(crate) fn first(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = reply.timed("open_ns", cache)?;
    let item = reply.timed("first_alloc_ns", || {
        cache.alloc(ItemSer::new(0, 0), GFP_KERNEL)
    })?;
    drop(item);
    let handles = given("handles", handles())?;
    if let Some(&handle) = handles.iter().find(|handle| !handle.is_null()) {
        let item = reply.timed("first_claim_ns", || cache.claim(handle))?;
        item.park();
    }
    Ok(())
}

/// `objects.finish`: frees what nobody has claimed, which is everything.
pub(crate) fn finish(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = cache()?;
    let nr_freed = reply.timed("finish_ns", || Ok(cache.finish()))?;
    check("freed by a second finish", cache.finish(), 0)?;
    check("objects left", cache.raw().counts().nr_objects, 0)?;
    let handles = handles()?;
    if let Some(handle) = handles.get(0) {
        // A free slot, or of a run that the worker has given back already.
        let error = cache.claim(*handle).err();
        check(
            "a handle after finish",
            error == Some(ENOENT) || error == Some(EINVAL),
            true,
        )?;
    }
    reply.put("freed", nr_freed as u64);
    handles.discard()
}

/// `objects.clear`: frees all, by handle.
pub(crate) fn clear(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = cache()?;
    let mut handles = handles()?;
    for handle in handles.iter() {
        cache.discard(*handle)?;
    }
    reply.put("freed", handles.len() as u64);
    handles.truncate(0)?;
    handles.shrink_to_fit()
}

fn report(cache: &Cache<ItemSer>, reply: &mut Reply) {
    let counts = cache.raw().counts();
    reply.put("objects", counts.nr_objects as u64);
    reply.put("bytes", counts.bytes as u64);
    reply.put("runs", counts.nr_runs as u64);
    reply.put("slabs", counts.nr_slabs as u64);
    reply.put("quarantined", counts.nr_quarantined as u64);
}
