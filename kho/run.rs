// SPDX-License-Identifier: GPL-2.0

//! Runs of pages, their state in their type.
//!
//! ```text
//!   alloc -> PageRun<Owned> --preserve--> PageRun<Preserved> --unpreserve--> PageRun<Owned> -> free
//!   PageRun::incoming -> PageRun<Incoming> --preserve--> PageRun<Pledged> --restore--> PageRun<Preserved>
//! ```
//!
//! A run is one folio and one KHO key all its life; it goes back exactly as it came.

use core::marker::PhantomData;
use core::ptr::NonNull;

use kernel::prelude::*;

use crate::early;
use crate::note;
use crate::phys::{
    run_size_bytes,
    Phys,
    PAGE_SIZE_BYTES, //
};
use crate::refusal::{
    Refusal,
    Relation, //
};
use crate::seams::{
    Effort,
    Machine,
    Node,
    Seen, //
};
use crate::validate::expect;

mod sealed {
    pub trait State {
        /// Whether dropping the run gives its pages back.
        const FREED_ON_DROP: bool;
    }
}

/// State: allocated by us, unknown to the next kernel. Dropping it frees the pages.
#[derive(Debug)]
pub enum Owned {}

/// State: ours, and handed over at the next kexec. Dropping it changes nothing: what is preserved
/// is given up by name only.
#[derive(Debug)]
pub enum Preserved {}

/// State: handed over by the previous kernel, not ours yet. Dropping it changes nothing.
#[derive(Debug)]
pub enum Incoming {}

/// State: handed over by the previous kernel and, already, to the next one, but not ours to use.
/// Dropping it changes nothing: the next kernel finds it as this one did.
#[derive(Debug)]
pub enum Pledged {}

impl sealed::State for Owned {
    const FREED_ON_DROP: bool = true;
}
impl sealed::State for Preserved {
    const FREED_ON_DROP: bool = false;
}
impl sealed::State for Incoming {
    const FREED_ON_DROP: bool = false;
}
impl sealed::State for Pledged {
    const FREED_ON_DROP: bool = false;
}

/// `2^order` physically contiguous pages in state `S`.
///
/// # Invariants
///
/// - The pages lie in the machine's window, aligned to their size, and `order` is at most
///   [`MAX_ORDER`](crate::phys::MAX_ORDER).
/// - `Owned`: allocated or restored as one folio of this order, and not preserved. `Preserved`:
///   the same, and preserved. `Incoming`: probed as preserved with this order, not restored.
///   `Pledged`: the same, and preserved again.
/// - At most one `PageRun` exists for a page.
pub struct PageRun<S: sealed::State> {
    machine: &'static dyn Machine,
    phys: Phys,
    order: u8,
    _state: PhantomData<fn() -> S>,
}

impl<S: sealed::State> core::fmt::Debug for PageRun<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageRun({:#x}, order {})", self.phys.get(), self.order)
    }
}

impl<S: sealed::State> PageRun<S> {
    /// Returns the address of the first page.
    pub fn phys(&self) -> Phys {
        self.phys
    }

    /// Returns the order.
    pub fn order(&self) -> u8 {
        self.order
    }

    /// Returns the size in bytes.
    pub fn size_bytes(&self) -> usize {
        // PANIC: the default is never used, by the type invariants; it only spares a panic path.
        run_size_bytes(self.order).unwrap_or(PAGE_SIZE_BYTES)
    }

    /// Returns the number of pages.
    pub fn nr_pages(&self) -> usize {
        1 << self.order
    }

    /// Returns the machine that the run is of.
    pub(crate) fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    /// Turns the run into one of another state; the caller makes the new state's invariant true.
    fn into_state<N: sealed::State>(self) -> PageRun<N> {
        let run = PageRun {
            machine: self.machine,
            phys: self.phys,
            order: self.order,
            _state: PhantomData,
        };
        core::mem::forget(self);
        run
    }
}

impl PageRun<Owned> {
    /// Allocates a zeroed run of memory that the next kernel has, too. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is none, EINVAL if there is no such order.
    pub fn alloc(
        machine: &'static dyn Machine,
        order: u8,
        node: Node,
        effort: Effort,
    ) -> Result<Self> {
        run_size_bytes(order).ok_or(EINVAL)?;
        let phys = early::alloc(machine, order, node, effort)?;
        // INVARIANT: the contract of `PageSource`, and `early::alloc`, give all of it.
        Ok(Self {
            machine,
            phys,
            order,
            _state: PhantomData,
        })
    }

    /// Preserves the run: one key. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM; the run is freed then, since it never held anything that matters.
    pub fn preserve(self) -> Result<PageRun<Preserved>> {
        // SAFETY: by the type invariants the run is a folio of this order and not preserved.
        unsafe { self.machine.preserve(self.phys, self.order) }?;
        // INVARIANT: it is preserved now.
        Ok(self.into_state())
    }
}

impl PageRun<Preserved> {
    /// Returns the memory of the run: [`size_bytes`](Self::size_bytes) bytes.
    ///
    /// The memory stays valid, and nobody else's, until the run is unpreserved and dropped.
    pub fn memory(&self) -> NonNull<u8> {
        match self.machine.window().virt(self.phys) {
            Some(virt) => virt,
            // By the type invariants the run lies in the window.
            None => NonNull::dangling(),
        }
    }

