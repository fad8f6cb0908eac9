// SPDX-License-Identifier: GPL-2.0

//! Misuse by handle: whatever number is claimed, discarded or looked at, it ends in an errno or in
//! the object that the handle was given out for, up to the wrap of the tag.
//!
//! Misuse by owner does not compile: `kpreserve_slab::preserved`. Misuse of memory is in misuse.rs.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | a claim does not look whether the slot is live (claim.rs) | 5 tests |
//! | a claim compares a part of the tag | 4 tests |
//! | a claim does not clear the bit (words.rs) | `each_state_of_a_slot_...` |
//! | an address inside an object is rounded down to it (geometry.rs) | 3 tests |
//! | the tag wraps after 126 objects (tag.rs) | `a_stale_handle_is_caught_until_...` |
//! | a condemned run is found by claims (run.rs) | `handles_into_runs_without_objects_...` |
//! | a refused slab is used (touch.rs) | `handles_into_a_quarantined_slab_...` |

use kernel::error::code::{
    EBUSY,
    EINVAL,
    ENOENT,
    ENOMEM,
    ESTALE, //
};
use kernel::error::Error;
use kernel::prelude::{
    GFP_KERNEL,
    GFP_NOWAIT, //
};
use kpreserve::{
    Cache,
    Handle,
    Open as _,
    Preserved, //
};
use kpreserve_kho::Phys;
use kpreserve_testing::sim::Random;
use kpreserve_testing::{
    Config,
    Kernel, //
};

kpreserve::preservable! {
    /// 40 bytes: 100 in a page, the first at 160, 96 bytes behind nothing.
    pub struct FiveSer {
        /// Which one, five times.
        pub words: [u64; 5],
    }
    compatible = "hardening-five", version = 1
}

const PAGE_BYTES: u64 = 4096;
const HEADER_BYTES: u64 = 56;

fn five(id: u64) -> FiveSer {
    FiveSer { words: [id; 5] }
}

fn open(kernel: &Kernel, name: &core::ffi::CStr) -> Cache<FiveSer> {
    Cache::open_in(kernel.framework(), name, GFP_KERNEL).unwrap()
}

fn at(phys: u64, tag: u8) -> Handle<FiveSer> {
    Handle::new(Phys::new(phys), tag)
}

/// What claiming, looking and discarding say; the same, if it is an error.
#[track_caller]
fn refused(cache: &Cache<FiveSer>, handle: Handle<FiveSer>) -> Option<Error> {
    let claimed = cache.claim(handle).map(Preserved::park).err();
    assert_eq!(cache.peek(handle).map(|_| ()).err(), claimed, "{handle:?}");
    if claimed.is_some() {
        assert_eq!(cache.discard(handle).err(), claimed, "{handle:?}");
    }
    claimed
}

/// A cache with objects that are owned, parked and gone, in a slab that is a page.
struct World {
    kernel: Kernel,
    cache: Cache<FiveSer>,
    owned: Vec<Preserved<FiveSer>>,
    parked: Vec<Handle<FiveSer>>,
    freed: Vec<Handle<FiveSer>>,
}

impl World {
    fn new() -> Self {
        let kernel = Kernel::boot_with(Config::with_pages(512));
        let cache = open(&kernel, c"hardening");
        let mut world = Self {
            kernel,
            cache,
            owned: Vec::new(),
            parked: Vec::new(),
            freed: Vec::new(),
        };
        let mut all: Vec<_> = (0..60)
            .map(|id| world.cache.alloc(five(id), GFP_KERNEL).unwrap())
            .collect();
        for object in all.drain(..20) {
            world.parked.push(object.park());
        }
        for object in all.drain(..20) {
            world.freed.push(object.handle());
            drop(object);
        }
        world.owned = all;
        world
    }

