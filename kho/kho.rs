// SPDX-License-Identifier: GPL-2.0

//! The seams on mainline KHO, the page allocator and the CPUs. Kernel only.
//!
//! C headers: `include/linux/kexec_handover.h`, `helpers.h`. This file holds no policy: each
//! function is one call.

use core::ffi::CStr;
use core::marker::PhantomData;
use core::ptr::NonNull;

use kernel::error::to_result;
use kernel::prelude::*;

use crate::phys::{
    run_size_bytes,
    Phys,
    Window,
    MAX_ORDER, //
};
use crate::seams::{
    CpuLocal,
    Effort,
    Handover,
    Machine,
    Node,
    PageSource,
    Seen,
    Source, //
};

mod bindings {
    use super::{
        c_char,
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    };

    #[repr(C)]
    pub(super) struct KpreserveRun {
        pub(super) phys: u64,
        pub(super) order: u64,
    }

    extern "C" {
        pub(super) fn kpreserve_window(virt_base: *mut c_ulong, size_bytes: *mut u64);
        pub(super) fn kpreserve_alloc_run(
            order: c_uint,
            nid: c_int,
            how: c_uint,
            phys: *mut u64,
        ) -> c_int;
        pub(super) fn kpreserve_is_early(phys: u64) -> bool;
        pub(super) fn kpreserve_met_added_memory(phys: u64);
        pub(super) fn kpreserve_nr_nodes() -> c_uint;
        pub(super) fn kpreserve_nr_low_pages() -> c_ulong;
        pub(super) fn kpreserve_free_run(phys: u64);
        pub(super) fn kpreserve_nr_pages_available() -> c_ulong;
        pub(super) fn kpreserve_preserve_run(phys: u64, order: c_uint) -> c_int;
        pub(super) fn kpreserve_unpreserve_run(phys: u64, order: c_uint);
        pub(super) fn kpreserve_probe(phys: u64) -> c_int;
        pub(super) fn kpreserve_restore_run(phys: u64, order: c_uint) -> c_int;
        pub(super) fn kpreserve_add_subtree(name: *const c_char, phys: u64, size: usize) -> c_int;
        pub(super) fn kpreserve_remove_subtree(phys: u64);
        pub(super) fn kpreserve_map_runs(
            runs: *const KpreserveRun,
            nr_runs: usize,
            nr_pages: c_ulong,
            start: *mut *mut c_void,
        ) -> c_int;
        pub(super) fn kpreserve_nr_cpus() -> c_uint;
        pub(super) fn kpreserve_pin_cpu() -> c_uint;
        pub(super) fn kpreserve_unpin_cpu();
        pub(super) fn kpreserve_alloc_percpu(size: usize, align: usize) -> c_ulong;
        pub(super) fn kpreserve_free_percpu(base: c_ulong);
        pub(super) fn kpreserve_percpu_ptr(base: c_ulong, cpu: c_uint) -> *mut c_void;
        pub(super) fn kpreserve_note_run(start: *const c_void, note: c_ulong);
        pub(super) fn kpreserve_run_note(address: *const c_void) -> c_ulong;
        pub(super) fn kpreserve_random_u64() -> u64;
        pub(super) fn kpreserve_kick_worker();

        pub(super) fn kho_is_enabled() -> bool;
        pub(super) fn is_kho_boot() -> bool;
        pub(super) fn kho_retrieve_subtree(
            name: *const c_char,
            phys: *mut u64,
            size: *mut usize,
        ) -> c_int;
        pub(super) fn vunmap(start: *const c_void);
    }
}

const NOT_MEMORY: c_int = -1;

// As in helpers.h.
const ALLOC_ZERO: c_uint = 0x01;
const ALLOC_LIGHT: c_uint = 0x02;
const ALLOC_FREE_ONLY: c_uint = 0x04;
const ALLOC_LOW: c_uint = 0x08;
const ALLOC_ONLY_NODE: c_uint = 0x10;

/// Allocates a folio.
fn alloc(order: u8, nid: c_int, how: c_uint, effort: Effort) -> Result<Phys> {
    if order > MAX_ORDER {
        return Err(EINVAL);
    }
    let how = match effort {
        Effort::Full => how,
        Effort::Light => how | ALLOC_LIGHT,
        Effort::FreeOnly => how | ALLOC_FREE_ONLY,
    };
    let mut phys = 0;
    // SAFETY: the pointer is to a local; any order up to the maximum may be asked for, and any
    // node.
    let ret = unsafe { bindings::kpreserve_alloc_run(c_uint::from(order), nid, how, &mut phys) };
    to_result(ret)?;
    Ok(Phys::new(phys))
}

/// The running kernel.
#[derive(Debug)]
pub struct Kho;

/// The one [`Kho`].
pub static KHO: Kho = Kho;

