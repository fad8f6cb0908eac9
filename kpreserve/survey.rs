// SPDX-License-Identifier: GPL-2.0

//! Looking at the image of the previous kernel without touching it.

use kernel::prelude::*;
use kpreserve_kho::{
    phys::{
        run_size_bytes,
        PAGE_SIZE_BYTES, //
    },
    refusal::Relation,
    run::Incoming,
    validate::{
        expect,
        expect_equal, //
    },
    Machine,
    PageRun,
    Phys,
    Refusal,
    RunSer,
    Seen, //
};

use crate::abi::{
    ARENA_FIRST,
    COMPATIBLE,
    NR_TABLES,
    OWNER_TABLE, //
};
use crate::flip::Mender;
use crate::overlap::{
    frame_is_apart,
    refuse_overlaps, //
};
use crate::root::Root;

/// The owner that a survey gives to the root page, which stands in no table.
pub(crate) const OWNER_ROOT: u32 = 0;

/// Whose a run is, and where that is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(crate) owner: u32,
    pub(crate) index: u32,
    pub(crate) place: u32,
}

impl Tag {
    /// Returns whether this is the root page or a block of the run table.
    pub(crate) fn is_frame(&self) -> bool {
        self.owner == OWNER_ROOT || self.owner == OWNER_TABLE
    }
}

/// A set of places of the run table.
pub(crate) struct Places {
    words: KVVec<u64>,
}

impl Places {
    fn none(nr_places: usize) -> Result<Self> {
        let words = KVVec::from_elem(0, nr_places.div_ceil(64), GFP_KERNEL)?;
        Ok(Self { words })
    }

    fn insert(&mut self, place: u32) {
        if let Some(word) = self.words.get_mut((place / 64) as usize) {
            *word |= 1 << (place % 64);
        }
    }

    /// Returns whether the place belongs to the set.
    pub(crate) fn contains(&self, place: u32) -> bool {
        self.words
            .get((place / 64) as usize)
            .is_some_and(|word| word & (1 << (place % 64)) != 0)
    }
}

/// Refusals that are logged one by one; of more, only the number.
const NR_REPORTED_MAX: usize = 8;

/// What a survey found.
pub(crate) struct Survey {
    pub(crate) root: Root,
    /// Every run that passed, none overlapping with another: the root page, the blocks of the run
    /// table in order, then the others.
    pub(crate) runs: KVVec<(PageRun<Incoming>, Tag)>,
    pub(crate) free_places: Places,
    pub(crate) nr_blocks: usize,
    pub(crate) nr_places: usize,
    /// What was preserved of the runs of entries that were refused: handed on to the next kernel,
    /// not used.
    pub(crate) carried: KVVec<PageRun<Incoming>>,
    /// The owners that are known to miss a run.
    pub(crate) refused: KVVec<u32>,
    pub(crate) nr_refusals: usize,
    mender: Mender,
}

