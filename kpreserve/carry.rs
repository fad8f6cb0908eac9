// SPDX-License-Identifier: GPL-2.0

//! An image that this kernel refuses is carried on all the same.
//!
//! Root page and run table keep their format for ever, so their entries tell what to hand on even
//! where the rest is damaged, or newer. An entry is believed if its checksum is right, or would be
//! with one bit changed; of others, what KHO itself says is preserved. Nothing is written to, and
//! nothing restored: the next kernel finds the image as this one did.

use core::ptr::NonNull;

use kernel::prelude::*;
use kpreserve_kho::{
    hash::first_word,
    phys::{
        run_size_bytes,
        PAGE_SIZE_BYTES, //
    },
    run::{
        Incoming,
        Pledged, //
    },
    sort::heap_sort,
    Machine,
    PageRun,
    Phys,
    RunSer,
    Seen, //
};

use crate::abi::{
    RootHeadSer,
    RootSer,
    COMPATIBLE,
    NR_TABLES,
    OWNER_TABLE, //
};
use crate::adopt::hand_on;
use crate::flip::Mender;
use crate::survey::{
    carry,
    kibibytes,
    Subtree, //
};

/// What there is of a refused image.
pub(crate) struct Remains {
    machine: &'static dyn Machine,
    /// The root page among them; no two overlap.
    pub(crate) runs: KVVec<PageRun<Incoming>>,
    /// Entries of which nothing is preserved, and the bytes of those whose size is known.
    nr_lost: usize,
    lost_bytes: u64,
    mender: Mender,
    /// Blocks of the run table that have been read.
    blocks: KVVec<Phys>,
}

impl Remains {
    /// Looks for everything that can be reached from a root page.
    ///
    /// # Errors
    ///
    /// EINVAL if the root page itself is no memory that KHO preserved; ENOMEM.
    pub(crate) fn find(machine: &'static dyn Machine, subtree: Subtree) -> Result<Self> {
        let at = subtree.phys.get();
        let Seen::Preserved { order } = machine.probe(subtree.phys) else {
            return Err(EINVAL);
        };
        // SAFETY: whoever looked at this image before has dropped what it found.
        let root = unsafe { PageRun::incoming(machine, subtree.phys, order, "RootSer", at) };
        let root = root.map_err(|_| EINVAL)?;
        let page: NonNull<RootSer> = root.memory().cast();
        let mut remains = Self {
            machine,
            runs: KVVec::new(),
            nr_lost: 0,
            lost_bytes: 0,
            mender: Mender::new(),
            blocks: KVVec::new(),
        };
        remains.runs.push(root, GFP_KERNEL)?;
        let root_id = find_root_id(machine, page);
        let mut place = NR_TABLES as u64;
        for index in 0..NR_TABLES {
            // SAFETY: the page is preserved memory, which nobody writes.
            let entry = unsafe { table_at(page, index) };
            if !entry.is_free() {
                place = remains.find_block(root_id, entry, index as u64, place)?;
            }
        }
        remains.keep_apart();
        Ok(remains)
    }

    /// Takes in a block of the run table, and the runs that it names, of which the first stands at
    /// `place`; returns the place after the last.
    fn find_block(
        &mut self,
        root_id: Option<u64>,
        entry: RunSer,
        index: u64,
        place: u64,
    ) -> Result<u64> {
        let known = self.find_run(root_id, entry, index)?;
        // What is not known may name anything: entries are believed there that check, and others
        // only in what looks like a block in each respect.
        let looks_right = entry.owner == OWNER_TABLE && u64::from(entry.index) == index;
        let is_block = known.is_some() || looks_right;
        let block = known.unwrap_or(entry);
        let size_bytes = run_size_bytes(block.order()).unwrap_or(0);
        let nr_entries = (size_bytes / size_of::<RunSer>()) as u64;
        // SAFETY: not used but to be read, and dropped at the end.
        let run = unsafe {
            PageRun::incoming(self.machine, block.phys(), block.order(), "RunSer", index)
        };
        // A root page that is hostile may name one block many times.
        let is_new = !self.blocks.contains(&block.phys());
        if let Ok(run) = run
            .map_err(drop)
            .and_then(|run| is_new.then_some(run).ok_or(()))
        {
            self.blocks.push(block.phys(), GFP_KERNEL)?;
            let entries: NonNull<RunSer> = run.memory().cast();
            for i in 0..nr_entries as usize {
                // SAFETY: `i` counts entries inside the run.
                let at = unsafe { entries.add(i) };
                // SAFETY: preserved memory that nobody writes; any bytes are an entry.
                let entry = unsafe { at.read() };
                let place = place + i as u64;
                let checks = |root_id| entry.check == entry.checksum(root_id, place);
                if !entry.is_free() && (is_block || root_id.is_some_and(checks)) {
                    self.find_run(root_id, entry, place)?;
                }
            }
        }
        Ok(place + nr_entries)
    }

