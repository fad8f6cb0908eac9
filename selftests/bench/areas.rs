// SPDX-License-Identifier: GPL-2.0

//! Areas, against vmalloc areas that KHO preserves.

use kpreserve::global::framework;
use kpreserve::kho::{
    kho::KHO,
    phys::PAGE_SIZE_BYTES,
    Effort,
    Ledger,
    Node,
    PageRun, //
};
use kpreserve::prelude::*;

use crate::boot::{
    self,
    Baseline, //
};
use crate::peers::{
    self,
    noted,
    timed,
    VmArea, //
};
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

/// Words of a page.
const PAGE_WORDS: usize = PAGE_SIZE_BYTES / 8;
/// What vmalloc_huge() has huge pages for.
const HUGE_BYTES: usize = 2 << 20;
/// The first word of a page is this and its number.
const PAGE_WORD: u64 = 0x6b70_0000_0000_0000;

/// The area that crosses.
fn open() -> Result<Area<u64>> {
    Area::open(c"bench/area", GFP_KERNEL)
}

/// Makes our area; returns the time.
fn fill(area: &mut Area<u64>, size_bytes: usize) -> Result<u64> {
    let (ns, ()) = timed(|| area.resize(size_bytes / 8))?;
    let mut number = 0;
    for chunk in area.chunks_mut() {
        for page in chunk.chunks_mut(PAGE_WORDS) {
            if let Some(word) = page.first_mut() {
                *word = PAGE_WORD + number;
            }
            number += 1;
        }
    }
    Ok(ns)
}

/// What it takes to allocate the runs of an area like `area`, and then to preserve and to record them,
/// as the arena does all of it.
fn runs_alone(area: &Area<u64>, orders: &[u8]) -> Result<(u64, u64)> {
    let ledger: &dyn Ledger = framework()?;
    let pass = ledger.gate().enter()?;
    let mut runs = KVVec::with_capacity(orders.len(), GFP_KERNEL)?;
    let mut recorded = KVVec::with_capacity(orders.len(), GFP_KERNEL)?;
    let owner = area.handle().id();
    let (alloc_ns, ()) = timed(|| {
        for &order in orders {
            let run = PageRun::alloc(&KHO, order, Node::ANY, Effort::Light)?;
            runs.push(run, GFP_KERNEL)?;
        }
        Ok(())
    })?;
    let (preserve_ns, ()) = timed(|| {
        for run in runs.into_iter() {
            let run = run.preserve()?;
            let (phys, order, index) = (run.phys(), run.order(), recorded.len() as u32);
            // SAFETY: just preserved; the arena is ours, and has no runs of its own.
            let slot = unsafe { ledger.record(&pass, phys, order, owner, index) }?;
            recorded.push((run, slot), GFP_KERNEL)?;
        }
        Ok(())
    })?;
    for (run, slot) in recorded.into_iter() {
        // SAFETY: recorded above, and nobody uses the run.
        unsafe { ledger.erase(&pass, slot) };
        drop(run.unpreserve());
    }
    Ok((alloc_ns, preserve_ns))
}

/// The orders of the runs of an area.
fn orders_of(area: &Area<u64>) -> Result<KVVec<u8>> {
    let mut orders = KVVec::with_capacity(area.nr_runs(), GFP_KERNEL)?;
    for chunk in area.chunks() {
        let nr_pages = size_of_val(chunk) / PAGE_SIZE_BYTES;
        orders.push(nr_pages.checked_ilog2().unwrap_or(0) as u8, GFP_KERNEL)?;
    }
    Ok(orders)
}

/// What areas are compared with: there are huge pages only for what is large enough, in memory that
/// has some.
fn peers_of(size_bytes: usize, is_fragmented: bool) -> &'static [(&'static str, bool)] {
    const PEERS: &[(&str, bool)] = &[("kho_vmalloc-small", false), ("kho_vmalloc-huge", true)];
    let has_huge = size_bytes >= HUGE_BYTES && !is_fragmented;
    PEERS.get(..1 + usize::from(has_huge)).unwrap_or(PEERS)
}

/// `area.preserve BYTES [fragmented]`. Ours is preserved as it is made, so what that costs is measured on the same
/// runs apart: as the difference of two totals it would drown in the zeroing of the memory.
pub(crate) fn preserve(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let size_bytes = words.number()?;
    let is_fragmented = is_fragmented(words);
    let mut area = Area::<u64>::open(c"bench/preserve-area", GFP_KERNEL)?;
    let make_ns = fill(&mut area, size_bytes)?;
    reply.put("runs", area.nr_runs() as u64);
    let orders = orders_of(&area)?;
    area.resize(0)?;
    let (alloc_ns, preserve_ns) = runs_alone(&area, &orders)?;
    reply.put("alloc_ns", alloc_ns);
    reply.put("make_more_than_alloc_ns", make_ns.saturating_sub(alloc_ns));
    area.discard()?;
    for &(peer_name, huge) in peers_of(size_bytes, is_fragmented) {
        let peer = VmArea::make(size_bytes, huge)?;
        reply.row(
            name(is_fragmented, "area.make", "area.fragmented.make"),
            size_bytes,
            Figure::of(make_ns as i64),
            peer_name,
            Figure::of((peer.alloc_ns + peer.preserve_ns) as i64),
        );
        reply.row(
            name(is_fragmented, "area.preserve", "area.fragmented.preserve"),
            size_bytes,
            Figure::of(preserve_ns as i64),
            peer_name,
            Figure::of(peer.preserve_ns as i64),
        );
    }
    Ok(())
}

