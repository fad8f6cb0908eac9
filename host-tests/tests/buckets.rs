// SPDX-License-Identifier: GPL-2.0

//! The hash index against a map, over rebuilds and reboots, and with hostile words.
//!
//! Tried against code that was broken on purpose, and noticed: a probe that ends at a tombstone; a
//! vacancy that is found behind an empty bucket; a rebuild that forgets the first bucket, or does
//! not grow, or has no end; tombstones that are swept although a chain goes on; bounds and tags not looked at;
//! litter that is not seen.

use std::collections::BTreeMap;

use kernel::error::code::EINVAL;
use kernel::prelude::GFP_KERNEL;
use kernel::print::take_complaints;
use kpreserve::{
    Open as _,
    PVec,
    SharedU64, //
};
use kpreserve_testing::{
    Config,
    Kernel, //
};
use kpreserve_vmalloc::Buckets;
use proptest::prelude::{
    prop_oneof,
    proptest,
    ProptestConfig,
    Strategy, //
};

/// The index and its idle half, as users have them.
struct Index {
    buckets: Buckets,
    idle: PVec<SharedU64>,
    /// Keys of entries; the model has the live ones.
    entries: Vec<u64>,
}

fn words(name: &core::ffi::CStr) -> PVec<SharedU64> {
    PVec::open(name, GFP_KERNEL).unwrap()
}

/// Keys of one chain, and some of others. Those below 16 differ in the upper half of the hash only.
fn hash(key: u64) -> u64 {
    match key {
        0..16 => (key << 32) | key | 0xffff_fff0_0000_0000,
        16..48 => key << 24,
        _ => kpreserve_kho::hash::fnv1a_u64(0, key),
    }
}

impl Index {
    fn open() -> Self {
        let idle = words(c"index/idle");
        let active = words(c"index/active");
        let pass = active.raw().enter().unwrap();
        Self {
            buckets: Buckets::open(&pass, "index", active, 0).unwrap(),
            idle,
            entries: Vec::new(),
        }
    }

    fn find(&self, key: u64) -> Option<(usize, u32)> {
        let hit = self.buckets.find(hash(key), self.entries.len(), |index| {
            Ok((self.entries[index as usize] == key).then_some(()))
        });
        hit.unwrap().map(|hit| (hit.bucket, hit.index))
    }

    fn insert(&mut self, key: u64) -> u32 {
        if self.buckets.is_crowded(self.entries.len()) {
            self.rebuild();
        }
        let index = self.entries.len() as u32;
        self.entries.push(key);
        let bucket = match self.find(key) {
            Some((bucket, _)) => bucket,
            None => self.buckets.vacant(hash(key)).unwrap(),
        };
        self.buckets.set(bucket, hash(key), index).unwrap();
        index
    }

    fn rebuild(&mut self) {
        let pass = self.idle.raw().enter().unwrap();
        let into = words(c"index/spare");
        let into = core::mem::replace(&mut self.idle, into);
        let next = self.buckets.rebuild(&pass, into, self.entries.len());
        let old = core::mem::replace(&mut self.buckets, next.unwrap());
        let spare = core::mem::replace(&mut self.idle, old.into_words());
        drop(spare);
    }

    fn agree(&self, model: &BTreeMap<u64, u32>) {
        for key in 0..80 {
            let found = self.find(key).map(|(_, index)| index);
            assert_eq!(found, model.get(&key).copied(), "key {key}");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64),
    Remove(u64),
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..80).prop_map(Op::Insert),
        3 => (0u64..80).prop_map(Op::Remove),
        1 => (0u64..80).prop_map(|_| Op::Rebuild),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn as_a_map_does(ops in proptest::collection::vec(op(), 0..200)) {
        let kernel = Kernel::boot_with(Config::with_pages(512));
        let mut index = Index::open();
        let mut model = BTreeMap::new();
        for op in ops {
            match op {
                Op::Insert(key) => {
                    let at = index.insert(key);
                    model.insert(key, at);
                }
                Op::Remove(key) => {
                    if let Some((bucket, _)) = index.find(key) {
                        index.buckets.clear(bucket);
                    }
                    model.remove(&key);
                }
                Op::Rebuild => index.rebuild(),
            }
            index.agree(&model);
        }
        drop(index);
        kernel.assert_sound();
        kernel.machine().power_off();
    }
}

/// Keys that come and go leave tombstones, which must not fill the table: a table without an empty
/// bucket is gone through whole for each key that is not there.
#[test]
fn keys_that_come_and_go_do_not_slow_the_others_down() {
    let kernel = Kernel::boot_with(Config::with_pages(2048));
    let mut index = Index::open();
    let nr_live = 1000;
    for key in 0..nr_live {
        index.insert(1000 + key);
    }
    let nr_buckets = index.buckets.nr_buckets();
    let mut nr_rebuilt = 0;
    for key in 0..20_000 {
        let (bucket, entry) = index.find(1000 + key).unwrap();
        index.buckets.clear(bucket);
        // The entry is used again: there are never more than at the beginning.
        let new = 1000 + nr_live + key;
        index.entries[entry as usize] = new;
        if index.buckets.is_crowded(nr_live as usize) {
            index.rebuild();
            nr_rebuilt += 1;
        }
        let at = index.buckets.vacant(hash(new)).unwrap();
        index.buckets.set(at, hash(new), entry).unwrap();
    }
    assert_eq!(index.buckets.nr_buckets(), nr_buckets);
    assert!((1..100).contains(&nr_rebuilt), "{nr_rebuilt} rebuilt");
    let words = index.buckets.into_words();
    let (mut longest, mut now) = (0, 0);
    for word in words.iter() {
        now = if word.load() == 0 { 0 } else { now + 1 };
        longest = longest.max(now);
    }
    assert!(longest < 100, "{longest} buckets without an empty one");
    drop((words, index.idle));
    kernel.assert_sound();
}

