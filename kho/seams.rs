// SPDX-License-Identifier: GPL-2.0

//! The seams: what the framework asks of the machine it runs on.
//!
//! The kernel's implementation is `kho.rs` over mainline KHO; the host's is a simulated machine
//! that reboots, fails and stops where a test tells it to. No trait here is on a fast path:
//! addresses are translated by [`Window`], which is a value.

use core::ffi::CStr;
use core::ptr::NonNull;

use kernel::prelude::*;

use crate::phys::{
    Phys,
    Window, //
};

/// A NUMA node to allocate from, if possible. The kernel crate's `NumaNode` does not show its
/// number, hence a type of our own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Node(pub i32);

impl Node {
    /// No preference.
    pub const ANY: Node = Node(-1);
}

/// How hard to try for a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effort {
    /// Give up early (`__GFP_NORETRY`): a smaller run will do as well.
    Light,
    /// Reclaim and compact, but kill nobody (`__GFP_RETRY_MAYFAIL`).
    Full,
    /// Take only what is free: reclaim nothing.
    FreeOnly,
}

/// The memory that a run is looked for in by callers that cannot use all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// All of it, near a node.
    Near(Node),
    /// The zone below the usual one: on x86-64 the first 4 GiB.
    Low,
    /// One node, and no other.
    Only(usize),
}

/// Gives out runs of physically contiguous pages.
///
/// # Safety
///
/// A run that [`alloc_run`](Self::alloc_run) or [`alloc_run_from`](Self::alloc_run_from) returned
/// is mapped in the [`Window`], aligned to its size, apart from every other run, never in KHO
/// scratch memory, and stays so until [`free_run`](Self::free_run). One of `alloc_run` is zeroed.
pub unsafe trait PageSource: Sync {
    /// Returns the window through which runs are reached; the same in each call.
    fn window(&self) -> Window;

    /// Allocates `2^order` zeroed pages as one folio. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no such run to be had; EINVAL if there is no such order.
    fn alloc_run(&self, order: u8, node: Node, effort: Effort) -> Result<Phys>;

    /// Allocates `2^order` pages as one folio from a part of the memory, whatever they hold. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// As [`alloc_run`](Self::alloc_run); ENOMEM if there is no such part.
    fn alloc_run_from(&self, _order: u8, _source: Source, _effort: Effort) -> Result<Phys> {
        Err(ENOMEM)
    }

    /// Returns whether the memory of a run was there when this kernel booted. The next kernel's map
    /// has no other, and KHO writes to the struct pages of what is preserved before that kernel can
    /// learn of more. A few instructions.
    fn is_early(&self, _phys: Phys) -> bool {
        true
    }

    /// Returns how many pages of [`Source::Low`] there are for callers that can use all memory:
    /// what is free or page cache, less what the kernel keeps there for others. An estimate.
    fn nr_low_pages_available(&self) -> usize {
        0
    }

    /// Returns a number that no node's reaches.
    fn nr_nodes(&self) -> usize {
        1
    }

    /// Says to the administrator, once a boot, that there is memory which is of no use here.
    fn met_added_memory(&self, _phys: Phys) {}

    /// Frees a run.
    ///
    /// # Safety
    ///
    /// `phys` was returned by `alloc_run` or `alloc_run_from` for `order`, or restored as a run of
    /// `order`, is not preserved, and nobody uses its memory any more.
    unsafe fn free_run(&self, phys: Phys, order: u8);

    /// Returns how many pages could be had now without making anybody else short of memory: an
    /// estimate, for those who are about to ask for very many.
    fn nr_pages_available(&self) -> usize {
        usize::MAX
    }

    /// Maps runs one after the other, contiguously, outside the window. May sleep. Costs a few
    /// dozen instructions a page, or a few hundred for 2 MiB of a run in huge pages, which the
    /// kernel uses when kpreserve is built in. Reading or writing behind the last run faults, as it
    /// does behind an area of vmalloc's.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no room for the mapping.
    ///
    /// # Safety
    ///
    /// The runs are in use by the caller and stay so until
    /// [`unmap_runs`](Self::unmap_runs).
    unsafe fn map_runs(&self, runs: &[(Phys, u8)]) -> Result<NonNull<u8>>;

    /// Takes a mapping away. May sleep.
    ///
    /// # Safety
    ///
    /// `start` was returned by [`map_runs`](Self::map_runs) for runs of `size_bytes` together, and
    /// nobody uses the mapping any more.
    unsafe fn unmap_runs(&self, start: NonNull<u8>, size_bytes: usize);
}

/// What the struct page of an incoming run says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// Preserved by the previous kernel as one block of this order, and not restored yet.
    Preserved {
        /// The order.
        order: u8,
    },
    /// Not memory of this machine.
    NotMemory,
    /// Memory, but not preserved, or restored already.
    NotPreserved,
}