// SAFETY: a folio of the page allocator is physically contiguous, aligned to its size and apart
// from all others; GFP_KERNEL without __GFP_MOVABLE never takes from CMA, which is where KHO
// scratch lies; __GFP_ZERO zeroes it (`alloc_run`); nobody but us puts it. The direct map covers
// it.
unsafe impl PageSource for Kho {
    fn window(&self) -> Window {
        let mut virt_base = 0;
        let mut size_bytes = 0;
        // SAFETY: both pointers are to locals.
        unsafe { bindings::kpreserve_window(&mut virt_base, &mut size_bytes) };
        // SAFETY: the physical memory that there is, is mapped from `__va(0)` on, one to one, as
        // long as the kernel runs (Documentation/arch/x86/x86_64/mm.rst: the direct map), and
        // ends below the end of the address space, whatever address the architecture can have.
        unsafe { Window::new(0, virt_base, size_bytes) }
    }

    fn alloc_run(&self, order: u8, node: Node, effort: Effort) -> Result<Phys> {
        alloc(order, node.0, ALLOC_ZERO, effort)
    }

    fn alloc_run_from(&self, order: u8, source: Source, effort: Effort) -> Result<Phys> {
        let (nid, how) = match source {
            Source::Near(node) => (node.0, 0),
            Source::Low => (Node::ANY.0, ALLOC_LOW),
            Source::Only(node) => (c_int::try_from(node)?, ALLOC_ONLY_NODE),
        };
        alloc(order, nid, how, effort)
    }

    fn is_early(&self, phys: Phys) -> bool {
        // SAFETY: no requirements; there need not be a section of this number.
        unsafe { bindings::kpreserve_is_early(phys.get()) }
    }

    fn nr_low_pages_available(&self) -> usize {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_nr_low_pages() }
    }

    fn nr_nodes(&self) -> usize {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_nr_nodes() as usize }
    }

    fn met_added_memory(&self, phys: Phys) {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_met_added_memory(phys.get()) }
    }

    unsafe fn free_run(&self, phys: Phys, _order: u8) {
        // SAFETY: the caller promises a folio that was allocated or restored and is not in use.
        unsafe { bindings::kpreserve_free_run(phys.get()) }
    }

    fn nr_pages_available(&self) -> usize {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_nr_pages_available() }
    }

    unsafe fn map_runs(&self, runs: &[(Phys, u8)]) -> Result<NonNull<u8>> {
        let mut list = KVVec::with_capacity(runs.len(), GFP_KERNEL)?;
        let mut size_bytes = 0usize;
        for &(phys, order) in runs {
            size_bytes = size_bytes
                .checked_add(run_size_bytes(order).ok_or(EINVAL)?)
                .ok_or(ENOMEM)?;
            list.push(
                bindings::KpreserveRun {
                    phys: phys.get(),
                    order: u64::from(order),
                },
                GFP_KERNEL,
            )?;
        }
        let mut start = core::ptr::null_mut();
        let nr_pages = size_bytes >> crate::phys::PAGE_SHIFT;
        // SAFETY: the list has the length that is named and outlives the call; the runs are in
        // use by the caller, so their struct pages are valid.
        let ret = unsafe {
            bindings::kpreserve_map_runs(list.as_ptr(), list.len(), nr_pages, &mut start)
        };
        to_result(ret)?;
        NonNull::new(start.cast()).ok_or(ENOMEM)
    }

    unsafe fn unmap_runs(&self, start: NonNull<u8>, _size_bytes: usize) {
        // SAFETY: the caller promises that `start` came from `map_runs`, which is an area of
        // vmalloc's, and that nobody uses the mapping.
        unsafe { bindings::vunmap(start.as_ptr().cast()) }
    }
}

// SAFETY: this is what KHO is for (Documentation/core-api/kho/index.rst).
unsafe impl Handover for Kho {
    fn is_enabled(&self) -> bool {
        // SAFETY: no requirements.
        unsafe { bindings::kho_is_enabled() }
    }

    unsafe fn preserve(&self, phys: Phys, order: u8) -> Result {
        // SAFETY: the caller promises a run of this order, so the struct pages are valid.
        to_result(unsafe { bindings::kpreserve_preserve_run(phys.get(), c_uint::from(order)) })
    }

    unsafe fn unpreserve(&self, phys: Phys, order: u8) {
        // SAFETY: the caller promises that the run is preserved with this order.
        unsafe { bindings::kpreserve_unpreserve_run(phys.get(), c_uint::from(order)) }
    }

    fn probe(&self, phys: Phys) -> Seen {
        // SAFETY: no requirements; pfn_to_online_page() takes any number.
        match unsafe { bindings::kpreserve_probe(phys.get()) } {
            NOT_MEMORY => Seen::NotMemory,
            order => match u8::try_from(order) {
                Ok(order) => Seen::Preserved { order },
                Err(_) => Seen::NotPreserved,
            },
        }
    }

    unsafe fn restore(&self, phys: Phys, order: u8) -> Result {
        // SAFETY: the caller promises that the page is incoming with this order.
        to_result(unsafe { bindings::kpreserve_restore_run(phys.get(), c_uint::from(order)) })
    }

