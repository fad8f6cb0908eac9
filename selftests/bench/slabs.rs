// SPDX-License-Identifier: GPL-2.0

//! Allocating and freeing: `slab.*`, against `kmem_cache`.
//!
//! Both sides loop over the same things: an object, an array of pointers, an order. Ours zeroes each
//! object when it is freed and makes it known to the next kernel when it is allocated, which is why
//! there is a second peer that zeroes.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use kernel::alloc::Flags;
use kernel::sync::SetOnce;
use kernel::types::ForeignOwnable;
use kpreserve::prelude::*;
use pin_init::init_from_closure;

use crate::kmem::{
    self,
    Kmem, //
};
use crate::peers::timed;
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

macro_rules! objects {
    ($($name:ident $nr_words:literal $compatible:literal $cache:literal)*) => {$(
        kpreserve::preservable! {
            pub(crate) struct $name {
                pub(crate) words: [u64; $nr_words],
            }
            compatible = $compatible, version = 1
        }

        impl Object for $name {
            const NAME: &'static CStr = $cache;
        }
    )*};
}

/// A type with a cache of its own.
trait Object: Preservable {
    const NAME: &'static CStr;
}

objects! {
    S8Ser 1 "bench-8" c"bench/8"
    S16Ser 2 "bench-16" c"bench/16"
    S32Ser 4 "bench-32" c"bench/32"
    S64Ser 8 "bench-64" c"bench/64"
    S128Ser 16 "bench-128" c"bench/128"
    S256Ser 32 "bench-256" c"bench/256"
    S512Ser 64 "bench-512" c"bench/512"
    S1024Ser 128 "bench-1024" c"bench/1024"
    S2048Ser 256 "bench-2048" c"bench/2048"
    S4096Ser 512 "bench-4096" c"bench/4096"
}

const NR_PAIRS: u64 = 100_000;
const NR_BULK: usize = 64;
const NR_BULKS: u64 = 1000;

/// Nothing to write: a slot is zeros.
#[inline(always)]
fn zeros<T: Preservable>() -> impl Init<T, Error> {
    // SAFETY: any bytes are a `T`, and a slot is zeros.
    unsafe { init_from_closure(|_: *mut T| Ok(())) }
}

/// `slab.pair` and `slab.size`, for a type.
fn pairs<T: Object>(reply: &mut Reply, name: &str, flags: Flags) -> Result {
    let cache = Cache::<T>::open(T::NAME, GFP_KERNEL)?;
    hot_pairs(&cache, NR_BULK as u64, flags)?;
    let (ns, ()) = timed(|| hot_pairs(&cache, NR_PAIRS, flags))?;
    let ours = Figure::per(ns, NR_PAIRS as usize);
    let kmem = Kmem::open(size_of::<T>())?;
    let atomic = flags == GFP_ATOMIC;
    for (peer_name, zero) in [("kmem_cache", false), ("kmem_cache+zero", true)] {
        let ns = kmem.pairs(NR_PAIRS, zero, atomic);
        let peer = Figure::per(ns, NR_PAIRS as usize);
        reply.row(name, size_of::<T>(), ours, peer_name, peer);
    }
    Ok(())
}

/// Allocates an object and frees it, `n` times. `xtask bench` looks through this for locked
/// instructions, and through what it calls.
#[inline(never)]
fn hot_pairs<T: Preservable>(cache: &Cache<T>, n: u64, flags: Flags) -> Result {
    for _ in 0..n {
        drop(cache.alloc(zeros(), flags)?);
    }
    Ok(())
}

/// `slab.pair`: 64 bytes.
pub(crate) fn pair(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    pairs::<S64Ser>(reply, "slab.pair", GFP_KERNEL)?;
    pairs::<S64Ser>(reply, "slab.pair.atomic", GFP_ATOMIC)
}

/// `slab.size`: pairs of all sizes.
pub(crate) fn size(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    pairs::<S8Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S16Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S32Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S64Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S128Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S256Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S512Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S1024Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S2048Ser>(reply, "slab.size", GFP_KERNEL)?;
    pairs::<S4096Ser>(reply, "slab.size", GFP_KERNEL)
}

/// In which order objects are freed.
#[derive(Clone, Copy)]
enum Order {
    Same,
    Reverse,
    Random,
}

