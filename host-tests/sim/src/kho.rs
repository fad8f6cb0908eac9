// SPDX-License-Identifier: GPL-2.0

//! The machine hands memory over, as mainline KHO does.
//!
//! Its rough edges are kept: preserving twice succeeds and one unpreserve clears it; restoring looks
//! at page->private of the first page only; a subtree goes on answering for the whole boot. What
//! the contract of the seam forbids is a violation.

use core::ffi::CStr;

use kernel::context::might_sleep;
use kernel::error::Result;
use kernel::prelude::{
    EEXIST,
    EINVAL,
    ENOENT,
    ENOMEM,
    EOPNOTSUPP, //
};
use kpreserve_kho::phys::{
    run_size_bytes,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::{
    Handover,
    Machine,
    PageSource,
    Phys,
    Seen, //
};

use crate::faults::Call;
use crate::machine::{
    Page,
    SimMachine,
    State, //
};
use crate::recorder;

// SAFETY: the next boot is started with the keys of this one, and leaves the memory they cover as
// it is; everything else is scrambled.
unsafe impl Handover for SimMachine {
    fn is_enabled(&self) -> bool {
        self.config.has_kho
    }

    unsafe fn preserve(&self, phys: Phys, order: u8) -> Result {
        might_sleep("preserve()");
        recorder::step(self, "before preserve");
        let mut state = self.state();
        state.counters.preserve += 1;
        if !self.config.has_kho {
            state.violate("preserve without KHO".to_owned());
            return Err(EOPNOTSUPP);
        }
        if state.faults.fails(Call::Preserve) {
            return Err(ENOMEM);
        }
        if state.faults.fails(Call::Refuse) {
            return Err(EINVAL);
        }
        self.check_preservable(&mut state, phys, order)?;
        state.keys.insert((phys.get(), order));
        drop(state);
        recorder::step(self, "after preserve");
        Ok(())
    }

    unsafe fn unpreserve(&self, phys: Phys, order: u8) {
        might_sleep("unpreserve()");
        recorder::step(self, "before unpreserve");
        let mut state = self.state();
        state.counters.unpreserve += 1;
        if !state.keys.remove(&(phys.get(), order)) {
            let phys = phys.get();
            state.violate(format!(
                "unpreserve of {phys:#x}, order {order}: no such key"
            ));
        }
        drop(state);
        recorder::step(self, "after unpreserve");
    }

    fn probe(&self, phys: Phys) -> Seen {
        let mut state = self.state();
        state.counters.probe += 1;
        let Some(number) = self.memory.page_number(phys) else {
            return Seen::NotMemory;
        };
        if state.pages[number] == Page::Absent {
            return Seen::NotMemory;
        }
        match state.magic.get(&number) {
            Some(&order) => Seen::Preserved { order },
            None => Seen::NotPreserved,
        }
    }

    unsafe fn restore(&self, phys: Phys, order: u8) -> Result {
        recorder::step(self, "before restore");
        let mut state = self.state();
        state.counters.restore += 1;
        if state.faults.fails(Call::Restore) {
            return Err(EINVAL);
        }
        let number = self.memory.page_number(phys);
        let Some((number, found)) =
            number.and_then(|number| Some((number, state.magic.remove(&number)?)))
        else {
            let phys = phys.get();
            state.violate(format!(
                "restore of {phys:#x}: not preserved, or restored already"
            ));
            return Err(EINVAL);
        };
        state.own(number, found);
        if found != order || !phys.is_aligned_to(order) {
            let phys = phys.get();
            state.violate(format!(
                "restore of {phys:#x} as order {order}: it is {found}"
            ));
            return Err(EINVAL);
        }
        drop(state);
        recorder::step(self, "after restore");
        Ok(())
    }

    unsafe fn add_subtree(&self, name: &CStr, phys: Phys, size_bytes: usize) -> Result {
        might_sleep("add_subtree()");
        recorder::step(self, "before add_subtree");
        let mut state = self.state();
        state.counters.add_subtree += 1;
        if state.faults.fails(Call::AddSubtree) {
            return Err(ENOMEM);
        }
        if state.subtrees_out.contains_key(name) {
            return Err(EEXIST);
        }
        let end = phys.get() + size_bytes as u64;
        if state.key_inside(phys.get(), end).is_none() {
            let phys = phys.get();
            state.violate(format!("subtree {name:?} at {phys:#x}: not preserved"));
        }
        state
            .subtrees_out
            .insert(name.to_owned(), (phys.get(), size_bytes));
        drop(state);
        recorder::step(self, "after add_subtree");
        Ok(())
    }

    unsafe fn remove_subtree(&self, phys: Phys) {
        might_sleep("remove_subtree()");
        recorder::step(self, "before remove_subtree");
        let mut state = self.state();
        state
            .subtrees_out
            .retain(|_, &mut (at, _)| at != phys.get());
        drop(state);
        recorder::step(self, "after remove_subtree");
    }

    fn was_handed_over(&self) -> bool {
        self.config.has_kho && self.generation > 1
    }

    fn retrieve_subtree(&self, name: &CStr) -> Result<(Phys, usize)> {
        let mut state = self.state();
        state.counters.retrieve_subtree += 1;
        match state.subtrees_in.get(name) {
            Some(&(phys, size_bytes)) => Ok((Phys::new(phys), size_bytes)),
            None => Err(ENOENT),
        }
    }
}

impl Machine for SimMachine {
    fn random_u64(&self) -> u64 {
        self.state().random.next_u64()
    }

    fn kick_worker(&self) {
        self.state().counters.kick += 1;
    }
}

impl SimMachine {
    fn check_preservable(&self, state: &mut State, phys: Phys, order: u8) -> Result {
        let at = phys.get();
        let Some(number) = self.memory.page_number(phys) else {
            state.violate(format!("preserve of {at:#x}: not memory"));
            return Err(EINVAL);
        };
        let Some(size_bytes) = run_size_bytes(order).filter(|_| phys.is_aligned_to(order)) else {
            state.violate(format!("preserve of {at:#x}: not aligned to order {order}"));
            return Err(EINVAL);
        };
        let end = number + size_bytes / PAGE_SIZE_BYTES;
        if state.pages[number..end].contains(&Page::Scratch) {
            state.violate(format!("preserve of {at:#x}: scratch"));
            return Err(EINVAL);
        }
        if !self.is_early(phys) {
            state.violate(format!(
                "preserve of {at:#x}: added after boot, the next kernel has no memory there"
            ));
        }
        // The run, or an aligned part of it, whose whole may be preserved.
        let whole = match state.pages[number] {
            Page::Head(order) => Some((number, order)),
            Page::Tail(head) => match state.pages[head as usize] {
                Page::Head(order) => Some((head as usize, order)),
                _ => None,
            },
            _ => None,
        };
        let is_owned = whole.is_some_and(|(_, whole)| whole >= order);
        let is_incoming = state.magic.get(&number) == Some(&order);
        if !is_owned && !is_incoming {
            let found = state.pages[number];
            state.violate(format!(
                "preserve of {at:#x} as order {order}: it is {found:?}"
            ));
        }
        let of_whole = whole
            .filter(|&(_, whole)| whole > order)
            .map(|(head, whole)| (self.memory.phys(head).get(), whole));
        if let Some(key) = state.key_inside(at, at + size_bytes as u64) {
            // What an earlier attempt of this boot has handed on already.
            let is_again = is_incoming && key == (at, order);
            if Some(key) != of_whole && !is_again {
                state.violate(format!(
                    "preserve of {at:#x}, order {order}: {key:x?} is there"
                ));
            }
        }
        Ok(())
    }
}
