// SPDX-License-Identifier: GPL-2.0

//! What the image holds, and what of it nobody has opened: counted as it changes, so that it can be
//! said at a freeze without a lock and without looking at anything.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use kpreserve_kho::phys::PAGE_SIZE_BYTES;

use crate::pool::Pool;
use crate::table::RunTable;

/// Numbers about the image. Each is right by itself; together they are of no one moment.
pub(crate) struct Tally {
    nr_runs: Atomic<u64>,
    nr_pages: Atomic<u64>,
    nr_runs_unopened: Atomic<u64>,
    nr_pages_unopened: Atomic<u64>,
    nr_names_unopened: Atomic<u64>,
}

impl Tally {
    pub(crate) fn new(table: &RunTable, pool: &Pool, nr_names: u64) -> Self {
        let (nr_runs, nr_pages) = pool.unopened();
        Self {
            nr_runs: Atomic::new(table.nr_runs() as u64),
            nr_pages: Atomic::new(table.nr_pages()),
            nr_runs_unopened: Atomic::new(nr_runs as u64),
            nr_pages_unopened: Atomic::new(nr_pages as u64),
            nr_names_unopened: Atomic::new(nr_names),
        }
    }

    /// Notes what the run table holds now. Called under its lock.
    pub(crate) fn note_table(&self, table: &RunTable) {
        self.nr_runs.store(table.nr_runs() as u64, Relaxed);
        self.nr_pages.store(table.nr_pages(), Relaxed);
    }

    /// Notes what waits in the pool. Called under its lock.
    pub(crate) fn note_pool(&self, pool: &Pool) {
        let (nr_runs, nr_pages) = pool.unopened();
        self.nr_runs_unopened.store(nr_runs as u64, Relaxed);
        self.nr_pages_unopened.store(nr_pages as u64, Relaxed);
    }

    /// Notes how many names nobody has opened: before anybody can.
    pub(crate) fn note_names(&self, nr_names: u64) {
        self.nr_names_unopened.store(nr_names, Relaxed);
    }

    /// Notes that one name more was opened. Several may do this at once.
    pub(crate) fn note_name_opened(&self) {
        let mut nr = self.nr_names_unopened.load(Relaxed);
        // A damaged counter of names may have been too low.
        while let Some(less) = nr.checked_sub(1) {
            match self.nr_names_unopened.cmpxchg(nr, less, Relaxed) {
                Ok(_) => return,
                Err(now) => nr = now,
            }
        }
    }

    /// Says in one line what the next kernel gets.
    pub(crate) fn say_what_is_handed_on(&self, generation: u64, nr_names: u64) {
        let page_kib = PAGE_SIZE_BYTES as u64 / 1024;
        // The root page is in no table.
        let nr_runs = self.nr_runs.load(Relaxed) + 1;
        let kib = (self.nr_pages.load(Relaxed) + 1) * page_kib;
        let nr_names_unopened = self.nr_names_unopened.load(Relaxed);
        let nr_runs_unopened = self.nr_runs_unopened.load(Relaxed);
        if nr_names_unopened == 0 && nr_runs_unopened == 0 {
            pr_info!(
                "generation {} is frozen: a kexec hands on {} names and {} runs ({} KiB)\n",
                generation,
                nr_names,
                nr_runs,
                kib
            );
            return;
        }
        pr_notice!(
            "generation {} is frozen: a kexec hands on {} names and {} runs ({} KiB); {} names \
             and {} runs ({} KiB) of these nobody has opened in this boot: is a consumer not \
             loaded?\n",
            generation,
            nr_names,
            nr_runs,
            kib,
            nr_names_unopened,
            nr_runs_unopened,
            self.nr_pages_unopened.load(Relaxed) * page_kib
        );
    }
}
