// SPDX-License-Identifier: GPL-2.0

//! Runs of memory that was there at boot.
//!
//! Memory that was added later (a DIMM, virtio-mem, CXL) is not in the map that kexec_file_load(2)
//! gives to the next kernel. KHO writes to the struct page of each block that was preserved, long
//! before that kernel can learn of more memory, and where there is no struct page the machine does
//! not come back. The page allocator knows no such difference: what it gives is looked at, which is
//! all that this costs where no memory was added, and another run is taken if need be.

use kernel::prelude::*;

use crate::phys::{
    run_size_bytes,
    Phys,
    MAX_ORDER, //
};
use crate::seams::{
    Effort,
    Machine,
    Node,
    Source, //
};

/// Runs that are kept aside at once, and pages that these have: whichever is reached first. Small
/// runs come from the same page block one after the other, so they have to be many: these are 16
/// blocks. To take and free so many costs a few milliseconds.
const NR_ASIDE_MAX: usize = 8192;
const NR_PAGES_ASIDE_MAX: usize = 32 << MAX_ORDER;

/// Allocates a zeroed run of memory that was there at boot. May sleep.
///
/// # Errors
///
/// ENOMEM if there is none, or none within so many tries; EINVAL if there is no such order.
pub(crate) fn alloc(
    machine: &'static dyn Machine,
    order: u8,
    node: Node,
    effort: Effort,
) -> Result<Phys> {
    let phys = machine.alloc_run(order, node, effort)?;
    if machine.is_early(phys) {
        return Ok(phys);
    }
    search(machine, order, node, effort, phys)
}

/// Looks for another run, `first` having been added.
#[cold]
fn search(
    machine: &'static dyn Machine,
    order: u8,
    node: Node,
    effort: Effort,
    first: Phys,
) -> Result<Phys> {
    machine.met_added_memory(first);
    let size_bytes = run_size_bytes(order).ok_or(EINVAL)?;
    let mut aside = Aside::new(machine, order);
    aside.keep(first);
    let found = from_below(machine, order, effort)
        .or_else(|| from_everywhere(machine, order, node, &mut aside))
        .or_else(|| from_each_node(machine, order, &mut aside))
        .ok_or(ENOMEM)?;
    match machine.window().virt(found) {
        // SAFETY: a run of this size, in the window, and ours alone, by the contract of
        // `PageSource`.
        Some(virt) => unsafe { virt.write_bytes(0, size_bytes) },
        None => {
            // SAFETY: allocated with this order, and nobody else knows of it.
            unsafe { machine.free_run(found, order) };
            return Err(ENOMEM);
        }
    }
    Ok(found)
}

/// The zone below first: what is added is as a rule above it. What the kernel keeps there for those
/// that can use nothing else stays theirs.
fn from_below(machine: &dyn Machine, order: u8, effort: Effort) -> Option<Phys> {
    if machine.nr_low_pages_available() < 1 << order {
        return None;
    }
    let phys = machine.alloc_run_from(order, Source::Low, effort).ok()?;
    if machine.is_early(phys) {
        return Some(phys);
    }
    // SAFETY: allocated with this order just now, and nobody else knows of it.
    unsafe { machine.free_run(phys, order) };
    None
}

/// What lies in the same zone is mixed. Nothing is reclaimed for what is only looked at.
fn from_everywhere(
    machine: &dyn Machine,
    order: u8,
    node: Node,
    aside: &mut Aside,
) -> Option<Phys> {
    while aside.has_room() {
        let phys = machine
            .alloc_run_from(order, Source::Near(node), Effort::FreeOnly)
            .ok()?;
        if machine.is_early(phys) {
            return Some(phys);
        }
        aside.keep(phys);
    }
    None
}

/// A node may consist of such memory only. Each other one is tried once.
fn from_each_node(machine: &dyn Machine, order: u8, aside: &mut Aside) -> Option<Phys> {
    for node in 0..machine.nr_nodes() {
        let Ok(phys) = machine.alloc_run_from(order, Source::Only(node), Effort::FreeOnly) else {
            continue;
        };
        if machine.is_early(phys) {
            return Some(phys);
        }
        aside.keep(phys);
    }
    None
}

/// Runs that were added, kept so that the allocator gives others; freed when this is dropped.
///
/// # Invariants
///
/// There are `nr_runs` runs: `last`, and the one that the first word of each but the first one
/// names. All were allocated with `order`, are in the window, and nobody else knows of them.
struct Aside {
    machine: &'static dyn Machine,
    order: u8,
    last: Phys,
    nr_runs: usize,
}

impl Aside {
    fn new(machine: &'static dyn Machine, order: u8) -> Self {
        // INVARIANT: there is none.
        Self {
            machine,
            order,
            last: Phys::NULL,
            nr_runs: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.nr_runs < NR_ASIDE_MAX && self.nr_runs << self.order < NR_PAGES_ASIDE_MAX
    }

    /// Keeps a run that was allocated with the order of the others, and that nobody knows of.
    fn keep(&mut self, phys: Phys) {
        let Some(virt) = self.machine.window().virt(phys) else {
            // SAFETY: allocated with this order, and nobody else knows of it.
            unsafe { self.machine.free_run(phys, self.order) };
            return;
        };
        // SAFETY: a run is a page at least, in the window, and ours alone.
        unsafe { virt.cast::<u64>().write(self.last.get()) };
        // INVARIANT: linked in front of the others.
        self.last = phys;
        self.nr_runs += 1;
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        for _ in 0..self.nr_runs {
            let phys = self.last;
            let Some(virt) = self.machine.window().virt(phys) else {
                return;
            };
            // SAFETY: by the type invariants a run of ours, of which `keep` wrote the first word.
            self.last = Phys::new(unsafe { virt.cast::<u64>().read() });
            // SAFETY: by the type invariants allocated with this order, and not in use.
            unsafe { self.machine.free_run(phys, self.order) };
        }
    }
}