    /// Nothing that was tried has done anything.
    fn check(&self) {
        for (id, object) in (40..).zip(&self.owned) {
            assert_eq!(object.words, [id; 5]);
        }
        for (id, &handle) in (0..).zip(&self.parked) {
            assert_eq!(self.cache.peek(handle).unwrap().words, [id; 5]);
        }
        let counts = self.cache.raw().counts();
        assert_eq!((counts.nr_objects, counts.nr_quarantined), (40, 0));
        self.kernel.assert_sound();
        assert_eq!(kernel::print::take_complaints(), [""; 0]);
    }
}

#[test]
fn each_state_of_a_slot_has_its_errno() {
    let world = World::new();
    for object in &world.owned {
        assert_eq!(refused(&world.cache, object.handle()), Some(EBUSY));
    }
    for &handle in &world.freed {
        assert_eq!(refused(&world.cache, handle), Some(ENOENT));
    }
    for &handle in &world.parked {
        assert_eq!(refused(&world.cache, handle), None);
        let claimed = world.cache.claim(handle).unwrap();
        assert_eq!(refused(&world.cache, handle), Some(EBUSY));
        let _ = claimed.park();
    }
    world.check();
}

#[test]
fn an_object_is_discarded_once() {
    let world = World::new();
    for &handle in &world.parked {
        assert_eq!(world.cache.discard(handle), Ok(()));
        assert_eq!(world.cache.discard(handle), Err(ENOENT));
        assert_eq!(refused(&world.cache, handle), Some(ENOENT));
    }
}

/// Each byte of a slab that holds objects, with each tag.
#[test]
fn of_all_handles_into_a_slab_only_those_that_were_given_out_are_good() {
    let world = World::new();
    let base = world.parked[0].phys().get() & !(PAGE_BYTES - 1);
    let geometry = *world.cache.raw().geometry();
    let (first, stride) = (geometry.first_slot() as u64, geometry.stride_bytes() as u64);
    let end = first + u64::from(geometry.nr_slots()) * stride;
    assert!(
        HEADER_BYTES + u64::from(geometry.nr_slots()) < first && end < PAGE_BYTES,
        "a geometry with gaps is what this is about"
    );
    let mut nr_good = 0;
    for offset in 0..PAGE_BYTES {
        let is_slot = (first..end).contains(&offset) && (offset - first) % stride == 0;
        for tag in 0..=255 {
            let handle = at(base + offset, tag);
            if world.parked.contains(&handle) {
                nr_good += 1;
                continue;
            }
            let owned = world.owned.iter().find(|object| object.handle() == handle);
            let is_live = |other: Handle<FiveSer>| other.phys() == handle.phys();
            let expected = if !is_slot {
                // Header, tags, the gaps, and the inside of objects.
                EINVAL
            } else if owned.is_some() {
                EBUSY
            } else if world.parked.iter().copied().any(is_live)
                || world.owned.iter().any(|object| is_live(object.handle()))
            {
                ESTALE
            } else {
                ENOENT
            };
            let found = world.cache.claim(handle).map(|object| object.words);
            assert_eq!(found, Err(expected), "{offset:#x}, tag {tag}");
        }
    }
    assert_eq!(nr_good, world.parked.len());
    world.check();
}

/// 127 objects have different handles; the 128th of a slot has the first one's.
#[test]
fn a_stale_handle_is_caught_until_the_tag_wraps() {
    let kernel = Kernel::boot();
    let cache = open(&kernel, c"hardening");
    let first = cache.alloc(five(0), GFP_KERNEL).unwrap().park();
    cache.discard(first).unwrap();
    let mut handles = vec![first];
    for id in 1..127 {
        let handle = cache.alloc(five(id), GFP_KERNEL).unwrap().park();
        assert_eq!(handle.phys(), first.phys(), "the same slot");
        for &old in &handles {
            assert_eq!(refused(&cache, old), Some(ESTALE), "object {id}");
        }
        handles.push(handle);
        cache.discard(handle).unwrap();
        for &old in &handles {
            assert_eq!(refused(&cache, old), Some(ENOENT), "after object {id}");
        }
    }
    // Here an old handle names a new object: of the right type, and claimed once like any other.
    let wrapped = cache.alloc(five(127), GFP_KERNEL).unwrap().park();
    assert_eq!(wrapped, first);
    for &old in &handles[1..] {
        assert_eq!(refused(&cache, old), Some(ESTALE));
    }
    assert_eq!(cache.claim(first).unwrap().words, [127; 5]);
    assert_eq!(cache.claim(wrapped).err(), Some(ENOENT));
}

