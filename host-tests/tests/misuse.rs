// SPDX-License-Identifier: GPL-2.0

//! Debug builds see memory that is written to by who does not own it. The tests are debug builds.

use kernel::alloc::{
    flags::GFP_KERNEL,
    KVec, //
};
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
    for offset in [24, 40, 63] {
        let object = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        let at = address(&object);
        damage(at.wrapping_add(offset));
        drop(object);
        assert_eq!(cache.raw().counts().nr_quarantined, 1);
        let next = cache.alloc(WORDS, GFP_KERNEL).unwrap();
        assert_ne!(address(&next), at, "the slot was handed out again");
        drop(next);
    }
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
