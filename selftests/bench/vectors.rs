// SPDX-License-Identifier: GPL-2.0

//! Vectors, against the kernel crate's `VVec`, which nothing preserves.

use kpreserve::prelude::*;

use crate::peers::timed;
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

/// `vec.push N`: N words pushed to an empty vector, growth included; and again into room that is there.
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
        ours.truncate(0)?;
        peer.clear();
    }
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
fn hot_peer_push(vector: &mut VVec<u64>, nr: usize) -> Result {
    for word in 0..nr as u64 {
        vector.push(word, GFP_KERNEL)?;
    }
    Ok(())
}
