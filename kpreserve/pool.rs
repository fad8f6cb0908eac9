// SPDX-License-Identifier: GPL-2.0

//! The runs of arenas that nobody has open.
//!
//! They stay preserved and recorded: not opening an arena is all it takes to carry it on.

use kernel::prelude::*;
use kpreserve_kho::{
    run::Preserved,
    sort::{
        heap_sort,
        merge_sort,
        scratch_len, //
    },
    LedgerSlot,
    PageRun,
    Run, //
};

/// Runs in waiting.
///
/// # Invariants
///
/// After [`Pool::sort`], `inherited` is sorted by owner and index. `open` and `returned` together
/// never outgrow the capacity of `returned`.
pub(crate) struct Pool {
    inherited: KVVec<(u32, Option<Run>)>,
    returned: KVec<(u32, KVVec<Run>)>,
    open: KVec<u32>,
    refused: KVVec<u32>,
    /// Inherited runs that have never left the pool, and their pages.
    unopened: (usize, usize),
    sorting: Option<Sorting>,
}

/// What [`Pool::sort`] works with; had before, since it must not fail.
struct Sorting {
    keys: KVVec<Key>,
    scratch: KVVec<Key>,
    sorted: KVVec<(u32, Option<Run>)>,
}

/// Owner and index of a run, and where it stands.
type Key = (u32, u32, usize);

impl Pool {
    /// Makes an empty pool with room for `nr_runs`; owners of `refused` will not open.
    pub(crate) fn with_capacity(nr_runs: usize, refused: KVVec<u32>) -> Result<Self> {
        let mut refused = refused;
        // Room for those that KHO itself refuses.
        refused.reserve(nr_runs, GFP_KERNEL)?;
        heap_sort(&mut refused, |a, b| a < b);
        Ok(Self {
            inherited: KVVec::with_capacity(nr_runs, GFP_KERNEL)?,
            returned: KVec::new(),
            open: KVec::new(),
            refused,
            unopened: (0, 0),
            sorting: Some(Sorting {
                keys: KVVec::with_capacity(nr_runs, GFP_KERNEL)?,
                scratch: KVVec::from_elem((0, 0, 0), scratch_len(nr_runs), GFP_KERNEL)?,
                sorted: KVVec::with_capacity(nr_runs, GFP_KERNEL)?,
            }),
        })
    }

    /// Adds an inherited run.
    ///
    /// # Errors
    ///
    /// ENOMEM beyond the capacity.
    pub(crate) fn add(
        &mut self,
        owner: u32,
        index: u32,
        pages: PageRun<Preserved>,
        slot: LedgerSlot,
    ) -> Result {
        let run = Run { pages, slot, index };
        self.unopened.0 += 1;
        self.unopened.1 += run.pages.nr_pages();
        self.inherited.push((owner, Some(run)), GFP_KERNEL)?;
        Ok(())
    }

    /// Notes that a run of `owner` could not be had.
    pub(crate) fn refuse(&mut self, owner: u32) {
        let _ = self.refused.push_within_capacity(owner);
    }

    /// Ends the adding.
    pub(crate) fn sort(&mut self) {
        heap_sort(&mut self.refused, |a, b| a < b);
        let Some(Sorting {
            mut keys,
            mut scratch,
            mut sorted,
        }) = self.sorting.take()
        else {
            return;
        };
        // There is room in both, by `with_capacity`.
        for (place, (owner, run)) in self.inherited.iter().enumerate() {
            let index = run.as_ref().map_or(0, |run| run.index);
            let _ = keys.push_within_capacity((*owner, index, place));
        }
        merge_sort(&mut keys, &mut scratch, |a, b| (a.0, a.1) < (b.0, b.1));
        for &(owner, _, place) in keys.iter() {
            if let Some((_, run)) = self.inherited.get_mut(place) {
                let _ = sorted.push_within_capacity((owner, run.take()));
            }
        }
        self.inherited = sorted;
    }

    /// Returns how many inherited runs are in waiting, and their pages.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let mut total = (0, 0);
        let mut add = |run: &Run| {
            total.0 += 1;
            total.1 += run.pages.nr_pages();
        };
        for (_, run) in self.inherited.iter() {
            run.iter().for_each(&mut add);
        }
        for (_, runs) in self.returned.iter() {
            runs.iter().for_each(&mut add);
        }
        total
    }

    /// Returns how many inherited runs nobody has opened in this boot, and their pages.
    pub(crate) fn unopened(&self) -> (usize, usize) {
        self.unopened
    }

    /// Takes out everything that waits.
    pub(crate) fn take_all(&mut self, mut f: impl FnMut(Run)) {
        for (_, run) in self.inherited.iter_mut() {
            run.take().into_iter().for_each(&mut f);
        }
        while let Some((_, runs)) = self.returned.pop() {
            runs.into_iter().for_each(&mut f);
        }
        self.unopened = (0, 0);
    }

    /// Returns whether a run of an arena was refused.
    pub(crate) fn is_refused(&self, owner: u32) -> bool {
        self.refused.binary_search(&owner).is_ok()
    }

    /// Returns whether an arena has inherited runs that wait.
    pub(crate) fn has_inherited(&self, owner: u32) -> bool {
        let begin = self.inherited.partition_point(|(id, _)| *id < owner);
        let of_owner = self.inherited.iter().skip(begin);
        let mut of_owner = of_owner.take_while(|(id, _)| *id == owner);
        of_owner.any(|(_, run)| run.is_some())
    }

    /// Opens an arena: hands out its runs, in the order of their index.
    ///
    /// # Errors
    ///
    /// EBUSY if it is open; EINVAL if a run of it was refused; ENOMEM.
    pub(crate) fn take(&mut self, owner: u32) -> Result<KVVec<Run>> {
        if self.open.contains(&owner) {
            return Err(EBUSY);
        }
        if self.is_refused(owner) {
            pr_err!(
                "arena {}: a run of it was refused; it is carried on, not opened\n",
                owner
            );
            return Err(EINVAL);
        }
        self.open.reserve(1, GFP_KERNEL)?;
        self.returned.reserve(self.open.len() + 1, GFP_KERNEL)?;

        let runs = match self.returned.iter().position(|(id, _)| *id == owner) {
            Some(at) => self.returned.remove(at).map_err(|_| EINVAL)?.1,
            None => self.take_inherited(owner)?,
        };
        self.open.push(owner, GFP_KERNEL)?;
        Ok(runs)
    }

    /// Takes the runs of an arena back.
    pub(crate) fn close(&mut self, owner: u32, runs: KVVec<Run>) {
        self.forget(owner);
        // There is room, by the type invariants.
        let _ = self.returned.push_within_capacity((owner, runs));
    }

    /// Notes that an arena has ended.
    pub(crate) fn forget(&mut self, owner: u32) {
        if let Some(at) = self.open.iter().position(|&id| id == owner) {
            let _ = self.open.remove(at);
        }
    }

    fn take_inherited(&mut self, owner: u32) -> Result<KVVec<Run>> {
        let begin = self.inherited.partition_point(|(id, _)| *id < owner);
        let end = self.inherited.partition_point(|(id, _)| *id <= owner);
        let mut runs = KVVec::with_capacity(end.saturating_sub(begin), GFP_KERNEL)?;
        for (_, run) in self.inherited.get_mut(begin..end).unwrap_or(&mut []) {
            if let Some(run) = run.take() {
                self.unopened.0 -= 1;
                self.unopened.1 -= run.pages.nr_pages();
                runs.push(run, GFP_KERNEL)?;
            }
        }
        Ok(runs)
    }
}
