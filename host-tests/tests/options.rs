// SPDX-License-Identifier: GPL-2.0

//! What may be asked of a cache: alignment, cache lines, a node, a reserve; and objects of any size.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | the layout of the type instead of the options' (open.rs) | 3 tests |
//! | an alignment that is no power of two is rounded | `an_alignment_that_no_cache_...` |
//! | the node is not set (open.rs) | `runs_come_from_the_node_...` |
//! | the reserve is not filled | `a_reserve_is_there_...` |
//! | slots are rounded down to the alignment (geometry.rs) | `objects_of_each_size_...` |

use kernel::prelude::{
    Result,
    EINVAL,
    ENOMEM,
    GFP_ATOMIC,
    GFP_KERNEL, //
};
use kpreserve::{
    Cache,
    CacheOptions,
    Node,
    Open as _,
    OpenWith as _,
    Preservable,
    Preserved, //
};
use kpreserve_testing::Kernel;

kpreserve::preservable! {
    /// 24 bytes.
    pub struct SmallSer {
        /// Anything.
        pub words: [u64; 3],
    }
    compatible = "options-small", version = 1

    /// 40 bytes.
    pub struct MiddleSer {
        /// Anything.
        pub words: [u64; 5],
    }
    compatible = "options-middle", version = 1
}

const SMALL: SmallSer = SmallSer { words: [7; 3] };
const MIDDLE: MiddleSer = MiddleSer { words: [9; 5] };

fn address<T: Preservable>(object: &Preserved<T>) -> usize {
    core::ptr::from_ref::<T>(object).addr()
}

#[test]
fn objects_are_aligned_as_asked() {
    let kernel = Kernel::boot();
    for align_bytes in [8, 16, 128, 1024, 4096] {
        let options = CacheOptions {
            align_bytes,
            ..CacheOptions::NONE
        };
        let name = std::ffi::CString::new(format!("c{align_bytes}")).unwrap();
        let cache = Cache::<SmallSer>::open_with(&name, &options, GFP_KERNEL).unwrap();
        let objects: Vec<_> = (0..20)
            .map(|_| cache.alloc(SMALL, GFP_KERNEL).unwrap())
            .collect();
        for object in &objects {
            assert_eq!(address(object) % align_bytes, 0);
            assert_eq!(object.words, SMALL.words);
        }
    }
    kernel.assert_sound();
}

#[test]
fn objects_keep_to_cache_lines() {
    let kernel = Kernel::boot();
    let options = CacheOptions {
        cache_line: true,
        ..CacheOptions::NONE
    };
    let small = Cache::<SmallSer>::open_with(c"small", &options, GFP_KERNEL).unwrap();
    let middle = Cache::<MiddleSer>::open_with(c"middle", &options, GFP_KERNEL).unwrap();
    assert_eq!(small.raw().geometry().stride_bytes(), 32);
    assert_eq!(middle.raw().geometry().stride_bytes(), 64);
    for _ in 0..100 {
        let object = small.alloc(SMALL, GFP_KERNEL).unwrap();
        assert_eq!(address(&object) / 64, (address(&object) + 23) / 64);
        object.park();
        let object = middle.alloc(MIDDLE, GFP_KERNEL).unwrap();
        assert_eq!(address(&object) % 64, 0);
        object.park();
    }
    kernel.assert_sound();
}

#[test]
fn a_cache_that_is_there_keeps_its_layout() {
    let mut kernel = Kernel::boot();
    let cache = Cache::<SmallSer>::open(c"c", GFP_KERNEL).unwrap();
    let handle = cache.alloc(SMALL, GFP_KERNEL).unwrap().park();
    let options = CacheOptions {
        cache_line: true,
        ..CacheOptions::NONE
    };
    drop(cache);
    for round in 0..3 {
        let cache = Cache::<SmallSer>::open_with(c"c", &options, GFP_KERNEL).unwrap();
        assert_eq!(cache.raw().geometry().stride_bytes(), 24);
        assert_eq!(cache.peek(handle).unwrap().words, SMALL.words);
        drop(cache);
        if round > 0 {
            kernel = kernel.kexec();
        }
    }
}

#[test]
fn an_alignment_that_no_cache_can_have_is_refused() {
    let kernel = Kernel::boot();
    for align_bytes in [3, 24, 8192, usize::MAX, 1 << 63] {
        let options = CacheOptions {
            align_bytes,
            ..CacheOptions::NONE
        };
        let cache = Cache::<SmallSer>::open_with(c"c", &options, GFP_KERNEL);
        assert_eq!(cache.err(), Some(EINVAL), "{align_bytes}");
    }
    // And nothing has been given a name.
    assert_eq!(kernel.framework().stats().nr_names, 0);
    assert_eq!(
        CacheOptions::default().geometry::<[u8; 0]>().err(),
        Some(EINVAL)
    );
}

#[test]
fn runs_come_from_the_node_that_is_asked_for() {
    let kernel = Kernel::boot();
    let nr_on_node = || kernel.machine().counters().alloc_on_node;
    let options = CacheOptions {
        node: Node(1),
        ..CacheOptions::NONE
    };
    let cache = Cache::<SmallSer>::open_with(c"c", &options, GFP_KERNEL).unwrap();
    cache.alloc(SMALL, GFP_KERNEL).unwrap().park();
    assert_eq!(nr_on_node(), 1);
    drop(cache);
    // Of this opening only.
    let cache = Cache::<SmallSer>::open(c"c", GFP_KERNEL).unwrap();
    for _ in 0..1000 {
        cache.alloc(SMALL, GFP_KERNEL).unwrap().park();
    }
    assert_eq!(nr_on_node(), 1);
}

#[test]
fn a_reserve_is_there_for_who_cannot_sleep() {
    let kernel = Kernel::boot();
    let alloc = |options: &CacheOptions, name| -> Result {
        let cache = Cache::<SmallSer>::open_with(name, options, GFP_KERNEL)?;
        cache.alloc(SMALL, GFP_ATOMIC)?.park();
        Ok(())
    };
    assert_eq!(alloc(&CacheOptions::NONE, c"none"), Err(ENOMEM));
    let options = CacheOptions {
        reserve: 1,
        ..CacheOptions::NONE
    };
    assert_eq!(alloc(&options, c"reserve"), Ok(()));
    kernel.assert_sound();
}

fn round_trip<T: Preservable + Copy + PartialEq + core::fmt::Debug>(value: T) {
    let kernel = Kernel::boot();
    let cache = Cache::<T>::open(c"c", GFP_KERNEL).unwrap();
    let first = cache.alloc(value, GFP_KERNEL).unwrap();
    let second = cache.alloc(value, GFP_KERNEL).unwrap();
    assert!(address(&first).abs_diff(address(&second)) >= size_of::<T>().max(8));
    assert_eq!(address(&first) % 8, 0);
    let handles = [first.park(), second.park()];
    drop(cache);
    let next = kernel.kexec();
    let cache = Cache::<T>::open(c"c", GFP_KERNEL).unwrap();
    for handle in handles {
        assert_eq!(*cache.claim(handle).unwrap(), value);
    }
    next.assert_sound();
}

#[test]
fn objects_of_each_size_are_kept() {
    round_trip(0x5au8);
    round_trip(0x5aa5u16);
    round_trip([1u8, 2, 3]);
    round_trip([1u8; 7]);
    round_trip(0x5aa5_0123_4567_89abu64);
    round_trip([3u8; 9]);
    round_trip([5u64; 512]);
    round_trip([5u64; 513]);
    round_trip([6u64; 4 * 512]);
    round_trip([7u8; 20_000]);
}
