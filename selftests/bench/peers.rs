// SPDX-License-Identifier: GPL-2.0

//! The clock, the notes and the peers, which are C.
//!
//! C header: `peers.h`. All of it is for the device alone, which does one thing at a time.

use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CString;

mod bindings {
    use super::{
        c_char,
        c_int,
        c_uint, //
    };

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Section {
        start: u64,
        nr_sleeps: usize,
        nr_preemptions: usize,
    }

    extern "C" {
        pub(super) fn kpreserve_bench_start(section: *mut Section);
        pub(super) fn kpreserve_bench_stop(section: *const Section) -> u64;
        pub(super) fn kpreserve_bench_known_loop(nr_instructions: u64) -> u64;
        pub(super) fn kpreserve_bench_clear_page_ns() -> u64;
        pub(super) fn kpreserve_bench_nr_sleeps() -> u64;
        pub(super) fn kpreserve_bench_nr_preemptions() -> u64;
        pub(super) fn kpreserve_bench_boot_ns() -> u64;
        pub(super) fn kpreserve_bench_after();
        pub(super) fn kpreserve_bench_init_ns() -> u64;
        pub(super) fn kpreserve_bench_initrd_bytes() -> u64;
        pub(super) fn kpreserve_bench_is_dma() -> bool;
        pub(super) fn kpreserve_bench_note(key: *const c_char, value: u64) -> c_int;
        pub(super) fn kpreserve_bench_find(key: *const c_char, value: *mut u64) -> c_int;
        pub(super) fn kpreserve_bench_live_make(
            nr: usize,
            alloc_ns: *mut u64,
            loop_ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_live_drop();
        pub(super) fn kpreserve_bench_live_check(nr: usize) -> c_int;
        pub(super) fn kpreserve_bench_blocks_fill(grow_ns: *mut u64, fill_ns: *mut u64) -> c_int;
        pub(super) fn kpreserve_bench_blocks_head() -> u64;
        pub(super) fn kpreserve_bench_blocks_drop();
        pub(super) fn kpreserve_bench_blocks_adopt(head_pa: u64, nr: usize, ns: *mut u64) -> c_int;
        pub(super) fn kpreserve_bench_records_fill(
            fill_ns: *mut u64,
            preserve_ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_records_where(place: *mut [u64; 2]);
        pub(super) fn kpreserve_bench_records_drop();
        pub(super) fn kpreserve_bench_records_adopt(
            place: *const [u64; 2],
            nr: usize,
            ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_naive_make(nr: usize, scattered: bool, ns: *mut u64)
            -> c_int;
        pub(super) fn kpreserve_bench_naive_head() -> u64;
        pub(super) fn kpreserve_bench_naive_drop();
        pub(super) fn kpreserve_bench_naive_adopt(head_pa: u64, nr: usize, ns: *mut u64) -> c_int;
        pub(super) fn kpreserve_bench_area_make(
            size: usize,
            huge: bool,
            alloc_ns: *mut u64,
            preserve_ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_area_where(place: *mut [u64; 2]);
        pub(super) fn kpreserve_bench_area_order() -> u64;
        pub(super) fn kpreserve_bench_area_drop();
        pub(super) fn kpreserve_bench_area_adopt(
            place: *const [u64; 2],
            size: usize,
            ns: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_bench_area_map(size: usize, ns: *mut u64) -> c_int;
        pub(super) fn kpreserve_bench_fragment(order: c_uint) -> u64;
        pub(super) fn kpreserve_bench_give();
    }
}

/// Leaves no free block larger than `2^order` pages; returns how many pages were taken for that.
pub(crate) fn fragment_memory(order: u32) -> u64 {
    // SAFETY: by the device's lock nobody else does.
    unsafe { bindings::kpreserve_bench_fragment(order) }
}

/// Gives back what was taken.
pub(crate) fn give_memory() {
    // SAFETY: as above.
    unsafe { bindings::kpreserve_bench_give() };
}

/// Runs `f`; says how long it took, an empty section not counted.
pub(crate) fn timed<R>(f: impl FnOnce() -> Result<R>) -> Result<(u64, R)> {
    let mut section = bindings::Section::default();
    // SAFETY: the pointer is to a local.
    unsafe { bindings::kpreserve_bench_start(&mut section) };
    let result = f();
    // SAFETY: as above.
    let ns = unsafe { bindings::kpreserve_bench_stop(&section) };
    Ok((ns, result?))
}

/// Returns whether the clock counts instructions.
pub(crate) fn is_exact() -> bool {
    const NR_INSTRUCTIONS: u64 = 1_000_000;
    // Of several, one is not interrupted.
    let least = (0..16)
        // SAFETY: no requirements.
        .map(|_| unsafe { bindings::kpreserve_bench_known_loop(NR_INSTRUCTIONS) })
        .min();
    least.is_some_and(|ns| ns.abs_diff(NR_INSTRUCTIONS) < 100)
}

/// Returns what it takes to make zeros of a page.
pub(crate) fn clear_page_ns() -> Result<u64> {
    // SAFETY: may sleep, and so may the caller, a task.
    match unsafe { bindings::kpreserve_bench_clear_page_ns() } {
        0 => Err(ENOMEM),
        ns => Ok(ns),
    }
}

/// Returns how often a measured section slept, and was preempted, since the last call.
pub(crate) fn disturbances() -> (u64, u64) {
    // SAFETY: no requirements.
    unsafe {
        (
            bindings::kpreserve_bench_nr_sleeps(),
            bindings::kpreserve_bench_nr_preemptions(),
        )
    }
}

/// Called by the first initcall behind kpreserve's.
pub(crate) fn kpreserve_is_up() {
    // SAFETY: no requirements.
    unsafe { bindings::kpreserve_bench_after() };
}

/// Returns how long kpreserve's initcall took.
pub(crate) fn init_ns() -> u64 {
    // SAFETY: no requirements.
    unsafe { bindings::kpreserve_bench_init_ns() }
}

/// The boot of this kernel.
pub(crate) struct Boot {
    /// How long it took until the first initcalls.
    pub(crate) ns: u64,
    pub(crate) initrd_bytes: u64,
    /// Whether what KHO and LUO handed over in any case lies in the DMA zone.
    pub(crate) is_dma: bool,
}

/// Returns what is known of the boot of this kernel.
pub(crate) fn boot() -> Boot {
    // SAFETY: no requirements.
    unsafe {
        Boot {
            ns: bindings::kpreserve_bench_boot_ns(),
            initrd_bytes: bindings::kpreserve_bench_initrd_bytes(),
            is_dma: bindings::kpreserve_bench_is_dma(),
        }
    }
}

/// Notes a number for the kernels to come.
pub(crate) fn note(side: &str, what: &str, value: u64) -> Result {
    let key = CString::try_from_fmt(fmt!("{side}.{what}"))?;
    // SAFETY: a C string.
    to_result(unsafe { bindings::kpreserve_bench_note(key.as_ptr().cast(), value) })
}

/// Finds a number that this kernel or an earlier one has noted; ENOENT if none did.
pub(crate) fn noted(side: &str, what: &str) -> Result<u64> {
    let key = CString::try_from_fmt(fmt!("{side}.{what}"))?;
    let mut value = 0;
    // SAFETY: a C string, and a pointer to a local.
    to_result(unsafe { bindings::kpreserve_bench_find(key.as_ptr().cast(), &mut value) })?;
    Ok(value)
}

/// Objects in a kmem_cache.
pub(crate) struct Live {
    pub(crate) alloc_ns: u64,
    /// What of that is the loop and the store of the pointer.
    pub(crate) loop_ns: u64,
}

impl Live {
    /// Allocates and initialises.
    pub(crate) fn make(nr: usize) -> Result<Self> {
        let (mut alloc_ns, mut loop_ns) = (0, 0);
        // SAFETY: pointers to locals; by the device's lock there is no other set of live objects.
        to_result(unsafe { bindings::kpreserve_bench_live_make(nr, &mut alloc_ns, &mut loop_ns) })?;
        Ok(Self { alloc_ns, loop_ns })
    }

    /// Takes over the objects that one of the peers has made again, and checks them.
    fn checked(nr: usize) -> Result {
        let live = Self {
            alloc_ns: 0,
            loop_ns: 0,
        };
        // SAFETY: no requirements.
        let result = to_result(unsafe { bindings::kpreserve_bench_live_check(nr) });
        drop(live);
        result
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // SAFETY: made by `make` or by a peer, and dropped once.
        unsafe { bindings::kpreserve_bench_live_drop() };
    }
}

/// The live objects in a kho_block_set. Dropped only if this kernel keeps them.
pub(crate) struct Blocks {
    pub(crate) grow_ns: u64,
    pub(crate) fill_ns: u64,
}

impl Blocks {
    /// Fills a block set.
    pub(crate) fn fill(_live: &Live) -> Result<Self> {
        let (mut grow_ns, mut fill_ns) = (0, 0);
        // SAFETY: pointers to locals; there are live objects.
        to_result(unsafe { bindings::kpreserve_bench_blocks_fill(&mut grow_ns, &mut fill_ns) })?;
        Ok(Self { grow_ns, fill_ns })
    }

    /// Leaves it to the next kernel: returns where it is.
    pub(crate) fn leave(self) -> u64 {
        core::mem::forget(self);
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_bench_blocks_head() }
    }

    /// Restores a block set, and makes live objects from it. Returns the time.
    pub(crate) fn adopt(head: u64, nr: usize) -> Result<u64> {
        let mut ns = 0;
        // SAFETY: a block set that the previous kernel left, and a pointer to a local.
        to_result(unsafe { bindings::kpreserve_bench_blocks_adopt(head, nr, &mut ns) })?;
        Live::checked(nr)?;
        Ok(ns)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: made by `fill`, and dropped once.
        unsafe { bindings::kpreserve_bench_blocks_drop() };
    }
}

/// The live objects in an array that was preserved by kho_preserve_vmalloc().
pub(crate) struct Records {
    pub(crate) fill_ns: u64,
    pub(crate) preserve_ns: u64,
}

impl Records {
    /// Fills an array.
    pub(crate) fn fill(_live: &Live) -> Result<Self> {
        let (mut fill_ns, mut preserve_ns) = (0, 0);
        // SAFETY: pointers to locals; there are live objects.
        to_result(unsafe {
            bindings::kpreserve_bench_records_fill(&mut fill_ns, &mut preserve_ns)
        })?;
        Ok(Self {
            fill_ns,
            preserve_ns,
        })
    }

    /// Leaves it to the next kernel: returns where it is.
    pub(crate) fn leave(self) -> [u64; 2] {
        core::mem::forget(self);
        let mut place = [0; 2];
        // SAFETY: a pointer to a local.
        unsafe { bindings::kpreserve_bench_records_where(&mut place) };
        place
    }

    /// Restores an array, and makes live objects from it. Returns the time.
    pub(crate) fn adopt(place: [u64; 2], nr: usize) -> Result<u64> {
        let mut ns = 0;
        // SAFETY: an array that the previous kernel left, and a pointer to a local.
        to_result(unsafe { bindings::kpreserve_bench_records_adopt(&place, nr, &mut ns) })?;
        Live::checked(nr)?;
        Ok(ns)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // SAFETY: made by `fill`, and dropped once.
        unsafe { bindings::kpreserve_bench_records_drop() };
    }
}

/// Objects in a page of KHO's each.
pub(crate) struct Naive {
    pub(crate) ns: u64,
}

impl Naive {
    /// Allocates, initialises and preserves; scattered, or side by side.
    pub(crate) fn make(nr: usize, scattered: bool) -> Result<Self> {
        let mut ns = 0;
        // SAFETY: a pointer to a local.
        to_result(unsafe { bindings::kpreserve_bench_naive_make(nr, scattered, &mut ns) })?;
        Ok(Self { ns })
    }

    /// Leaves them to the next kernel: returns where the first is.
    pub(crate) fn leave(self) -> u64 {
        core::mem::forget(self);
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_bench_naive_head() }
    }

    /// Restores all of them; returns the time. They are freed then.
    pub(crate) fn adopt(head: u64, nr: usize) -> Result<u64> {
        let mut ns = 0;
        // SAFETY: objects that the previous kernel left, and a pointer to a local.
        to_result(unsafe { bindings::kpreserve_bench_naive_adopt(head, nr, &mut ns) })?;
        Ok(ns)
    }
}

impl Drop for Naive {
    fn drop(&mut self) {
        // SAFETY: made by `make`, and dropped once.
        unsafe { bindings::kpreserve_bench_naive_drop() };
    }
}

/// An area of vmalloc's.
pub(crate) struct VmArea {
    pub(crate) alloc_ns: u64,
    pub(crate) preserve_ns: u64,
}

impl VmArea {
    /// Allocates and preserves; of huge pages, or of small ones.
    ///
    /// # Errors
    ///
    /// ENOMEM, also if there were no huge pages.
    pub(crate) fn make(size_bytes: usize, huge: bool) -> Result<Self> {
        let (mut alloc_ns, mut preserve_ns) = (0, 0);
        // SAFETY: pointers to locals.
        to_result(unsafe {
            bindings::kpreserve_bench_area_make(size_bytes, huge, &mut alloc_ns, &mut preserve_ns)
        })?;
        let area = Self {
            alloc_ns,
            preserve_ns,
        };
        // SAFETY: no requirements.
        if huge != (unsafe { bindings::kpreserve_bench_area_order() } > 0) {
            return Err(ENOMEM);
        }
        Ok(area)
    }

    /// Leaves it to the next kernel: returns where it is.
    pub(crate) fn leave(self) -> [u64; 2] {
        core::mem::forget(self);
        let mut place = [0; 2];
        // SAFETY: a pointer to a local.
        unsafe { bindings::kpreserve_bench_area_where(&mut place) };
        place
    }

    /// Maps its pages once more; returns the time of vmap().
    pub(crate) fn map(&self, size_bytes: usize) -> Result<u64> {
        let mut ns = 0;
        // SAFETY: the area is there and has that size; a pointer to a local.
        to_result(unsafe { bindings::kpreserve_bench_area_map(size_bytes, &mut ns) })?;
        Ok(ns)
    }

    /// Restores an area, and looks at each page. Returns the time. It is freed then.
    pub(crate) fn adopt(place: [u64; 2], size_bytes: usize) -> Result<u64> {
        let mut ns = 0;
        // SAFETY: an area that the previous kernel left, and a pointer to a local.
        to_result(unsafe { bindings::kpreserve_bench_area_adopt(&place, size_bytes, &mut ns) })?;
        Ok(ns)
    }
}

impl Drop for VmArea {
    fn drop(&mut self) {
        // SAFETY: made by `make`, and dropped once.
        unsafe { bindings::kpreserve_bench_area_drop() };
    }
}
