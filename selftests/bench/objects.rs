// SPDX-License-Identifier: GPL-2.0

//! Objects of 64 bytes: born preserved, against serialized.

use kpreserve::global::framework;
use kpreserve::prelude::*;

use crate::boot::{
    self,
    Baseline, //
};
use crate::peers::{
    self,
    noted,
    timed,
    Blocks,
    Live,
    Naive,
    Records, //
};
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

kpreserve::preservable! {
    /// The same bytes as `struct bench_item` in peers.c.
    pub(crate) struct ItemSer {
        pub(crate) number: u64,
        pub(crate) words: [u64; 7],
    }
    compatible = "bench-item", version = 1
}

impl ItemSer {
    #[inline]
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            words: core::array::from_fn(|i| number + i as u64),
        }
    }

    fn is(&self, number: u64) -> bool {
        let expected = Self::new(number);
        self.number == expected.number && self.words == expected.words
    }
}

/// Beyond this, a page for each object takes more memory than the machine has.
const NR_NAIVE_MAX: usize = 100_000;
/// What a kho_block_set can hold: KHO_MAX_BLOCKS blocks, each of 63 entries and a header.
const NR_BLOCKS_MAX: usize = 630_000;

/// The cache that crosses.
fn cache() -> Result<Cache<ItemSer>> {
    Cache::open(c"bench/objects", GFP_KERNEL)
}

/// Allocates and initialises; returns the time, and the owners.
pub(crate) fn fill(cache: &Cache<ItemSer>, n: usize) -> Result<(u64, KVVec<Preserved<ItemSer>>)> {
    let mut owners = KVVec::with_capacity(n, GFP_KERNEL)?;
    let (ns, ()) = timed(|| {
        for number in 0..n {
            let item = cache.alloc(ItemSer::new(number as u64), GFP_KERNEL)?;
            owners.push(item, GFP_KERNEL)?;
        }
        Ok(())
    })?;
    Ok((ns, owners))
}

/// The least of some freezes, with what is there now.
pub(crate) fn freeze_ns() -> Result<u64> {
    let framework = framework()?;
    let mut least = u64::MAX;
    for _ in 0..16 {
        let (ns, ()) = timed(|| {
            framework.freeze();
            Ok(())
        })?;
        framework.thaw();
        least = least.min(ns);
    }
    Ok(least)
}

/// `objects.preserve N`: what it takes until N objects, which are in use, would reach the next
/// kernel; and what is left to do for that when it comes to a kexec.
///
/// In a chain this comes last, and the cache is a new one: a cache that was once in use keeps some
/// runs, which would be part of every boot after it.
pub(crate) fn preserve(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let cache = Cache::<ItemSer>::open(c"bench/preserve", GFP_KERNEL)?;
    let (fill_ns, owners) = fill(&cache, n)?;
    let freeze_ns = freeze_ns()?;
    let counts = cache.raw().counts();
    drop(owners);
    reply.put("runs", counts.nr_runs as u64);
    reply.put("bytes", counts.bytes as u64);
    // A part of ours: pages are zeros before a slot of them is given out, those of kmem_cache are not.
    let zeroing_ns = peers::clear_page_ns()? * (counts.bytes as u64 >> 12);
    reply.put("zeroing_ns", zeroing_ns);

    let live = Live::make(n)?;
    let alloc_ns = live.alloc_ns.saturating_sub(live.loop_ns);
    let ours = Figure::per(fill_ns.saturating_sub(live.loop_ns), n);
    reply.put("loop_ns", live.loop_ns);
    let mut row = |peer_name: &str, peer_ns: u64| {
        reply.row(
            "object.preserve",
            n,
            ours,
            peer_name,
            Figure::per(peer_ns, n),
        );
    };
    row("kmem_cache, not preserved", alloc_ns);
    let mut fill_of_blocks = None;
    if n <= NR_BLOCKS_MAX {
        let blocks = Blocks::fill(&live)?;
        let serialize_ns = blocks.grow_ns + blocks.fill_ns;
        row("kmem_cache+kho_block_set", alloc_ns + serialize_ns);
        row("kho_block_set, objects not counted", serialize_ns);
        fill_of_blocks = Some(blocks.fill_ns);
    }
    let records = Records::fill(&live)?;
    let serialize_ns = records.fill_ns + records.preserve_ns;
    row("kmem_cache+kho_vmalloc", alloc_ns + serialize_ns);
    row("kho_vmalloc, objects not counted", serialize_ns);
    drop(records);
    drop(live);
    if n <= NR_NAIVE_MAX {
        row("kho_alloc_preserve", Naive::make(n, false)?.ns);
    }

    let ours = Figure::of(freeze_ns as i64);
    let mut row = |peer_name: &str, peer_ns: u64| {
        reply.row(
            "handover.freeze",
            n,
            ours,
            peer_name,
            Figure::of(peer_ns as i64),
        );
    };
    if let Some(ns) = fill_of_blocks {
        row("kho_block_set", ns);
    }
    row("kho_vmalloc", serialize_ns);
    Ok(())
}

