// SPDX-License-Identifier: GPL-2.0

//! Allocation where one cannot sleep.

use kernel::time::{
    delay::fsleep,
    Delta, //
};
use kpreserve::prelude::*;

use crate::command::{
    check,
    given,
    Words, //
};
use crate::contexts::Context;
use crate::reply::Reply;
use crate::threads::OnCpu;

kpreserve::preservable! {
    /// Large, so that a slab holds few.
    pub(crate) struct LargeSer {
        pub(crate) words: [u64; 256],
    }
    compatible = "selftest-large", version = 1
}

impl LargeSer {
    /// Makes one that is zeros.
    pub(crate) fn zeroed() -> Self {
        Self { words: [0; 256] }
    }
}

/// `alloc-atomic N`: allocates with GFP_ATOMIC until that fails, at most N objects; waits for the
/// worker; allocates again. ENOMEM if the reserve was never filled again.
pub(crate) fn run(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr_objects_max = words.number()?;
    let cache = given(
        "cache",
        Cache::<LargeSer>::open(c"selftest/atomic", GFP_KERNEL),
    )?;
    given("reserve", cache.set_reserve(2))?;
    let (mut items, error) = exhaust(&cache, nr_objects_max)?;
    check("the end of the reserve", error, Some(ENOMEM))?;
    check("from the reserve", items.is_empty(), false)?;
    reply.put("allocated", items.len() as u64);

    // The failure has asked the worker for more.
    for _ in 0..100 {
        fsleep(Delta::from_millis(10));
        match cache.alloc(LargeSer::zeroed(), GFP_ATOMIC) {
            Ok(item) => {
                given("room", items.push(item, GFP_KERNEL).map_err(Error::from))?;
                reply.put("recovered", 1);
                return Ok(());
            }
            Err(error) => check("while the worker is at work", error, ENOMEM)?,
        }
    }
    Err(ENOMEM)
}

fn exhaust(
    cache: &Cache<LargeSer>,
    nr_objects_max: usize,
) -> Result<(KVec<Preserved<LargeSer>>, Option<Error>)> {
    let mut items = KVec::new();
    given(
        "room",
        items
            .reserve(nr_objects_max, GFP_KERNEL)
            .map_err(Error::from),
    )?;
    while items.len() < nr_objects_max {
        match cache.alloc(LargeSer::zeroed(), GFP_ATOMIC) {
            Ok(item) => given("room", items.push(item, GFP_ATOMIC).map_err(Error::from))?,
            Err(error) => return Ok((items, Some(error))),
        }
    }
    Ok((items, None))
}

/// `alloc-in CONTEXT N`: the same in an interrupt, under a lock, or in a scope where even GFP_KERNEL
/// may not wait for what others do under GFP_KERNEL; and frees there, too.
pub(crate) fn run_in(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let context = Context::named(words.word()?)?;
    let nr_objects_max = words.number()?;
    let cache = given(
        "cache",
        Cache::<LargeSer>::open(c"selftest/contexts", GFP_KERNEL),
    )?;
    given("reserve", cache.set_reserve(2))?;
    let _here = given("CPU", OnCpu::new(0))?;
    let mut items = given(
        "room",
        KVVec::with_capacity(nr_objects_max, GFP_KERNEL).map_err(Error::from),
    )?;
    let (mut error, mut nr_first, mut nr_again) = (None, 0, 0);
    let flags = context.flags();
    let mut fill = |items: &mut KVVec<Preserved<LargeSer>>| loop {
        match cache.alloc(LargeSer::zeroed(), flags) {
            Ok(item) if items.len() < items.capacity() => {
                let _ = items.push_within_capacity(item);
            }
            Ok(_) => break,
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    };
    context.run(|| {
        fill(&mut items);
        nr_first = items.len();
        // Freed here, and had again here.
        while items.len() > nr_first / 2 {
            drop(items.pop());
        }
        fill(&mut items);
        nr_again = items.len();
    })?;
    check("the end of the reserve", error, Some(ENOMEM))?;
    check("from the reserve", nr_first > 0, true)?;
    // What this CPU has freed and kept, for sure; empty runs the worker may have given back.
    check("the second time", nr_again > nr_first / 2, true)?;
    reply.put("allocated", nr_first as u64);

    for round in 0..200 {
        fsleep(Delta::from_millis(5));
        let mut found = Err(EPROTO);
        context.run(|| found = cache.alloc(LargeSer::zeroed(), flags).map(drop))?;
        match found {
            Ok(()) => {
                reply.put("recovered", 1);
                reply.put("rounds", round);
                return Ok(());
            }
            Err(error) => check("while the worker is at work", error, ENOMEM)?,
        }
    }
    Err(ENOMEM)
}
