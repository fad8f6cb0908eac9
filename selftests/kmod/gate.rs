// SPDX-License-Identifier: GPL-2.0

//! Freezing: who may go on and who may not.

use kpreserve::global::framework;
use kpreserve::prelude::*;

use crate::command::{
    check,
    given,
    Words, //
};
use crate::pattern::ItemSer;
use crate::reply::Reply;

/// `freeze`: structural writers are shut out until `thaw`.
pub(crate) fn freeze(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let framework = framework()?;
    reply.timed("freeze_ns", || {
        framework.freeze();
        Ok(())
    })
}

/// `thaw`.
pub(crate) fn thaw(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    framework()?.thaw();
    Ok(())
}

/// `handed-on`: says in the log what a kexec would hand on.
pub(crate) fn handed_on(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    framework()?.say_what_is_handed_on();
    Ok(())
}

/// `frozen`: freezes, looks, thaws.
pub(crate) fn frozen(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let framework = framework()?;
    let cache = given(
        "cache",
        Cache::<ItemSer>::open(c"selftest/frozen", GFP_KERNEL),
    )?;
    let mut area = given(
        "area",
        PVec::<u64>::open(c"selftest/frozen-area", GFP_KERNEL),
    )?;
    given("room", area.truncate(0))?;
    given("elements", area.extend_zeroed(100))?;
    let item = given("item", cache.alloc(ItemSer::new(1, 1), GFP_KERNEL))?;

    framework.freeze();
    let looked = look(&cache, &mut area, reply);
    framework.thaw();
    looked?;

    given("push after thaw", area.push(7))?;
    given(
        "open after thaw",
        PVec::<u64>::open(c"selftest/frozen-new", GFP_KERNEL),
    )?
    .discard()?;
    check("the object", item.is(1, 1), true)
}

fn look(cache: &Cache<ItemSer>, area: &mut PVec<u64>, reply: &mut Reply) -> Result {
    // Structure: no.
    check("push", area.push(1).err(), Some(EBUSY))?;
    check("truncate", area.truncate(1).err(), Some(EBUSY))?;
    check("extend", area.extend_zeroed(1).err(), Some(EBUSY))?;
    check("shrink", area.shrink_to_fit().err(), Some(EBUSY))?;
    check(
        "open",
        PVec::<u64>::open(c"selftest/frozen-new", GFP_KERNEL).err(),
        Some(EBUSY),
    )?;
    check("create", PVec::<u64>::create(GFP_KERNEL).err(), Some(EBUSY))?;
    // Elements and slots: yes, until the slabs are full.
    area.set(5, 5)?;
    let mut items = KVec::new();
    let error = loop {
        match cache.alloc(ItemSer::new(2, 2), GFP_KERNEL) {
            Ok(item) => items.push(item, GFP_KERNEL)?,
            Err(error) => break error,
        }
        check("an end of the slots", items.len() < 100_000, true)?;
    };
    check("growth", error, EBUSY)?;
    check("slots that were there", items.is_empty(), false)?;
    reply.put("allocated", items.len() as u64);
    let handle = items.pop().ok_or(EPROTO)?.park();
    drop(cache.claim(handle)?);
    Ok(())
}
