// SPDX-License-Identifier: GPL-2.0

//! Giving memory back, under pressure and when caches come to rest, and what CPUs hold.
//!
//! KHO allocates with GFP_KERNEL under its own mutex, so reclaim may run on behalf of whoever holds
//! it, and of whoever holds a lock of ours around it. Hence nothing in [`Framework::reclaim`] takes
//! a lock that is ever held across a call of KHO; as it happens, it takes none at all: caches are
//! found through the roll, empty runs are condemned by atomic operations, and what needs KHO is
//! left to the worker, for whom nobody in reclaim waits. That is why the flags of the allocation
//! that reclaims make no difference here.

use kernel::sync::atomic::Relaxed;

use crate::framework::Framework;

impl Framework {
    /// Returns how many pages [`reclaim`](Self::reclaim) might condemn. From any context.
    ///
    /// A page for each cache stands for what its CPUs hold, which cannot be counted from here: so
    /// that a shrinker asks once more when nothing else is left.
    pub fn nr_pages_reclaimable(&self) -> usize {
        let of_cache = |cache: &kpreserve_slab::RawCache| cache.nr_pages_empty() + 1;
        self.roll().iter().map(of_cache).sum()
    }

    /// Condemns empty runs of up to `nr_pages` pages together, which the worker will give back;
    /// returns how many pages. From any context, reclaim included: no lock, no allocation, no
    /// call of KHO.
    ///
    /// If it is less than was asked for, [`drain_here`](Self::drain_here) on each CPU and another
    /// round may find more.
    pub fn reclaim(&self, nr_pages: usize) -> usize {
        let mut nr_condemned = 0;
        for cache in self.roll().iter() {
            if nr_condemned >= nr_pages {
                break;
            }
            nr_condemned += cache.condemn_empty(nr_pages - nr_condemned);
        }
        let counts = self.reclaim_counts();
        counts.nr_calls.fetch_add(1, Relaxed);
        counts.nr_pages.fetch_add(nr_condemned as u64, Relaxed);
        nr_condemned
    }

    /// Returns how many pages are condemned, and not given back yet. From any context.
    pub fn nr_pages_condemned(&self) -> usize {
        let of_cache = |cache: &kpreserve_slab::RawCache| cache.nr_pages_condemned();
        self.roll().iter().map(of_cache).sum()
    }

    /// Begins to bring to rest all caches that are in use. Then, on each CPU,
    /// [`drain_here`](Self::drain_here), and [`work`](Self::work): what nobody uses any more holds
    /// no more than it should. From any context.
    pub fn begin_settling(&self) {
        for cache in self.roll().iter() {
            cache.begin_settling();
        }
    }

    /// Gives back to their slabs what this CPU holds of free slots. From any context but NMI.
    ///
    /// Cost: a few instructions a slot; a CPU holds a few dozens of each cache.
    pub fn drain_here(&self) {
        self.roll().iter().for_each(|cache| cache.drain_here());
    }

    /// The same for a CPU that is gone.
    ///
    /// # Safety
    ///
    /// The CPU is not running, all that it did is visible here, and it stays off until this
    /// returns; nobody else calls this for it meanwhile.
    pub unsafe fn drain_cpu(&self, cpu: usize) {
        for cache in self.roll().iter() {
            // SAFETY: as the caller promises.
            unsafe { cache.drain_cpu(cpu) };
        }
        self.reclaim_counts().nr_cpus_drained.fetch_add(1, Relaxed);
    }
}
