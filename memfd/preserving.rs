// SPDX-License-Identifier: GPL-2.0

//! Preserving a memfd, and taking it back.

use kernel::fs::LocalFile;
use kernel::prelude::*;
use kpreserve::kho::phys::PAGE_SIZE_BYTES;
use kpreserve::luo::may_log;
use kpreserve::prelude::*;

use crate::abi::{
    MemfdSer,
    WRITABLE_DENIED, //
};
use crate::list::RunList;
use crate::owner::{
    PreservedMemfd,
    Room, //
};
use crate::pinned::PinnedRun;
use crate::shmem::{
    self,
    Locked,
    Pinned, //
};

const F_SEAL_WRITE: u32 = 0x0008;
const F_SEAL_FUTURE_WRITE: u32 = 0x0010;

/// Runs that are pinned at once: on the stack.
const NR_AT_ONCE: usize = 16;

/// Pages of a file: the end of a folio that goes beyond them must be a number, too.
const NR_PAGES_MAX: u32 = u32::MAX - 1023;

/// Pages after which it is looked again whether there is room for the rest.
const NR_PAGES_A_LOOK: u32 = 1024;

/// How often one page may be busy before the caller is told.
const NR_TRIES: u32 = 100;

/// Preserves a memfd: pins its contents, hands them to KHO, writes them down.
///
/// # Errors
///
/// EOPNOTSUPP for unknown seals, and for a page in memory that was added after boot and is not
/// movable; EFBIG for more than 2^32 - 1024 pages; ENOMEM; ENOSPC if holes may not be filled
/// (vm.overcommit_memory); EAGAIN if a page stays busy; EIO if one cannot be read in; EHWPOISON;
/// EINTR if the task is being killed. The file is as it was, except for holes that have been
/// filled.
pub(crate) fn preserve(file: &LocalFile, cache: &Cache<MemfdSer>) -> Result<PreservedMemfd> {
    let locked = Locked::new(file);
    locked.freeze(true);
    preserve_locked(&locked, cache).inspect_err(|_| locked.freeze(false))
}

fn preserve_locked(locked: &Locked<'_>, cache: &Cache<MemfdSer>) -> Result<PreservedMemfd> {
    let found = locked.look()?;
    let nr_pages = found.size_bytes.div_ceil(PAGE_SIZE_BYTES as u64);
    let nr_pages = match u32::try_from(nr_pages) {
        Ok(nr_pages) if nr_pages <= NR_PAGES_MAX => nr_pages,
        _ => return Err(EFBIG),
    };
    let mut object = cache.alloc(found, GFP_KERNEL)?;
    let skip_holes = keep_holes(locked, &mut object);
    let mut preserving = Preserving::new();
    let room = preserving
        .everything(locked, nr_pages, skip_holes)
        .and_then(|()| match preserving.list.is_long() {
            true => Room::new(),
            false => Ok(Room::NONE),
        });
    match room {
        Ok(room) => Ok(PreservedMemfd::new(object, preserving.list, room)),
        Err(error) => {
            preserving.undo();
            allow_writable(locked, &object);
            Err(error)
        }
    }
}

/// Returns whether no write can reach a hole until the CPUs stop: then it stays one.
///
/// With F_SEAL_WRITE the kernel itself forbids it: there is no mapping that can be written to. With
/// F_SEAL_FUTURE_WRITE there may be older mappings; if there is none, one that began to be made before
/// the seal is kept out the same way.
fn keep_holes(locked: &Locked<'_>, object: &mut MemfdSer) -> bool {
    if !shmem::can_keep_holes() {
        return false;
    }
    if object.seals & F_SEAL_WRITE != 0 {
        return true;
    }
    if object.seals & F_SEAL_FUTURE_WRITE == 0 || locked.deny_writable().is_err() {
        return false;
    }
    object.here |= WRITABLE_DENIED;
    true
}

/// Checks that what is not in memory fits into it: before it is filled, and while that goes on,
/// since others need memory, too.
///
/// # Errors
///
/// ENOMEM.
fn expect_room(locked: &Locked<'_>, nr_pages: u32, skip_holes: bool) -> Result {
    let (nr_absent, room) = locked.absent(nr_pages, skip_holes);
    if nr_absent <= room {
        return Ok(());
    }
    if may_log() {
        let kib = |nr_pages: u64| nr_pages.saturating_mul(PAGE_SIZE_BYTES as u64 / 1024);
        pr_warn!(
            "memfd: to preserve a file of {} KiB, {} KiB of holes and swapped pages have to come into memory, \
             which (or the control group) has room for {}; holes stay if the file is sealed against writing (F_SEAL_WRITE)\n",
            kib(nr_pages.into()),
            kib(nr_absent),
            kib(room)
        );
    }
    Err(ENOMEM)
}

