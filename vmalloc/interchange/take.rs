// SPDX-License-Identifier: GPL-2.0

//! From a `struct kho_vmalloc` to an area.
//!
//! The descriptor and its list are bytes of the previous kernel: each page of the list is probed before it
//! is read, each block before anything is made of it; all of them are known, and apart from each other,
//! before the first is taken. Bounded by the pages that the list has, whatever the descriptor claims: a list
//! that goes round is noticed before it has been gone through twice more.

use kernel::prelude::*;

use kpreserve_kho::phys::{
    run_size_bytes,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::refusal::Relation;
use kpreserve_kho::run::Incoming;
use kpreserve_kho::sort::heap_sort;
use kpreserve_kho::validate::{
    expect,
    expect_at_least,
    expect_at_most,
    expect_equal, //
};
use kpreserve_kho::{
    Machine,
    PageRun,
    Phys,
    Preservable,
    Refusal, //
};

use super::{
    KhoVmallocSer,
    FLAG_ALLOC,
    FLAG_HUGE_VMAP,
    NR_ENTRIES, //
};
use crate::area::Area;

const S: &str = "kho_vmalloc";
const S_CHUNK: &str = "kho_vmalloc_chunk";

impl<T: Preservable> Area<T> {
    /// Takes over memory that the previous kernel preserved with `kho_preserve_vmalloc()`, or with
    /// [`into_kho_vmalloc`](Self::into_kho_vmalloc): the area, which must have no run, has its first `len`
    /// elements then. No byte is copied. May sleep. Once only: afterwards the descriptor means nothing, in
    /// this kernel and the next.
    ///
    /// Cost: each block becomes a run, with a key and an entry in the run table: one for each page of a
    /// `vmalloc()`, one for 2 MiB of a `vmalloc_huge()`.
    ///
    /// # Errors
    ///
    /// EINVAL if the descriptor or its list is refused (the [`Refusal`] is logged), if elements do not fit
    /// into blocks without a rest, if there are fewer than `len`, or if the area has runs; EOPNOTSUPP for
    /// flags that are not known; ENOMEM; EBUSY once the framework is frozen. The memory is as it was then.
    ///
    /// # Safety
    ///
    /// Nobody else uses the memory, or restores it: not through this descriptor, nor otherwise.
    pub unsafe fn take_kho_vmalloc(&mut self, ser: &KhoVmallocSer, len: usize) -> Result {
        let pass = self.raw().enter()?;
        let (machine, stride) = (self.raw().machine(), self.raw().stride());
        if self.nr_runs() != 0 {
            return Err(EINVAL);
        }
        let order = check(ser).map_err(Refusal::report)?;
        let incoming = Incomings::read(machine, ser, order)?;
        if incoming.blocks.len() > 1 && stride.slack_bytes(order) != 0 {
            return Err(EINVAL);
        }
        let Incomings { chunks, blocks } = incoming;
        // SAFETY: apart from each other, as `read` has made sure, and from all others, says the caller.
        unsafe { self.raw_mut().take_in(&pass, blocks, len) }?;
        for chunk in chunks {
            // What stays behind, if the machine has changed its mind, is a page.
            // SAFETY: as above.
            drop(unsafe { chunk.restore_once() });
        }
        Ok(())
    }
}

/// Checks the descriptor; returns the order of the blocks.
fn check(ser: &KhoVmallocSer) -> Result<u8, Refusal> {
    let at = ser.first;
    let known = FLAG_ALLOC | FLAG_HUGE_VMAP;
    expect(
        S,
        "flags",
        at,
        ser.flags.into(),
        known.into(),
        Relation::Version,
        ser.flags & !known == 0,
    )?;
    let order_max = kpreserve_kho::phys::MAX_ORDER;
    expect_at_most(S, "order", at, ser.order.into(), order_max.into())?;
    expect_at_least(S, "total_pages", at, ser.total_pages.into(), 1)?;
    let nr_block_pages = 1u64 << ser.order;
    expect(
        S,
        "total_pages",
        at,
        ser.total_pages.into(),
        nr_block_pages,
        Relation::MultipleOf,
        u64::from(ser.total_pages) % nr_block_pages == 0,
    )?;
    Ok(ser.order as u8)
}

/// The list and its blocks, probed.
struct Incomings {
    chunks: KVVec<PageRun<Incoming>>,
    blocks: KVVec<PageRun<Incoming>>,
}

impl Incomings {
    fn read(machine: &'static dyn Machine, ser: &KhoVmallocSer, order: u8) -> Result<Self> {
        let nr_blocks = ser.total_pages as usize >> order;
        // A chunk that is full may be followed by an empty one.
        let nr_chunks_max = nr_blocks / NR_ENTRIES + 1;
        let mut found = Self {
            chunks: KVVec::new(),
            // It grows as blocks are found: who claims 16 TiB is not given the memory to list them.
            blocks: KVVec::new(),
        };
        // Where the list was last when the number of its pages was a power of two: who goes round comes
        // back there.
        let mut marked = 0;
        let mut next = ser.first;
        while next != 0 {
            let nr_chunks = found.chunks.len() as u64;
            expect_at_most(S_CHUNK, "next", next, nr_chunks + 1, nr_chunks_max as u64)
                .map_err(Refusal::report)?;
            let is_new = next != marked;
            expect(
                S_CHUNK,
                "next",
                next,
                next,
                marked,
                Relation::ApartFrom,
                is_new,
            )
            .map_err(Refusal::report)?;
            if nr_chunks.is_power_of_two() {
                marked = next;
            }
            next = found.read_chunk(machine, next, order, nr_blocks)?;
        }
        let nr_found = found.blocks.len() as u64;
        expect_equal(S_CHUNK, "phys", ser.first, nr_found, nr_blocks as u64)
            .map_err(Refusal::report)?;
        found.check_apart()?;
        Ok(found)
    }

    /// Reads one page of the list; returns the address of the next one.
    fn read_chunk(
        &mut self,
        machine: &'static dyn Machine,
        at: u64,
        order: u8,
        nr_blocks: usize,
    ) -> Result<u64> {
        let phys = Phys::new(at);
        // SAFETY: this and the others here are only read, or dropped, until they are known to be apart.
        let page = unsafe { PageRun::incoming(machine, phys, 0, S_CHUNK, at) };
        let page = page.map_err(Refusal::report)?;
        for entry in 0..NR_ENTRIES {
            let block = read_word(&page, 1 + entry);
            if block == 0 {
                break;
            }
            let nr_found = self.blocks.len() as u64 + 1;
            expect_at_most(S_CHUNK, "phys", at, nr_found, nr_blocks as u64)
                .map_err(Refusal::report)?;
            // SAFETY: as above.
            let run = unsafe { PageRun::incoming(machine, Phys::new(block), order, S_CHUNK, at) };
            self.blocks
                .push(run.map_err(Refusal::report)?, GFP_KERNEL)?;
        }
        let next = read_word(&page, 0);
        self.chunks.push(page, GFP_KERNEL)?;
        Ok(next)
    }

    /// Checks that no two of all these overlap.
    fn check_apart(&self) -> Result {
        let nr = self.chunks.len() + self.blocks.len();
        let mut ranges = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for run in Iterator::chain(self.chunks.iter(), &self.blocks) {
            let size_bytes = run_size_bytes(run.order()).unwrap_or(PAGE_SIZE_BYTES);
            ranges.push((run.phys().get(), size_bytes as u64), GFP_KERNEL)?;
        }
        heap_sort(&mut ranges, |a, b| a.0 < b.0);
        let mut end = 0;
        for &(start, size_bytes) in &ranges {
            expect(
                S_CHUNK,
                "phys",
                start,
                start,
                end,
                Relation::ApartFrom,
                start >= end,
            )
            .map_err(Refusal::report)?;
            // Inside the window, so it does not overflow.
            end = start.saturating_add(size_bytes);
        }
        Ok(())
    }
}

fn read_word(page: &PageRun<Incoming>, index: usize) -> u64 {
    debug_assert!(index <= NR_ENTRIES);
    // SAFETY: inside the page, as both callers make sure.
    let at = unsafe { page.memory().cast::<u64>().add(index) };
    // SAFETY: a page of preserved memory, which nobody writes; any bytes are a number.
    unsafe { at.read() }
}
