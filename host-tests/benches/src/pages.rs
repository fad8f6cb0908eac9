// SPDX-License-Identifier: GPL-2.0

//! A page allocator over one anonymous mapping: by order, a list of what came back, and behind all
//! lists the memory that nobody has had yet.

use core::ptr::NonNull;
use std::sync::{
    Mutex,
    PoisonError, //
};

use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::{
    Phys,
    Window, //
};

/// Reserved, not used: memory comes when it is touched.
const SIZE_BYTES: usize = 16 << 30;

/// A multiple of the largest run, and not 0, which is no address of a run.
const PHYS_BASE: u64 = 1 << 32;

const RUN_MAX_BYTES: usize = PAGE_SIZE_BYTES << MAX_ORDER;

#[derive(Default)]
struct Inner {
    /// Below: given out, or in a list.
    used_bytes: usize,
    free: [Vec<Phys>; MAX_ORDER as usize + 1],
}

/// The memory of a machine.
pub(crate) struct Pages {
    start: NonNull<u8>,
    inner: Mutex<Inner>,
}

// SAFETY: the memory behind `start` is given out under the lock, and belongs to whoever got it.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps the memory, for ever.
    pub(crate) fn map() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let len = SIZE_BYTES + RUN_MAX_BYTES;
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), len, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "cannot map {len} bytes");
        let start = start.cast::<u8>();
        let start = start.wrapping_add(start.align_offset(RUN_MAX_BYTES));
        start.expose_provenance();
        Self {
            start: NonNull::new(start).expect("mapped"),
            inner: Mutex::default(),
        }
    }

    pub(crate) fn window(&self) -> Window {
        let start = self.start.addr().get();
        // SAFETY: the mapping stays, begins at `start` and has as many bytes; both bases are
        // multiples of the size of the largest run.
        unsafe { Window::new(PHYS_BASE, start, SIZE_BYTES as u64) }
    }

    /// Takes a zeroed run.
    pub(crate) fn take(&self, order: u8) -> Option<Phys> {
        let size_bytes = run_size_bytes(order)?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(phys) = inner.free[usize::from(order)].pop() {
            drop(inner);
            let start = self.window().virt(phys)?;
            // SAFETY: a run that came back, which nobody else has.
            unsafe { start.write_bytes(0, size_bytes) };
            return Some(phys);
        }
        // What is skipped for the alignment goes to the lists.
        while !inner.used_bytes.is_multiple_of(size_bytes) {
            let skipped = (inner.used_bytes / PAGE_SIZE_BYTES).trailing_zeros() as u8;
            let phys = Phys::new(PHYS_BASE + inner.used_bytes as u64);
            inner.free[usize::from(skipped)].push(phys);
            inner.used_bytes += PAGE_SIZE_BYTES << skipped;
        }
        let offset = inner.used_bytes;
        if offset + size_bytes > SIZE_BYTES {
            return None;
        }
        inner.used_bytes += size_bytes;
        // Fresh memory of a mapping is zeros.
        Some(Phys::new(PHYS_BASE + offset as u64))
    }

    /// Takes a run back.
    pub(crate) fn give(&self, phys: Phys, order: u8) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.free[usize::from(order)].push(phys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn runs_are_aligned_apart_and_zero() {
        let pages = Pages::map();
        let mut runs = BTreeMap::new();
        for i in 0..400u64 {
            let order = (i * 7 % 11) as u8;
            let phys = pages.take(order).unwrap();
            let size_bytes = run_size_bytes(order).unwrap();
            assert!(phys.is_aligned_to(order));
            let start = pages.window().virt(phys).unwrap();
            assert_eq!(start.addr().get() % size_bytes, 0);
            // SAFETY: the run is ours.
            let bytes = unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), size_bytes) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(0xa5);
            if i % 3 == 0 {
                pages.give(phys, order);
            } else {
                runs.insert(phys.get(), size_bytes as u64);
            }
        }
        let mut end = 0;
        for (&start, &size_bytes) in &runs {
            assert!(start >= end, "two runs overlap");
            end = start + size_bytes;
        }
    }
}