    /// Takes in the run of an entry; returns the entry as it is known to have been.
    fn find_run(
        &mut self,
        root_id: Option<u64>,
        entry: RunSer,
        place: u64,
    ) -> Result<Option<RunSer>> {
        let known = root_id.and_then(|root_id| self.mender.know(entry, root_id, place));
        if !carry(self.machine, known, entry, place, &mut self.runs)? {
            self.nr_lost += 1;
            let size_bytes = known.and_then(|known| run_size_bytes(known.order()));
            self.lost_bytes += size_bytes.unwrap_or(0) as u64;
        }
        Ok(known)
    }

    /// Drops what overlaps with the root page, or with a run before it: nothing is handed on twice.
    fn keep_apart(&mut self) {
        let root = self.runs.first().map(extent);
        let mut is_root = true;
        let mut last_end = 0;
        heap_sort(&mut self.runs, |a, b| a.phys() < b.phys());
        self.runs.retain(|run| {
            let (start, end) = extent(run);
            let meets_root = root.is_some_and(|root| start < root.1 && root.0 < end);
            // The root page itself is the first of those that are what it is.
            let keeps = if meets_root {
                Some((start, end)) == root && core::mem::take(&mut is_root)
            } else {
                start >= last_end
            };
            if keeps {
                last_end = end;
            }
            keeps
        });
    }

    fn is_root(subtree: Subtree, run: &PageRun<Incoming>) -> bool {
        run.phys() == subtree.phys
    }
}

fn extent(run: &PageRun<Incoming>) -> (u64, u64) {
    let start = run.phys().get();
    (start, start.saturating_add(run.size_bytes() as u64))
}

/// Returns an entry of a root page.
///
/// # Safety
///
/// `page` points to a page that is valid for reads, and `index` is below [`NR_TABLES`].
unsafe fn table_at(page: NonNull<RootSer>, index: usize) -> RunSer {
    // SAFETY: by the caller's promise, inside the page.
    let tables: *const RunSer = unsafe { &raw const (*page.as_ptr()).tables }.cast();
    // SAFETY: `index` is below the length of the array.
    let entry = unsafe { tables.add(index) };
    // SAFETY: valid for reads, aligned, and any bytes are an entry.
    unsafe { entry.read() }
}

/// Returns the id of the image of a root page: as its head says, if the head or an entry agrees;
/// else the one that makes the checksum of an entry right which names a block that KHO preserved.
fn find_root_id(machine: &'static dyn Machine, page: NonNull<RootSer>) -> Option<u64> {
    // SAFETY: a page of preserved memory, which nobody writes; any bytes are a head.
    let head = unsafe { page.cast::<RootHeadSer>().as_ref() };
    // SAFETY: as above.
    let tables = || (0..NR_TABLES).map(|index| unsafe { table_at(page, index) });
    let mut entries = tables().enumerate().filter(|(_, entry)| !entry.is_free());
    if head.check == head.checksum()
        || entries.any(|(i, entry)| entry.check == entry.checksum(head.root_id, i as u64))
    {
        return Some(head.root_id);
    }
    let mut blocks = tables().enumerate().filter(|(i, entry)| {
        let order = entry.order();
        entry.owner == OWNER_TABLE
            && entry.index as usize == *i
            && machine.probe(entry.phys()) == Seen::Preserved { order }
    });
    blocks.next().map(|(i, entry)| {
        first_word(
            entry.check,
            &[
                i as u64,
                entry.phys_order,
                (u64::from(entry.owner) << 32) | u64::from(entry.index),
                entry.reserved,
            ],
        )
    })
}