impl Order {
    const ALL: [(Self, &'static str); 3] = [
        (Order::Same, "slab.free"),
        (Order::Reverse, "slab.free.reverse"),
        (Order::Random, "slab.free.random"),
    ];

    /// Returns the numbers below `n`; the same in each call.
    fn of(self, n: usize) -> Result<KVVec<u32>> {
        let mut order = KVVec::with_capacity(n, GFP_KERNEL)?;
        for i in 0..n {
            let number = match self {
                Order::Reverse => n - 1 - i,
                _ => i,
            };
            order.push(number as u32, GFP_KERNEL)?;
        }
        if let Order::Random = self {
            let mut seed = 1u64;
            for i in (1..n).rev() {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                order.swap(i, (seed >> 33) as usize % (i + 1));
            }
        }
        Ok(order)
    }
}

/// Allocates into all places, and frees in an order, of all places; how long each took. The loops are
/// those of kmem.c: places are overwritten, and not looked at.
fn row(
    cache: &Cache<S64Ser>,
    places: &mut [MaybeUninit<Preserved<S64Ser>>],
    order: &[u32],
) -> Result<(u64, u64)> {
    if places.len() != order.len() {
        return Err(EINVAL);
    }
    let (alloc_ns, ()) = timed(|| {
        for place in places.iter_mut() {
            // On failure the others stay with the cache: the machine goes down.
            place.write(cache.alloc(zeros(), GFP_KERNEL)?);
        }
        Ok(())
    })?;
    let (free_ns, ()) = timed(|| {
        for &i in order {
            // SAFETY: `order` holds each number below the number of places, once.
            let place = unsafe { places.get_unchecked_mut(i as usize) };
            // SAFETY: written above, and read once.
            drop(unsafe { place.assume_init_read() });
        }
        Ok(())
    })?;
    Ok((alloc_ns, free_ns))
}

/// `slab.rows N`: N in a row, then freed. A first pass finds nothing; the second one what the first
/// has left.
pub(crate) fn rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let cache = Cache::<S64Ser>::open(c"bench/rows", GFP_KERNEL)?;
    let mut places = KVVec::with_capacity(n, GFP_KERNEL)?;
    for _ in 0..n {
        places.push(MaybeUninit::uninit(), GFP_KERNEL)?;
    }
    let mut objects = KVVec::from_elem(0usize, n, GFP_KERNEL)?;
    let kmem = Kmem::open(size_of::<S64Ser>())?;
    let mut is_cold = true;
    for (order, free_name) in Order::ALL {
        let order = order.of(n)?;
        if is_cold {
            let (ours_ns, _) = row(&cache, &mut places, &order)?;
            let (peer_ns, _) = kmem.row(&mut objects, &order)?;
            let (ours, peer) = (Figure::per(ours_ns, n), Figure::per(peer_ns, n));
            reply.row("slab.alloc.cold", n, ours, "kmem_cache", peer);
        }
        // Once to come to rest in this order, then counted.
        row(&cache, &mut places, &order)?;
        let ours = row(&cache, &mut places, &order)?;
        kmem.row(&mut objects, &order)?;
        let peer = kmem.row(&mut objects, &order)?;
        if is_cold {
            let (ours, peer) = (Figure::per(ours.0, n), Figure::per(peer.0, n));
            reply.row("slab.alloc", n, ours, "kmem_cache", peer);
        }
        let (ours, peer) = (Figure::per(ours.1, n), Figure::per(peer.1, n));
        reply.row(free_name, n, ours, "kmem_cache", peer);
        is_cold = false;
    }
    Ok(())
}

/// `slab.bulk`: 64 at once, allocated and freed, for each.
pub(crate) fn bulk(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let cache = Cache::<S64Ser>::open(c"bench/bulk", GFP_KERNEL)?;
    let mut owners = KVec::with_capacity(NR_BULK, GFP_KERNEL)?;
    // As in any cache that has been in use: some slabs, and slots behind the sheaf.
    cache.alloc_bulk(&mut owners, 10 * NR_BULK, |_| zeros(), GFP_KERNEL)?;
    cache.free_bulk(&mut owners);
    let (ns, ()) = timed(|| {
        for _ in 0..NR_BULKS {
            cache.alloc_bulk(&mut owners, NR_BULK, |_| zeros(), GFP_KERNEL)?;
            cache.free_bulk(&mut owners);
        }
        Ok(())
    })?;
    let (mut alloc_ns, mut free_ns) = (0, 0);
    for _ in 0..NR_BULKS {
        alloc_ns += timed(|| cache.alloc_bulk(&mut owners, NR_BULK, |_| zeros(), GFP_KERNEL))?.0;
        free_ns += timed(|| {
            cache.free_bulk(&mut owners);
            Ok(())
        })?
        .0;
    }
    reply.put("alloc_64", alloc_ns / NR_BULKS);
    reply.put("free_64", free_ns / NR_BULKS);
    let nr_objects = NR_BULK * NR_BULKS as usize;
    let kmem = Kmem::open(size_of::<S64Ser>())?;
    let mut objects = KVVec::from_elem(0usize, NR_BULK, GFP_KERNEL)?;
    kmem.bulk(&mut objects, 10)?;
    let peer_ns = kmem.bulk(&mut objects, NR_BULKS)?;
    reply.row(
        "slab.bulk",
        NR_BULK,
        Figure::per(ns, nr_objects),
        "kmem_cache",
        Figure::per(peer_ns, nr_objects),
    );
    Ok(())
}

