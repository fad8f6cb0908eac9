// SPDX-License-Identifier: GPL-2.0

//! Caches against a naive model, which keeps the occupancy of all memory in a bit vector.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

use bitvec::vec::BitVec;
use host_tests::workload::{
    expecting_zeros,
    RecordSer, //
};
use kernel::alloc::flags::{
    GFP_KERNEL,
    GFP_NOWAIT, //
};
use kernel::error::code::{
    EBUSY,
    EINVAL,
    ENOENT,
    ENOMEM,
    ESTALE, //
};
use kernel::error::Error;
use kpreserve::{
    Cache,
    Handle,
    Open as _,
    Preservable,
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
use proptest::prelude::{
    any,
    prop_oneof,
    proptest,
    ProptestConfig,
    Strategy, //
};

macro_rules! objects {
    ($($name:ident $nr_words:literal $compatible:literal)*) => {$(
        kpreserve::preservable! {
            /// An object of so many words.
            pub struct $name {
                /// What the words hold follows from the first.
                pub words: [u64; $nr_words],
            }
            compatible = $compatible, version = 1
        }
    )*};
}

objects! {
    Tiny 1 "slab-tiny"
    Odd 3 "slab-odd"
    Line 8 "slab-line"
    Medium 25 "slab-medium"
    Large 200 "slab-large"
    Huge 700 "slab-huge"
}

/// What an object with this number holds.
fn content<T: Preservable>(id: u64) -> Vec<u8> {
    let words = (0..size_of::<T>() as u64 / 8).map(|i| (id << 20 | 1).wrapping_mul(2 * i + 1));
    words.flat_map(u64::to_le_bytes).collect()
}

fn bytes<T: Preservable>(object: &T) -> &[u8] {
    // SAFETY: a preservable type has neither padding nor interior mutability that anybody uses
    // here.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(object).cast(), size_of::<T>()) }
}

/// An initialiser that fails with EINVAL unless it finds zeros.
fn fresh<T: Preservable>(id: u64) -> impl Init<T, Error> {
    let init = move |slot: *mut T| {
        // SAFETY: the slot is valid for reads, and any bytes are a `T`.
        let found = unsafe { slot.read() };
        if bytes(&found).iter().any(|&byte| byte != 0) {
            return Err(EINVAL);
        }
        match T::read_from_bytes(&content::<T>(id)) {
            // SAFETY: the slot is valid for writes.
            Ok(value) => unsafe { slot.write(value) },
            Err(_) => return Err(EINVAL),
        }
        Ok(())
    };
    // SAFETY: the slot is written if and only if the closure succeeds.
    unsafe { init_from_closure(init) }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc { sleeps: bool },
    FailInit,
    Free(usize),
    Park(usize),
    Claim(usize),
    Discard(usize),
    Peek(usize),
    Stale(usize),
    Owned(usize),
    Forged(u64),
    Reopen,
    Adopt { finish: bool },
    Reboot,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => any::<bool>().prop_map(|sleeps| Op::Alloc { sleeps }),
        1 => proptest::strategy::Just(Op::FailInit),
        6 => any::<usize>().prop_map(Op::Free),
        6 => any::<usize>().prop_map(Op::Park),
        3 => any::<usize>().prop_map(Op::Claim),
        3 => any::<usize>().prop_map(Op::Discard),
        2 => any::<usize>().prop_map(Op::Peek),
        2 => any::<usize>().prop_map(Op::Stale),
        1 => any::<usize>().prop_map(Op::Owned),
        2 => any::<u64>().prop_map(Op::Forged),
        1 => proptest::strategy::Just(Op::Reopen),
        1 => any::<bool>().prop_map(|finish| Op::Adopt { finish }),
        1 => proptest::strategy::Just(Op::Reboot),
    ]
}