/// Hands a refused image on to the next kernel: its root page, and all that can be reached from it.
///
/// The root page is announced before the rest is preserved, unlike that of a sound image: a refused
/// one cannot be adopted by halves, and the more of it is reached after a cut, the better.
///
/// # Errors
///
/// ENOMEM: the image is as it was. EBUSY if this boot has announced another image. EINVAL if the
/// root page cannot be handed on: there is nothing to be done for it.
pub(crate) fn carry_on(machine: &'static dyn Machine, subtree: Subtree) -> Result {
    let remains = Remains::find(machine, subtree)?;
    let mut nr_lost = remains.nr_lost;
    let mut lost_bytes = remains.lost_bytes;
    let (nr_runs, total) = (remains.runs.len(), kibibytes(remains.runs.iter()));
    let mut pledged: KVVec<PageRun<Pledged>> = KVVec::with_capacity(nr_runs, GFP_KERNEL)?;
    let (mut root, mut rest) = (None, KVVec::with_capacity(nr_runs, GFP_KERNEL)?);
    for run in remains.runs.into_iter() {
        if Remains::is_root(subtree, &run) {
            root = Some(run);
        } else {
            rest.push(run, GFP_KERNEL)?;
        }
    }
    let root = hand_on(root.ok_or(EINVAL)?)??;
    match announce_again(machine, subtree) {
        Ok(true) => {}
        // An earlier attempt of this boot has done it all.
        Ok(false) => {
            say_how_to_go_on(subtree, nr_runs, total, nr_lost, lost_bytes);
            return Ok(());
        }
        Err(error) => {
            let _ = root.unpreserve();
            return Err(error);
        }
    }
    let handed_on = rest.into_iter().try_for_each(|run| -> Result {
        let size_bytes = run.size_bytes() as u64;
        match hand_on(run)? {
            Ok(run) => pledged.push(run, GFP_KERNEL)?,
            Err(_) => {
                nr_lost += 1;
                lost_bytes += size_bytes;
            }
        }
        Ok(())
    });
    if let Err(error) = handed_on {
        while let Some(run) = pledged.pop() {
            let _ = run.unpreserve();
        }
        // SAFETY: announced above, by us.
        unsafe { machine.remove_subtree(subtree.phys) };
        let _ = root.unpreserve();
        return Err(error);
    }
    let total = total.saturating_sub((lost_bytes - remains.lost_bytes) as usize / 1024);
    say_how_to_go_on(subtree, pledged.len() + 1, total, nr_lost, lost_bytes);
    Ok(())
}

fn say_how_to_go_on(
    subtree: Subtree,
    nr_runs: usize,
    total: usize,
    nr_lost: usize,
    lost_bytes: u64,
) {
    pr_err!(
        "the image at {:#x} is refused and carried on: {} runs ({} KiB), not used; {} runs ({} \
         KiB, as far as known) are not there any more. Nothing can be opened in this boot, \
         and files that LUO has of it are lost with it. To give the image up and begin a new one, load kpreserve with fresh=1 (insmod kpreserve.ko \
         fresh=1, or kpreserve.fresh=1 on the command line)\n",
        subtree.phys.get(),
        nr_runs,
        total,
        nr_lost,
        lost_bytes / 1024
    );
}

/// Announces the root page of a refused image. Returns whether it was not announced yet.
///
/// # Errors
///
/// ENOMEM; EBUSY if another image is announced.
fn announce_again(machine: &'static dyn Machine, subtree: Subtree) -> Result<bool> {
    let Subtree { phys, size_bytes } = subtree;
    // SAFETY: the page was handed on by the caller, and nobody has restored it, so nobody frees it.
    let add = || unsafe { machine.add_subtree(COMPATIBLE, phys, size_bytes) };
    match add() {
        Err(error) if error == EEXIST => {}
        other => return other.map(|()| true),
    }
    // Whose it is cannot be asked; but taking ours away makes room for it.
    // SAFETY: if this page is announced, then by an earlier attempt of ours.
    unsafe { machine.remove_subtree(phys) };
    match add() {
        Ok(()) => Ok(false),
        Err(error) if error == EEXIST => {
            pr_err!("this boot has begun another image already\n");
            Err(EBUSY)
        }
        Err(error) => Err(error),
    }
}

const _: () = assert!(size_of::<RootSer>() == PAGE_SIZE_BYTES);