/// Tags go on where the last kernel was.
#[test]
fn a_stale_handle_is_caught_by_the_next_kernel() {
    let kernel = Kernel::boot();
    let cache = open(&kernel, c"hardening");
    let stays = cache.alloc(five(1), GFP_KERNEL).unwrap().park();
    let old: Vec<_> = (0..50)
        .map(|id| {
            let handle = cache.alloc(five(id), GFP_KERNEL).unwrap().park();
            cache.discard(handle).unwrap();
            handle
        })
        .collect();
    drop(cache);
    let kernel = kernel.kexec();
    let cache = open(&kernel, c"hardening");
    for &old in &old {
        assert_eq!(refused(&cache, old), Some(ENOENT));
    }
    let raw = cache.raw();
    let slots: Vec<_> = (0..raw.geometry().nr_slots() - 1)
        .map(|id| cache.alloc(five(id.into()), GFP_KERNEL).unwrap())
        .collect();
    for &old in &old {
        assert_eq!(refused(&cache, old), Some(ESTALE));
    }
    assert_eq!(refused(&cache, stays), None);
    drop(slots);
}

#[test]
fn a_handle_of_another_cache_is_refused() {
    let world = World::new();
    let other = open(&world.kernel, c"other");
    let theirs: Vec<_> = (0..200)
        .map(|id| other.alloc(five(id), GFP_KERNEL).unwrap().park())
        .collect();
    for &handle in &theirs {
        assert_eq!(refused(&world.cache, handle), Some(EINVAL));
        assert_eq!(refused(&other, handle), None);
    }
    for &handle in &world.parked {
        assert_eq!(refused(&other, handle), Some(EINVAL));
    }
    world.check();
}

/// Any number at all; half of them are near to what is there.
#[test]
fn random_numbers_are_refused() {
    let world = World::new();
    let mut random = Random::new(11);
    let config = world.kernel.machine().config();
    let memory_bytes = config.nr_pages as u64 * PAGE_BYTES;
    let mut nr_good = 0;
    for round in 0..100_000 {
        let raw = match round % 4 {
            0 => random.next_u64(),
            // In memory.
            1 => at(
                config.phys_base + random.next_u64() % memory_bytes,
                random.next_u64() as u8,
            )
            .into_raw(),
            // A bit or two of a good one changed.
            2 => {
                let good = world.parked[random.next_u64() as usize % 20].into_raw();
                good ^ (1 << (random.next_u64() % 64)) ^ (1 << (random.next_u64() % 64))
            }
            // Next to it.
            _ => {
                let good = world.parked[random.next_u64() as usize % 20].into_raw();
                good.wrapping_add(random.next_u64() % 8192)
                    .wrapping_sub(4096)
            }
        };
        let handle = Handle::<FiveSer>::from_raw(raw);
        if world.parked.contains(&handle) {
            nr_good += 1;
            continue;
        }
        let error = refused(&world.cache, handle).expect("a number that was not given out");
        assert!([EINVAL, ENOENT, EBUSY, ESTALE].contains(&error));
    }
    // Two bits that are the same one.
    assert!(nr_good > 100, "{nr_good}: the numbers are not near enough");
    world.check();
}

#[test]
fn addresses_outside_of_memory_are_refused() {
    let world = World::new();
    let config = world.kernel.machine().config();
    let (base, end) = (
        config.phys_base,
        config.phys_base + config.nr_pages as u64 * PAGE_BYTES,
    );
    for phys in [
        0,
        1,
        8,
        PAGE_BYTES,
        base - 1,
        base - 40,
        end,
        end + 160,
        1 << 52,
        (1 << 56) - 1,
        // Where a virtual address would point to, cut off.
        0x00ff_8880_0000_00a0,
    ] {
        for tag in [0, 1, 2, 255] {
            assert_eq!(
                refused(&world.cache, at(phys, tag)),
                Some(EINVAL),
                "{phys:#x}"
            );
        }
    }
    world.check();
}

