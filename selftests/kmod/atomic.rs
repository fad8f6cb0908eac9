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
use crate::reply::Reply;

kpreserve::preservable! {
    /// Large, so that a slab holds few.
    pub(crate) struct LargeSer {
        pub(crate) words: [u64; 256],
    }
    compatible = "selftest-large", version = 1
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
        match cache.alloc(zeroed(), GFP_ATOMIC) {
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
        match cache.alloc(zeroed(), GFP_ATOMIC) {
            Ok(item) => given("room", items.push(item, GFP_ATOMIC).map_err(Error::from))?,
            Err(error) => return Ok((items, Some(error))),
        }
    }
    Ok((items, None))
}

fn zeroed() -> LargeSer {
    LargeSer { words: [0; 256] }
}
