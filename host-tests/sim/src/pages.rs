// SPDX-License-Identifier: GPL-2.0

//! The machine gives out runs.

use core::ops::Range;
use core::ptr::NonNull;

use kernel::context::might_sleep;
use kernel::error::Result;
use kernel::prelude::{
    EINVAL,
    ENOMEM, //
};
use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::{
    Effort,
    Node,
    PageSource,
    Phys,
    Source,
    Window, //
};

use crate::faults::Call;
use crate::machine::{
    Page,
    SimMachine,
    State, //
};
use crate::recorder;
use crate::region::Place;

// SAFETY: a run comes from the buddy allocator, which gives each page out once, aligned to its
// size; the window maps it; it is zeroed below; scratch pages are never given to the allocator.
unsafe impl PageSource for SimMachine {
    fn window(&self) -> Window {
        self.memory.window()
    }

    fn alloc_run(&self, order: u8, node: Node, _effort: Effort) -> Result<Phys> {
        might_sleep("alloc_run()");
        run_size_bytes(order).ok_or(EINVAL)?;
        recorder::step(self, "before alloc_run");
        if node != Node::ANY {
            self.state().counters.alloc_on_node += 1;
        }
        let number = self.take_pages(order, Source::Near(node))?;
        if self.config.poisons {
            self.check_pattern(number, order);
        }
        if self.config.poisons {
            self.memory
                .write(number, &vec![0; PAGE_SIZE_BYTES << order]);
        } else {
            self.memory.clear(number, 1 << order);
        }
        recorder::step(self, "after alloc_run");
        Ok(self.memory.phys(number))
    }

    fn alloc_run_from(&self, order: u8, source: Source, _effort: Effort) -> Result<Phys> {
        might_sleep("alloc_run_from()");
        run_size_bytes(order).ok_or(EINVAL)?;
        recorder::step(self, "before alloc_run_from");
        let number = self.take_pages(order, source)?;
        if self.config.poisons {
            self.check_pattern(number, order);
        }
        recorder::step(self, "after alloc_run_from");
        Ok(self.memory.phys(number))
    }

    fn is_early(&self, phys: Phys) -> bool {
        let number = self.memory.page_number(phys);
        number.is_some_and(|number| !self.config.added.contains(&number))
    }

    fn nr_low_pages_available(&self) -> usize {
        let low = 0..self.config.nr_low_pages;
        let nr_free = self.state().buddy.nr_pages_within(&low);
        nr_free.saturating_sub(self.config.nr_low_pages_kept)
    }

    fn nr_nodes(&self) -> usize {
        self.config.nr_nodes
    }

    fn met_added_memory(&self, _phys: Phys) {
        self.state().counters.met_added += 1;
    }

    unsafe fn free_run(&self, phys: Phys, order: u8) {
        recorder::step(self, "before free_run");
        let mut state = self.state();
        state.counters.free += 1;
        let Some(number) = self.memory.page_number(phys) else {
            state.violate(format!("free of {:#x}: not memory", phys.get()));
            return;
        };
        if state.pages[number] != Page::Head(order) {
            let found = state.pages[number];
            state.violate(format!(
                "free of {:#x} as order {order}: it is {found:?}",
                phys.get()
            ));
            return;
        }
        let end = phys.get() + (PAGE_SIZE_BYTES << order) as u64;
        if let Some(key) = state.key_inside(phys.get(), end) {
            state.violate(format!("free of {:#x}: {key:x?} is preserved", phys.get()));
        }
        for page in number..number + (1 << order) {
            state.pages[page] = Page::Free;
            if self.config.poisons {
                self.memory.write(page, &self.garbage);
            }
        }
        state.counters.pages_out -= 1 << order;
        state.buddy.give(number, order);
        drop(state);
        recorder::step(self, "after free_run");
    }

    fn nr_pages_available(&self) -> usize {
        self.state().buddy.nr_pages()
    }