    unsafe fn add_subtree(&self, name: &CStr, phys: Phys, size_bytes: usize) -> Result {
        // SAFETY: the name is a C string; the caller promises a preserved page that stays.
        to_result(unsafe {
            bindings::kpreserve_add_subtree(name.as_char_ptr(), phys.get(), size_bytes)
        })
    }

    unsafe fn remove_subtree(&self, phys: Phys) {
        // SAFETY: the caller promises an address in the direct map.
        unsafe { bindings::kpreserve_remove_subtree(phys.get()) }
    }

    fn was_handed_over(&self) -> bool {
        // SAFETY: no requirements.
        unsafe { bindings::is_kho_boot() }
    }

    fn retrieve_subtree(&self, name: &CStr) -> Result<(Phys, usize)> {
        let mut phys = 0;
        let mut size_bytes = 0;
        // SAFETY: the name is a C string, the pointers are to locals.
        to_result(unsafe {
            bindings::kho_retrieve_subtree(name.as_char_ptr(), &mut phys, &mut size_bytes)
        })?;
        Ok((Phys::new(phys), size_bytes))
    }
}

// SAFETY: preemption is off meanwhile; the number of a CPU is below `nr_cpu_ids`.
unsafe impl CpuLocal for Kho {
    fn nr_cpus(&self) -> usize {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_nr_cpus() as usize }
    }

    fn pin(&self) -> usize {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_pin_cpu() as usize }
    }

    unsafe fn unpin(&self) {
        // SAFETY: the caller pinned, it says.
        unsafe { bindings::kpreserve_unpin_cpu() }
    }
}

/// The values of a [`PerCpu`](crate::PerCpu), in the memory that the kernel has for such.
///
/// # Invariants
///
/// `base` is a per-CPU pointer to a `T` for each CPU that there can be.
pub(crate) struct Values<T> {
    base: c_ulong,
    _values: PhantomData<T>,
}

impl<T> Values<T> {
    pub(crate) fn new(machine: &dyn Machine, mut init: impl FnMut(usize) -> T) -> Result<Self> {
        // SAFETY: any size and any power of two may be asked for.
        let base = unsafe { bindings::kpreserve_alloc_percpu(size_of::<T>(), align_of::<T>()) };
        if base == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: no value can be reached before it has been written below.
        let values = Self {
            base,
            _values: PhantomData,
        };
        for cpu in 0..machine.nr_cpus() {
            if let Some(value) = values.of(cpu) {
                // SAFETY: this CPU's, valid for writes, and nobody else knows of it yet.
                unsafe { value.write(init(cpu)) };
            }
        }
        Ok(values)
    }

    /// Returns the per-CPU pointer, which is no address.
    #[inline(always)]
    #[allow(dead_code)] // Not in kernels that debug preemption: there `of` is asked.
    pub(crate) fn base(&self) -> *mut T {
        core::ptr::with_exposed_provenance_mut(self.base)
    }

    pub(crate) fn of(&self, cpu: usize) -> Option<*mut T> {
        // SAFETY: a per-CPU pointer, by the type invariants.
        let value = unsafe { percpu_ptr(self.base, cpu) };
        NonNull::new(value.cast()).map(NonNull::as_ptr)
    }
}

/// Not generic: what is generic is compiled in consumers, where helpers in C are out of reach.
///
/// # Safety
///
/// `base` is a per-CPU pointer.
#[inline(never)]
unsafe fn percpu_ptr(base: c_ulong, cpu: usize) -> *mut c_void {
    match c_uint::try_from(cpu) {
        // SAFETY: says the caller; the callee looks whether there is such a CPU.
        Ok(cpu) => unsafe { bindings::kpreserve_percpu_ptr(base, cpu) },
        Err(_) => core::ptr::null_mut(),
    }
}

impl<T> Drop for Values<T> {
    fn drop(&mut self) {
        // SAFETY: a per-CPU pointer, by the type invariants, which nobody uses any more.
        unsafe { bindings::kpreserve_free_percpu(self.base) };
    }
}

/// Notes a word about the run at `start`.
///
/// # Safety
///
/// As [`note::set`](crate::note).
pub(crate) unsafe fn note_run(start: NonNull<u8>, _size_bytes: usize, note: usize) {
    // SAFETY: the start of a folio of ours in the direct map, says the caller.
    unsafe { bindings::kpreserve_note_run(start.as_ptr().cast(), note) }
}

/// Returns the word about the run that an address lies in.
///
/// # Safety
///
/// As [`note::of`](crate::note::of).
#[inline]
pub(crate) unsafe fn run_note(address: NonNull<u8>) -> usize {
    // SAFETY: inside a folio of ours in the direct map, says the caller.
    unsafe { bindings::kpreserve_run_note(address.as_ptr().cast()) }
}

impl Machine for Kho {
    fn random_u64(&self) -> u64 {
        // SAFETY: no requirements.
        unsafe { bindings::kpreserve_random_u64() }
    }

    fn kick_worker(&self) {
        // SAFETY: no requirements; schedule_work() may be called from any context.
        unsafe { bindings::kpreserve_kick_worker() }
    }
}