    /// Notes a word about the run, which [`note::of`] finds from any address in it, until the run is
    /// unpreserved. Of this boot only.
    pub fn set_note(&self, note: usize) {
        // SAFETY: by the type invariants, one folio of this size, which is ours.
        unsafe { note::set(self.memory(), self.size_bytes(), note) };
    }

    /// Takes the run out of the handover. May sleep; cannot fail.
    pub fn unpreserve(self) -> PageRun<Owned> {
        self.set_note(0);
        // SAFETY: by the type invariants the run is preserved with this order.
        unsafe { self.machine.unpreserve(self.phys, self.order) };
        // INVARIANT: it is not preserved any more.
        self.into_state()
    }

    /// The same, where the key is gone already: for [`Handed`](crate::blocks::Handed).
    pub(crate) fn into_unpreserved(self) -> PageRun<Owned> {
        // INVARIANT: not preserved, says the caller.
        self.into_state()
    }
}

impl PageRun<Incoming> {
    /// Checks that the previous kernel preserved a run of this order at this address, before a
    /// byte of it is read.
    ///
    /// `structure` and `at` say, for the refusal, who claims so.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the address is not memory, is not in the window, was not preserved, was
    /// restored already, or was preserved with another order.
    ///
    /// # Safety
    ///
    /// No other `PageRun` for this memory is around, or none of those that are is used but to be
    /// dropped.
    pub unsafe fn incoming(
        machine: &'static dyn Machine,
        phys: Phys,
        order: u8,
        structure: &'static str,
        at: u64,
    ) -> Result<Self, Refusal> {
        let size_bytes = run_size_bytes(order).unwrap_or(0) as u64;
        let seen = if size_bytes > 0 && machine.window().contains(phys, size_bytes) {
            machine.probe(phys)
        } else {
            Seen::NotMemory
        };
        expect(
            structure,
            "phys",
            at,
            seen.code(),
            u64::from(order),
            Relation::PreservedOrder,
            seen == (Seen::Preserved { order }) && phys.is_aligned_to(order),
        )?;
        // INVARIANT: just probed. A page that another `PageRun` holds has been restored or
        // allocated in this boot, or, while incoming, is held by the caller's own table walk.
        Ok(Self {
            machine,
            phys,
            order,
            _state: PhantomData,
        })
    }

    /// Returns the memory of the run, to be read only: [`size_bytes`](PageRun::size_bytes) bytes.
    pub fn memory(&self) -> NonNull<u8> {
        match self.machine.window().virt(self.phys) {
            Some(virt) => virt,
            // By the type invariants the run lies in the window.
            None => NonNull::dangling(),
        }
    }

    /// Makes the run ours without handing it on: for what is read once. A few instructions a page.
    ///
    /// # Errors
    ///
    /// EINVAL if the machine disagrees with what it said when it was probed; the run stays out of
    /// reach in this boot then.
    ///
    /// # Safety
    ///
    /// The run overlaps with no other run.
    pub unsafe fn restore_once(self) -> Result<PageRun<Owned>> {
        // SAFETY: probed, by the type invariants; no overlap, by the caller's promise.
        unsafe { self.machine.restore(self.phys, self.order) }?;
        // INVARIANT: restored as a folio of this order, and not preserved in this boot.
        Ok(self.into_state())
    }

    /// Hands the run on to the next kernel, before this one makes use of it. May sleep.
    ///
    /// In this order, a failure anywhere in the adoption of an image loses nothing.
    ///
    /// # Errors
    ///
    /// ENOMEM; the run is then incoming as before, and may be probed again.
    pub fn preserve(self) -> Result<PageRun<Pledged>> {
        // SAFETY: the run is incoming with this order (type invariants); it was not preserved in
        // this boot yet, since that would have made it `Pledged`.
        unsafe { self.machine.preserve(self.phys, self.order) }?;
        // INVARIANT: it is preserved again now.
        Ok(self.into_state())
    }
}

impl PageRun<Pledged> {
    /// Makes the run ours. A few instructions a page.
    ///
    /// # Errors
    ///
    /// EINVAL if the machine disagrees with what it said when it was probed; the run stays
    /// pledged then, out of reach in this boot, and the next kernel finds it.
    ///
    /// # Safety
    ///
    /// The run overlaps with no other run.
    pub unsafe fn restore(self) -> Result<PageRun<Preserved>> {
        // SAFETY: probed, by the type invariants; no overlap, by the caller's promise.
        unsafe { self.machine.restore(self.phys, self.order) }?;
        // INVARIANT: restored as a folio of this order, and preserved.
        Ok(self.into_state())
    }

    /// Undoes [`preserve`](PageRun::<Incoming>::preserve). May sleep; cannot fail.
    pub fn unpreserve(self) -> PageRun<Incoming> {
        // SAFETY: preserved with this order, by the type invariants.
        unsafe { self.machine.unpreserve(self.phys, self.order) };
        // INVARIANT: incoming as it was before.
        self.into_state()
    }
}

impl<S: sealed::State> Drop for PageRun<S> {
    fn drop(&mut self) {
        if S::FREED_ON_DROP {
            // SAFETY: the only state with this constant is `Owned`: a folio of this order that is
            // not preserved; the last handle to it goes away here.
            unsafe { self.machine.free_run(self.phys, self.order) };
        }
    }
}
