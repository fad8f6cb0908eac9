// SPDX-License-Identifier: GPL-2.0

//! A machine of 256 MiB: pages, a set of preserved runs, mappings, a failing call.

use std::collections::BTreeMap;
use std::ffi::{
    c_char,
    c_int,
    c_uint,
    c_void,
    CStr, //
};
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicU64,
    AtomicU8,
    Ordering::SeqCst, //
};
use std::sync::Mutex;
use std::vec::Vec;

use kernel::error::{
    code::{
        ENOENT,
        ENOMEM, //
    },
    Result, //
};
use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::{
    CpuLocal,
    Effort,
    Handover,
    Machine,
    Node,
    PageSource,
    Phys,
    Seen,
    Window, //
};

pub(crate) const NR_PAGES: usize = 64 << 10;
const SIZE_BYTES: usize = NR_PAGES * PAGE_SIZE_BYTES;
const PHYS_BASE: u64 = 1 << 32;

extern "C" {
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    fn ftruncate(fd: c_int, len: i64) -> c_int;
    fn mmap(
        at: *mut c_void,
        len: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
}

const READ_WRITE: c_int = 3;
const SHARED: c_int = 1;
const FIXED: c_int = 0x10;

fn map(at: usize, len: usize, flags: c_int, fd: c_int, offset: usize) -> usize {
    let at = std::ptr::with_exposed_provenance_mut(at);
    // SAFETY: a new mapping, or, with `FIXED`, one over a mapping of ours.
    let start = unsafe { mmap(at, len, READ_WRITE, flags, fd, offset as i64) };
    assert_ne!(start.addr() as isize, -1);
    start.expose_provenance()
}

#[derive(Default)]
struct State {
    used: Vec<bool>,
    incoming: BTreeMap<u64, u8>,
    preserved: BTreeMap<u64, u8>,
    mappings: BTreeMap<usize, usize>,
    low: usize,
}

pub(crate) struct Toy {
    fd: c_int,
    base: usize,
    order_max: AtomicU8,
    nr_calls: AtomicU64,
    fail_at: AtomicU64,
    state: Mutex<State>,
}

impl Toy {
    pub(crate) fn new() -> &'static Self {
        // SAFETY: the name is a string.
        let fd = unsafe { memfd_create(c"toy".as_ptr(), 0) };
        // SAFETY: just opened.
        unsafe { ftruncate(fd, SIZE_BYTES as i64) };
        let mut state = State::default();
        state.used.resize(NR_PAGES, false);
        Self::boot(fd, state)
    }

    fn boot(fd: c_int, state: State) -> &'static Self {
        std::boxed::Box::leak(std::boxed::Box::new(Self {
            fd,
            base: map(0, SIZE_BYTES, SHARED, fd, 0),
            order_max: AtomicU8::new(MAX_ORDER),
            nr_calls: AtomicU64::new(0),
            fail_at: AtomicU64::new(0),
            state: Mutex::new(state),
        }))
    }

    pub(crate) fn reboot(&self) -> &'static Self {
        let incoming = self.state.lock().unwrap().preserved.clone();
        let mut state = State::default();
        state.used.resize(NR_PAGES, false);
        for (&phys, &order) in &incoming {
            state.used[pages(Phys::new(phys), order)].fill(true);
        }
        state.incoming = incoming;
        Self::boot(self.fd, state)
    }

    /// Another machine with the same contents, as far as they are preserved.
    pub(crate) fn copy(&self) -> &'static Self {
        let copy = Self::new();
        let state = self.state.lock().unwrap();
        copy.state.lock().unwrap().preserved = state.preserved.clone();
        for (&phys, &order) in &state.preserved {
            let size_bytes = run_size_bytes(order).unwrap();
            let from = self.window().virt(Phys::new(phys)).unwrap();
            let to = copy.window().virt(Phys::new(phys)).unwrap();
            // SAFETY: both are mapped, and apart.
            unsafe { from.copy_to_nonoverlapping(to, size_bytes) };
        }
        copy
    }

    pub(crate) fn set_order_max(&self, order: u8) {
        self.order_max.store(order, SeqCst);
    }

    pub(crate) fn nr_keys(&self) -> usize {
        self.state.lock().unwrap().preserved.len()
    }

    pub(crate) fn nr_pages_used(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.used.iter().filter(|&&used| used).count()
    }

    pub(crate) fn nr_mappings(&self) -> usize {
        self.state.lock().unwrap().mappings.len()
    }

    pub(crate) fn nr_calls(&self) -> u64 {
        self.nr_calls.load(SeqCst)
    }

    pub(crate) fn fail_at(&self, n: Option<u64>) -> bool {
        let at = n.map_or(0, |n| self.nr_calls() + n);
        let before = self.fail_at.swap(at, SeqCst);
        before != 0 && self.nr_calls() >= before
    }

    fn call(&self) -> Result {
        let call = self.nr_calls.fetch_add(1, SeqCst) + 1;
        if call == self.fail_at.load(SeqCst) {
            return Err(ENOMEM);
        }
        Ok(())
    }
}