/// `slab.memory N`: bytes of the machine's memory for each of N objects of 64 bytes, everything
/// included: slabs, keys, the run table, what the cache knows of its runs, sheaves.
pub(crate) fn memory(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let mut places = KVVec::with_capacity(n, GFP_KERNEL)?;
    for _ in 0..n {
        places.push(None, GFP_KERNEL)?;
    }
    let mut objects = KVVec::from_elem(0usize, n, GFP_KERNEL)?;

    let before = kmem::nr_free_pages();
    let cache = Cache::<S64Ser>::open(c"bench/memory", GFP_KERNEL)?;
    for place in places.iter_mut() {
        *place = Some(cache.alloc(zeros(), GFP_KERNEL)?);
    }
    let nr_pages = before.saturating_sub(kmem::nr_free_pages());
    let counts = cache.raw().counts();
    reply.put("runs", counts.nr_runs as u64);
    reply.put("run_bytes", counts.bytes as u64);
    let ours = Figure::per(nr_pages * 4096, n);
    drop(places);

    let kmem = Kmem::open(size_of::<S64Ser>())?;
    let before = kmem::nr_free_pages();
    kmem.fill(&mut objects)?;
    let nr_pages = before.saturating_sub(kmem::nr_free_pages());
    kmem.empty(&mut objects);
    reply.bytes_row(
        "slab.memory",
        n,
        ours,
        "kmem_cache",
        Figure::per(nr_pages * 4096, n),
    );
    Ok(())
}

static TWO: SetOnce<Cache<S64Ser>> = SetOnce::new();

extern "C" fn pair_loop(n: u64) {
    if let Some(cache) = TWO.as_ref() {
        let _ = hot_pairs(cache, n, GFP_KERNEL);
    }
}

extern "C" fn batch_loop(n: u64) {
    let Some(cache) = TWO.as_ref() else {
        return;
    };
    let mut owners = [const { None }; NR_BULK];
    for _ in 0..n / NR_BULK as u64 {
        for place in &mut owners {
            *place = cache.alloc(zeros::<S64Ser>(), GFP_KERNEL).ok();
        }
        for place in &mut owners {
            drop(place.take());
        }
    }
}

/// # Safety
///
/// `object` is valid for writes.
unsafe extern "C" fn give(object: *mut *mut c_void) {
    if let Some(cache) = TWO.as_ref() {
        if let Ok(owner) = cache.alloc(zeros::<S64Ser>(), GFP_KERNEL) {
            // SAFETY: says the caller.
            unsafe { object.write(owner.into_foreign()) };
        }
    }
}

/// # Safety
///
/// `object` came from [`give`], and is not used again.
unsafe extern "C" fn take(object: *mut c_void) {
    // SAFETY: says the caller.
    drop(unsafe { <Preserved<S64Ser>>::from_foreign(object) });
}

/// `slab.two`: two CPUs at once; wall clock.
pub(crate) fn two(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    const NR: u64 = 64_000;
    TWO.populate(Cache::open(c"bench/two", GFP_KERNEL)?);
    let kmem = Kmem::open(size_of::<S64Ser>())?;
    for (name, (ours, peer)) in [
        ("slab.pair.2cpus", kmem.pairs_on_two_cpus(pair_loop, NR)?),
        (
            "slab.batch.2cpus",
            kmem.batches_on_two_cpus(batch_loop, NR)?,
        ),
        ("slab.remote.2cpus", kmem.remote(give, take, NR)?),
    ] {
        let (ours, peer) = (
            Figure::per(ours, NR as usize),
            Figure::per(peer, NR as usize),
        );
        reply.row(name, 2, ours, "kmem_cache", peer);
    }
    Ok(())
}
