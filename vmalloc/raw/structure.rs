// SPDX-License-Identifier: GPL-2.0

//! Length and runs: publish last, retract first.

use kernel::prelude::*;
use kernel::sync::barrier::{
    smp_mb,
    Write, //
};

use kpreserve_kho::phys::MAX_ORDER;
use kpreserve_kho::GatePass;

use super::{
    RawArea,
    Start, //
};

impl RawArea {
    /// Makes room for `additional` elements behind the published ones, in the largest runs that
    /// they fill. Moves nothing. May sleep. One key for each run.
    ///
    /// # Errors
    ///
    /// ENOMEM if there is no memory, or no number, for them; the area is as it was, runs that had
    /// been added are given back. Who asks for more than a run at once, and for more than there
    /// is, gets it before any is taken.
    pub fn reserve(&mut self, pass: &GatePass<'_>, additional: usize) -> Result {
        let wanted = self.tail.len.checked_add(additional).ok_or(ENOMEM)?;
        let nr_runs = self.nr_runs();
        let missing = wanted.saturating_sub(self.capacity());
        let nr_pages = self.inner.stride.nr_pages(missing).ok_or(ENOMEM)?;
        // To find out by taking all of it would leave none to KHO, whose keys must not fail: the
        // kernel would kill somebody for them.
        if nr_pages > 1 << MAX_ORDER && nr_pages > self.inner.arena.machine().nr_pages_available() {
            return Err(ENOMEM);
        }
        while self.capacity() < wanted {
            if let Err(error) = self.add_run(pass, wanted - self.capacity()) {
                while self.nr_runs() > nr_runs {
                    self.release_last(pass);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns how many elements fit into what is left of the run behind the last element; `None` if there
    /// is no room behind it.
    pub(crate) fn nr_left_in_run(&self) -> Option<usize> {
        let span = self.inner.directory.find(self.tail.len)?;
        Some(span.end - self.tail.len)
    }

    /// Gives back the runs that no published element and none below `capacity_min` lies in, the
    /// last one first. May sleep. One key for each run.
    pub fn release_runs(&mut self, pass: &GatePass<'_>, capacity_min: usize) {
        let keep = self.tail.len.max(capacity_min);
        while self
            .inner
            .directory
            .last()
            .is_some_and(|last| last.first >= keep)
        {
            self.release_last(pass);
        }
    }

    /// Publishes `additional` zeroed elements behind the last one. Costs nothing for memory that
    /// was allocated in this boot.
    ///
    /// # Errors
    ///
    /// ENOMEM as from [`reserve`](Self::reserve).
    pub fn extend_zeroed(&mut self, pass: &GatePass<'_>, additional: usize) -> Result {
        self.reserve(pass, additional)?;
        let len = self.tail.len.checked_add(additional).ok_or(ENOMEM)?;
        self.clear(
            self.tail.len.max(self.inner.stale.start),
            len.min(self.inner.stale.end),
        );
        self.publish(len);
        Ok(())
    }

    /// Retracts the elements from `len` on, then clears them. Keeps the runs. Costs a pass over
    /// the elements that go; nothing if there are none.
    pub fn truncate(&mut self, len: usize) {
        let before = self.tail.len;
        if len >= before {
            return;
        }
        self.tail.settle(len);
        self.tail.published.store(len as u64);
        // No byte may be cleared while it is still published.
        smp_mb(Write);
        self.clear(len, before);
    }

    /// Publishes the elements below `len`, which have been written and lie within the capacity.
    pub(crate) fn publish(&mut self, len: usize) {
        self.tail.settle(len);
        // Releases: the elements are written before the length says so.
        self.tail.published.store(len as u64);
    }

    fn add_run(&mut self, pass: &GatePass<'_>, nr_elements: usize) -> Result {
        let nr_pages = self.inner.stride.nr_pages(nr_elements).ok_or(ENOMEM)?;
        let (snug, min) = (
            self.inner.stride.order_snug(),
            self.inner.stride.order_min(),
        );
        let run = match self.inner.arena.grow(pass, snug, nr_pages) {
            // Rather waste a part of the run than fail.
            Err(error) if error == ENOMEM && min < snug => {
                self.inner.arena.grow(pass, min, nr_pages)
            }
            other => other,
        }?;
        let (order, memory) = (run.pages.order(), run.pages.memory());
        let nr_elements = self.inner.stride.nr_elements(order);
        let noted = self.inner.directory.push(nr_elements, Start(memory));
        if noted.is_err() {
            // SAFETY: the run was added just now: nobody has seen it.
            unsafe { self.inner.arena.release_last(pass) };
        }
        noted
    }

    /// Gives the last run back, if no published element lies in it.
    fn release_last(&mut self, pass: &GatePass<'_>) {
        let Some(last) = self.inner.directory.last() else {
            return;
        };
        if last.first < self.tail.len {
            return;
        }
        self.clear(
            last.first.max(self.inner.stale.start),
            last.end.min(self.inner.stale.end),
        );
        self.inner.stale.end = self.inner.stale.end.min(last.first);
        self.tail.forget();
        self.inner.directory.pop();
        // SAFETY: references to elements borrow the area, which is borrowed mutably here, and
        // none are left in the directory; nothing preserved names elements beyond the published
        // ones, and the length was retracted to below the run before.
        unsafe { self.inner.arena.release_last(pass) };
    }
}