fn pages(phys: Phys, order: u8) -> std::ops::Range<usize> {
    let first = (phys.get() - PHYS_BASE) as usize / PAGE_SIZE_BYTES;
    first..first + (1 << order)
}

// SAFETY: a run is a free range of the file, marked as used, zeroed.
unsafe impl PageSource for Toy {
    fn window(&self) -> Window {
        // SAFETY: the file is mapped there for good.
        unsafe { Window::new(PHYS_BASE, self.base, SIZE_BYTES as u64) }
    }

    fn alloc_run(&self, order: u8, _node: Node, _effort: Effort) -> Result<Phys> {
        self.call()?;
        if order > self.order_max.load(SeqCst) {
            return Err(ENOMEM);
        }
        let mut state = self.state.lock().unwrap();
        let nr_pages = 1 << order;
        let start = state.low.next_multiple_of(nr_pages);
        let first = (start..NR_PAGES)
            .chain(0..start)
            .step_by(nr_pages)
            .find(|&at| {
                at % nr_pages == 0
                    && at + nr_pages <= NR_PAGES
                    && !state.used[at..at + nr_pages].contains(&true)
            })
            .ok_or(ENOMEM)?;
        state.used[first..first + nr_pages].fill(true);
        state.low = first + nr_pages;
        let phys = Phys::new(PHYS_BASE + (first * PAGE_SIZE_BYTES) as u64);
        let start = self.window().virt(phys).unwrap();
        // SAFETY: the run was free.
        unsafe { start.write_bytes(0, nr_pages * PAGE_SIZE_BYTES) };
        Ok(phys)
    }

    unsafe fn free_run(&self, phys: Phys, order: u8) {
        self.nr_calls.fetch_add(1, SeqCst);
        let start = self.window().virt(phys).unwrap();
        let size_bytes = run_size_bytes(order).unwrap();
        // SAFETY: nobody uses the run any more.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), size_bytes) };
        assert!(
            bytes.iter().all(|&byte| byte == 0),
            "stale bytes leave with a page"
        );
        let mut state = self.state.lock().unwrap();
        assert!(!state.preserved.contains_key(&phys.get()));
        state.used[pages(phys, order)].fill(false);
    }

    unsafe fn map_runs(&self, runs: &[(Phys, u8)]) -> Result<NonNull<u8>> {
        self.call()?;
        let size_of = |order| run_size_bytes(order).unwrap();
        let size_bytes = runs.iter().map(|&(_, order)| size_of(order)).sum();
        let start = map(0, size_bytes, SHARED, self.fd, 0);
        let mut at = start;
        for &(phys, order) in runs {
            let offset = (phys.get() - PHYS_BASE) as usize;
            at = map(at, size_of(order), SHARED | FIXED, self.fd, offset) + size_of(order);
        }
        self.state
            .lock()
            .unwrap()
            .mappings
            .insert(start, size_bytes);
        Ok(NonNull::new(std::ptr::with_exposed_provenance_mut(start)).unwrap())
    }

    unsafe fn unmap_runs(&self, start: NonNull<u8>, size_bytes: usize) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.mappings.remove(&start.addr().get()), Some(size_bytes));
        // SAFETY: made by `map_runs`.
        unsafe { munmap(start.as_ptr().cast(), size_bytes) };
    }
}

// SAFETY: preserved runs are handed to `reboot`.
unsafe impl Handover for Toy {
    fn is_enabled(&self) -> bool {
        true
    }

    unsafe fn preserve(&self, phys: Phys, order: u8) -> Result {
        self.call()?;
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.preserved.insert(phys.get(), order), None);
        Ok(())
    }

    unsafe fn unpreserve(&self, phys: Phys, order: u8) {
        self.nr_calls.fetch_add(1, SeqCst);
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.preserved.remove(&phys.get()), Some(order));
    }

    fn probe(&self, phys: Phys) -> Seen {
        match self.state.lock().unwrap().incoming.get(&phys.get()) {
            Some(&order) => Seen::Preserved { order },
            None => Seen::NotPreserved,
        }
    }

    unsafe fn restore(&self, phys: Phys, order: u8) -> Result {
        self.call()?;
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.incoming.remove(&phys.get()), Some(order));
        Ok(())
    }

    unsafe fn add_subtree(&self, _name: &CStr, _phys: Phys, _size_bytes: usize) -> Result {
        Err(ENOMEM)
    }

    fn retrieve_subtree(&self, _name: &CStr) -> Result<(Phys, usize)> {
        Err(ENOENT)
    }
}

impl CpuLocal for Toy {
    fn nr_cpus(&self) -> usize {
        1
    }

    fn pin(&self) -> usize {
        0
    }

    fn unpin(&self) {}
}

impl Machine for Toy {
    fn random_u64(&self) -> u64 {
        4
    }

    fn kick_worker(&self) {}
}
