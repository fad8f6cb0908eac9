// SPDX-License-Identifier: GPL-2.0

//! An arena as a sequence of elements.
//!
//! Fields, birth and end are here; who reaches elements is in `raw/access.rs`, who adds and takes
//! them at the end in `raw/tail.rs`, what changes length and runs in `raw/structure.rs`, what
//! changes anything in the middle in `raw/edit.rs`.

use core::ops::Range;
use core::ptr::NonNull;

use kernel::prelude::*;

use kpreserve_kho::{
    Arena,
    ArenaSer,
    Gate,
    GatePass,
    Machine,
    Node,
    Run, //
};

use crate::directory::Directory;
use crate::stride::Stride;
use crate::validate::{
    check,
    Claim, //
};

mod access;
mod edit;
mod exchange;
mod structure;
mod tail;

pub(crate) use access::bytes_of;
pub(crate) use edit::Room;
use tail::Tail;

/// Where a run begins in this boot.
#[derive(Clone, Copy, Debug)]
struct Start(NonNull<u8>);

// SAFETY: a number, until `raw/access.rs` uses it, under the borrow rules of the area.
unsafe impl Send for Start {}

// SAFETY: as above.
unsafe impl Sync for Start {}

/// An area without its element type: an [`Arena`] of which each run holds as many elements as fit,
/// and the descriptor that says how large an element is and how many have been published.
///
/// [`Area`](crate::Area) and [`PVec`](crate::PVec) wrap it. Dropping it closes the area: its runs
/// go back to the framework, preserved and recorded as they are, and the next open finds them.
/// [`discard`](Self::discard) is what frees them.
///
/// A pointer: what there is to know of an area would take too much of a kernel stack, on which a few
/// of them are moved about whenever something is opened.
///
/// # Invariants
///
/// - `tail.len` is at most the directory's capacity, and is what `ser.len` says, which is
///   `tail.published`.
/// - Bytes of elements from `tail.len` on are zero, unless the element is in `stale`.
/// - Unless `tail.limit` is 0 and `tail.first` is `usize::MAX`, the elements from `tail.first` to there are those of one run, each at
///   `tail.base` and its number times the element size, and `tail.len` is one of these numbers, or
///   the limit.
pub struct RawArea {
    inner: KBox<Inner>,
    tail: Tail,
}

/// # Invariants
///
/// - `directory` lists the runs of `arena`, in their order, each with the number of elements that
///   it holds at `stride`, and with its memory.
/// - `ser.pending` is 0 but while a change is made, or was found.
/// - Unless `retired`, the record `ser` belongs to `arena`.
struct Inner {
    arena: Arena,
    directory: Directory<Start>,
    stride: Stride,
    /// What was there behind the last published element when the area was opened: zero as a rule,
    /// but a cut may have left something.
    stale: Range<usize>,
    ser: &'static ArenaSer,
    gate: &'static Gate,
    retired: bool,
}

impl RawArea {
    /// Makes an area of an arena and its descriptor, a new one or one of the previous kernel: the
    /// same checks, the same cost.
    ///
    /// No element is touched and nothing is mapped. A few instructions a run, two small allocations.
    /// Only if the previous kernel was stopped while it changed something in the middle, the
    /// elements that this moves are copied.
    ///
    /// # Errors
    ///
    /// EINVAL if the descriptor and the runs make no area: kind, stride, run numbers 0, 1, 2, ...,
    /// run sizes, length, record of a change; the [`Refusal`] is logged. ENOMEM. The runs were given back
    /// by [`Ledger::close`] then, and the record is untouched; whoever made a record for a
    /// new area retires it.
    ///
    /// [`Refusal`]: kpreserve_kho::Refusal
    /// [`Ledger::close`]: kpreserve_kho::Ledger::close
    pub fn new(arena: Arena, ser: &'static ArenaSer) -> Result<Self> {
        let opened = KBox::<Inner>::new_uninit(GFP_KERNEL)
            .map_err(Error::from)
            .and_then(|place| Ok((place, Self::read(&arena, ser)?)));
        match opened {
            Ok((place, (directory, stride, len))) => {
                let gate = arena.ledger().gate();
                let stale = len..directory.capacity();
                // INVARIANT: `read` made the first two true; all that is not published is
                // suspected; the caller opens the arena with its record.
                let inner = place.write(Inner {
                    arena,
                    directory,
                    stride,
                    stale,
                    ser,
                    gate,
                    retired: false,
                });
                // INVARIANT: as `read` says; the run is not known.
                let tail = Tail {
                    len,
                    first: usize::MAX,
                    limit: 0,
                    base: core::ptr::null_mut(),
                    published: &ser.len,
                };
                let mut area = Self { inner, tail };
                area.recover()?;
                Ok(area)
            }
            Err(error) => {
                let (ledger, id) = (arena.ledger(), arena.id());
                // SAFETY: the arena was the caller's, and goes away here with all of its runs.
                unsafe { ledger.close(id, arena.into_runs()) };
                Err(error)
            }
        }
    }