/// Whether the next word says so.
fn is_fragmented(words: &mut Words<'_>) -> bool {
    words.word() == Ok("fragmented")
}

fn name(is_fragmented: bool, plain: &'static str, fragmented: &'static str) -> &'static str {
    if is_fragmented {
        fragmented
    } else {
        plain
    }
}

/// `area.map BYTES`: a contiguous view, against vmap() of as many pages, whose array is there.
pub(crate) fn map(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let size_bytes = words.number()?;
    let is_fragmented = is_fragmented(words);
    let mut area = Area::<u64>::open(c"bench/map-area", GFP_KERNEL)?;
    fill(&mut area, size_bytes)?;
    reply.put("runs", area.nr_runs() as u64);
    let (map_ns, view) = timed(|| area.map())?;
    let last = view.len() / PAGE_WORDS * PAGE_WORDS - PAGE_WORDS;
    if view.get(last) != Some(&(PAGE_WORD + (last / PAGE_WORDS) as u64)) {
        return Err(EBADMSG);
    }
    let (unmap_ns, ()) = timed(|| {
        drop(view);
        Ok(())
    })?;
    reply.put("unmap_ns", unmap_ns);
    area.discard()?;
    let vmap_ns = VmArea::make(size_bytes, false)?.map(size_bytes)?;
    reply.row(
        name(is_fragmented, "area.map", "area.fragmented.map"),
        size_bytes,
        Figure::of(map_ns as i64),
        "vmap",
        Figure::of(vmap_ns as i64),
    );
    Ok(())
}

/// `memory.fragment ORDER`: until `memory.give`, no free block is larger than that.
pub(crate) fn fragment(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let order = words.number()?;
    reply.put("taken_pages", peers::fragment_memory(order as u32));
    Ok(())
}

/// `memory.give`.
pub(crate) fn give(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    peers::give_memory();
    Ok(())
}

/// `area.ours.make BYTES`.
pub(crate) fn make(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let mut area = open()?;
    fill(&mut area, words.number()?)?;
    reply.put("runs", area.nr_runs() as u64);
    Ok(())
}

/// `area.ours.adopt BYTES`: the framework's init, the opening, and a look at each page.
pub(crate) fn adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let size_bytes = words.number()?;
    let init_ns = peers::init_ns();
    let (open_ns, area) = timed(open)?;
    let (look_ns, wrong) = timed(|| {
        // As the peer's loop: a word, a comparison, the next page.
        let (mut wrong, mut expected) = (0, PAGE_WORD);
        for chunk in area.chunks() {
            let mut at = 0;
            while let Some(word) = chunk.get(at) {
                wrong |= word ^ expected;
                expected += 1;
                at += PAGE_WORDS;
            }
        }
        Ok(wrong)
    })?;
    if wrong != 0 || area.len() * 8 != size_bytes {
        return Err(EBADMSG);
    }
    reply.put("init_ns", init_ns);
    reply.put("open_ns", open_ns);
    reply.put("look_ns", look_ns);
    peers::note("ours", "restore", init_ns + open_ns + look_ns)?;
    area.discard()
}

/// `area.small.make BYTES`.
pub(crate) fn small_make(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    leave("small", words.number()?, false)
}

/// `area.huge.make BYTES`.
pub(crate) fn huge_make(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    leave("huge", words.number()?, true)
}

fn leave(side: &str, size_bytes: usize, huge: bool) -> Result {
    let place = VmArea::make(size_bytes, huge)?.leave();
    peers::note(side, "0", place[0])?;
    peers::note(side, "1", place[1])
}

/// `area.small.adopt BYTES`.
pub(crate) fn small_adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    adopt_peer("small", words.number()?, reply)
}

/// `area.huge.adopt BYTES`.
pub(crate) fn huge_adopt(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    adopt_peer("huge", words.number()?, reply)
}

fn adopt_peer(side: &str, size_bytes: usize, reply: &mut Reply) -> Result {
    let place = [noted(side, "0")?, noted(side, "1")?];
    let ns = VmArea::adopt(place, size_bytes)?;
    reply.put("restore_ns", ns);
    peers::note(side, "restore", ns)
}

/// `area.rows BYTES [fragmented]`: what the kernels of this chain have noted.
pub(crate) fn rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let is_fragmented = is_fragmented(words);
    let baseline = Baseline::read()?;
    for (peer_name, peer) in [("kho_vmalloc-huge", "huge"), ("kho_vmalloc-small", "small")] {
        let added = |side: &str| baseline.added(side);
        let row = name(is_fragmented, "area.boot", "area.fragmented.boot");
        boot::row(reply, row, n, peer_name, added, peer)?;
        let restore = |side: &str| Ok(noted(side, "restore")? as i64);
        let row = name(is_fragmented, "area.restore", "area.fragmented.restore");
        boot::row(reply, row, n, peer_name, restore, peer)?;
    }
    Ok(())
}
