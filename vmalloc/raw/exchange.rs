// SPDX-License-Identifier: GPL-2.0

//! Runs that leave an area whole, and such as come into it.

use kernel::prelude::*;

use kpreserve_kho::blocks::{
    self,
    Handed, //
};
use kpreserve_kho::run::Incoming;
use kpreserve_kho::{
    Gate,
    GatePass,
    PageRun, //
};

use super::{
    RawArea,
    Start, //
};
use crate::directory::Directory;

impl RawArea {
    /// Returns the gate that structural writers pass.
    pub(crate) fn gate(&self) -> &'static Gate {
        self.inner.gate
    }

    /// Clears what may be left behind the last published element, and in the last run behind the last one
    /// that it has room for.
    pub(crate) fn clear_unpublished(&mut self) {
        let (from, to) = (
            self.tail.len.max(self.inner.stale.start),
            self.inner.stale.end,
        );
        self.clear(from, to);
        self.clear_slack();
    }

    /// Ends the area: its runs are preserved as blocks of `block_order` instead, and `handed`, which has
    /// room for them, has them; the record is free. May sleep. One key a block.
    ///
    /// # Errors
    ///
    /// ENOMEM; the area is as it was.
    pub(crate) fn hand_over(
        &mut self,
        pass: &GatePass<'_>,
        block_order: u8,
        handed: &mut KVVec<Handed>,
    ) -> Result {
        self.preserve_blocks(block_order)?;
        // Nothing fails from here on. Retracted first: what a cut leaves is an area without elements.
        self.truncate_kept();
        let (ledger, id) = (self.inner.arena.ledger(), self.inner.arena.id());
        // SAFETY: no element is published any more; references to any borrow the area.
        for run in unsafe { self.inner.arena.take_out(pass) } {
            // SAFETY: they have been preserved above.
            let run = unsafe { Handed::new(run.pages, block_order) };
            let _ = handed.push_within_capacity(run);
        }
        // SAFETY: the arena is ours and has no runs; `retired` keeps it and its descriptor from being
        // used again.
        unsafe { ledger.retire(pass, id) };
        // INVARIANT: the record is somebody else's from here on; the directory is as empty as the arena.
        self.inner.retired = true;
        Ok(())
    }

    fn preserve_blocks(&self, block_order: u8) -> Result {
        let runs = self.inner.arena.runs();
        for (nr, run) in runs.iter().enumerate() {
            // SAFETY: undone below, or followed by `Handed::new`.
            if let Err(error) = unsafe { blocks::preserve_blocks(&run.pages, block_order) } {
                for run in runs.iter().take(nr) {
                    // SAFETY: it succeeded for these.
                    unsafe { blocks::unpreserve_blocks(&run.pages, block_order) };
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Retracts all elements without clearing them, and forgets where they are.
    fn truncate_kept(&mut self) {
        self.tail.len = 0;
        self.tail.forget();
        self.inner.stale = 0..0;
        self.inner.directory = Directory::new();
        self.tail.published.store(0);
    }

    /// Takes in runs of the previous kernel, being without any, and publishes `len` elements. May sleep.
    ///
    /// # Errors
    ///
    /// EINVAL if there are runs, or too few elements in the new ones, ENOMEM: the area unchanged and the
    /// runs incoming as before. EINVAL if the machine disagrees with what it said when they were probed;
    /// what had been taken in by then is freed.
    ///
    /// # Safety
    ///
    /// The runs overlap neither with each other nor with any other run.
    pub(crate) unsafe fn take_in(
        &mut self,
        pass: &GatePass<'_>,
        incoming: KVVec<PageRun<Incoming>>,
        len: usize,
    ) -> Result {
        if self.nr_runs() != 0 {
            return Err(EINVAL);
        }
        let mut directory = Directory::new();
        for run in &incoming {
            directory.push(
                self.inner.stride.nr_elements(run.order()),
                Start(run.memory()),
            )?;
        }
        if len > directory.capacity() {
            return Err(EINVAL);
        }
        // SAFETY: says the caller.
        if let Err(error) = unsafe { self.inner.arena.take_in(pass, incoming) } {
            while self.nr_runs() > 0 {
                // SAFETY: not in the directory, so nobody has seen it.
                unsafe { self.inner.arena.release_last(pass) };
            }
            return Err(error);
        }
        // INVARIANT: the runs are the arena's now; behind the last element is what the previous kernel
        // left there.
        self.inner.directory = directory;
        self.inner.stale = len..self.capacity();
        self.publish(len);
        Ok(())
    }
}
