// SPDX-License-Identifier: GPL-2.0

//! Debug builds see memory that is written to by who does not own it, and objects that are freed
//! twice. The tests are debug builds.
//!
//! Tried against code that was broken on purpose (check.rs, unless it says another file):
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a slot of a quarantined slab is handed out | 4 tests |
//! | the tag is not looked at when an object is freed | `an_object_that_was_freed_...`, `a_row_with_...` |
//! | nor when a row is | `a_row_with_...` |
//! | `discard()` does not know the size of the object (cache.rs) | `..._when_it_is_discarded` |

use kernel::alloc::{
    flags::GFP_KERNEL,
    KVec, //
};
use kernel::types::ForeignOwnable as _;
use kpreserve::{
    Cache,
    CacheOptions,
    Open as _,
    OpenWith as _,
    Preserved, //
};
use kpreserve_testing::Kernel;

kpreserve::preservable! {
    /// 24 bytes.
    pub struct ThreeSer {
        /// Anything.
        pub words: [u64; 3],
    }
    compatible = "three", version = 1
}

const WORDS: ThreeSer = ThreeSer { words: [7; 3] };

/// A cache with 40 bytes behind each object.
fn cache(kernel: &Kernel) -> Cache<ThreeSer> {
    let options = CacheOptions {
        align_bytes: 64,
        ..CacheOptions::NONE
    };
    let framework = kernel.framework();
    Cache::open_with_in(framework, c"three", &options, GFP_KERNEL).unwrap()
}

fn address(object: &Preserved<ThreeSer>) -> *mut u8 {
    core::ptr::from_ref::<ThreeSer>(object).cast_mut().cast()
}

/// Writes where nothing of ours is.
fn damage(at: *mut u8) {
    // SAFETY: memory of the simulated machine, of a slot that nobody else uses just now.
    unsafe { at.write_volatile(0x5a) };
}

#[test]
fn a_write_after_the_free_is_seen_at_the_next_allocation() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    for offset in [0, 23, 24, 63] {
        let object = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        let at = address(&object);
        drop(object);
        let before = cache.raw().counts().nr_quarantined;
        damage(at.wrapping_add(offset));
        // The CPU would hand out the very slot.
        let next = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        assert_ne!(address(&next), at, "a slot with old bytes was handed out");
        // A slab is quarantined once.
        assert!(cache.raw().counts().nr_quarantined >= before.max(1));
        core::mem::forget(next);
    }
}

#[test]
fn a_write_after_the_free_is_seen_by_bulk_allocation() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    cache
        .alloc_bulk(&mut objects, 500, |_| WORDS, GFP_KERNEL)
        .unwrap();
    let at = address(&objects[300]);
    cache.free_bulk(&mut objects);
    cache.raw().drain_here();
    damage(at.wrapping_add(8));
    cache
        .alloc_bulk(&mut objects, 1000, |_| WORDS, GFP_KERNEL)
        .unwrap();
    assert!(objects.iter().all(|object| address(object) != at));
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
}

#[test]
fn a_write_behind_an_object_is_seen_when_it_is_freed() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    for (nr, offset) in [24, 40, 63].into_iter().enumerate() {
        let object = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        let at = address(&object);
        damage(at.wrapping_add(offset));
        drop(object);
        // Each time another slab: the one before is not used any more.
        assert_eq!(cache.raw().counts().nr_quarantined, nr + 1);
        let next = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        assert_ne!(address(&next), at, "the slot was handed out again");
        drop(next);
    }
}

#[test]
fn a_write_behind_an_object_is_seen_when_it_is_discarded() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let object = cache.alloc(WORDS, GFP_KERNEL).unwrap();
    damage(address(&object).wrapping_add(24));
    cache.discard(object.park()).unwrap();
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
}

