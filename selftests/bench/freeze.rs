// SPDX-License-Identifier: GPL-2.0

//! `handover.freeze.2cpus`: the reboot notifier's work, while another CPU allocates and frees. By the
//! clock of the wall: with instructions counted there is one CPU.

use kernel::sync::SetOnce;
use kpreserve::prelude::*;

use crate::kmem;
use crate::objects::{
    self,
    ItemSer, //
};
use crate::peers::{
    Blocks,
    Live, //
};
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

static BESIDE: SetOnce<Cache<ItemSer>> = SetOnce::new();

/// What the other CPU does.
extern "C" fn pairs(n: u64) {
    if let Some(cache) = BESIDE.as_ref() {
        for number in 0..n {
            drop(cache.alloc(ItemSer::new(number), GFP_KERNEL));
        }
    }
}

/// `freeze.two N`: with N objects.
pub(crate) fn two(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    if BESIDE.as_ref().is_none() {
        BESIDE.populate(Cache::open(c"bench/beside", GFP_KERNEL)?);
    }
    let cache = Cache::<ItemSer>::open(c"bench/freeze", GFP_KERNEL)?;
    let (_, owners) = objects::fill(&cache, n)?;
    let (nr_pairs, freeze_ns) = kmem::beside(pairs, objects::freeze_ns)?;
    drop(owners);
    reply.put("pairs_meanwhile", nr_pairs);
    let live = Live::make(n)?;
    let blocks_ns = Blocks::fill(&live)?.fill_ns;
    reply.row(
        "handover.freeze.2cpus",
        n,
        Figure::of(freeze_ns as i64),
        "kho_block_set",
        Figure::of(blocks_ns as i64),
    );
    Ok(())
}