/// The naive model, and the kernel beside it.
struct World<T: Preservable> {
    kernel: Kernel,
    cache: Option<Cache<T>>,
    owned: Vec<(Preserved<T>, u64)>,
    /// Handles of objects that nobody owns, and their numbers.
    parked: BTreeMap<u64, u64>,
    /// Those that were parked since the cache was opened: `finish` leaves them alone.
    parked_here: Vec<u64>,
    stale: Vec<u64>,
    /// A bit for each eight bytes of physical memory: part of an object?
    occupied: BitVec,
    next_id: u64,
}

const NR_PAGES: usize = 512;

impl<T: Preservable> World<T> {
    fn new() -> Self {
        let kernel = Kernel::boot_with(Config::with_pages(NR_PAGES));
        Self {
            cache: Some(Cache::open(c"slab/test", GFP_KERNEL).unwrap()),
            kernel,
            owned: Vec::new(),
            parked: BTreeMap::new(),
            parked_here: Vec::new(),
            stale: Vec::new(),
            occupied: BitVec::repeat(false, NR_PAGES * 512),
            next_id: 1,
        }
    }

    fn cache(&self) -> &Cache<T> {
        self.cache.as_ref().unwrap()
    }

    fn range(&self, handle: u64) -> core::ops::Range<usize> {
        let base = self.kernel.machine().config().phys_base;
        let first = (Handle::<T>::from_raw(handle).phys().get() - base) as usize / 8;
        first..first + size_of::<T>() / 8
    }

    fn occupy(&mut self, handle: u64) {
        let range = self.range(handle);
        let bits = &mut self.occupied[range];
        assert!(bits.not_any(), "memory was given out twice");
        bits.fill(true);
    }

    fn vacate(&mut self, handle: u64) {
        let range = self.range(handle);
        let bits = &mut self.occupied[range];
        assert!(bits.all());
        bits.fill(false);
        self.stale.push(handle);
    }

    fn check(object: &T, id: u64) {
        assert_eq!(bytes(object), content::<T>(id), "object {id} is damaged");
    }

    fn nth_parked(&self, n: usize) -> Option<(u64, u64)> {
        let len = self.parked.len().max(1);
        self.parked
            .iter()
            .nth(n % len)
            .map(|(&handle, &id)| (handle, id))
    }