impl Seen {
    /// Returns the code that a [`Refusal`](crate::Refusal) shows: the order, or 0x100 for no
    /// memory, 0x101 for not preserved.
    pub const fn code(self) -> u64 {
        match self {
            Seen::Preserved { order } => order as u64,
            Seen::NotMemory => 0x100,
            Seen::NotPreserved => 0x101,
        }
    }
}

/// Hands memory over to the next kernel, and takes it from the previous one.
///
/// # Safety
///
/// A preserved run, and nothing else, reaches the next kernel with its contents as they were when
/// this kernel stopped.
pub unsafe trait Handover: Sync {
    /// Returns whether this kernel hands memory over at all.
    fn is_enabled(&self) -> bool;

    /// Marks a run for the next kernel: one key. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM if the tracker cannot grow; another errno if it never takes this run (it overlaps
    /// with scratch memory, or its address is too large). Nothing has changed then.
    ///
    /// # Safety
    ///
    /// The run was allocated or restored as a run of `order`, or is incoming with this order, and
    /// it is not preserved in this boot yet; or it is an aligned part of one that was allocated or
    /// restored, of which no part that overlaps is preserved, but maybe the whole. An incoming run
    /// may also be preserved already, with the same order: nothing changes then.
    unsafe fn preserve(&self, phys: Phys, order: u8) -> Result;

    /// Undoes [`preserve`](Self::preserve). May sleep; cannot fail.
    ///
    /// # Safety
    ///
    /// The run is preserved, with this order.
    unsafe fn unpreserve(&self, phys: Phys, order: u8);

    /// Says what the previous kernel did with the page at `phys`, without touching the page.
    ///
    /// The address may be any number. A few instructions.
    fn probe(&self, phys: Phys) -> Seen;

    /// Gives an incoming run back to the memory management as a folio in use. Once only. A few
    /// instructions a page.
    ///
    /// # Errors
    ///
    /// EINVAL if the machine disagrees with [`probe`](Self::probe).
    ///
    /// # Safety
    ///
    /// [`probe`](Self::probe) returned [`Seen::Preserved`] with this order, and the run overlaps
    /// with no run that is in use.
    unsafe fn restore(&self, phys: Phys, order: u8) -> Result;

    /// Announces the page at `phys` to the next kernel under `name`. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM if the machine's table is full, EEXIST if the name is taken.
    ///
    /// # Safety
    ///
    /// The page is preserved and stays so; it is never freed while this kernel runs.
    unsafe fn add_subtree(&self, name: &CStr, phys: Phys, size_bytes: usize) -> Result;

    /// Undoes [`add_subtree`](Self::add_subtree) for whatever name the page at `phys` was announced
    /// under; nothing happens if it was not. May sleep; cannot fail.
    ///
    /// # Safety
    ///
    /// The page lies in the window, and nobody else announced it.
    unsafe fn remove_subtree(&self, phys: Phys);

    /// Returns whether the previous kernel handed anything over, to anybody.
    fn was_handed_over(&self) -> bool;

    /// Returns what the previous kernel announced under `name`.
    ///
    /// It goes on answering for the whole boot, also after the page was restored.
    ///
    /// # Errors
    ///
    /// ENOENT if there is nothing.
    fn retrieve_subtree(&self, name: &CStr) -> Result<(Phys, usize)>;
}

/// Which CPU is this?
///
/// # Safety
///
/// [`pin`](Self::pin) returns a number below [`nr_cpus`](Self::nr_cpus). From there to
/// [`unpin`](Self::unpin), no other task's code runs that has pinned the same CPU, other than what this
/// one interrupts or is interrupted by; and what it did before is visible.
pub unsafe trait CpuLocal: Sync {
    /// Returns how many CPUs there can be; the same in each call.
    fn nr_cpus(&self) -> usize;

    /// Stays on the current CPU until [`unpin`](Self::unpin), and returns its number, which is
    /// below [`nr_cpus`](Self::nr_cpus). Nests; must not sleep in between.
    fn pin(&self) -> usize;

    /// Ends what [`pin`](Self::pin) began.
    ///
    /// # Safety
    ///
    /// The caller pinned, and ends that once; what it did because it was pinned is over.
    unsafe fn unpin(&self);
}

/// Everything the framework asks of a machine.
pub trait Machine: PageSource + Handover + CpuLocal {
    /// Returns a random number.
    fn random_u64(&self) -> u64;

    /// Asks for a call of the framework's worker in a context that may sleep. Callable from any
    /// context; several requests may become one call.
    fn kick_worker(&self);
}
