// SPDX-License-Identifier: GPL-2.0

//! Taking an image over from the previous kernel.
//!
//! 1. Survey: the root page, the blocks of the run table, each entry, each run's struct page, and
//!    that no two runs overlap. Nothing has changed so far.
//! 2. Preserve: every run is handed on to the next kernel, before this one touches it.
//! 3. Announce: the root page is added to the outgoing tree. From here on our successor finds the
//!    image, whatever happens to us.
//! 4. Restore: every run becomes ours. This cannot be undone, and nothing after it can fail.
//!
//! A failure in 2 or 3 is undone in reverse, and the image is as it was. Cost: a few dozen
//! instructions a run (and a sort), a few a page; nothing an object.

use kernel::prelude::*;
use kpreserve_kho::{
    run::{
        Incoming,
        Pledged, //
    },
    LedgerSlot,
    Machine,
    PageRun, //
};

use crate::abi::{
    COMPATIBLE,
    OWNER_TABLE, //
};
use crate::pool::Pool;
use crate::root::Root;
use crate::survey::{
    is_charged,
    subtree,
    survey,
    Survey,
    Tag,
    Unfit,
    OWNER_ROOT, //
};
use crate::table::RunTable;

/// An image that this boot owns now.
pub(crate) struct Adopted {
    pub(crate) root: Root,
    pub(crate) table: RunTable,
    pub(crate) pool: Pool,
    /// What is handed on without being used: runs of entries that were refused.
    pub(crate) carried: KVVec<PageRun<Pledged>>,
    /// Sound runs that KHO did not hand on, or did not give back: the image itself is not at fault.
    pub(crate) nr_withheld: usize,
}

/// Takes over the image that the previous kernel announced.
///
/// # Errors
///
/// [`Unfit`]: the image is untouched then, but for the one [`Unfit::Failed`] with EINVAL: KHO did
/// not give back the frame that it had marked. The image is handed on then.
pub(crate) fn adopt(machine: &'static dyn Machine) -> Result<Adopted, Unfit> {
    let Survey {
        root,
        runs,
        free_places,
        nr_blocks,
        nr_places,
        carried,
        refused,
        ..
    } = survey(machine)?;

    // All memory that is needed later is had before the point of no return.
    let mut table = RunTable::new(root);
    table.reserve(nr_blocks, nr_places)?;
    let mut pool = Pool::with_capacity(runs.len(), refused)?;

    let nr_runs = runs.len();
    let (pledged, carried) = pledge(machine, root, runs, carried, &mut pool)?;
    let mut nr_withheld = nr_runs - pledged.len();

    for (run, tag) in pledged.into_iter() {
        // SAFETY: the survey compared all runs with each other: no two overlap.
        let restored = unsafe { run.restore() };
        let run = match restored {
            Ok(run) => run,
            Err(error) => {
                pr_err!(
                    "{:?}: refused by KHO although preserved; carried on, not used\n",
                    tag
                );
                if tag.is_frame() {
                    // Without the frame nothing else can be reached; all of it is carried on.
                    return Err(error.into());
                }
                if is_charged(tag.owner) {
                    pool.refuse(tag.owner);
                }
                nr_withheld += 1;
                continue;
            }
        };
        match tag.owner {
            // The page stays as it is: `root` points to it.
            OWNER_ROOT => {}
            OWNER_TABLE => table.attach(run, |place| free_places.contains(place))?,
            owner => {
                table.note_inherited(run.order());
                pool.add(owner, tag.index, run, LedgerSlot(tag.place))?;
            }
        }
    }
    pool.sort();
    Ok(Adopted {
        root,
        table,
        pool,
        carried,
        nr_withheld,
    })
}

/// Runs that are handed on, with whose they are, and those that nobody uses.
type Pledge = (KVVec<(PageRun<Pledged>, Tag)>, KVVec<PageRun<Pledged>>);

/// Steps 2 and 3.
///
/// A run that KHO never takes is given up alone, with a message: it is of no use to try again.
fn pledge(
    machine: &'static dyn Machine,
    root: Root,
    runs: KVVec<(PageRun<Incoming>, Tag)>,
    carried: KVVec<PageRun<Incoming>>,
    pool: &mut Pool,
) -> Result<Pledge, Unfit> {
    let mut pledged = KVVec::with_capacity(runs.len(), GFP_KERNEL)?;
    let mut passed_by = KVVec::with_capacity(carried.len(), GFP_KERNEL)?;
    let mut frame = None;
    let result = runs
        .into_iter()
        .try_for_each(|(run, tag)| -> Result {
            match hand_on(run)? {
                Ok(run) => pledged.push((run, tag), GFP_KERNEL)?,
                Err(error) if tag.is_frame() => {
                    frame = Some(error);
                    return Err(error);
                }
                Err(_) if is_charged(tag.owner) => pool.refuse(tag.owner),
                Err(_) => {}
            }
            Ok(())
        })
        .and_then(|()| {
            carried.into_iter().try_for_each(|run| -> Result {
                if let Ok(run) = hand_on(run)? {
                    passed_by.push(run, GFP_KERNEL)?;
                }
                Ok(())
            })
        })
        .and_then(|()| announce(machine, root));
    match result {
        Ok(()) => Ok((pledged, passed_by)),
        Err(error) => {
            while let Some(run) = passed_by.pop() {
                let _ = run.unpreserve();
            }
            while let Some((run, _)) = pledged.pop() {
                // It is incoming again, as it was.
                let _ = run.unpreserve();
            }
            match frame {
                Some(_) => Err(Unfit::Refused(EINVAL, subtree(machine)?)),
                None => Err(error.into()),
            }
        }
    }
}

/// Hands a run on to the next kernel.
///
/// # Errors
///
/// ENOMEM, which may go by. What KHO has against the run itself is the inner error: it was logged,
/// and the run is given up.
pub(crate) fn hand_on(run: PageRun<Incoming>) -> Result<Result<PageRun<Pledged>>> {
    let (phys, size_bytes) = (run.phys(), run.size_bytes());
    match run.preserve() {
        Err(error) if error != ENOMEM => {
            pr_err!(
                "KHO does not take the run at {:#x} ({} KiB): {:?}; the next kernel will not have \
                 it, what it holds is lost then\n",
                phys.get(),
                size_bytes / 1024,
                error
            );
            Ok(Err(error))
        }
        other => other.map(Ok),
    }
}

/// Adds the root page to the tree that the next kernel gets.
///
/// # Errors
///
/// ENOMEM; EBUSY if this boot has announced an image already.
pub(crate) fn announce(machine: &'static dyn Machine, root: Root) -> Result {
    let size_bytes = kpreserve_kho::phys::PAGE_SIZE_BYTES;
    // SAFETY: the root page is preserved, and by the invariants of `Root` it is never freed.
    let announced = unsafe { machine.add_subtree(COMPATIBLE, root.phys(), size_bytes) };
    // Nobody else uses the name.
    announced.map_err(|error| if error == EEXIST { EBUSY } else { error })
}