    fn read(arena: &Arena, ser: &ArenaSer) -> Result<(Directory<Start>, Stride, usize)> {
        let claims = arena.runs().iter().map(|run| Claim {
            place: run.slot.0,
            index: run.index,
            order: run.pages.order(),
        });
        let shape = check(arena.id(), ser, claims).map_err(|refusal| refusal.report())?;
        let mut directory = Directory::new();
        for run in arena.runs() {
            let nr_elements = shape.stride.nr_elements(run.pages.order());
            directory.push(nr_elements, Start(run.pages.memory()))?;
        }
        Ok((directory, shape.stride, shape.len))
    }

    /// Returns the number of published elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.tail.len
    }

    /// Returns whether there are no published elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tail.len == 0
    }

    /// Returns how many elements the runs have room for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.inner.directory.capacity()
    }

    /// Returns the element size.
    #[inline]
    pub fn stride(&self) -> Stride {
        self.inner.stride
    }

    /// Returns the number of runs.
    pub fn nr_runs(&self) -> usize {
        self.inner.arena.runs().len()
    }

    /// Returns the number of pages that the runs have together.
    pub fn nr_pages(&self) -> usize {
        self.inner.arena.nr_pages()
    }

    /// Returns the arena's id.
    pub fn id(&self) -> u32 {
        self.inner.arena.id()
    }

    /// Returns the descriptor.
    pub fn ser(&self) -> &'static ArenaSer {
        self.inner.ser
    }

    /// Prefers a NUMA node for runs to come.
    pub fn set_node(&mut self, node: Node) {
        self.inner.arena.set_node(node);
    }

    /// Returns the machine that the runs come from.
    pub(crate) fn machine(&self) -> &'static dyn Machine {
        self.inner.arena.machine()
    }

    /// Returns the runs that published elements lie in.
    pub(crate) fn published_runs(&self) -> &[Run] {
        let last = self.tail.len.checked_sub(1);
        let nr_runs = last
            .and_then(|last| self.inner.directory.number_of(last))
            .map_or(0, |number| number + 1);
        self.inner.arena.runs().get(..nr_runs).unwrap_or(&[])
    }

    /// Passes the gate of structural writers. May sleep. The pass does not borrow the area.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    pub fn enter(&self) -> Result<GatePass<'static>> {
        self.inner.gate.enter()
    }

    /// Looks whether the gate is open, without entering it.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen.
    #[inline]
    pub(crate) fn look(&self) -> Result {
        if self.inner.gate.is_frozen() {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Ends the area: clears it, gives all runs back to the machine, the last one first, and frees
    /// the record. May sleep. Costs a pass over the published elements (they are cleared, so that
    /// they do not reach the next owner of a page) and, for each run, one key.
    ///
    /// # Errors
    ///
    /// EBUSY once the framework is frozen; the area is closed then, whole.
    pub fn discard(self) -> Result {
        let pass = self.enter()?;
        self.discard_with(&pass);
        Ok(())
    }

    /// Does what [`discard`](Self::discard) does, for one who has passed the gate. Cannot fail.
    pub fn discard_with(mut self, pass: &GatePass<'_>) {
        self.truncate(0);
        self.release_runs(pass, 0);
        let (ledger, id) = (self.inner.arena.ledger(), self.inner.arena.id());
        // SAFETY: the arena is ours; its runs were given back above, and `retired` keeps it and its
        // descriptor from being used again.
        unsafe { ledger.retire(pass, id) };
        // INVARIANT: the record is somebody else's from here on.
        self.inner.retired = true;
    }
}

impl Drop for RawArea {
    fn drop(&mut self) {
        if self.inner.retired {
            return;
        }
        let (machine, ledger, id) = (
            self.inner.arena.machine(),
            self.inner.arena.ledger(),
            self.inner.arena.id(),
        );
        // SAFETY: the arena is ours; this one takes its place for the few lines that are left.
        let without_runs = unsafe { Arena::new(machine, ledger, id, KVVec::new()) };
        let arena = core::mem::replace(&mut self.inner.arena, without_runs);
        // SAFETY: the arena was ours, with all of its runs, and is not used any more.
        unsafe { ledger.close(id, arena.into_runs()) };
    }
}

impl core::fmt::Debug for RawArea {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RawArea")
            .field("id", &self.id())
            .field("stride_bytes", &self.inner.stride.bytes())
            .field("len", &self.tail.len)
            .field("capacity", &self.capacity())
            .field("nr_runs", &self.nr_runs())
            .finish()
    }
}