/// In runs that hold nothing yet, or nothing any more.
#[test]
fn handles_into_runs_without_objects_are_refused() {
    let kernel = Kernel::boot();
    let cache = open(&kernel, c"hardening");
    let (first, stride) = (
        cache.raw().geometry().first_slot() as u64,
        cache.raw().geometry().stride_bytes() as u64,
    );
    cache.set_reserve(3).unwrap();
    // Nothing else is there: the reserve is all of its pages.
    assert_eq!(cache.raw().counts().nr_runs, 3);
    let keys: Vec<u64> = kernel
        .machine()
        .image()
        .keys()
        .map(|(phys, _)| phys.get())
        .collect();
    let mut nr_reserved = 0;
    for &page in &keys {
        for tag in [0, 1, 2, 3] {
            // ENOENT for a slot of the reserve, EINVAL for what is not the cache's.
            match refused(&cache, at(page + first, tag)) {
                Some(ENOENT) => nr_reserved += 1,
                found => assert_eq!(found, Some(EINVAL)),
            }
            assert_eq!(refused(&cache, at(page, tag)), Some(EINVAL));
            assert_eq!(
                refused(&cache, at(page + first + stride / 2, tag)),
                Some(EINVAL)
            );
        }
    }
    assert_eq!(nr_reserved, 3 * 4);

    // A run that was given back, also while it waits for the worker.
    let objects: Vec<_> = (0..10_000)
        .map(|id| cache.alloc(five(id), GFP_KERNEL).unwrap())
        .collect();
    let handles: Vec<_> = objects.iter().map(Preserved::handle).collect();
    drop(objects);
    cache.raw().drain_here();
    let nr_condemned = cache.raw().condemn_empty(usize::MAX);
    assert!(nr_condemned > 50, "{nr_condemned}");
    for &handle in &handles {
        assert_eq!(refused(&cache, handle), Some(EINVAL), "condemned");
    }
    kernel.framework().work();
    for &handle in &handles {
        assert_eq!(refused(&cache, handle), Some(EINVAL), "given back");
    }
    kernel.assert_sound();
}

/// A slab that was refused stays as it is, whatever is claimed.
#[test]
fn handles_into_a_quarantined_slab_are_refused() {
    let kernel = Kernel::boot();
    let cache = open(&kernel, c"hardening");
    let handles: Vec<_> = (0..100)
        .map(|id| cache.alloc(five(id), GFP_KERNEL).unwrap().park())
        .collect();
    drop(cache);
    let base = handles[0].phys().get() & !(PAGE_BYTES - 1);
    kernel.framework().freeze();
    let mut image = kernel.machine().image();
    // Some byte of the header that the checksum covers.
    let word = image.read_u64(Phys::new(base + 8));
    image.write_u64(Phys::new(base + 8), word ^ 0x1000);
    let kernel = Kernel::on(image.boot()).unwrap();
    let cache = open(&kernel, c"hardening");
    let in_slab = |handle: &&Handle<FiveSer>| handle.phys().get() & !(PAGE_BYTES - 1) == base;
    for &handle in handles.iter().filter(in_slab) {
        assert_eq!(refused(&cache, handle), Some(EINVAL));
    }
    assert_eq!(cache.raw().counts().nr_quarantined, 1);
    // Nothing of it is handed out.
    cache.raw().drain_here();
    let mut nr = 0;
    while let Ok(object) = cache.alloc(five(1), GFP_NOWAIT) {
        assert_ne!(object.handle().phys().get() & !(PAGE_BYTES - 1), base);
        core::mem::forget(object);
        nr += 1;
    }
    assert_eq!(cache.alloc(five(1), GFP_NOWAIT).err(), Some(ENOMEM));
    assert!(nr < 1000);
    assert_eq!(kernel::print::take_complaints().len(), 1);
}
