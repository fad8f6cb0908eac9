// SPDX-License-Identifier: GPL-2.0

//! Vectors, against the kernel crate's `VVec`, which nothing preserves.

use core::hint::black_box;

use kpreserve::prelude::*;

use crate::peers::timed;
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

/// Words that are added at once.
const NR_EXTEND: usize = 50;

/// `vec.push N`: N words pushed to an empty vector, growth included; and again into room that is there. Popped
/// after each; then added by fifties.
pub(crate) fn push(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr = words.number()?;
    let mut ours = PVec::<u64>::open(c"bench/vector", GFP_KERNEL)?;
    let mut peer = VVec::<u64>::new();
    for name in ["vec.push", "vec.push.reserved"] {
        let (ours_ns, ()) = timed(|| hot_push(&mut ours, nr))?;
        let (peer_ns, ()) = timed(|| hot_peer_push(&mut peer, nr))?;
        if ours.iter().ne(peer.iter()) {
            return Err(EBADMSG);
        }
        let (ours_ns, peer_ns) = (Figure::per(ours_ns, nr), Figure::per(peer_ns, nr));
        reply.row(name, nr, ours_ns, "VVec", peer_ns);
        let (ours_ns, ours_sum) = timed(|| hot_pop(&mut ours))?;
        let (peer_ns, peer_sum) = timed(|| hot_peer_pop(&mut peer))?;
        if ours_sum != peer_sum || !ours.is_empty() {
            return Err(EBADMSG);
        }
        let (ours_ns, peer_ns) = (Figure::per(ours_ns, nr), Figure::per(peer_ns, nr));
        reply.row("vec.pop", nr, ours_ns, "VVec", peer_ns);
    }
    let words = [1u64; NR_EXTEND];
    let (ours_ns, ()) =
        timed(|| (0..nr / NR_EXTEND).try_for_each(|_| ours.extend_from_slice(&words)))?;
    let (peer_ns, ()) = timed(|| {
        (0..nr / NR_EXTEND).try_for_each(|_| Ok(peer.extend_from_slice(&words, GFP_KERNEL)?))
    })?;
    if ours.iter().ne(peer.iter()) {
        return Err(EBADMSG);
    }
    let (ours_ns, peer_ns) = (Figure::per(ours_ns, nr), Figure::per(peer_ns, nr));
    reply.row("vec.extend", nr, ours_ns, "VVec", peer_ns);
    reply.put("runs", ours.nr_runs() as u64);
    ours.discard()
}

#[inline(never)]
fn hot_push(vector: &mut PVec<u64>, nr: usize) -> Result {
    for word in 0..nr as u64 {
        vector.push(word)?;
    }
    Ok(())
}

#[inline(never)]
fn hot_pop(vector: &mut PVec<u64>) -> Result<u64> {
    let mut sum = 0;
    while let Some(word) = vector.pop()? {
        sum += black_box(word);
    }
    Ok(sum)
}

#[inline(never)]
fn hot_peer_pop(vector: &mut VVec<u64>) -> Result<u64> {
    let mut sum = 0;
    while let Some(word) = vector.pop() {
        sum += black_box(word);
    }
    Ok(sum)
}

#[inline(never)]
fn hot_peer_push(vector: &mut VVec<u64>, nr: usize) -> Result {
    for word in 0..nr as u64 {
        vector.push(word, GFP_KERNEL)?;
    }
    Ok(())
}