#[test]
fn words_that_lead_nowhere() {
    let kernel = Kernel::boot();
    let mut words = words(c"index/active");
    words.extend_zeroed(64).unwrap();
    let pass = words.raw().enter().unwrap();
    // Number 0 with a tag, numbers beyond the last entry.
    let tag = 5u64 << 32;
    for (word, hash) in [(tag, 5), (tag | 4, 5), (tag | 0xffff_ffff, 5), (4, 5)] {
        words.get(5).unwrap().store(word);
        let buckets = Buckets::open(&pass, "index", words, 3).unwrap();
        let asked = |index: u32| -> Result<Option<()>, _> { panic!("asked for {index}") };
        let refusal = buckets.find(hash, 3, asked).unwrap_err();
        assert_eq!((refusal.structure, refusal.field), ("index", "bucket"));
        assert_eq!((refusal.at, refusal.found), (5, word & 0xffff_ffff));
        words = buckets.into_words();
    }
    // Another tag: passed by, though its entry is there.
    words.get(5).unwrap().store((7 << 32) | 3);
    words.get(6).unwrap().store(tag | 3);
    let buckets = Buckets::open(&pass, "index", words, 3).unwrap();
    let hit = buckets.find(5, 3, |index| Ok(Some(index))).unwrap();
    assert_eq!(hit.map(|hit| (hit.bucket, hit.what)), Some((6, 2)));
    // What refused on the way does not matter once the entry is found, and does otherwise.
    let words = buckets.into_words();
    words.get(5).unwrap().store(tag | 9);
    let mut buckets = Buckets::open(&pass, "index", words, 3).unwrap();
    assert!(buckets.find(5, 3, |_| Ok(Some(()))).unwrap().is_some());
    assert!(buckets.find(5, 3, |_| Ok(None::<()>)).is_err());
    assert_eq!(buckets.vacant(5), Some(7));
    assert!(buckets.set(64, 5, 0).is_err());
    assert!(buckets.set(7, 5, u32::MAX).is_err());
    buckets.clear(64);
    // All full, and none of them it.
    let words = buckets.into_words();
    for bucket in 0..64 {
        words.get(bucket).unwrap().store((6 << 32) | 1);
    }
    let mut buckets = Buckets::open(&pass, "index", words, 3).unwrap();
    assert!(buckets.find(5, 3, |_| Ok(Some(()))).unwrap().is_none());
    assert_eq!(buckets.vacant(5), None);
    // All tombstones: vacant, and wants to be rebuilt.
    let words = buckets.into_words();
    for bucket in 0..64 {
        words.get(bucket).unwrap().store(u64::MAX);
    }
    let mut buckets = Buckets::open(&pass, "index", words, 3).unwrap();
    assert!(buckets.find(5, 3, |_| Ok(Some(()))).unwrap().is_none());
    assert!(!buckets.is_crowded(3));
    assert_eq!(buckets.vacant(5), Some(5));
    assert!(buckets.is_crowded(3));
    drop(buckets);
    assert!(take_complaints().is_empty());
    kernel.assert_sound();
}

#[test]
fn words_of_one_tag_are_not_rebuilt_for_ever() {
    let kernel = Kernel::boot_with(Config::with_pages(4096));
    for (nr_words, nr_same, is_refused) in [(1 << 16, 1 << 16, true), (4096, 1000, false)] {
        let mut active = words(c"index/active");
        active.truncate(0).unwrap();
        active.extend_zeroed(nr_words).unwrap();
        for bucket in 0..nr_same {
            let word = (5 << 32) | (1 + bucket as u64);
            active.get(bucket).unwrap().store(word);
        }
        let pass = active.raw().enter().unwrap();
        let buckets = Buckets::open(&pass, "index", active, nr_words).unwrap();
        match buckets.rebuild(&pass, words(c"index/idle"), nr_words) {
            Ok(next) => {
                assert!(!is_refused);
                assert_eq!(next.nr_buckets(), 2 * nr_words);
                assert_eq!(next.indices(nr_same).count(), nr_same);
            }
            Err((error, idle)) => {
                assert!(is_refused);
                assert_eq!((error, idle.len()), (EINVAL, 0));
                assert!(take_complaints()[0].contains("nr_steps"));
            }
        }
        assert_eq!(buckets.indices(nr_words).count(), nr_same);
    }
    kernel.assert_sound();
}

#[test]
fn numbers_of_buckets_that_are_none() {
    let kernel = Kernel::boot();
    for (nr_words, nr_entries) in [(0, 1), (1, 0), (32, 0), (63, 0), (65, 3), (96, 3)] {
        let mut words = words(c"index/active");
        words.truncate(0).unwrap();
        words.extend_zeroed(nr_words).unwrap();
        let pass = words.raw().enter().unwrap();
        let refused = Buckets::open(&pass, "index", words, nr_entries).err();
        assert_eq!(refused, Some(EINVAL));
        let complaints = take_complaints();
        let shown = format!("nr_buckets is {nr_words:#x}");
        assert!(complaints[0].contains(&shown), "{complaints:?}");
    }
    kernel.assert_sound();
}
