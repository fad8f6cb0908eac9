// SPDX-License-Identifier: GPL-2.0

//! Beginning an image: where there is none, or in the place of one that is given up.

use kernel::prelude::*;
use kpreserve_kho::{
    run::Incoming,
    Machine,
    PageRun, //
};

use crate::abi::COMPATIBLE;
use crate::adopt::{
    announce,
    Adopted, //
};
use crate::carry::{
    carry_on,
    Remains, //
};
use crate::framework::IfRefused;
use crate::pool::Pool;
use crate::root::Root;
use crate::survey::{
    kibibytes,
    Subtree,
    Unfit, //
};
use crate::table::RunTable;

/// What is done when there is no image to adopt: a new one, if there is none or if that was asked
/// for; else what there is, is handed on.
pub(crate) fn go_on(
    machine: &'static dyn Machine,
    unfit: Unfit,
    if_refused: IfRefused,
) -> Result<Adopted> {
    match (unfit, if_refused) {
        (Unfit::Absent, _) => {
            say_that_there_is_none(machine);
            begin(machine, None)
        }
        (Unfit::Refused(_, subtree) | Unfit::Taken(subtree), IfRefused::BeginAnew) => {
            begin(machine, Some(subtree))
        }
        // KHO's own tree is broken there, or it did not give back what it had marked; in the second
        // case the image is announced, and this says so.
        (Unfit::Failed(error), IfRefused::BeginAnew) if error == EINVAL => begin(machine, None),
        (Unfit::Refused(error, subtree), IfRefused::Fail) => {
            match carry_on(machine, subtree) {
                Err(lost) if lost == EINVAL => pr_err!(
                    "the image is refused, and its root page at {:#x} cannot be handed on: it is \
                     lost with this kernel. To begin a new one, load kpreserve with fresh=1 \
                     (insmod kpreserve.ko fresh=1, or kpreserve.fresh=1 on the command line)\n",
                    subtree.phys.get()
                ),
                other => other?,
            }
            Err(error)
        }
        (unfit, _) => Err(unfit.errno()),
    }
}

/// Says why a boot that was not cold has no image.
fn say_that_there_is_none(machine: &'static dyn Machine) {
    if machine.was_handed_over() {
        pr_warn!(
            "beginning a new image: the kernel before this one used Kexec Handover, but handed no \
             image of kpreserve over: kpreserve was not loaded there, or did not come up. What \
             kernels before it had preserved with kpreserve is lost; load kpreserve in every \
             kernel of the chain\n"
        );
    } else {
        pr_info!(
            "generation 1: beginning a new image; no kernel before this one handed one over\n"
        );
    }
}

/// Begins an image: a root page without runs, announced to the next kernel; in the place of one
/// that is refused, if there is one. What an earlier attempt of this boot has handed on of that one
/// is taken out of the handover.
///
/// # Errors
///
/// ENOMEM; EBUSY if this boot has an image already.
fn begin(machine: &'static dyn Machine, instead_of: Option<Subtree>) -> Result<Adopted> {
    let pool = Pool::with_capacity(0, KVVec::new())?;
    // Before anything changes.
    let remains = match instead_of {
        Some(subtree) => match Remains::find(machine, subtree) {
            // A root page that KHO did not mark was not handed on by anybody.
            Err(error) if error == EINVAL => None,
            found => Some((subtree, found?)),
        },
        None => None,
    };
    let (root, page) = Root::create(machine)?;
    let announced = match (announce(machine, root), &remains) {
        (Err(error), Some((old, remains))) if error == EBUSY => {
            replace(machine, *old, root).inspect(|()| unpreserve_all(machine, &remains.runs))
        }
        (other, _) => other,
    };
    if let Err(error) = announced {
        if error == EBUSY {
            pr_err!(
                "this boot has an image already: fresh=1 does not apply, it is for the first time \
                 that kpreserve is loaded in a boot, or for an image that was refused\n"
            );
        }
        drop(page.unpreserve());
        return Err(error);
    }
    if let Some((old, remains)) = &remains {
        pr_warn!(
            "began a new image, as asked; the refused one at {:#x} is given up: {} runs ({} KiB) \
             stay locked away until the next boot, and are lost\n",
            old.phys.get(),
            remains.runs.len(),
            kibibytes(remains.runs.iter())
        );
    }
    Ok(Adopted {
        root,
        table: RunTable::new(root),
        pool,
        carried: KVVec::new(),
        nr_withheld: 0,
    })
}

/// Announces a root page in the place of another that this boot has announced.
///
/// # Errors
///
/// EBUSY if it was not that one; ENOMEM. The old one is announced as it was.
pub(crate) fn replace(machine: &'static dyn Machine, old: Subtree, root: Root) -> Result {
    // SAFETY: if this page is announced, then by us or by an earlier attempt of this boot.
    unsafe { machine.remove_subtree(old.phys) };
    announce(machine, root).inspect_err(|&error| {
        if error != EBUSY {
            // There is room: it was there a moment ago.
            // SAFETY: it was announced until now, so it is preserved and stays.
            let _ = unsafe { machine.add_subtree(COMPATIBLE, old.phys, old.size_bytes) };
        }
    })
}

/// Takes what an earlier attempt of this boot has handed on out of the handover.
fn unpreserve_all(machine: &'static dyn Machine, runs: &KVVec<PageRun<Incoming>>) {
    for run in runs.iter() {
        // SAFETY: whoever announced the root page has preserved all of these, as it found them in
        // the same way in the same bytes; of those that KHO would not take, it knows no key.
        unsafe { machine.unpreserve(run.phys(), run.order()) };
    }
}