    fn take_owned(&mut self, n: usize) -> Option<(Preserved<T>, u64)> {
        let len = self.owned.len();
        (len > 0).then(|| self.owned.swap_remove(n % len))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Alloc { sleeps } => {
                let flags = if sleeps { GFP_KERNEL } else { GFP_NOWAIT };
                let id = self.next_id;
                match self.cache().alloc(fresh::<T>(id), flags) {
                    Ok(object) => {
                        Self::check(&object, id);
                        self.occupy(object.handle().into_raw());
                        self.owned.push((object, id));
                        self.next_id += 1;
                    }
                    // There may be nothing for who cannot sleep.
                    Err(error) => assert!(error == ENOMEM && !sleeps, "{error:?}"),
                }
            }
            Op::FailInit => {
                // What a failed initialiser leaves must be gone: the next one expects zeros.
                let init = |slot: *mut T| {
                    // SAFETY: the slot is valid for writes, and nothing is in it.
                    unsafe { slot.write_bytes(0xa5, 1) };
                    Err(EBUSY)
                };
                // SAFETY: it never succeeds; a `T` needs no drop.
                let init = unsafe { init_from_closure::<T, Error>(init) };
                let error = self.cache().alloc(init, GFP_KERNEL).err();
                assert_eq!(error, Some(EBUSY));
            }
            Op::Free(n) => {
                if let Some((object, id)) = self.take_owned(n) {
                    Self::check(&object, id);
                    let handle = object.handle().into_raw();
                    drop(object);
                    self.vacate(handle);
                }
            }
            Op::Park(n) => {
                if let Some((object, id)) = self.take_owned(n) {
                    let handle = object.park().into_raw();
                    self.parked.insert(handle, id);
                    self.parked_here.push(handle);
                }
            }
            Op::Claim(n) => {
                if let Some((handle, id)) = self.nth_parked(n) {
                    let object = self.cache().claim(Handle::from_raw(handle)).unwrap();
                    Self::check(&object, id);
                    assert_eq!(object.handle().into_raw(), handle);
                    self.parked.remove(&handle);
                    self.owned.push((object, id));
                }
            }
            Op::Discard(n) => {
                if let Some((handle, _)) = self.nth_parked(n) {
                    self.cache().discard(Handle::from_raw(handle)).unwrap();
                    self.parked.remove(&handle);
                    self.vacate(handle);
                }
            }
            Op::Peek(n) => {
                if let Some((handle, id)) = self.nth_parked(n) {
                    Self::check(&self.cache().peek(Handle::from_raw(handle)).unwrap(), id);
                }
            }
            Op::Stale(n) => self.use_stale(n),
            Op::Owned(n) => {
                let len = self.owned.len().max(1);
                if let Some((object, _)) = self.owned.get(n % len) {
                    self.expect_error(object.handle().into_raw(), &[EBUSY]);
                }
            }
            Op::Forged(raw) => self.use_forged(raw),
            Op::Reopen => {
                self.cache = None;
                self.cache = Some(Cache::open(c"slab/test", GFP_KERNEL).unwrap());
                assert_eq!(
                    Cache::<T>::open(c"slab/test", GFP_KERNEL).err(),
                    Some(EBUSY)
                );
                self.parked_here.clear();
            }
            Op::Adopt { finish } => self.adopt(finish),
            Op::Reboot => self.reboot(),
        }
    }

    fn expect_error(&self, handle: u64, errors: &[Error]) {
        let handle = Handle::from_raw(handle);
        for found in [
            self.cache().claim(handle).err(),
            self.cache().peek(handle).err(),
            self.cache().discard(handle).err(),
        ] {
            assert!(
                found.is_some_and(|found| errors.contains(&found)),
                "{handle:?}: {found:?}, expected one of {errors:?}"
            );
        }
    }

    /// A handle of an object that was freed.
    fn use_stale(&self, n: usize) {
        let len = self.stale.len().max(1);
        let Some(&handle) = self.stale.get(n % len) else {
            return;
        };
        let owned = self
            .owned
            .iter()
            .map(|(object, _)| object.handle().into_raw());
        let mut live = Iterator::chain(owned, self.parked.keys().copied());
        match live.find(|other| (other ^ handle) << 8 == 0) {
            // The tag has come round: 128 objects have lived there in between.
            Some(other) if other == handle => {}
            Some(_) => self.expect_error(handle, &[ESTALE]),
            // Its slab may have been given back.
            None => self.expect_error(handle, &[ENOENT, EINVAL]),
        }
    }

    /// A number that is a handle by chance only.
    fn use_forged(&self, raw: u64) {
        self.expect_error(raw | 0x0040_0000_0000_0000, &[EINVAL]);
        self.expect_error(raw & 0xff00_0000_0000_0fff, &[EINVAL]);
        // Inside an object.
        if let Some((object, _)) = self.owned.first() {
            let inside = 1 + raw % (size_of::<T>() as u64).max(2) % 7;
            self.expect_error(object.handle().into_raw() + inside, &[EINVAL]);
        }
    }

    /// Goes through what nobody has claimed since the cache was opened.
    fn adopt(&mut self, finish: bool) {
        let mut expected = self.parked.clone();
        expected.retain(|handle, _| !self.parked_here.contains(handle));
        if finish {
            assert_eq!(self.cache().finish(), expected.len());
            assert_eq!(self.cache().finish(), 0);
            for handle in expected.keys() {
                self.parked.remove(handle);
                self.vacate(*handle);
            }
            return;
        }
        // What is put back is there once more; going through it ends.
        let put_back = self.cache().unclaimed().map(Preserved::unclaim).count();
        assert_eq!(put_back, expected.len());
        for object in self.cache().unclaimed() {
            let handle = object.handle().into_raw();
            let id = expected
                .remove(&handle)
                .expect("an object that is not there");
            Self::check(&object, id);
            self.parked.remove(&handle);
            self.owned.push((object, id));
        }
        assert!(
            expected.is_empty(),
            "objects were passed over: {expected:x?}"
        );
    }

    /// The owners of the old kernel are gone, their objects are not.
    fn reboot(&mut self) {
        for (object, id) in self.owned.drain(..) {
            self.parked.insert(object.handle().into_raw(), id);
            core::mem::forget(object);
        }
        core::mem::forget(self.cache.take());
        self.kernel = self.kernel.stop();
        let opened = Cache::open(c"slab/test", GFP_KERNEL);
        self.cache = Some(opened.unwrap());
        self.parked_here.clear();
    }
}