#[test]
fn nothing_of_a_quarantined_slab_is_handed_out_any_more() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let page = |object: &Preserved<ThreeSer>| address(object).addr() / 4096;
    let mut objects: Vec<_> = (0..10)
        .map(|_| cache.alloc(WORDS, GFP_KERNEL).unwrap())
        .collect();
    let bad = page(&objects[0]);
    assert!(objects.iter().all(|object| page(object) == bad));
    // The CPU has the other slots of the slab; and gets more, from who frees.
    let last = objects.pop().unwrap();
    damage(address(&last).wrapping_add(24));
    drop(last);
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
    objects.truncate(5);
    let more: Vec<_> = (0..300)
        .map(|_| cache.alloc(WORDS, GFP_KERNEL).unwrap())
        .collect();
    assert!(more.iter().all(|object| page(object) != bad));
    // Its objects are as good as ever, and can be freed.
    assert!(objects.iter().all(|object| object.words == WORDS.words));
    drop(objects);
    cache.raw().drain_here();
    let mut many = KVec::new();
    cache
        .alloc_bulk(&mut many, 300, |_| WORDS, GFP_KERNEL)
        .unwrap();
    assert!(many.iter().all(|object| page(object) != bad));
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
}

/// C frees twice.
#[test]
fn an_object_that_was_freed_is_not_freed_again() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let other = cache.alloc(WORDS, GFP_KERNEL).unwrap();
    let pointer = cache.alloc(WORDS, GFP_KERNEL).unwrap().into_foreign();
    // SAFETY: the first time it is as it should be.
    drop(unsafe { Preserved::<ThreeSer>::from_foreign(pointer) });
    // SAFETY: none; what this is about.
    drop(unsafe { Preserved::<ThreeSer>::from_foreign(pointer) });
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
    let complaints = kernel::print::take_complaints();
    assert!(
        complaints.len() == 1 && complaints[0].contains("tag is"),
        "{complaints:?}"
    );
    let next: Vec<_> = (0..300)
        .map(|_| cache.alloc(WORDS, GFP_KERNEL).unwrap())
        .collect();
    assert!(next.iter().all(|object| address(object) != pointer.cast()));
    assert_eq!(other.words, WORDS.words);
}

/// The same, and in between the row of objects is freed by bulk.
#[test]
fn a_row_with_an_object_that_was_freed_is_not_given_back() {
    let kernel = Kernel::boot();
    let framework = kernel.framework();
    // Slots that objects fill, or rows are freed one by one.
    let cache = Cache::<ThreeSer>::open_in(framework, c"plain", GFP_KERNEL).unwrap();
    let mut many = KVec::new();
    cache
        .alloc_bulk(&mut many, 20, |_| WORDS, GFP_KERNEL)
        .unwrap();
    let pointer = address(&many[7]);
    // SAFETY: none; what this is about.
    drop(unsafe { Preserved::<ThreeSer>::from_foreign(pointer.cast()) });
    assert_eq!(cache.raw().counts().nr_quarantined, 0);
    cache.free_bulk(&mut many);
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
    let next: Vec<_> = (0..300)
        .map(|_| cache.alloc(WORDS, GFP_KERNEL).unwrap())
        .collect();
    let page = |address: *mut u8| address.addr() / 4096;
    assert!(next
        .iter()
        .all(|object| page(address(object)) != page(pointer)));
}

#[test]
fn what_was_written_behind_an_object_does_not_cross() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let object = cache.alloc(WORDS, GFP_KERNEL).unwrap();
    let at = address(&object);
    damage(at.wrapping_add(40));
    drop(object);
    // SAFETY: memory of the simulated machine, which nobody uses.
    let slot = unsafe { core::slice::from_raw_parts(at, 64) };
    assert_eq!(slot, [0; 64]);
}

#[test]
fn nothing_is_seen_where_nothing_is_wrong() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    for _ in 0..1000 {
        let mut object = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        object.words = [u64::MAX; 3];
    }
    assert_eq!(cache.raw().counts().nr_quarantined, 0);
    let plain = Cache::<ThreeSer>::open_in(kernel.framework(), c"plain", GFP_KERNEL).unwrap();
    drop(plain.alloc(WORDS, GFP_KERNEL).unwrap());
    assert_eq!(plain.raw().counts().nr_quarantined, 0);
}