fn allow_writable(locked: &Locked<'_>, object: &MemfdSer) {
    if object.here & WRITABLE_DENIED != 0 {
        locked.allow_writable();
    }
}

/// Takes a memfd back: LUO does not preserve it after all. Cannot fail.
pub(crate) fn unpreserve(file: &LocalFile, state: PreservedMemfd) {
    let locked = Locked::new(file);
    let (object, list) = state.into_parts();
    for run in list.iter() {
        // SAFETY: of this kernel's making, in `preserve`, and nobody else changes the object.
        unsafe { shmem::unpreserve(run) };
        // SAFETY: as above; the list goes next.
        unsafe { shmem::unpin(run.pfn(), run.nr_pages) };
    }
    if list.discard().is_err() {
        pr_err!("memfd: an area could not be given back; the next kernel carries it on\n");
    }
    allow_writable(&locked, &object);
    locked.freeze(false);
}

/// Says what cannot be seen from the errno that stopped the pinning at page `index`.
fn explain(error: Error, index: u32) -> Error {
    if error == EOPNOTSUPP {
        pr_err!(
            "memfd: page {} of a file lies in memory that was added after boot, which the next kernel \
             will not have: the file is not preserved. Online such memory as movable \
             (memhp_default_state=online_movable): then pages are moved out of it\n",
            index
        );
    }
    error
}

/// A memfd half-way.
///
/// # Invariants
///
/// What `list` names is pinned and preserved, what `open` names is pinned.
struct Preserving {
    list: RunList,
    open: PinnedRun,
}

impl Preserving {
    fn new() -> Self {
        // INVARIANT: nothing is named.
        Self {
            list: RunList::new(),
            open: PinnedRun::default(),
        }
    }

    fn everything(&mut self, locked: &Locked<'_>, nr_pages: u32, skip_holes: bool) -> Result {
        let mut index = 0;
        let mut nr_tries = 0;
        let mut look_at = 0;
        while index < nr_pages {
            let mut runs = [PinnedRun::default(); NR_AT_ONCE];
            let (pinned, nr_runs) = locked.pin(&mut index, nr_pages, skip_holes, &mut runs)?;
            self.take(runs.get(..nr_runs).unwrap_or_default())?;
            match pinned {
                Pinned::Everything => break,
                Pinned::ThereIsMore => continue,
                Pinned::Failed(error) => return Err(explain(error, index)),
                Pinned::UpToSomething => {}
            }
            if index >= look_at {
                expect_room(locked, nr_pages, skip_holes)?;
                look_at = index.saturating_add(NR_PAGES_A_LOOK);
            }
            // What is behind the page may be a hole, and that way fills it.
            let end = if skip_holes { index + 1 } else { nr_pages };
            match locked.pin_slow(&mut index, end, &mut runs) {
                Ok(nr_runs) => {
                    nr_tries = 0;
                    self.take(runs.get(..nr_runs).unwrap_or_default())?;
                }
                Err(error) if error == EAGAIN && nr_tries < NR_TRIES => nr_tries += 1,
                Err(error) => return Err(explain(error, index)),
            }
        }
        self.close()
    }

    /// Takes runs that are pinned.
    fn take(&mut self, runs: &[PinnedRun]) -> Result {
        for (place, run) in runs.iter().enumerate() {
            if self.open.join(run) {
                continue;
            }
            if let Err(error) = self.close() {
                for run in runs.iter().skip(place) {
                    // SAFETY: pinned, says the caller, and not taken.
                    unsafe { shmem::unpin(run.pfn, run.nr_pages) };
                }
                return Err(error);
            }
            self.open = *run;
        }
        Ok(())
    }

    /// Preserves the run that is open, part by part.
    fn close(&mut self) -> Result {
        while let Some(part) = self.open.first_part() {
            // SAFETY: pinned, by the type invariants.
            unsafe { shmem::preserve(&part) }?;
            if let Err(error) = self.list.push(part) {
                // SAFETY: preserved just now.
                unsafe { shmem::unpreserve(&part) };
                return Err(error);
            }
            // INVARIANT: it is in the list now.
            self.open.advance(part.nr_pages);
        }
        Ok(())
    }

    fn undo(self) {
        for run in self.list.iter() {
            // SAFETY: preserved, by the type invariants.
            unsafe { shmem::unpreserve(run) };
            // SAFETY: pinned, by the type invariants; `self` goes.
            unsafe { shmem::unpin(run.pfn(), run.nr_pages) };
        }
        // SAFETY: pinned, by the type invariants; `self` goes.
        unsafe { shmem::unpin(self.open.pfn, self.open.nr_pages) };
        if self.list.discard().is_err() {
            pr_err!("memfd: an area could not be given back; the next kernel carries it on\n");
        }
    }
}
