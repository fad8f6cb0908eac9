// SPDX-License-Identifier: GPL-2.0

//! Claims of one handle, on a whole cache.

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::models::exclusive;
use kernel::prelude::*;
use kpreserve_slab::RawCache;

use crate::world::{
    begin,
    holds,
    on_cpu,
    BigSer,
    World, //
};

/// Claims, and keeps; returns whether that went well.
fn claim(cache: &'static RawCache, handle: u64) -> bool {
    match cache.claim(handle) {
        Ok(slot) => {
            exclusive(slot.as_ptr().addr());
            core::mem::forget(slot);
            true
        }
        Err(error) => {
            assert_eq!(error, EBUSY);
            false
        }
    }
}

fn claim_against_claim() {
    let world = World::new::<BigSer>(2);
    let cache = world.cache;
    let slot = cache.alloc_slot(GFP_KERNEL).unwrap().publish();
    let start = slot.as_ptr().addr();
    let handle = slot.park();
    let phase = begin();
    exclusive(start);
    let other = on_cpu(1, move || claim(cache, handle));
    let mine = claim(cache, handle);
    let other = other();
    drop(phase);
    assert!(mine != other, "one has it");
    world.end();
}

#[test]
fn one_claim_wins() {
    holds("claim against claim", 4, claim_against_claim);
}

/// The object is parked while another one claims it: what was written is there.
fn claim_against_park() {
    let world = World::new::<BigSer>(2);
    let cache = world.cache;
    let slot = cache.alloc_slot(GFP_KERNEL).unwrap().publish();
    let handle = slot.handle();
    let phase = begin();
    exclusive(slot.as_ptr().addr());
    let other = on_cpu(1, move || claim(cache, handle));
    exclusive(slot.as_ptr().addr());
    let _ = slot.park();
    let other = other();
    drop(phase);
    assert!(other != claim(cache, handle));
    world.end();
}

#[test]
fn what_was_parked_is_whole() {
    holds("claim against park", 4, claim_against_park);
}

/// One claims, frees, and parks another object, likely in the same slot; one has the old handle.
fn claim_against_reuse() {
    let world = World::new::<BigSer>(2);
    let cache = world.cache;
    let slot = cache.alloc_slot(GFP_KERNEL).unwrap().publish();
    let handle = slot.park();
    let phase = begin();
    let other = on_cpu(1, move || match cache.claim(handle) {
        Ok(slot) => {
            exclusive(slot.as_ptr().addr());
            slot.free();
            let next = cache.alloc_slot(GFP_NOWAIT).unwrap().publish();
            exclusive(next.as_ptr().addr());
            assert_ne!(next.park(), handle);
            true
        }
        Err(error) => {
            assert_eq!(error, EBUSY);
            false
        }
    });
    let mine = match cache.claim(handle) {
        Ok(slot) => {
            exclusive(slot.as_ptr().addr());
            assert_eq!(slot.handle(), handle, "claimed what the handle is not of");
            core::mem::forget(slot);
            true
        }
        Err(error) => {
            assert!([EBUSY, ENOENT, ESTALE].contains(&error), "{error:?}");
            false
        }
    };
    let other = other();
    drop(phase);
    assert!(mine != other);
    world.end();
}

#[test]
fn an_old_handle_claims_nothing() {
    holds("claim against reuse of the slot", 4, claim_against_reuse);
}
