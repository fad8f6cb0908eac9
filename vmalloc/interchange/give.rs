// SPDX-License-Identifier: GPL-2.0

//! From an area to a `struct kho_vmalloc`.

use kernel::prelude::*;

use kpreserve_kho::blocks::{
    blocks_of,
    Handed, //
};
use kpreserve_kho::run::Preserved;
use kpreserve_kho::{
    Effort,
    Gate,
    Machine,
    Node,
    PageRun,
    Phys,
    Preservable,
    Run, //
};

use super::{
    KhoVmallocSer,
    FLAG_ALLOC,
    FLAG_HUGE_VMAP,
    NR_ENTRIES, //
};
use crate::area::Area;
use crate::raw::RawArea;

/// An area that was handed over for others to restore: memory, and a list of it, both preserved.
///
/// Dropping it leaves it handed over: it is the next kernel's `kho_restore_vmalloc()` to which it
/// belongs. If nobody there does so, the memory is out of use until the kexec after that.
#[must_use = "the memory is found through its descriptor only"]
pub struct KhoVmalloc {
    ser: KhoVmallocSer,
    runs: KVVec<Handed>,
    list: List,
    gate: &'static Gate,
}

impl KhoVmalloc {
    /// Returns what the next kernel finds the memory by: to be stored in preserved memory, before the
    /// kexec.
    pub fn ser(&self) -> KhoVmallocSer {
        self.ser
    }

    /// Frees the memory instead. May sleep. One key a block.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen; the memory stays handed over then.
    pub fn discard(self) -> Result {
        let _pass = self.gate.enter()?;
        for run in self.runs {
            drop(run.take_back());
        }
        self.list.discard();
        Ok(())
    }
}

impl<T: Preservable> Area<T> {
    /// Ends the area and hands its memory over as mainline's `struct kho_vmalloc`, for code that knows
    /// only `kho_restore_vmalloc()`: a vmalloc area in the next kernel with the same elements from its
    /// first byte on, and zeros behind the last one. No byte is copied. May sleep.
    ///
    /// A name that the area had stands for nothing then, as if it had been discarded.
    ///
    /// Cost: a key and eight bytes for each block, all of which have the order of the smallest run; at
    /// best one for each run. An area that was made at once ([`resize`](Self::resize)) has runs of 4 MiB
    /// but for its end; one that grew element by element also has single pages, so each page is a block.
    ///
    /// A kexec that comes while this works, which an orderly one does not, or before the descriptor was
    /// stored, leaves the memory to nobody.
    ///
    /// # Errors
    ///
    /// With the area as it was, but that runs without an element may have been given back: EINVAL if it has no element, or has several runs with bytes left over
    /// behind their last element, so that it is no array; EFBIG if it has more than 2^32 - 1 pages;
    /// ENOMEM; EBUSY once the framework is frozen.
    // The area comes back; a box for it would be one more thing that fails.
    #[allow(clippy::result_large_err)]
    pub fn into_kho_vmalloc(self) -> Result<KhoVmalloc, (Error, Self)> {
        let mut area = self;
        match give(area.raw_mut()) {
            Ok(given) => Ok(given),
            Err(error) => Err((error, area)),
        }
    }
}

/// Ends `raw`, unless it fails.
fn give(raw: &mut RawArea) -> Result<KhoVmalloc> {
    let gate = raw.gate();
    let pass = gate.enter()?;
    raw.release_runs(&pass, 0);
    let (runs, stride) = (raw.published_runs(), raw.stride());
    let (_, others) = runs.split_last().ok_or(EINVAL)?;
    let is_array = |run: &Run| stride.slack_bytes(run.pages.order()) == 0;
    if !others.iter().all(is_array) {
        return Err(EINVAL);
    }
    let block_order = runs.iter().map(|run| run.pages.order()).min().unwrap_or(0);
    let total_pages = u32::try_from(raw.nr_pages()).map_err(|_| EFBIG)?;
    let blocks = runs
        .iter()
        .flat_map(|run| blocks_of(&run.pages, block_order));
    let mut handed = KVVec::with_capacity(runs.len(), GFP_KERNEL)?;
    let list = List::new(raw.machine(), blocks, raw.nr_pages() >> block_order)?;
    raw.clear_unpublished();
    if let Err(error) = raw.hand_over(&pass, block_order, &mut handed) {
        list.discard();
        return Err(error);
    }
    let huge = if block_order > 0 { FLAG_HUGE_VMAP } else { 0 };
    let ser = KhoVmallocSer {
        first: list.first(),
        total_pages,
        flags: FLAG_ALLOC | huge,
        order: u16::from(block_order),
    };
    Ok(KhoVmalloc {
        ser,
        runs: handed,
        list,
        gate,
    })
}

/// The chain of pages that names the blocks.
struct List {
    chunks: KVVec<PageRun<Preserved>>,
}

impl List {
    /// Makes a list of `nr_blocks` blocks; a page for each 511 of them.
    fn new(
        machine: &'static dyn Machine,
        mut blocks: impl Iterator<Item = Phys>,
        nr_blocks: usize,
    ) -> Result<Self> {
        let nr_chunks = nr_blocks.div_ceil(NR_ENTRIES).max(1);
        let mut list = Self {
            chunks: KVVec::with_capacity(nr_chunks, GFP_KERNEL)?,
        };
        for _ in 0..nr_chunks {
            let chunk = PageRun::alloc(machine, 0, Node::ANY, Effort::Full).and_then(|page| {
                let page = page.preserve()?;
                write_chunk(&page, &mut blocks);
                Ok(page)
            });
            match chunk {
                Ok(chunk) => {
                    if let Some(last) = list.chunks.last() {
                        write_next(last, chunk.phys().get());
                    }
                    list.chunks.push(chunk, GFP_KERNEL)?;
                }
                Err(error) => {
                    list.discard();
                    return Err(error);
                }
            }
        }
        Ok(list)
    }

    fn first(&self) -> u64 {
        self.chunks.first().map_or(0, |chunk| chunk.phys().get())
    }

    fn discard(self) {
        for chunk in self.chunks {
            drop(chunk.unpreserve());
        }
    }
}

fn write_chunk(page: &PageRun<Preserved>, blocks: &mut impl Iterator<Item = Phys>) {
    for entry in 0..NR_ENTRIES {
        match blocks.next() {
            Some(block) => write_word(page, 1 + entry, block.get()),
            None => return,
        }
    }
}

fn write_next(page: &PageRun<Preserved>, next: u64) {
    write_word(page, 0, next);
}

fn write_word(page: &PageRun<Preserved>, index: usize, word: u64) {
    debug_assert!(index <= NR_ENTRIES);
    // SAFETY: inside the page, as both callers make sure.
    let at = unsafe { page.memory().cast::<u64>().add(index) };
    // SAFETY: a page of our own, which nobody else knows of.
    unsafe { at.write(word) };
}