/// `ours.make N`: leaves N objects to the next kernel.
pub(crate) fn make(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let cache = cache()?;
    let (_, owners) = fill(&cache, n)?;
    let some = owners.get(n / 2).ok_or(EINVAL)?.handle();
    peers::note("ours", "handle", some.into_raw())?;
    let counts = cache.raw().counts();
    reply.put("runs", counts.nr_runs as u64);
    reply.put("bytes", counts.bytes as u64);
    // Owned until this kernel ends.
    core::mem::forget(owners);
    Ok(())
}

/// `ours.adopt N`: takes the objects over. What counts is the framework's init, the opening of the
/// cache, one allocation and one claim; then apart, taking every object over.
pub(crate) fn adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let handle = Handle::<ItemSer>::from_raw(noted("ours", "handle")?);
    let init_ns = peers::init_ns();
    let (open_ns, cache) = timed(cache)?;
    let (alloc_ns, new) = timed(|| cache.alloc(ItemSer::new(0), GFP_KERNEL))?;
    let (claim_ns, claimed) = timed(|| cache.claim(handle))?;
    if !claimed.is(n as u64 / 2) {
        return Err(EBADMSG);
    }
    let adopt_ns = init_ns + open_ns + alloc_ns + claim_ns;
    for (key, ns) in [
        ("init_ns", init_ns),
        ("open_ns", open_ns),
        ("alloc_ns", alloc_ns),
        ("claim_ns", claim_ns),
    ] {
        reply.put(key, ns);
    }
    peers::note("ours", "adopt", adopt_ns)?;

    let mut owners = KVVec::with_capacity(n, GFP_KERNEL)?;
    let (all_ns, ()) = timed(|| {
        for item in cache.unclaimed() {
            owners.push(item, GFP_KERNEL)?;
        }
        Ok(())
    })?;
    peers::note("ours", "all", adopt_ns + all_ns)?;
    drop(new);
    let mut sum = claimed.number;
    for item in &owners {
        if !item.is(item.number) {
            return Err(EBADMSG);
        }
        sum += item.number;
    }
    if owners.len() + 1 != n || sum != n as u64 * (n as u64 - 1) / 2 {
        return Err(EBADMSG);
    }
    Ok(())
}

/// `blocks.make N`.
pub(crate) fn blocks_make(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let live = Live::make(words.number()?)?;
    peers::note("blocks", "head", Blocks::fill(&live)?.leave())
}

/// `blocks.adopt N`.
pub(crate) fn blocks_adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let ns = Blocks::adopt(noted("blocks", "head")?, words.number()?)?;
    reply.put("adopt_ns", ns);
    peers::note("blocks", "adopt", ns)
}

/// `records.make N`.
pub(crate) fn records_make(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let live = Live::make(words.number()?)?;
    let place = Records::fill(&live)?.leave();
    peers::note("records", "0", place[0])?;
    peers::note("records", "1", place[1])
}

/// `records.adopt N`.
pub(crate) fn records_adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let place = [noted("records", "0")?, noted("records", "1")?];
    let ns = Records::adopt(place, words.number()?)?;
    reply.put("adopt_ns", ns);
    peers::note("records", "adopt", ns)
}

/// `naive.make N`: side by side, as a fresh machine gives them out.
pub(crate) fn naive_make(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    leave_naive("naive", words.number()?, false)
}

/// `scattered.make N`.
pub(crate) fn scattered_make(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    leave_naive("scattered", words.number()?, true)
}

fn leave_naive(side: &str, n: usize, scattered: bool) -> Result {
    peers::note(side, "head", Naive::make(n, scattered)?.leave())
}

/// `naive.adopt N`.
pub(crate) fn naive_adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    adopt_naive("naive", words.number()?, reply)
}

/// `scattered.adopt N`.
pub(crate) fn scattered_adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    adopt_naive("scattered", words.number()?, reply)
}

fn adopt_naive(side: &str, n: usize, reply: &mut Reply) -> Result {
    let ns = Naive::adopt(noted(side, "head")?, n)?;
    reply.put("adopt_ns", ns);
    peers::note(side, "adopt", ns)
}

/// `objects.rows N`: what the kernels of this chain have noted.
pub(crate) fn rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let baseline = Baseline::read()?;
    let peers = [
        ("kho_block_set", "blocks"),
        ("kho_vmalloc", "records"),
        ("kho_alloc_preserve", "naive"),
        ("kho_alloc_preserve, scattered", "scattered"),
    ];
    for (peer_name, peer) in peers {
        let added = |side: &str| baseline.added(side);
        boot::row(reply, "handover.boot", n, peer_name, added, peer)?;
        let adopt = |side: &str| Ok(noted(side, "adopt")? as i64);
        boot::row(reply, "handover.adopt", n, peer_name, adopt, peer)?;
        let all =
            |side: &str| Ok(noted(side, if side == "ours" { "all" } else { "adopt" })? as i64);
        boot::row(reply, "handover.adopt-all", n, peer_name, all, peer)?;
    }
    Ok(())
}
