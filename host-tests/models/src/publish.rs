// SPDX-License-Identifier: GPL-2.0

//! Publishing against a cut: whoever finds a live tag, at whatever moment, finds the whole object.
//!
//! The observer stands for the next kernel, and sees less: a cut sees all that has been stored, the
//! observer what it may see at least. That the tag turns even before the slot is zeroed is tried by
//! the simulated machine's recorder, at each step, torn and overtaken (host-tests/tests/cut.rs).

use kernel::models::{
    Bug, //
};
use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Relaxed, //
};

use crate::world::{
    begin,
    catches,
    holds,
    on_cpu,
    tag_of,
    BigSer,
    World, //
};

const NR_WORDS: usize = 3;

fn word(start: usize, at: usize) -> &'static Atomic<u64> {
    let word = core::ptr::with_exposed_provenance_mut::<u64>(start).wrapping_add(at);
    // SAFETY: inside a slot, aligned, used atomically while the model runs, mapped until its end.
    unsafe { Atomic::from_ptr(word) }
}

/// The initialiser stores words; the order in which they arrive is open.
fn publish_against_cut(publishes_last: bool) {
    let world = World::new::<BigSer>(2);
    let vacant = world.cache.alloc_slot(GFP_KERNEL).unwrap();
    let start = vacant.as_ptr().expose_provenance();
    let tag = tag_of(world.cache, vacant.as_ptr())
        .as_ptr()
        .expose_provenance();
    let phase = begin();
    let observer = on_cpu(1, move || {
        let tag = core::ptr::with_exposed_provenance_mut::<i8>(tag);
        // SAFETY: a tag of a slab, used atomically, mapped until the end.
        let tag: &Atomic<i8> = unsafe { Atomic::from_ptr(tag) };
        if tag.load(Acquire) & 1 == 1 {
            for at in 0..NR_WORDS {
                assert_eq!(
                    word(start, at).load(Relaxed),
                    7,
                    "a live tag on half an object"
                );
            }
        }
    });
    let init = || (0..NR_WORDS).for_each(|at| word(start, at).store(7, Relaxed));
    let slot = if publishes_last {
        init();
        vacant.publish()
    } else {
        let slot = vacant.publish();
        init();
        slot
    };
    observer();
    drop(phase);
    slot.free();
    assert_eq!(word(start, 0).load(Relaxed), 0);
    world.end();
}

#[test]
fn a_live_tag_stands_on_a_whole_object() {
    holds("publish against cut", 3, || publish_against_cut(true));
}

#[test]
fn catches_publish_without_order() {
    catches(Some(Bug::Store), "half an object", 3, || {
        publish_against_cut(true)
    });
}

#[test]
fn catches_publish_before_init() {
    catches(None, "half an object", 3, || publish_against_cut(false));
}
