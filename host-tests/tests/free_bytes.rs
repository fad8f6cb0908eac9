// SPDX-License-Identifier: GPL-2.0

//! Each byte of what crosses that is not part of an object: free slots, gaps, slabs that hold
//! nothing. Zeros in the image of an orderly handover; after a stop at any step, zeros by the time
//! the next kernel hands them out.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a freed object is not zeroed (owner.rs: inline, and by call) | 4 tests in images |
//! | a slot whose initialiser failed is not zeroed (owner.rs; bulk.rs) | 4 tests in images; all |
//! | objects freed by row are not zeroed (bulk.rs) | 3 tests in images |
//! | a slab that was inherited is not scrubbed (touch.rs), or its upper half is not | 2 or 3 tests of stops |
//! | the worker does not scrub what it gives back (grow.rs) | `..._in_pages_that_are_given_back` |
//! | reclaim does not look whether it was scrubbed (grow.rs) | `..._in_pages_that_are_given_back` |
//! | the page allocator gives out scratch (sim) | `no_run_is_in_scratch` |

mod framework_common;

use std::collections::BTreeMap;

use framework_common::layout::{
    read,
    Layout, //
};
use framework_common::{
    small,
    up, //
};
use kernel::alloc::KVec;
use kernel::prelude::{
    CStr,
    Error,
    Init,
    EIO,
    GFP_KERNEL,
    GFP_NOWAIT, //
};
use kpreserve::kho::{
    ArenaSer,
    Phys, //
};
use kpreserve::{
    Cache,
    CacheOptions,
    Framework,
    OpenWith as _,
    Preservable,
    Preserved, //
};
use kpreserve_sim::{
    set_cpu,
    Config,
    Image,
    Random,
    Recorder,
    SimMachine, //
};
use kpreserve_slab::abi::{
    SlabSer,
    HEADER_BYTES, //
};
use pin_init::init_from_closure;

kpreserve::preservable! {
    /// The smallest: slots of 8 bytes, hundreds of tags.
    pub struct OneSer {
        /// Anything.
        pub words: [u64; 1],
    }
    compatible = "bytes-one", version = 1

    /// Slots of 40 bytes: gaps behind the tags and behind the last slot.
    pub struct FiveSer {
        /// Anything.
        pub words: [u64; 5],
    }
    compatible = "bytes-five", version = 1

    /// Slabs of several pages.
    pub struct HugeSer {
        /// Anything.
        pub words: [u64; 700],
    }
    compatible = "bytes-huge", version = 1
}

const PAGE_BYTES: u64 = 4096;
const NR_CPUS: usize = 3;
/// Objects that there are before the first stop.
const NR_BEFORE: usize = 150;
const NAME: &CStr = c"bytes";

/// No byte of an object is 0.
fn full<T: Preservable>() -> T {
    match T::read_from_bytes(&vec![0xa5; size_of::<T>()]) {
        Ok(value) => value,
        Err(_) => panic!("any bytes are a value"),
    }
}

/// Writes a whole object, and then fails.
fn failing<T: Preservable>() -> impl Init<T, Error> {
    let init = |place: *mut T| {
        // SAFETY: the slot of the object, which is the initialiser's.
        unsafe { place.write(full::<T>()) };
        Err(EIO)
    };
    // SAFETY: it never succeeds; there is nothing to drop.
    unsafe { init_from_closure(init) }
}

/// Objects that come and go, on several CPUs.
struct History<T: Preservable> {
    cache: Cache<T>,
    random: Random,
    owned: Vec<Preserved<T>>,
}