impl Survey {
    /// Notes that an entry was refused, which is known to be of `owner` if there is one.
    pub(crate) fn refuse(&mut self, owner: Option<u32>, refusal: Refusal) -> Result {
        self.nr_refusals += 1;
        if self.nr_refusals <= NR_REPORTED_MAX {
            let _ = refusal.report();
        }
        if let Some(owner) = owner.filter(|&owner| is_charged(owner)) {
            self.refused.push(owner, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// Returns whether an arena that misses a run is kept from being opened for it.
///
/// The framework's own are not, since everything would be closed with them. They are areas: a run
/// that they need is missed by its index, or by the length; one that they do not need may be
/// missing.
pub(crate) fn is_charged(owner: u32) -> bool {
    owner >= ARENA_FIRST && owner != OWNER_TABLE
}

/// The image as the previous kernel announced it: nothing of it has been looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subtree {
    pub(crate) phys: Phys,
    pub(crate) size_bytes: usize,
}

/// Why there is no image to adopt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unfit {
    /// The previous kernel left none.
    Absent,
    /// This boot has taken it already, or its root page is nothing that KHO preserved.
    Taken(Subtree),
    /// The root page or a block of the run table is refused; nothing has changed.
    Refused(Error, Subtree),
    /// All else; nothing has changed.
    Failed(Error),
}

impl Unfit {
    /// Returns the errno.
    pub(crate) fn errno(self) -> Error {
        match self {
            Unfit::Absent => ENOENT,
            Unfit::Taken(_) => EBUSY,
            Unfit::Refused(error, _) | Unfit::Failed(error) => error,
        }
    }
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Unfit::Failed(error)
    }
}

impl From<kernel::alloc::AllocError> for Unfit {
    fn from(_: kernel::alloc::AllocError) -> Self {
        Unfit::Failed(ENOMEM)
    }
}

/// Returns what the previous kernel announced.
///
/// # Errors
///
/// [`Unfit::Absent`]; [`Unfit::Failed`] if KHO does not understand its own tree.
pub(crate) fn subtree(machine: &'static dyn Machine) -> Result<Subtree, Unfit> {
    match machine.retrieve_subtree(COMPATIBLE) {
        Ok((phys, size_bytes)) => Ok(Subtree { phys, size_bytes }),
        Err(error) if error == ENOENT => Err(Unfit::Absent),
        Err(error) => Err(Unfit::Failed(error)),
    }
}

/// Finds the image of the previous kernel and checks it, down to the struct page of each run.
///
/// An entry that is refused costs its owner the use of its arena, as far as the owner is known: the
/// checksum is right, or one bit changed makes it right. Nobody else pays. An owner that is not
/// known misses the run by itself, if it needs it: an area for the gap or for its length, a cache
/// handle by handle.
///
/// # Errors
///
/// [`Unfit`]. Nothing has changed.
pub(crate) fn survey(machine: &'static dyn Machine) -> Result<Survey, Unfit> {
    let subtree = subtree(machine)?;
    let Subtree { phys, size_bytes } = subtree;
    if machine.probe(phys) == Seen::NotPreserved {
        pr_err!(
            "the root page at {:#x} is not marked as preserved by KHO: it was restored already in \
             this boot (a kernel adopts an image only once), or this kernel's KHO marks pages in \
             another way than kho/helpers.c knows\n",
            phys.get()
        );
        return Err(Unfit::Taken(subtree));
    }
    let refuse = |refusal: Refusal| Unfit::Refused(refusal.report(), subtree);
    // SAFETY: a survey that was given up has dropped what it found; runs of others than the framework
    // do not exist.
    let page = unsafe { PageRun::incoming(machine, phys, 0, "RootSer", phys.get()) };
    let page = page.map_err(refuse)?;
    let root = Root::validate(&page).map_err(refuse)?;
    let page_size = PAGE_SIZE_BYTES as u64;
    expect_equal(
        "RootSer",
        "subtree",
        phys.get(),
        size_bytes as u64,
        page_size,
    )
    .map_err(refuse)?;

    let mut runs = KVVec::new();
    let tag = Tag {
        owner: OWNER_ROOT,
        index: 0,
        place: 0,
    };
    runs.push((page, tag), GFP_KERNEL)?;

    let (nr_blocks, nr_places) = survey_blocks(machine, root, &mut runs).map_err(|e| match e {
        BlockError::Refused(refusal) => refuse(refusal),
        BlockError::NoMemory => Unfit::Failed(ENOMEM),
    })?;
    let mut survey = Survey {
        root,
        runs,
        free_places: Places::none(NR_TABLES + nr_places)?,
        nr_blocks,
        nr_places,
        carried: KVVec::new(),
        refused: KVVec::new(),
        nr_refusals: 0,
        mender: Mender::new(),
    };
    frame_is_apart(&survey).map_err(refuse)?;
    let mut place = NR_TABLES as u32;
    for block in 1..=nr_blocks {
        place = survey_entries(machine, &mut survey, block, place)?;
    }
    refuse_overlaps(&mut survey)?;
    if survey.nr_refusals > 0 {
        pr_err!(
            "{} entries of the run table were refused; {} runs of them ({} KiB) are carried on, \
             not used, the others name no preserved memory\n",
            survey.nr_refusals,
            survey.carried.len(),
            kibibytes(survey.carried.iter())
        );
    }
    Ok(survey)
}

/// Returns the size of runs.
pub(crate) fn kibibytes<'a>(runs: impl Iterator<Item = &'a PageRun<Incoming>>) -> usize {
    runs.map(PageRun::size_bytes).sum::<usize>() / 1024
}

/// Why the blocks could not be surveyed.
enum BlockError {
    Refused(Refusal),
    NoMemory,
}

impl From<Refusal> for BlockError {
    fn from(refusal: Refusal) -> Self {
        BlockError::Refused(refusal)
    }
}

impl From<kernel::alloc::AllocError> for BlockError {
    fn from(_: kernel::alloc::AllocError) -> Self {
        BlockError::NoMemory
    }
}

