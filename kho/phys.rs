// SPDX-License-Identifier: GPL-2.0

//! Physical addresses, and the window through which they are reached.

use core::ptr::NonNull;

use kernel::prelude::*;

/// The page size that every format is built on, in bytes.
pub const PAGE_SIZE_BYTES: usize = 4096;

/// log2 of [`PAGE_SIZE_BYTES`].
pub const PAGE_SHIFT: u32 = 12;

/// The largest order of a run: the largest folio that the page allocator gives out (4 MiB).
pub const MAX_ORDER: u8 = 10;

/// A physical address, the only kind of address that crosses a kexec.
///
/// Kernel pointers do not: the direct map moves between boots (KASLR).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct Phys(u64);

impl Phys {
    /// The address 0, which no run ever has: "none".
    pub const NULL: Phys = Phys(0);

    /// Makes an address of a number; whether anything is there is for a check to say.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// Returns the address as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns whether this is [`Phys::NULL`].
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the address is a multiple of the size of a run of `order`.
    pub const fn is_aligned_to(self, order: u8) -> bool {
        match run_size_bytes(order) {
            Some(size_bytes) => self.0 % (size_bytes as u64) == 0,
            None => false,
        }
    }

    /// Returns the address `bytes` further on; `None` on overflow.
    pub const fn checked_add(self, bytes: u64) -> Option<Phys> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Phys(sum)),
            None => None,
        }
    }
}

/// Returns the size in bytes of a run of `order`, `None` if there is no such order.
pub const fn run_size_bytes(order: u8) -> Option<usize> {
    if order > MAX_ORDER {
        return None;
    }
    Some(PAGE_SIZE_BYTES << order)
}

/// The part of physical memory that has a fixed mapping, and where that mapping lies in this boot.
///
/// In the kernel this is the direct map; in the simulated machine it is a mapping of its memory.
/// The translation is affine, so it costs one addition and no call.
///
/// # Invariants
///
/// The `size_bytes` bytes from `virt_base` on map physical memory from `phys_base` on, one to one,
/// for as long as the machine lives; `virt_base + size_bytes` does not overflow; `virt_base` and
/// `phys_base` are the same modulo the size of the largest run, so that what is aligned, up to there, is aligned
/// in both. That a byte of the window is memory that may be touched is not part of the invariant.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    phys_base: u64,
    virt_base: usize,
    size_bytes: u64,
}

impl Window {
    /// Makes a window.
    ///
    /// # Safety
    ///
    /// What the type's invariants say must hold for the arguments.
    pub const unsafe fn new(phys_base: u64, virt_base: usize, size_bytes: u64) -> Self {
        // INVARIANT: by the safety requirements.
        Self {
            phys_base,
            virt_base,
            size_bytes,
        }
    }

    /// Returns whether `len_bytes` bytes from `phys` on lie inside the window.
    #[inline]
    pub const fn contains(&self, phys: Phys, len_bytes: u64) -> bool {
        let Some(offset) = phys.get().checked_sub(self.phys_base) else {
            return false;
        };
        match offset.checked_add(len_bytes) {
            Some(end) => end <= self.size_bytes,
            None => false,
        }
    }

    /// Returns where `phys` is mapped; `None` outside the window.
    ///
    /// The pointer may be formed for any address of the window; using it needs a proof that the
    /// memory behind it is a run of ours.
    #[inline]
    pub fn virt(&self, phys: Phys) -> Option<NonNull<u8>> {
        if !self.contains(phys, 1) {
            return None;
        }
        let offset = (phys.get() - self.phys_base) as usize;
        NonNull::new(core::ptr::with_exposed_provenance_mut(
            self.virt_base + offset,
        ))
    }

    /// Returns the physical address of a pointer into the window; `None` outside it.
    #[inline]
    pub fn phys(&self, virt: NonNull<u8>) -> Option<Phys> {
        let offset = virt
            .as_ptr()
            .expose_provenance()
            .checked_sub(self.virt_base)?;
        if offset as u64 >= self.size_bytes {
            return None;
        }
        Some(Phys(self.phys_base + offset as u64))
    }
}