impl<T: Preservable> History<T> {
    fn open(framework: &'static Framework, options: &CacheOptions) -> Self {
        Self {
            cache: Cache::open_with_in(framework, NAME, options, GFP_KERNEL).unwrap(),
            random: Random::new(5),
            owned: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn step(&mut self) {
        set_cpu(self.below(NR_CPUS));
        match self.below(10) {
            0..4 => {
                let object = self.cache.alloc(full::<T>(), GFP_KERNEL);
                self.owned.push(object.unwrap());
            }
            4..7 if !self.owned.is_empty() => {
                let n = self.below(self.owned.len());
                drop(self.owned.swap_remove(n));
            }
            7 if !self.owned.is_empty() => {
                let n = self.below(self.owned.len());
                // Given up, and perhaps freed by its handle.
                let handle = self.owned.swap_remove(n).park();
                if n % 2 == 0 {
                    self.cache.discard(handle).unwrap();
                }
            }
            8 => assert!(self.cache.alloc(failing(), GFP_KERNEL).is_err()),
            9 => {
                let mut many = KVec::new();
                let nr = 8 + self.below(20);
                self.cache
                    .alloc_bulk(&mut many, nr, |_| full::<T>(), GFP_KERNEL)
                    .unwrap();
                self.cache.free_bulk(&mut many);
                let none = self
                    .cache
                    .alloc_bulk(&mut many, nr, |_| failing::<T>(), GFP_KERNEL);
                assert_eq!(none, Err(EIO));
            }
            _ => {}
        }
    }

    /// What the old kernel has is gone, and what it was of stays.
    fn leave(self) {
        core::mem::forget(self.owned);
        core::mem::forget(self.cache);
    }
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    nr_live: usize,
    nr_free: usize,
    nr_unformatted: usize,
    nr_gap_bytes: usize,
    /// Where a byte is not zero that is of no object.
    old: Vec<u64>,
}

fn look(image: &Image, size_bytes: u64) -> Seen {
    let layout = Layout::of(image);
    let id = layout.arena_of(image, NAME.to_str().unwrap());
    let ser: ArenaSer = read(image, layout.arena(id));
    let slab_bytes = PAGE_BYTES << ser.slab_order;
    let mut seen = Seen::default();
    for entry in layout.runs_of(id) {
        for i in 0..(PAGE_BYTES << entry.run.order()) / slab_bytes {
            look_at_slab(
                image,
                entry.run.phys().get() + i * slab_bytes,
                &ser,
                size_bytes,
                &mut seen,
            );
        }
    }
    seen
}

fn look_at_slab(image: &Image, slab: u64, ser: &ArenaSer, size_bytes: u64, seen: &mut Seen) {
    let mut bytes = vec![0; (PAGE_BYTES << ser.slab_order) as usize];
    image.read(Phys::new(slab), &mut bytes);
    let first = usize::from(ser.first_slot);
    let (stride, nr_slots) = (ser.stride_bytes as usize, ser.nr_slots as usize);
    let mut expect_zeros = |range: core::ops::Range<usize>| {
        let old = (range.clone()).filter(|&at| bytes[at] != 0);
        seen.old.extend(old.map(|at| slab + at as u64));
        range.len()
    };
    if read::<SlabSer>(image, slab).magic == 0 {
        expect_zeros(0..bytes.len());
        seen.nr_unformatted += 1;
        return;
    }
    seen.nr_gap_bytes += expect_zeros(HEADER_BYTES + nr_slots..first);
    seen.nr_gap_bytes += expect_zeros(first + nr_slots * stride..bytes.len());
    for slot in 0..nr_slots {
        let start = first + slot * stride;
        if bytes[HEADER_BYTES + slot] % 2 == 0 {
            expect_zeros(start..start + stride);
            seen.nr_free += 1;
        } else {
            expect_zeros(start + size_bytes as usize..start + stride);
            assert!(bytes[start..start + size_bytes as usize]
                .iter()
                .all(|&byte| byte == 0xa5));
            seen.nr_live += 1;
        }
    }
}

fn machine() -> &'static SimMachine {
    SimMachine::boot(Config {
        nr_cpus: NR_CPUS,
        nr_pages: 1024,
        ..Config::default()
    })
}

/// Three kernels; what each hands over is looked at byte by byte.
fn handovers<T: Preservable>(options: &CacheOptions, nr_steps: usize) {
    let mut machine = machine();
    for generation in 0..3 {
        let framework = up(machine);
        let mut history = History::<T>::open(framework, options);
        history.cache.set_reserve(2).unwrap();
        for step in 0..nr_steps {
            history.step();
            if step % 500 == 499 {
                framework.work();
            }
        }
        framework.freeze();
        let seen = look(&machine.image(), size_of::<T>() as u64);
        assert_eq!(seen.nr_live, history.cache.raw().counts().nr_objects);
        assert!(seen.nr_free > 0 && seen.nr_unformatted > 0, "{seen:?}");
        assert_eq!(seen.old, [0; 0], "generation {generation}");
        history.leave();
        machine.assert_sound();
        machine = machine.reboot();
    }
    machine.power_off();
}

#[test]
fn free_slots_of_a_word_are_zeros_in_the_image() {
    handovers::<OneSer>(&CacheOptions::NONE, 3000);
}

#[test]
fn free_slots_between_gaps_are_zeros_in_the_image() {
    handovers::<FiveSer>(&CacheOptions::NONE, 3000);
}

#[test]
fn free_slots_of_many_pages_are_zeros_in_the_image() {
    handovers::<HugeSer>(&CacheOptions::NONE, 300);
}

#[test]
fn what_is_behind_an_object_is_zeros_in_the_image() {
    let options = CacheOptions {
        align_bytes: 128,
        ..CacheOptions::NONE
    };
    handovers::<FiveSer>(&options, 1000);
}

/// Takes whatever the next kernel has, and looks at each byte.
fn take_all<T: Preservable>(machine: &'static SimMachine) {
    let framework = up(machine);
    let cache = History::<T>::open(framework, &CacheOptions::NONE).cache;
    let raw = cache.raw();
    let mut taken = BTreeMap::new();
    for cpu in 0..NR_CPUS {
        set_cpu(cpu);
        while let Ok(vacant) = raw.alloc_slot(GFP_NOWAIT) {
            let start = vacant.as_ptr();
            // SAFETY: the slot is this test's, and has so many bytes, any of which will do.
            let bytes =
                unsafe { core::slice::from_raw_parts(start, raw.geometry().stride_bytes()) };
            assert!(bytes.iter().all(|&byte| byte == 0), "old bytes: {bytes:x?}");
            assert!(taken.insert(start.addr(), vacant).is_none());
        }
    }
    let counts = raw.counts();
    let nr_slots = counts.nr_slabs * raw.geometry().nr_slots() as usize;
    assert_eq!(taken.len() + counts.nr_objects, nr_slots, "a slot is lost");
}

/// Frees everything in the next kernel, and looks at the pages that are given back.
fn give_all<T: Preservable>(machine: &'static SimMachine) {
    let framework = up(machine);
    let runs: Vec<_> = machine.image().keys().collect();
    let cache = History::<T>::open(framework, &CacheOptions::NONE).cache;
    cache.finish();
    framework.drain_here();
    // First who must not scrub, then who does.
    framework.reclaim(usize::MAX);
    framework.work();
    framework.reclaim(usize::MAX);
    framework.work();
    let kept: BTreeMap<_, _> = machine.image().keys().collect();
    let mut page = [0; PAGE_BYTES as usize];
    let mut nr_pages = 0;
    for (phys, order) in runs {
        if kept.contains_key(&phys) {
            continue;
        }
        for at in 0..1 << order {
            let phys = Phys::new(phys.get() + at * PAGE_BYTES);
            machine.read_phys(phys, &mut page);
            let words = page.chunks_exact(8);
            assert!(words.into_iter().all(|word| word != [0xa5; 8]), "{phys:?}");
            nr_pages += 1;
        }
    }
    assert!(nr_pages > 0);
}

/// Stops at each step, and looks at the machine that boots then.
fn survive<T: Preservable>(nr_steps: usize, torn: bool, look: fn(&'static SimMachine)) {
    let machine = SimMachine::boot(Config {
        nr_cpus: NR_CPUS,
        ..small()
    });
    let framework = up(machine);
    let mut history = History::<T>::open(framework, &CacheOptions::NONE);
    // So that all slots of a word are used.
    for _ in 0..NR_BEFORE {
        let object = history.cache.alloc(full::<T>(), GFP_KERNEL);
        history.owned.push(object.unwrap());
    }
    let recorder = if torn {
        Recorder::start(machine).torn(1).overtaking()
    } else {
        Recorder::start(machine)
    };
    for _ in 0..nr_steps {
        history.step();
    }
    let cuts = recorder.finish();
    history.leave();
    let mut nr_old = 0;
    for cut in &cuts {
        nr_old += usize::from(has_old(&cut.image));
        let next = cut.image.boot();
        if let Err(panic) = std::panic::catch_unwind(|| look(next)) {
            std::eprintln!("cut {}", cut.step);
            std::panic::resume_unwind(panic);
        }
        next.assert_sound();
        next.power_off();
    }
    let nr_cuts = cuts.len();
    assert!(
        nr_old > 20,
        "old bytes in {nr_old} of {nr_cuts}: this proves little"
    );
}

/// Whether a byte of a free slot is not zero.
fn has_old(image: &Image) -> bool {
    let layout = Layout::of(image);
    let mut found = false;
    for slab in layout.slabs(image, NAME.to_str().unwrap()) {
        let ser: SlabSer = read(image, slab);
        for slot in 0..u64::from(ser.nr_slots) {
            let tag: u8 = read(image, slab + HEADER_BYTES as u64 + slot);
            let start = slab + u64::from(ser.first_slot) + slot * u64::from(ser.stride_bytes);
            found |= tag % 2 == 0 && read::<u64>(image, start) != 0;
        }
    }
    found
}

#[test]
fn after_a_stop_at_any_step_zeros_are_handed_out() {
    survive::<FiveSer>(120, false, take_all::<FiveSer>);
}

#[test]
fn after_a_stop_with_stores_reordered_zeros_are_handed_out() {
    survive::<FiveSer>(80, true, take_all::<FiveSer>);
}

#[test]
fn after_a_stop_at_any_step_no_object_is_in_pages_that_are_given_back() {
    survive::<HugeSer>(60, false, give_all::<HugeSer>);
}

/// Nothing of ours is ever where KHO has its scratch memory, which the next kernel boots in.
#[test]
fn no_run_is_in_scratch() {
    let machine = SimMachine::boot(Config {
        nr_scratch_pages: 200,
        percent_taken: 10,
        nr_cpus: NR_CPUS,
        ..Config::default()
    });
    let framework = up(machine);
    let mut history = History::<FiveSer>::open(framework, &CacheOptions::NONE);
    // All of the memory there is.
    while let Ok(object) = history.cache.alloc(full::<FiveSer>(), GFP_KERNEL) {
        history.owned.push(object);
    }
    assert!(machine.nr_free_pages() < 64);
    let scratch_end = machine.config().phys_base + 200 * PAGE_BYTES;
    for (phys, _) in machine.image().keys() {
        assert!(phys.get() >= scratch_end);
    }
    machine.assert_sound();
    history.leave();
    machine.power_off();
}
