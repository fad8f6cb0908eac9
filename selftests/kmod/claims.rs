// SPDX-License-Identifier: GPL-2.0

//! Each way in which claiming fails, and that it does no harm.

use kpreserve::prelude::*;

use crate::command::{
    check,
    given,
    Words, //
};
use crate::named::NumberSer;
use crate::pattern::ItemSer;
use crate::reply::Reply;

/// `claim WAY`: its errno is that of the claim.
pub(crate) fn run(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let cache = given(
        "cache",
        Cache::<ItemSer>::open(c"selftest/claims", GFP_KERNEL),
    )?;
    let neighbour = given("neighbour", cache.alloc(ItemSer::new(1, 1), GFP_KERNEL))?;
    let item = given("item", cache.alloc(ItemSer::new(2, 1), GFP_KERNEL))?;
    let handle = item.handle();
    let outcome = match words.word()? {
        // Somebody has it.
        "live" => cache.claim(handle).err(),
        // Once parked, it is there for one.
        "twice" => {
            let handle = item.park();
            let first = given("first claim", cache.claim(handle))?;
            let error = cache.claim(handle).err();
            drop(first);
            error
        }
        "free" => {
            drop(item);
            cache.claim(handle).err()
        }
        // The slot was given out again.
        "stale" => {
            drop(item);
            let mut next = given("next", cache.alloc(ItemSer::new(3, 1), GFP_KERNEL))?;
            // The same slot, sooner or later.
            let mut others = KVec::new();
            while next.handle().phys() != handle.phys() {
                given("room", others.push(next, GFP_KERNEL).map_err(Error::from))?;
                next = given("next", cache.alloc(ItemSer::new(3, 1), GFP_KERNEL))?;
                check("slot given out again", others.len() < 10_000, true)?;
            }
            let next = next.park();
            let error = cache.claim(handle).err();
            given("the object itself", cache.discard(next))?;
            error
        }
        "foreign" => {
            let other = given(
                "other cache",
                Cache::<NumberSer>::open(c"selftest/others", GFP_KERNEL),
            )?;
            let number = given("number", other.alloc(NumberSer { value: 4 }, GFP_KERNEL))?;
            let foreign = number.park();
            let error = cache.claim(Handle::from_raw(foreign.into_raw())).err();
            given("the foreign object itself", other.discard(foreign))?;
            error
        }
        // Between two slots; in the header; no memory at all; everything set.
        "forged" => {
            let forge = |phys: u64| {
                let handle = Handle::new(kpreserve::Phys::new(phys), handle.tag());
                cache.claim(handle).err()
            };
            let phys = handle.phys().get();
            check("between slots", forge(phys + 8), Some(EINVAL))?;
            check("header", forge(phys & !0xfff), Some(EINVAL))?;
            check("null page", forge(8), Some(EINVAL))?;
            check("beyond all memory", forge((1 << 56) - 64), Some(EINVAL))?;
            check("null", cache.claim(Handle::NULL).err(), Some(EINVAL))?;
            cache.claim(Handle::from_raw(u64::MAX)).err()
        }
        // Right, but for the tag.
        "forged-tag" => {
            let handle = item.park();
            let error = cache
                .claim(Handle::new(handle.phys(), handle.tag().wrapping_add(2)))
                .err();
            given("the object itself", cache.discard(handle))?;
            error
        }
        _ => return Err(EPROTO),
    };
    check("the neighbour", neighbour.is(1, 1), true)?;
    drop(neighbour);
    match outcome {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
