// SPDX-License-Identifier: GPL-2.0

//! Areas, against vmalloc areas that KHO preserves.

use kpreserve::kho::{
    kho::KHO,
    phys::{
        MAX_ORDER,
        PAGE_SIZE_BYTES, //
    },
    Effort,
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

/// What it takes to allocate the runs of such an area, and then to preserve them, as the arena does
/// both.
fn runs_alone(size_bytes: usize) -> Result<(u64, u64)> {
    let nr_runs = size_bytes.div_ceil(PAGE_SIZE_BYTES << MAX_ORDER);
    let mut runs = KVVec::with_capacity(nr_runs, GFP_KERNEL)?;
    let mut preserved = KVVec::with_capacity(nr_runs, GFP_KERNEL)?;
    let (alloc_ns, ()) = timed(|| {
        for _ in 0..nr_runs {
            let run = PageRun::alloc(&KHO, MAX_ORDER, Node::ANY, Effort::Light)?;
            runs.push(run, GFP_KERNEL)?;
        }
        Ok(())
    })?;
    let (preserve_ns, ()) = timed(|| {
        for run in runs.into_iter() {
            preserved.push(run.preserve()?, GFP_KERNEL)?;
        }
        Ok(())
    })?;
    for run in preserved.into_iter() {
        drop(run.unpreserve());
    }
    Ok((alloc_ns, preserve_ns))
}

/// `area.preserve BYTES`. Ours is preserved as it is made, so what that costs is measured on the same
/// runs apart: as the difference of two totals it would drown in the zeroing of the memory.
pub(crate) fn preserve(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let size_bytes = words.number()?;
    let (alloc_ns, runs_ns) = runs_alone(size_bytes)?;
    let mut area = Area::<u64>::open(c"bench/preserve-area", GFP_KERNEL)?;
    let make_ns = fill(&mut area, size_bytes)?;
    reply.put("runs", area.nr_runs() as u64);
    reply.put("alloc_ns", alloc_ns);
    reply.put("make_more_than_alloc_ns", make_ns.saturating_sub(alloc_ns));
    area.discard()?;
    for (peer_name, huge) in [("kho_vmalloc-huge", true), ("kho_vmalloc-small", false)] {
        let peer = VmArea::make(size_bytes, huge)?;
        reply.row(
            "area.make",
            size_bytes,
            Figure::of(make_ns as i64),
            peer_name,
            Figure::of((peer.alloc_ns + peer.preserve_ns) as i64),
        );
        reply.row(
            "area.preserve",
            size_bytes,
            Figure::of(runs_ns as i64),
            peer_name,
            Figure::of(peer.preserve_ns as i64),
        );
    }
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
        let (mut wrong, mut number) = (0, 0);
        for chunk in area.chunks() {
            for page in chunk.chunks(PAGE_WORDS) {
                wrong |= page.first().copied().unwrap_or(0) ^ (PAGE_WORD + number);
                number += 1;
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

/// `area.rows BYTES`: what the kernels of this chain have noted.
pub(crate) fn rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let baseline = Baseline::read()?;
    for (peer_name, peer) in [("kho_vmalloc-huge", "huge"), ("kho_vmalloc-small", "small")] {
        let added = |side: &str| baseline.added(side);
        boot::row(reply, "area.boot", n, peer_name, added, peer)?;
        let restore = |side: &str| Ok(noted(side, "restore")? as i64);
        boot::row(reply, "area.restore", n, peer_name, restore, peer)?;
    }
    Ok(())
}
