// SPDX-License-Identifier: GPL-2.0

//! Making a memfd of what the previous kernel preserved, or freeing it.

use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kpreserve::kho::phys::PAGE_SIZE_BYTES;
use kpreserve::kho::Refusal;
use kpreserve::luo::{
    may_log,
    NotRetrieved, //
};
use kpreserve::prelude::*;

use crate::abi::MemfdSer;
use crate::list::RunList;
use crate::shmem::{
    self,
    Beyond,
    NewFile, //
};

/// Makes the file. If that fails nothing has been touched, and the object is given back with all
/// that it names: LUO does not ask for the file again, but frees nothing either until the session
/// is finished.
///
/// What can fail comes first: the list, a look at each block, the file. Limits cannot stop what
/// comes then, since the pages are there whatever they say; the log tells of those that have been
/// passed.
///
/// # Errors
///
/// EINVAL if the object, its list or a block is refused, EOPNOTSUPP for unknown seals; ENOMEM,
/// ENOSPC, ENFILE.
pub(crate) fn retrieve(object: Preserved<MemfdSer>) -> Result<ARef<File>, NotRetrieved<MemfdSer>> {
    let made = open(&object).and_then(|list| {
        let file = make(&object, &list)?;
        give_back(list);
        Ok(file)
    });
    made.map_err(|error| NotRetrieved::later(error, object))
}

/// Frees a memfd that was not retrieved.
pub(crate) fn discard(object: Preserved<MemfdSer>) {
    match open(&object) {
        Ok(list) => {
            list.iter().for_each(shmem::discard);
            give_back(list);
        }
        Err(error) if error == ENOMEM => {
            pr_err!("memfd: no memory to free a file that nobody asked for: its pages are locked until the next boot\n");
            // Given back when this kernel goes, with its area.
            object.unclaim();
        }
        // A refusal has been logged. No page that it names is touched.
        Err(_) => forget(object),
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

/// Opens the list of an object, and checks both. Dropping it changes nothing.
fn open(object: &MemfdSer) -> Result<RunList> {
    let nr_pages = object.nr_pages().map_err(Refusal::report)?;
    let list = RunList::open(object)?;
    list.validate(nr_pages).map_err(Refusal::report)?;
    Ok(list)
}

fn give_back(list: RunList) {
    if list.discard().is_err() {
        pr_err!("memfd: an area could not be given back; the next kernel carries it on\n");
    }
}

fn make(object: &MemfdSer, list: &RunList) -> Result<ARef<File>> {
    if let Some((pfn, order)) = list
        .iter()
        .find_map(|run| Some((shmem::missing(run)?, run.order())))
    {
        return Err(not_there(pfn, order, EINVAL));
    }
    let mut file = NewFile::new(object)?;
    list.iter().try_for_each(|run| {
        // Fails for one that is named twice: what goes with the file is what was restored by then.
        // SAFETY: nothing is missing of any run, as was seen above.
        unsafe { file.insert(run) }.map_err(|error| not_there(run.pfn(), run.order(), error))
    })?;
    let (file, beyond) = file.finish();
    report(object, beyond);
    Ok(file)
}

#[cold]
fn not_there(pfn: u64, order: u32, error: Error) -> Error {
    pr_err!(
        "memfd: what should be preserved memory at pfn {:#x} (order {}) is not; \
         the file is not restored\n",
        pfn,
        order
    );
    error
}

/// Tells of limits that were passed.
fn report(object: &MemfdSer, beyond: Beyond) {
    let kib = |nr_pages: u64| nr_pages.saturating_mul(PAGE_SIZE_BYTES as u64 / 1024);
    let size_kib = object.size_bytes / 1024;
    if beyond.nr_commit > 0 && may_log() {
        pr_warn!(
            "memfd: {} of {} KiB were retrieved beyond the commit limit (vm.overcommit_memory, \
             vm.overcommit_ratio): they were there already\n",
            kib(beyond.nr_commit),
            size_kib
        );
    }
    if beyond.nr_group > 0 && may_log() {
        pr_warn!(
            "memfd: {} of {} KiB were retrieved beyond memory.max of the control group of pid {}: \
             they were there already, and are charged to the root; retrieve where there is room\n",
            kib(beyond.nr_group),
            size_kib,
            kernel::current!().pid()
        );
    }
}
