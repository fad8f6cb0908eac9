// SPDX-License-Identifier: GPL-2.0

//! Maps, against the kernel crate's red-black tree, which nothing preserves.

use kernel::rbtree::RBTree;
use kpreserve::prelude::*;

use crate::peers::timed;
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

/// The `number`th key: in no order.
fn key(number: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// `map.rows N`: N keys inserted into an empty map, looked up, and taken away again.
pub(crate) fn rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr = words.number()?;
    let mut ours = PMap::<u64, u64>::open(c"bench/map", GFP_KERNEL)?;
    let mut peer = RBTree::<u64, u64>::new();
    let mut row = |name: &str, (ours_ns, ()): (u64, ()), (peer_ns, ()): (u64, ())| {
        let (ours_ns, peer_ns) = (Figure::per(ours_ns, nr), Figure::per(peer_ns, nr));
        reply.row(name, nr, ours_ns, "RBTree", peer_ns);
    };
    let ours_took = timed(|| {
        (0..nr).try_for_each(|i| {
            ours.insert(key(i), i as u64)?;
            Ok(())
        })
    })?;
    let peer_took = timed(|| {
        (0..nr).try_for_each(|i| {
            peer.try_create_and_insert(key(i), i as u64, GFP_KERNEL)?;
            Ok(())
        })
    })?;
    row("map.insert", ours_took, peer_took);
    let ours_took = timed(|| expect(nr, |i| ours.get(&key(i)).copied()))?;
    let peer_took = timed(|| expect(nr, |i| peer.get(&key(i)).copied()))?;
    row("map.get", ours_took, peer_took);
    let mut failed = Ok(());
    let ours_took = timed(|| {
        expect(nr, |i| match ours.remove(&key(i)) {
            Ok(value) => value,
            Err(error) => {
                failed = Err(error);
                None
            }
        })
    });
    failed?;
    let ours_took = ours_took?;
    let peer_took = timed(|| expect(nr, |i| peer.remove(&key(i))))?;
    row("map.remove", ours_took, peer_took);
    if !ours.is_empty() || !peer.is_empty() {
        return Err(EBADMSG);
    }
    ours.discard()
}

/// Looks at each key's value.
fn expect(nr: usize, mut value: impl FnMut(usize) -> Option<u64>) -> Result {
    (0..nr).try_for_each(|i| {
        if value(i) == Some(i as u64) {
            Ok(())
        } else {
            Err(EBADMSG)
        }
    })
}