fn run<T: Preservable>(ops: Vec<Op>) {
    let mut world = World::<T>::new();
    for op in ops {
        world.apply(op);
    }
    world.apply(Op::Reboot);
    world.apply(Op::Adopt { finish: false });
    assert!(world.parked.is_empty());
    // All of it goes, and so does nearly all of the memory.
    while !world.owned.is_empty() {
        world.apply(Op::Free(0));
    }
    assert!(world.occupied.not_any());
    world.kernel.assert_sound();
    let complaints = kernel::print::take_complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    drop(world.cache.take());
    world.kernel.machine().power_off();
}

macro_rules! properties {
    ($($test:ident $ty:ident)*) => {
        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 48,
                failure_persistence: None,
                ..ProptestConfig::default()
            })]
            $(
                #[test]
                fn $test(ops in proptest::collection::vec(op(), 0..250)) {
                    run::<$ty>(ops);
                }
            )*
        }
    };
}

properties! {
    objects_of_a_word Tiny
    objects_of_three_words Odd
    objects_of_a_cache_line Line
    objects_of_200_bytes Medium
    objects_of_1600_bytes Large
    objects_larger_than_a_page Huge
}

/// Lets this thread give way, now and then, right before an atomic store: what it has loaded by then
/// is old.
fn give_way(seed: u64) {
    let mut random = kpreserve_testing::sim::Random::new(seed);
    kernel::observe::set_observer(Some(Box::new(move |_| {
        if random.percent(20) {
            std::thread::yield_now();
        }
    })));
}

/// Several CPUs at once; afterwards each object is where its handle says, in the next kernel too.
#[test]
fn cpus_do_not_meet() {
    const NR_THREADS: u64 = 4;
    let kernel = Kernel::boot_with(Config {
        nr_cpus: 3,
        ..Config::with_pages(1024)
    });
    let cache = Cache::<RecordSer>::open(c"slab/shared", GFP_KERNEL).unwrap();
    let kept = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..NR_THREADS {
            let (cache, kept) = (cache.clone(), &kept);
            scope.spawn(move || {
                give_way(thread + 10);
                let mut owned = Vec::new();
                let mut random = kpreserve_testing::sim::Random::new(thread + 1);
                for i in 0..4000 {
                    let id = thread << 32 | i;
                    let init = expecting_zeros(RecordSer::of(id));
                    owned.push((cache.alloc(init, GFP_KERNEL).unwrap(), id));
                    while random.percent(45) && !owned.is_empty() {
                        let at = random.below(owned.len() as u64) as usize;
                        let (object, id) = owned.swap_remove(at);
                        assert_eq!(*object, RecordSer::of(id));
                        if random.percent(80) {
                            drop(object);
                        } else {
                            let handle = object.park();
                            // Somebody else's claim fails, or is given back before ours.
                            if random.percent(50) {
                                let object = cache.claim(handle).unwrap();
                                assert_eq!(*object, RecordSer::of(id));
                                let _ = object.park();
                            }
                            let old = kept.lock().unwrap().insert(handle.into_raw(), id);
                            assert_eq!(old, None, "a slot was given out twice");
                        }
                    }
                }
            });
        }
    });
    drop(cache);
    kernel.assert_sound();

    let second = kernel.kexec();
    let cache = Cache::<RecordSer>::open(c"slab/shared", GFP_KERNEL).unwrap();
    let mut kept = kept.into_inner().unwrap();
    for object in cache.unclaimed() {
        let id = kept.remove(&object.handle().into_raw());
        assert_eq!(Some(object.id), id);
        assert_eq!(*object, RecordSer::of(object.id));
    }
    assert!(kept.is_empty(), "{} objects are lost", kept.len());
    second.assert_sound();
}