    unsafe fn map_runs(&self, runs: &[(Phys, u8)]) -> Result<NonNull<u8>> {
        might_sleep("map_runs()");
        let mut state = self.state();
        state.counters.map += 1;
        if state.faults.fails(Call::Map) {
            return Err(ENOMEM);
        }
        let size_bytes = runs
            .iter()
            .map(|&(_, order)| PAGE_SIZE_BYTES << order)
            .sum();
        let gap_bytes = (state.random.below(16) << 22) as usize;
        let place = Place::take(size_bytes, gap_bytes);
        let mut offset = 0;
        for &(phys, order) in runs {
            let number = self.memory.page_number(phys).ok_or(EINVAL)?;
            if state.pages[number] != Page::Head(order) {
                let found = state.pages[number];
                state.violate(format!(
                    "mapping of {:#x} as order {order}: it is {found:?}",
                    phys.get()
                ));
            }
            let len_bytes = PAGE_SIZE_BYTES << order;
            place.map(
                offset,
                len_bytes,
                &self.memory.file(),
                number * PAGE_SIZE_BYTES,
            );
            offset += len_bytes;
        }
        let start = place.start();
        state.mappings.insert(start, (place, size_bytes));
        NonNull::new(core::ptr::with_exposed_provenance_mut(start)).ok_or(ENOMEM)
    }

    unsafe fn unmap_runs(&self, start: NonNull<u8>, size_bytes: usize) {
        might_sleep("unmap_runs()");
        let mut state = self.state();
        state.counters.unmap += 1;
        match state.mappings.remove(&start.as_ptr().addr()) {
            Some((place, size)) => {
                place.retire();
                if size != size_bytes {
                    state.violate(format!(
                        "unmap of {size_bytes:#x} bytes, mapped were {size:#x}"
                    ));
                }
            }
            None => state.violate(format!("unmap of {start:p}: nothing is mapped there")),
        }
    }
}

impl SimMachine {
    fn take_pages(&self, order: u8, source: Source) -> Result<usize> {
        let mut state = self.state();
        state.counters.alloc += 1;
        if state.faults.fails(Call::Alloc) {
            return Err(ENOMEM);
        }
        let draw = state.random.next_u64();
        let pick = |n: usize| (draw % n as u64) as usize;
        let buddy = &mut state.buddy;
        let low = 0..self.config.nr_low_pages;
        let is_low_kept =
            buddy.nr_pages_within(&low) < self.config.nr_low_pages_kept + (1 << order);
        let mut take = |range: &Option<Range<usize>>| match range {
            Some(range) => buddy.take_within(range, order, pick),
            None => buddy.take(order, pick),
        };
        let number = match self.pages_of(source) {
            (Some(first), false) => take(&Some(first)),
            (first, _) => first
                .and_then(|first| take(&Some(first)))
                .or_else(|| take(&is_low_kept.then_some(low.end..self.config.nr_pages))),
        };
        let number = number.ok_or(ENOMEM)?;
        state.own(number, order);
        Ok(number)
    }

    /// Returns which pages a request prefers, if any, and whether it takes others, too.
    fn pages_of(&self, source: Source) -> (Option<Range<usize>>, bool) {
        let config = &self.config;
        let added = (!config.added.is_empty()).then(|| config.added.clone());
        let last = config.nr_nodes - 1;
        match source {
            Source::Low => (Some(0..config.nr_low_pages), false),
            Source::Only(node) if node == last && last > 0 => (added, false),
            // Pages that were added lie behind all others.
            Source::Only(0) if last > 0 => (added.map(|added| 0..added.start), false),
            Source::Only(0) => (None, true),
            Source::Only(_) => (Some(0..0), false),
            Source::Near(Node(node)) if last > 0 && node == last as i32 => (added, true),
            Source::Near(_) if config.added_first => (added, true),
            Source::Near(_) => (None, true),
        }
    }

    /// Checks that nobody wrote to pages while they were free.
    fn check_pattern(&self, number: usize, order: u8) {
        let mut bytes = [0; PAGE_SIZE_BYTES];
        for page in number..number + (1 << order) {
            self.memory.read(page, &mut bytes);
            if bytes != self.garbage {
                let phys = self.memory.phys(page).get();
                self.state()
                    .violate(format!("{phys:#x} was written to while it was free"));
            }
        }
    }
}

impl State {
    /// Makes pages a folio of the framework.
    pub(crate) fn own(&mut self, number: usize, order: u8) {
        self.pages[number..number + (1 << order)].fill(Page::Tail(number as u32));
        self.pages[number] = Page::Head(order);
        self.counters.pages_out += 1 << order;
    }

    /// Returns a key that covers a byte of the range.
    pub(crate) fn key_inside(&self, start: u64, end: u64) -> Option<(u64, u8)> {
        // No key is larger than the largest run, so none that begins further before reaches it.
        let first = start.saturating_sub((PAGE_SIZE_BYTES as u64) << MAX_ORDER);
        self.keys
            .range((first, 0)..(end, 0))
            .rev()
            .find(|&&(phys, order)| phys + ((PAGE_SIZE_BYTES as u64) << order) > start)
            .copied()
    }
}
