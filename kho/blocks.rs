// SPDX-License-Identifier: GPL-2.0

//! Runs that the next kernel is to find as blocks of a smaller order: for others, who restore them
//! block by block.
//!
//! A run is one key all its life, but for its end here: it is preserved as blocks, too, which may
//! fail and can be undone; then the key of the whole is given up, which cannot fail.

use kernel::prelude::*;

use crate::phys::{
    run_size_bytes,
    Phys, //
};
use crate::run::{
    Owned,
    PageRun,
    Preserved, //
};

/// Preserves the blocks of a run, which stays preserved as a whole. May sleep. One key a block; none if
/// the run is one.
///
/// If a kexec comes now, the next kernel finds only one of the two: this is for a moment, and for those
/// who have passed the gate.
///
/// # Errors
///
/// ENOMEM, EINVAL if blocks would be larger than the run; the run is as it was.
///
/// # Safety
///
/// The run is next used for [`unpreserve_blocks`] or [`Handed::new`] with the same order, if only its
/// memory is not.
pub unsafe fn preserve_blocks(run: &PageRun<Preserved>, block_order: u8) -> Result {
    if block_order > run.order() {
        return Err(EINVAL);
    }
    for number in 0..nr_blocks(run.order(), block_order) {
        let block = block(run.phys(), block_order, number);
        // SAFETY: a part of the run, of which no other part that overlaps is preserved.
        if let Err(error) = unsafe { run.machine().preserve(block, block_order) } {
            give_up_blocks(run, block_order, number);
            return Err(error);
        }
    }
    Ok(())
}

/// Undoes [`preserve_blocks`]. May sleep; cannot fail.
///
/// # Safety
///
/// It succeeded for this run and order, and was not undone yet.
pub unsafe fn unpreserve_blocks(run: &PageRun<Preserved>, block_order: u8) {
    give_up_blocks(run, block_order, nr_blocks(run.order(), block_order));
}

/// A run that the next kernel finds as blocks, and gives to somebody else. Dropping it changes nothing.
///
/// # Invariants
///
/// All blocks of `block_order` of the run are preserved; the run is not, unless it is one block.
pub struct Handed {
    run: PageRun<Preserved>,
    block_order: u8,
}

impl Handed {
    /// Gives up the key of the whole run. May sleep; cannot fail.
    ///
    /// # Safety
    ///
    /// [`preserve_blocks`] succeeded for this run and order, and was not undone.
    pub unsafe fn new(run: PageRun<Preserved>, block_order: u8) -> Self {
        run.set_note(0);
        if block_order < run.order() {
            // SAFETY: preserved with this order, by the type invariants.
            unsafe { run.machine().unpreserve(run.phys(), run.order()) };
        }
        // INVARIANT: only the blocks are preserved.
        Self { run, block_order }
    }

    /// Takes the run out of the handover. May sleep; cannot fail.
    pub fn take_back(self) -> PageRun<Owned> {
        if self.block_order < self.run.order() {
            let nr = nr_blocks(self.run.order(), self.block_order);
            give_up_blocks(&self.run, self.block_order, nr);
            self.run.into_unpreserved()
        } else {
            self.run.unpreserve()
        }
    }
}

/// Returns the addresses of the blocks of `block_order` of a run.
pub fn blocks_of(run: &PageRun<Preserved>, block_order: u8) -> impl Iterator<Item = Phys> {
    let (start, order) = (run.phys(), run.order());
    let nr = 1usize << order.saturating_sub(block_order);
    (0..nr).map(move |number| block(start, block_order, number))
}

/// Returns how many keys there are beside that of the whole.
fn nr_blocks(order: u8, block_order: u8) -> usize {
    if block_order < order {
        1 << (order - block_order)
    } else {
        0
    }
}

fn block(start: Phys, block_order: u8, number: usize) -> Phys {
    let size_bytes = run_size_bytes(block_order).unwrap_or(0);
    // Inside the run, so it does not overflow.
    Phys::new(start.get().wrapping_add((number * size_bytes) as u64))
}

/// Takes the first `nr` blocks out of the handover.
fn give_up_blocks(run: &PageRun<Preserved>, block_order: u8, nr: usize) {
    for number in (0..nr).rev() {
        // SAFETY: preserved with this order, as all callers have made sure.
        unsafe {
            run.machine()
                .unpreserve(block(run.phys(), block_order, number), block_order);
        }
    }
}
