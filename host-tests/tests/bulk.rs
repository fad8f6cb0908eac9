// SPDX-License-Identifier: GPL-2.0

//! Many objects at once: the same as one by one, all or none, and at most half of it lost to a cut.

use std::collections::BTreeSet;

use kernel::alloc::{
    flags::GFP_KERNEL,
    KVec, //
};
use kernel::error::code::{
    EINVAL,
    ENOMEM, //
};
use kernel::error::Error;
use kpreserve::{
    Cache,
    Open as _,
    Preserved, //
};
use kpreserve_testing::{
    Config,
    Kernel, //
};
use pin_init::{
    init_from_closure,
    Init, //
};

kpreserve::preservable! {
    /// 64 bytes, 62 to a page.
    pub struct LineSer {
        /// Which one.
        pub id: u64,
        /// What follows from `id`.
        pub words: [u64; 7],
    }
    compatible = "line", version = 1
}

kpreserve::preservable! {
    /// 12 bytes: a slot has more.
    pub struct SmallSer {
        /// Which one.
        pub id: u32,
        /// What follows from `id`.
        pub words: [u32; 2],
    }
    compatible = "small", version = 1
}

impl LineSer {
    fn new(id: u64) -> Self {
        Self {
            id,
            words: [id ^ 0x55; 7],
        }
    }

    fn is_whole(&self) -> bool {
        self.words == [self.id ^ 0x55; 7]
    }
}

/// Finds zeros, and fails for `bad`.
fn line(id: u64, bad: Option<u64>) -> impl Init<LineSer, Error> {
    let init = move |place: *mut LineSer| {
        // SAFETY: the slot of the object, which is the initialiser's.
        let place = unsafe { &mut *place };
        assert_eq!((place.id, place.words), (0, [0; 7]), "old bytes");
        *place = LineSer::new(id);
        match bad {
            Some(bad) if bad == id => Err(EINVAL),
            _ => Ok(()),
        }
    };
    // SAFETY: on success all is written; on failure there is nothing to drop.
    unsafe { init_from_closure(init) }
}

fn cache(kernel: &Kernel) -> Cache<LineSer> {
    Cache::open_in(kernel.framework(), c"lines", GFP_KERNEL).unwrap()
}

fn ids(objects: &KVec<Preserved<LineSer>>) -> Vec<u64> {
    assert!(objects.iter().all(|object| object.is_whole()));
    objects.iter().map(|object| object.id).collect()
}

fn addresses(objects: &KVec<Preserved<LineSer>>) -> BTreeSet<usize> {
    objects
        .iter()
        .map(|object| core::ptr::from_ref::<LineSer>(object).addr())
        .collect()
}

/// Puts so many slots behind the words that they come by words.
fn warm(cache: &Cache<LineSer>) {
    let mut objects = KVec::new();
    cache
        .alloc_bulk(&mut objects, 2000, |i| line(i as u64, None), GFP_KERNEL)
        .unwrap();
    cache.free_bulk(&mut objects);
}

/// Whether every slot is free again, and known to be.
fn assert_all_free(cache: &Cache<LineSer>) {
    cache.raw().drain_here();
    let counts = cache.raw().counts();
    assert_eq!(counts.nr_objects, 0);
    assert_eq!(counts.nr_quarantined, 0);
    assert_eq!(
        cache.raw().nr_pages_empty() * 4096,
        counts.bytes,
        "slots were lost"
    );
}

#[test]
fn many_are_as_good_as_one_by_one() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    for nr in [0, 1, 7, 8, 9, 61, 62, 63, 64, 124, 500] {
        cache
            .alloc_bulk(&mut objects, nr, |i| line(i as u64, None), GFP_KERNEL)
            .unwrap();
        assert_eq!(ids(&objects), (0..nr as u64).collect::<Vec<_>>());
        assert_eq!(addresses(&objects).len(), nr, "a slot was given out twice");
        assert_eq!(cache.raw().counts().nr_objects, nr);
        cache.free_bulk(&mut objects);
        assert!(objects.is_empty());
        assert_all_free(&cache);
    }
}

#[test]
fn they_are_appended_to_what_is_there() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    for _ in 0..3 {
        let mut next = objects.len() as u64;
        let init = |_| {
            next += 1;
            line(next - 1, None)
        };
        cache
            .alloc_bulk(&mut objects, 70, init, GFP_KERNEL)
            .unwrap();
    }
    assert_eq!(ids(&objects), (0..210).collect::<Vec<_>>());
}

