// SPDX-License-Identifier: GPL-2.0

//! Making a memfd of what the previous kernel preserved, or freeing it.

use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kpreserve::kho::Refusal;
use kpreserve::luo::NotRetrieved;
use kpreserve::prelude::*;

use crate::abi::{
    FolioRunSer,
    MemfdSer, //
};
use crate::list::RunList;
use crate::shmem::{
    self,
    NewFile, //
};

/// Makes the file. Whatever comes of it, object and pages are nobody's incoming state any more;
/// but of a list that is refused no page is touched: they stay locked away until the next boot.
///
/// # Errors
///
/// EINVAL if the object or its list is refused, EOPNOTSUPP for unknown seals; ENOMEM, ENOSPC, ENFILE. If there was no memory
/// to look at the list, the object is given back: it is looked at again when the session is finished.
pub(crate) fn retrieve(object: Preserved<MemfdSer>) -> Result<ARef<File>, NotRetrieved<MemfdSer>> {
    let (list, nr_pages) = match open(&object) {
        Ok(opened) => opened,
        Err(error) if error == ENOMEM => return Err(NotRetrieved::later(error, object)),
        Err(error) => return Err(error.into()),
    };
    let file = fill(&object, &list, nr_pages);
    give_back(list);
    Ok(file?)
}

/// Frees a memfd that was never retrieved.
pub(crate) fn discard(object: Preserved<MemfdSer>) {
    match open(&object) {
        Ok((list, _)) => {
            list.iter().for_each(shmem::discard);
            give_back(list);
        }
        Err(error) if error == ENOMEM => {
            pr_err!("memfd: no memory to free a file that nobody asked for: its pages are locked until the next boot\n");
            // Given back when this kernel goes, with its area.
            object.unclaim();
        }
        // A refusal has been logged.
        Err(_) => {}
    }
}

/// Gives an object back that an earlier kernel preserved and nobody has asked for. Its pages went with that kernel.
pub(crate) fn forget(object: Preserved<MemfdSer>) {
    match RunList::open(&object) {
        Ok(list) => give_back(list),
        // The next kernel finds it, and has to do the same.
        Err(error) if error == ENOMEM => drop(object.park()),
        // A refusal has been logged.
        Err(_) => {}
    }
}

fn open(object: &MemfdSer) -> Result<(RunList, u64)> {
    let nr_pages = object.nr_pages().map_err(Refusal::report)?;
    let list = RunList::open(object)?;
    match list.validate(nr_pages) {
        Ok(nr_pages) => Ok((list, nr_pages)),
        Err(refusal) => {
            give_back(list);
            Err(refusal.report())
        }
    }
}

fn give_back(list: RunList) {
    if list.discard().is_err() {
        pr_err!("memfd: an area could not be given back; the next kernel carries it on\n");
    }
}

fn fill(object: &MemfdSer, list: &RunList, nr_pages: u64) -> Result<ARef<File>> {
    let mut runs = list.iter();
    let made = NewFile::new(object).and_then(|mut file| {
        file.reserve(nr_pages)?;
        let inserted = runs.try_for_each(|run| insert(&mut file, run));
        file.settle(nr_pages);
        inserted?;
        file.finish()
    });
    // Those that did not get their turn; none if all went well.
    runs.for_each(shmem::discard);
    made
}

fn insert(file: &mut NewFile, run: &FolioRunSer) -> Result {
    file.insert(run).map_err(|(error, nr_taken)| {
        let left = run.nr_pages.saturating_sub(nr_taken);
        let pfn = run.pfn() + u64::from(nr_taken);
        let index = run.index.saturating_add(nr_taken);
        shmem::discard(&FolioRunSer::new(pfn, run.order(), index, left));
        if error == EINVAL {
            pr_err!(
                "memfd: what should be preserved memory at pfn {:#x} (order {}) is not; \
                 the file is not restored\n",
                pfn,
                run.order()
            );
        }
        error
    })
}