/// Many claim the same handle: one gets it.
#[test]
fn one_of_many_claims_wins() {
    let kernel = Kernel::boot_with(Config {
        nr_cpus: 4,
        ..Config::default()
    });
    let cache = Cache::<RecordSer>::open(c"slab/claim", GFP_KERNEL).unwrap();
    let handles: Vec<_> = (0..1000)
        .map(|id| cache.alloc(RecordSer::of(id), GFP_KERNEL).unwrap().park())
        .collect();
    drop(cache);
    let second = kernel.kexec();
    let cache = Cache::<RecordSer>::open(c"slab/claim", GFP_KERNEL).unwrap();
    let nr_won = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (cache, handles, nr_won) = (cache.clone(), &handles, &nr_won);
            scope.spawn(move || {
                give_way(thread);
                for (id, &handle) in handles.iter().enumerate() {
                    match cache.claim(handle) {
                        Ok(object) => {
                            assert_eq!(*object, RecordSer::of(id as u64));
                            nr_won.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            core::mem::forget(object);
                        }
                        Err(error) => assert_eq!(error, EBUSY),
                    }
                }
            });
        }
    });
    assert_eq!(nr_won.into_inner(), handles.len());
    second.assert_sound();
}

/// Memory does not grow with the number of updates.
#[test]
fn inherited_slabs_are_used_first() {
    let mut kernel = Kernel::boot();
    let mut nr_pages = Vec::new();
    for _ in 0..20 {
        let cache = Cache::<Medium>::open(c"slab/steady", GFP_KERNEL).unwrap();
        // Two of three go, and as many come.
        let mut nr = 0;
        for (i, object) in cache.unclaimed().enumerate() {
            if i % 3 == 0 {
                let _ = object.park();
                nr += 1;
            }
        }
        for id in nr..600 {
            let _ = cache.alloc(fresh::<Medium>(id), GFP_KERNEL).unwrap().park();
        }
        drop(cache);
        nr_pages.push(kernel.machine().counters().pages_out);
        kernel = kernel.kexec();
    }
    assert!(
        nr_pages[1..].iter().all(|&nr| nr <= nr_pages[0]),
        "{nr_pages:?}"
    );
}

/// As long as its slab is there, a slot gives 127 objects different handles.
#[test]
fn a_slot_does_not_forget_its_objects() {
    let kernel = Kernel::boot();
    let cache = Cache::<Huge>::open(c"slab/tags", GFP_KERNEL).unwrap();
    // It keeps the slab.
    let _other = cache.alloc(fresh::<Huge>(0), GFP_KERNEL).unwrap();
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for id in 1..=500 {
        let object = cache.alloc(fresh::<Huge>(id), GFP_KERNEL).unwrap();
        let handle = object.handle();
        let before = seen.entry(handle.phys().get()).or_default();
        let recent = before.iter().rev().take(126);
        for &old in recent {
            assert_ne!(
                old,
                handle.into_raw(),
                "object {id} has the handle of another"
            );
            let error = cache.claim(Handle::from_raw(old)).err();
            assert_eq!(error, Some(ESTALE));
        }
        before.push(handle.into_raw());
        drop(object);
        assert_eq!(cache.claim(handle).err(), Some(ENOENT));
    }
    assert!(seen.values().any(|handles| handles.len() > 128));
    kernel.assert_sound();
}
