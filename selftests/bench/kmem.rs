// SPDX-License-Identifier: GPL-2.0

//! `kmem_cache`, and two CPUs at once, which are C.
//!
//! C header: `kmem.h`. For the device alone, which does one thing at a time.

use kernel::error::to_result;
use kernel::prelude::*;

type Loop = extern "C" fn(u64);
type Give = unsafe extern "C" fn(*mut *mut c_void);
type Take = unsafe extern "C" fn(*mut c_void);

mod bindings {
    use super::{
        c_int,
        c_void,
        Give,
        Loop,
        Take, //
    };

    extern "C" {
        pub(super) fn kpreserve_bench_kmem_open(size: usize) -> c_int;
        pub(super) fn kpreserve_bench_kmem_close();
        pub(super) fn kpreserve_bench_kmem_pairs(n: u64, zero: bool, atomic: bool) -> u64;
        pub(super) fn kpreserve_bench_kmem_row(
            objects: *mut *mut c_void,
            order: *const u32,
            nr: usize,
            alloc_ns: *mut u64,
            free_ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_kmem_bulk(
            objects: *mut *mut c_void,
            nr: usize,
            n: u64,
        ) -> u64;
        pub(super) fn kpreserve_bench_nr_free_pages() -> u64;
        pub(super) fn kpreserve_bench_kmem_pair_loop(n: u64);
        pub(super) fn kpreserve_bench_kmem_batch_loop(n: u64);
        pub(super) fn kpreserve_bench_kmem_give(object: *mut *mut c_void);
        pub(super) fn kpreserve_bench_kmem_take(object: *mut c_void);
        pub(super) fn kpreserve_bench_beside_start(work: Loop) -> c_int;
        pub(super) fn kpreserve_bench_beside_stop() -> u64;
        pub(super) fn kpreserve_bench_on_two_cpus(
            work: unsafe extern "C" fn(u64),
            n: u64,
            ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_remote(give: Give, take: Take, n: u64, ns: *mut u64)
            -> c_int;
    }
}

/// Runs of which the best counts, where the clock is that of the wall: a host with other work to do takes a CPU away
/// for longer than one of them.
const NR_TRIES: usize = 25;

/// Returns the machine's free pages.
pub(crate) fn nr_free_pages() -> u64 {
    // SAFETY: may sleep, and so may the caller, a task.
    unsafe { bindings::kpreserve_bench_nr_free_pages() }
}

/// Runs ours and the peer's in turn, so that other work of the host meets both; the best of each.
fn best_of_both(
    mut ours: impl FnMut(&mut u64) -> c_int,
    mut peer: impl FnMut(&mut u64) -> c_int,
) -> Result<(u64, u64)> {
    let mut least = (u64::MAX, u64::MAX);
    for _ in 0..NR_TRIES {
        let mut ns = 0;
        to_result(ours(&mut ns))?;
        least.0 = least.0.min(ns);
        to_result(peer(&mut ns))?;
        least.1 = least.1.min(ns);
    }
    Ok(least)
}

/// Calls `f` while another CPU does something over and over; how often it did, and what `f` returned.
pub(crate) fn beside<R>(work: Loop, f: impl FnOnce() -> Result<R>) -> Result<(u64, R)> {
    // SAFETY: a function that takes a number.
    to_result(unsafe { bindings::kpreserve_bench_beside_start(work) })?;
    let result = f();
    // SAFETY: started above.
    let nr = unsafe { bindings::kpreserve_bench_beside_stop() };
    Ok((nr, result?))
}

/// The one cache.
pub(crate) struct Kmem(());

impl Kmem {
    /// Makes it, for objects of a size.
    pub(crate) fn open(size_bytes: usize) -> Result<Self> {
        // SAFETY: there is none: the one before was closed when it was dropped.
        to_result(unsafe { bindings::kpreserve_bench_kmem_open(size_bytes) })?;
        Ok(Self(()))
    }

    pub(crate) fn pairs(&self, n: u64, zero: bool, atomic: bool) -> u64 {
        // SAFETY: the cache is open.
        unsafe { bindings::kpreserve_bench_kmem_pairs(n, zero, atomic) }
    }

    /// Allocates as many as there are places for, and frees them in an order, of all places.
    pub(crate) fn row(&self, objects: &mut [usize], order: &[u32]) -> Result<(u64, u64)> {
        let (mut alloc_ns, mut free_ns) = (0, 0);
        if objects.len() != order.len() {
            return Err(EINVAL);
        }
        // SAFETY: the cache is open; as many places as numbers, each below that; the rest are
        // locals.
        to_result(unsafe {
            bindings::kpreserve_bench_kmem_row(
                objects.as_mut_ptr().cast(),
                order.as_ptr(),
                order.len(),
                &mut alloc_ns,
                &mut free_ns,
            )
        })?;
        Ok((alloc_ns, free_ns))
    }

    pub(crate) fn bulk(&self, objects: &mut [usize], n: u64) -> Result<u64> {
        let places = objects.as_mut_ptr().cast();
        // SAFETY: the cache is open; so many places.
        match unsafe { bindings::kpreserve_bench_kmem_bulk(places, objects.len(), n) } {
            0 => Err(ENOMEM),
            ns => Ok(ns),
        }
    }

    /// Allocates one for each place.
    pub(crate) fn fill(&self, objects: &mut [usize]) -> Result {
        for place in objects {
            let place: *mut usize = place;
            // SAFETY: the cache is open; a place of the size of a pointer.
            unsafe { bindings::kpreserve_bench_kmem_give(place.cast()) };
        }
        Ok(())
    }

    /// Frees what [`fill`](Self::fill) allocated.
    pub(crate) fn empty(&self, objects: &mut [usize]) {
        for place in objects {
            let object = core::mem::replace(place, 0);
            if object != 0 {
                // SAFETY: the cache is open, and this is of it.
                unsafe {
                    bindings::kpreserve_bench_kmem_take(core::ptr::with_exposed_provenance_mut(
                        object,
                    ))
                };
            }
        }
    }

    /// Has two CPUs do `ours` `n` times each, and allocate and free of this cache; how long until both have.
    pub(crate) fn pairs_on_two_cpus(&self, ours: Loop, n: u64) -> Result<(u64, u64)> {
        on_two_cpus(ours, bindings::kpreserve_bench_kmem_pair_loop, n)
    }

    /// The same in batches.
    pub(crate) fn batches_on_two_cpus(&self, ours: Loop, n: u64) -> Result<(u64, u64)> {
        on_two_cpus(ours, bindings::kpreserve_bench_kmem_batch_loop, n)
    }

    /// Has one CPU allocate `n`, and another one free them; ours, and those of this cache.
    pub(crate) fn remote(&self, give: Give, take: Take, n: u64) -> Result<(u64, u64)> {
        best_of_both(
            // SAFETY: what `give` gives is what `take` takes; the pointer is to a local.
            |ns| unsafe { bindings::kpreserve_bench_remote(give, take, n, ns) },
            // SAFETY: the cache is open; the pointer is to a local.
            |ns| unsafe {
                bindings::kpreserve_bench_remote(
                    bindings::kpreserve_bench_kmem_give,
                    bindings::kpreserve_bench_kmem_take,
                    n,
                    ns,
                )
            },
        )
    }
}

fn on_two_cpus(ours: Loop, peer: unsafe extern "C" fn(u64), n: u64) -> Result<(u64, u64)> {
    best_of_both(
        // SAFETY: a function that takes a number; the pointer is to a local.
        |ns| unsafe { bindings::kpreserve_bench_on_two_cpus(ours, n, ns) },
        // SAFETY: the cache is open, says the caller, who has it; the pointer is to a local.
        |ns| unsafe { bindings::kpreserve_bench_on_two_cpus(peer, n, ns) },
    )
}

impl Drop for Kmem {
    fn drop(&mut self) {
        // SAFETY: it is open, and nothing of it is in use.
        unsafe { bindings::kpreserve_bench_kmem_close() };
    }
}