/// Appends the blocks of the run table to `runs`; returns how many there are, and their places.
fn survey_blocks(
    machine: &'static dyn Machine,
    root: Root,
    runs: &mut KVVec<(PageRun<Incoming>, Tag)>,
) -> Result<(usize, usize), BlockError> {
    let mut nr_places = 0;
    for index in 0..NR_TABLES {
        let at = index as u64;
        let entry = root.table_at(index);
        if entry.is_free() {
            return Ok((index, nr_places));
        }
        let entry = entry.validate(root.id(), at)?;
        expect_equal(
            "RunSer",
            "owner",
            at,
            entry.owner.into(),
            OWNER_TABLE.into(),
        )?;
        expect_equal("RunSer", "index", at, entry.index.into(), at)?;
        // SAFETY: as for the root page; that no two of this survey overlap is found out before any
        // of them is used.
        let run = unsafe { PageRun::incoming(machine, entry.phys(), entry.order(), "RunSer", at) }?;
        nr_places += run.size_bytes() / size_of::<RunSer>();
        let tag = Tag {
            owner: OWNER_TABLE,
            index: entry.index,
            place: index as u32,
        };
        runs.push((run, tag), GFP_KERNEL)?;
    }
    Ok((NR_TABLES, nr_places))
}

/// Appends the runs that a block names; `block` is its position in `survey.runs`, `place` the
/// place of its first entry. Returns the place after its last.
fn survey_entries(
    machine: &'static dyn Machine,
    survey: &mut Survey,
    block: usize,
    place: u32,
) -> Result<u32> {
    let root_id = survey.root.id();
    let Some((entries, nr_entries)) = survey.runs.get(block).map(|(run, _)| {
        let nr_entries = run.size_bytes() / size_of::<RunSer>();
        (run.memory().cast::<RunSer>(), nr_entries)
    }) else {
        return Ok(place);
    };
    let mut place = place;
    for i in 0..nr_entries {
        // SAFETY: `i` counts entries inside the run.
        let at = unsafe { entries.add(i) };
        // SAFETY: preserved memory that nobody writes; any bytes are a valid entry.
        let entry = unsafe { at.read() };
        if entry.is_free() {
            survey.free_places.insert(place);
        } else {
            match survey_run(machine, root_id, entry, place) {
                Ok(found) => survey.runs.push(found, GFP_KERNEL)?,
                Err(refusal) => {
                    let known = survey.mender.know(entry, root_id, place.into());
                    survey.refuse(known.map(|known| known.owner), refusal)?;
                    carry(machine, known, entry, place.into(), &mut survey.carried)?;
                }
            }
        }
        place = place.saturating_add(1);
    }
    Ok(place)
}

/// Finds what KHO preserved of the run of a refused entry, and appends it to `carried`: if it is
/// `known` what the entry was, each piece that begins in its extent, of the order that KHO says; if
/// not, what the entry says now, where KHO agrees. Returns whether there was anything.
pub(crate) fn carry(
    machine: &'static dyn Machine,
    known: Option<RunSer>,
    entry: RunSer,
    at: u64,
    carried: &mut KVVec<PageRun<Incoming>>,
) -> Result<bool> {
    let before = carried.len();
    let Some(known) = known else {
        let (phys, order) = (entry.phys(), entry.order());
        // SAFETY: as for the blocks of the table.
        if let Ok(run) = unsafe { PageRun::incoming(machine, phys, order, "RunSer", at) } {
            carried.push(run, GFP_KERNEL)?;
        }
        return Ok(carried.len() > before);
    };
    let size_bytes = run_size_bytes(known.order()).unwrap_or(PAGE_SIZE_BYTES) as u64;
    let mut offset = 0;
    while offset < size_bytes {
        let Some(phys) = known.phys().checked_add(offset) else {
            break;
        };
        offset += PAGE_SIZE_BYTES as u64;
        let Seen::Preserved { order } = machine.probe(phys) else {
            continue;
        };
        // SAFETY: as for the blocks of the table.
        if let Ok(run) = unsafe { PageRun::incoming(machine, phys, order, "RunSer", at) } {
            offset += (run.size_bytes() - PAGE_SIZE_BYTES) as u64;
            carried.push(run, GFP_KERNEL)?;
        }
    }
    Ok(carried.len() > before)
}

fn survey_run(
    machine: &'static dyn Machine,
    root_id: u64,
    entry: RunSer,
    place: u32,
) -> Result<(PageRun<Incoming>, Tag), Refusal> {
    let at = u64::from(place);
    let entry = entry.validate(root_id, at)?;
    let owner = entry.owner;
    let is_user = owner != OWNER_ROOT && owner != OWNER_TABLE;
    expect(
        "RunSer",
        "owner",
        at,
        owner.into(),
        1,
        Relation::AtLeast,
        is_user,
    )?;
    // SAFETY: as for the blocks of the table.
    let run = unsafe { PageRun::incoming(machine, entry.phys(), entry.order(), "RunSer", at) }?;
    let tag = Tag {
        owner,
        index: entry.index,
        place,
    };
    Ok((run, tag))
}
