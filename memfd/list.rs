// SPDX-License-Identifier: GPL-2.0

//! The runs of a file: in its object while they are few, in an area otherwise.

use kernel::prelude::*;
use kpreserve::kho::{
    validate::{
        expect_at_least,
        expect_equal, //
    },
    Refusal, //
};
use kpreserve::prelude::*;

use crate::abi::{
    FolioRunSer,
    MemfdSer,
    CHECK_OF_NONE,
    NR_INLINE, //
};

/// The runs of a file.
pub struct RunList {
    inline: [FolioRunSer; NR_INLINE],
    nr_inline: usize,
    area: Option<PVec<FolioRunSer>>,
    check: u64,
}

impl RunList {
    /// Makes an empty list.
    pub const fn new() -> Self {
        Self {
            inline: [FolioRunSer::NONE; NR_INLINE],
            nr_inline: 0,
            area: None,
            check: CHECK_OF_NONE,
        }
    }

    /// Opens the list that an object names. Cost: one adoption if there is an area.
    ///
    /// # Errors
    ///
    /// Those of `PVec::adopt`; EINVAL if the area does not hold as many runs as the object says.
    pub fn open(object: &MemfdSer) -> Result<Self> {
        let mut list = Self::new();
        list.check = object.check;
        let nr_runs = object.nr_runs as usize;
        if nr_runs <= NR_INLINE {
            list.inline = object.inline;
            list.nr_inline = nr_runs;
            return Ok(list);
        }
        let at = object.runs.into_raw();
        // A handle that is null is no damage anywhere else.
        expect_at_least("MemfdSer", "runs", nr_runs as u64, at, 1).map_err(Refusal::report)?;
        let area = PVec::adopt(object.runs, GFP_KERNEL)?;
        expect_equal("MemfdSer", "nr_runs", at, nr_runs as u64, area.len() as u64)
            .map_err(Refusal::report)?;
        list.area = Some(area);
        Ok(list)
    }

    /// Adds a run. The third one moves the list to an area.
    ///
    /// # Errors
    ///
    /// ENOMEM; EBUSY once the framework is frozen. The list is as it was.
    pub fn push(&mut self, run: FolioRunSer) -> Result {
        self.place(run)?;
        self.check = run.check(self.check);
        Ok(())
    }

    fn place(&mut self, run: FolioRunSer) -> Result {
        if let Some(area) = &mut self.area {
            return area.push(run);
        }
        if let Some(place) = self.inline.get_mut(self.nr_inline) {
            *place = run;
            self.nr_inline += 1;
            return Ok(());
        }
        let mut area = PVec::create(GFP_KERNEL)?;
        let filled = area
            .extend_from_slice(&self.inline)
            .and_then(|()| area.push(run));
        if let Err(error) = filled {
            // It cannot be frozen: nobody freezes while files are preserved (LUO's own lock).
            let _ = area.discard();
            return Err(error);
        }
        self.area = Some(area);
        Ok(())
    }

    /// Makes the list of an object of this kernel's, whose area, if it has one, was never closed.
    pub fn of(object: &MemfdSer, area: Option<PVec<FolioRunSer>>) -> Self {
        Self {
            inline: object.inline,
            nr_inline: if area.is_some() {
                0
            } else {
                object.nr_runs as usize
            },
            area,
            check: object.check,
        }
    }

    /// Returns whether the runs are in an area.
    pub fn is_long(&self) -> bool {
        self.area.is_some()
    }

    /// Writes into the object where the runs are; returns their area.
    pub fn store(self, object: &mut MemfdSer) -> Option<PVec<FolioRunSer>> {
        object.check = self.check;
        match &self.area {
            Some(area) => {
                object.nr_runs = area.len() as u32;
                object.inline = [FolioRunSer::NONE; NR_INLINE];
                object.runs = area.handle();
            }
            None => {
                object.nr_runs = self.nr_inline as u32;
                object.inline = self.inline;
                object.runs = ArenaHandle::NULL;
            }
        }
        self.area
    }

    /// Goes through the runs.
    pub fn iter(&self) -> impl Iterator<Item = &FolioRunSer> {
        let inline = self.inline.get(..self.nr_inline).unwrap_or_default();
        let inline = match self.area {
            Some(_) => &[],
            None => inline,
        };
        let chunks = self.area.iter().flat_map(|area| area.chunks());
        // `Init` has a method of that name.
        Iterator::chain(inline.iter(), chunks.flatten())
    }

    /// Checks all runs against a file of `nr_pages` pages; returns how many pages they have.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] of the first that cannot be, or of the checksum.
    pub fn validate(&self, nr_pages: u64) -> Result<u64, Refusal> {
        let (mut end, mut sum, mut check) = (0, 0, CHECK_OF_NONE);
        for run in self.iter() {
            end = run.validate(end, nr_pages)?;
            check = run.check(check);
            // Each ends behind the last, so the sum is no more than the end.
            sum += u64::from(run.nr_pages);
        }
        expect_equal("MemfdSer", "check", nr_pages, self.check, check)?;
        Ok(sum)
    }

    /// Ends the list; its area goes back.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    pub fn discard(self) -> Result {
        self.area.map_or(Ok(()), PVec::discard)
    }
}

impl Default for RunList {
    fn default() -> Self {
        Self::new()
    }
}