#[test]
fn whoever_is_freed_in_any_order_leaves_zeros() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    let mut seed = 1u64;
    for round in 0..60 {
        let nr = 1 + (round * 37) % 300;
        cache
            .alloc_bulk(&mut objects, nr, |i| line(i as u64, None), GFP_KERNEL)
            .unwrap();
        assert_eq!(addresses(&objects).len(), objects.len());
        // Some go one by one, from anywhere; the rest at once, in a new order.
        let mut rest = KVec::new();
        while let Some(object) = objects.pop() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match (seed >> 33) % 4 {
                0 => drop(object),
                1 => rest.push(object, GFP_KERNEL).unwrap(),
                _ => {
                    let at = (seed >> 40) as usize % (rest.len() + 1);
                    rest.reserve(1, GFP_KERNEL).unwrap();
                    rest.insert_within_capacity(at, object).ok().unwrap();
                }
            }
        }
        cache.free_bulk(&mut rest);
        assert_all_free(&cache);
    }
}

#[test]
fn an_initialiser_that_fails_leaves_none() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    warm(&cache);
    let mut objects = KVec::new();
    cache
        .alloc_bulk(&mut objects, 3, |i| line(1000 + i as u64, None), GFP_KERNEL)
        .unwrap();
    for bad in [0, 1, 7, 8, 40, 61, 62, 99, 149] {
        let result = cache.alloc_bulk(&mut objects, 150, |i| line(i as u64, Some(bad)), GFP_KERNEL);
        assert_eq!(result, Err(EINVAL));
        assert_eq!(ids(&objects), [1000, 1001, 1002]);
        assert_eq!(cache.raw().counts().nr_objects, 3);
    }
    // Everything that was touched is zeros: `line` looks.
    cache
        .alloc_bulk(&mut objects, 3000, |i| line(i as u64, None), GFP_KERNEL)
        .unwrap();
    cache.free_bulk(&mut objects);
    assert_all_free(&cache);
}

#[test]
fn memory_that_runs_out_leaves_none() {
    let kernel = Kernel::boot_with(Config::with_pages(400));
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    let result = cache.alloc_bulk(&mut objects, 100_000, |i| line(i as u64, None), GFP_KERNEL);
    assert_eq!(result, Err(ENOMEM));
    assert!(objects.is_empty());
    assert_eq!(cache.raw().counts().nr_objects, 0);
    cache
        .alloc_bulk(&mut objects, 1000, |i| line(i as u64, None), GFP_KERNEL)
        .unwrap();
    assert_eq!(ids(&objects).len(), 1000);
}

#[test]
fn objects_of_another_cache_are_freed_there() {
    let kernel = Kernel::boot();
    let ours = cache(&kernel);
    let others = Cache::<LineSer>::open_in(kernel.framework(), c"others", GFP_KERNEL).unwrap();
    warm(&ours);
    warm(&others);
    let mut objects = KVec::new();
    for _ in 0..20 {
        ours.alloc_bulk(&mut objects, 9, |i| line(i as u64, None), GFP_KERNEL)
            .unwrap();
        others
            .alloc_bulk(&mut objects, 9, |i| line(i as u64, None), GFP_KERNEL)
            .unwrap();
    }
    ours.free_bulk(&mut objects);
    assert_all_free(&ours);
    assert_all_free(&others);
}

#[test]
fn objects_smaller_than_their_slots_are_freed_as_well() {
    let kernel = Kernel::boot();
    let cache = Cache::<SmallSer>::open_in(kernel.framework(), c"small", GFP_KERNEL).unwrap();
    let mut objects = KVec::new();
    for _ in 0..3 {
        let small = |i: usize| SmallSer {
            id: i as u32,
            words: [i as u32; 2],
        };
        cache
            .alloc_bulk(&mut objects, 700, small, GFP_KERNEL)
            .unwrap();
        cache.free_bulk(&mut objects);
        assert_eq!(cache.raw().counts().nr_objects, 0);
    }
    assert_eq!(cache.raw().counts().nr_quarantined, 0);
}

#[test]
fn tags_go_on_past_their_wrap() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    for _ in 0..300 {
        cache
            .alloc_bulk(&mut objects, 62, |i| line(i as u64, None), GFP_KERNEL)
            .unwrap();
        for object in &objects {
            let tag = object.handle().tag();
            assert!(tag & 1 == 1 && tag != 255, "tag {tag}");
        }
        cache.free_bulk(&mut objects);
    }
}

#[test]
fn the_next_kernel_finds_what_was_published() {
    let kernel = Kernel::boot();
    let cache = cache(&kernel);
    let mut objects = KVec::new();
    cache
        .alloc_bulk(&mut objects, 200, |i| line(i as u64, None), GFP_KERNEL)
        .unwrap();
    let mut half = KVec::new();
    for _ in 0..100 {
        half.push(objects.pop().unwrap(), GFP_KERNEL).unwrap();
    }
    cache.free_bulk(&mut half);
    core::mem::forget(objects);
    drop(cache);
    let kernel = kernel.kexec();
    let cache = self::cache(&kernel);
    let found: BTreeSet<u64> = cache
        .unclaimed()
        .map(|object| {
            assert!(object.is_whole());
            object.id
        })
        .collect();
    assert_eq!(found, (0..100).collect());
}
