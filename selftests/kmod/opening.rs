// SPDX-License-Identifier: GPL-2.0

//! Each way in which opening fails, and that what was to be opened stays.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::command::{
    given,
    Words, //
};
use crate::pattern::ItemSer;
use crate::reply::Reply;

kpreserve::preservable! {
    /// `ItemSer`, a version later.
    pub(crate) struct ItemV2Ser {
        pub(crate) number: u64,
        pub(crate) words: [u64; 7],
    }
    compatible = "selftest-item", version = 2

    /// `ItemSer` with a field that somebody renamed without a new version.
    pub(crate) struct ItemRenamedSer {
        pub(crate) number: u64,
        pub(crate) letters: [u64; 7],
    }
    compatible = "selftest-item", version = 1

    /// Of the same layout, but something else.
    pub(crate) struct OtherSer {
        pub(crate) number: u64,
        pub(crate) words: [u64; 7],
    }
    compatible = "selftest-other", version = 1
}

const NAME: &CStr = c"selftest/opening";

fn as_type<T: Preservable>() -> Result {
    Cache::<T>::open(NAME, GFP_KERNEL).map(drop)
}

/// `open WAY`: its errno is that of the opening.
pub(crate) fn run(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let way = words.word()?;
    let cache = given("cache", Cache::<ItemSer>::open(NAME, GFP_KERNEL))?;
    let handle = given("item", cache.alloc(ItemSer::new(1, 2), GFP_KERNEL))?.park();
    let outcome = match way {
        "busy" => as_type::<ItemSer>(),
        "busy-area" => {
            let _area = given("area", PVec::<u64>::open(c"selftest/area", GFP_KERNEL))?;
            PVec::<u64>::open(c"selftest/area", GFP_KERNEL).map(drop)
        }
        "busy-object" => {
            let new = || ItemSer::new(1, 3);
            let _object = given("object", Named::open(c"selftest/object", new(), GFP_KERNEL))?;
            Named::<ItemSer>::open(c"selftest/object", new(), GFP_KERNEL).map(drop)
        }
        // Of another kind.
        "kind" => PVec::<ItemSer>::open(NAME, GFP_KERNEL).map(drop),
        "empty" => Cache::<ItemSer>::open(c"", GFP_KERNEL).map(drop),
        "reserved" => Cache::<ItemSer>::open(c".mine", GFP_KERNEL).map(drop),
        "long" => {
            let name = CString::try_from_fmt(fmt!("{:0256}", 0))?;
            Cache::<ItemSer>::open(&name, GFP_KERNEL).map(drop)
        }
        // The longest name there can be.
        "longest" => {
            let name = CString::try_from_fmt(fmt!("{:0255}", 0))?;
            Cache::<ItemSer>::open(&name, GFP_KERNEL).map(drop)
        }
        "atomic" => Cache::<ItemSer>::open(NAME, GFP_ATOMIC).map(drop),
        // These three are not told that the cache is busy: nothing of theirs is there.
        "version" => as_type::<ItemV2Ser>(),
        "layout" => as_type::<ItemRenamedSer>(),
        "compatible" => as_type::<OtherSer>(),
        _ => Err(EPROTO),
    };
    given("the object is still there", cache.discard(handle))?;
    drop(cache);
    given("open again", as_type::<ItemSer>())?;
    outcome
}
