// SPDX-License-Identifier: GPL-2.0

//! The sheaves of each CPU: plain memory, in front of the occupancy words.
//!
//! A CPU has two rows of free slots: a *main* one that it takes from and puts to, last in, first
//! out, and a *spare* one. They change places when the main one runs empty or full, so that
//! whoever goes back and forth at the edge does not go to the words each time (magazines: Bonwick
//! and Adams, USENIX ATC 2001; sheaves: mm/slub.c). A slot in a sheaf is taken as far as its
//! word knows, and free and zeros as far as the next kernel does: nothing is drained at freeze.
//!
//! Only its CPU touches a sheaf, pinned; a use nested in another one on the same CPU (an
//! interrupt) sees `busy` and goes to the words. No locked instruction.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{
    compiler_fence,
    Ordering, //
};

use kernel::prelude::*;

use kpreserve_kho::{
    Machine,
    PerCpu,
    Pinned, //
};

use crate::slots::Slab;
use crate::words::Taken;

/// Room of a row, at most.
const NR_ROW_MAX: usize = 64;

/// A free slot, and its owner: where it is, and where its tag is.
///
/// # Invariants
///
/// Both are of the same slot of one slab, whose tag is even; whoever has the value is the only one
/// to use the slot.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a slot that is not given back is lost"]
pub(crate) struct FreeSlot {
    pub(crate) start: NonNull<u8>,
    pub(crate) tag: NonNull<u8>,
}

/// A row of free slots.
///
/// # Invariants
///
/// `bottom <= top <= limit`, all in one allocation that is this row's alone from `bottom` to
/// `limit`; the entries from `bottom` to `top` hold slots that the row owns.
struct Row {
    top: *mut FreeSlot,
    bottom: *mut FreeSlot,
    limit: *mut FreeSlot,
}

impl Row {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.top == self.bottom
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.top == self.limit
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<FreeSlot> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: above `bottom`, by the check.
        self.top = unsafe { self.top.sub(1) };
        // INVARIANT: the slot is the caller's from here on.
        // SAFETY: it was below `top`, so it holds a slot.
        Some(unsafe { self.top.read() })
    }

    /// There has to be room.
    #[inline(always)]
    fn push(&mut self, free: FreeSlot) -> Result<(), FreeSlot> {
        if self.is_full() {
            return Err(free);
        }
        // SAFETY: below `limit`, by the check.
        unsafe { self.top.write(free) };
        // SAFETY: as above.
        self.top = unsafe { self.top.add(1) };
        Ok(())
    }

    /// Makes room for `nr` slots, 0 or as many as there are entries. It has to be empty.
    fn set_room(&mut self, nr: usize) {
        // INVARIANT: all entries, which are the row's alone, or none.
        self.limit = self.bottom.wrapping_add(nr);
    }

    /// Returns how many slots it has room for when it is empty.
    fn room(&self) -> usize {
        // SAFETY: both are in one allocation, `limit` not before `bottom`.
        let room = unsafe { self.limit.offset_from(self.bottom) };
        usize::try_from(room).unwrap_or(0)
    }

    /// Moves slots of a word into an empty row, so that the one with the lowest address comes out
    /// first. `first` is the word's first one, which need not be free.
    fn fill(&mut self, first: &FreeSlot, stride_bytes: usize, taken: &mut Taken) {
        let nr = (taken.len() as usize).min(self.room());
        for at in (0..nr).rev() {
            // There are as many.
            let bit = taken.pop_bit().unwrap_or(0) as usize;
            // SAFETY: a slot of the word, hence of the slab.
            let start = unsafe { first.start.add(bit * stride_bytes) };
            // SAFETY: its tag.
            let tag = unsafe { first.tag.add(bit) };
            // SAFETY: `nr` is at most the room of the row.
            let entry = unsafe { self.bottom.add(at) };
            // INVARIANT: the slot is this row's from here on; its tag is even, as it was taken.
            // SAFETY: as above.
            unsafe { entry.write(FreeSlot { start, tag }) };
        }
        // SAFETY: as above.
        // INVARIANT: all entries below have been written.
        self.top = unsafe { self.bottom.add(nr) };
    }
}

/// The two rows of a CPU.
pub(crate) struct Sheaf {
    main: Row,
    spare: Row,
    /// Entries of each row. A sheaf that is closed has room for none.
    nr_row: u32,
}

impl Sheaf {
    /// Takes a slot out of the main row.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<FreeSlot> {
        self.main.pop()
    }

    /// Puts a slot into the main row.
    ///
    /// # Errors
    ///
    /// The slot, if there is no room.
    #[inline(always)]
    pub(crate) fn push(&mut self, free: FreeSlot) -> Result<(), FreeSlot> {
        self.main.push(free)
    }

    /// Opens the sheaf; returns whether it was closed.
    #[inline]
    pub(crate) fn open(&mut self) -> bool {
        let was_closed = self.main.limit == self.main.bottom;
        if was_closed {
            for row in [&mut self.main, &mut self.spare] {
                row.set_room(self.nr_row as usize);
            }
        }
        was_closed
    }

    /// Closes the sheaf, which has to be empty: what is put to it next comes the slow way.
    pub(crate) fn close(&mut self) {
        for row in [&mut self.main, &mut self.spare] {
            if row.is_empty() {
                row.set_room(0);
            }
        }
    }

    /// Takes a slot out of either row.
    pub(crate) fn pop_any(&mut self) -> Option<FreeSlot> {
        if self.main.is_empty() {
            core::mem::swap(&mut self.main, &mut self.spare);
        }
        self.main.pop()
    }

    /// Makes room in the main row by changing the rows, if the spare one is empty.
    pub(crate) fn make_room(&mut self) -> bool {
        if self.spare.is_empty() {
            core::mem::swap(&mut self.main, &mut self.spare);
            return true;
        }
        false
    }

    /// Returns how many slots both rows have room for together, being empty.
    pub(crate) fn room(&self) -> usize {
        let rows = [&self.main, &self.spare];
        rows.into_iter().map(Row::room).sum()
    }

    /// Fills both rows, which have to be empty, with slots of a slab; what is left over stays in
    /// `taken`.
    pub(crate) fn fill(&mut self, slab: &Slab<'_>, taken: &mut Taken) {
        let Some(first) = slab.free_slot(taken.word() * 64) else {
            return;
        };
        let stride_bytes = slab.geometry().stride_bytes();
        for row in [&mut self.main, &mut self.spare] {
            if row.is_empty() {
                row.fill(&first, stride_bytes, taken);
            }
        }
    }

    /// Takes all slots out of the spare row.
    pub(crate) fn take_spare(&mut self) -> &[FreeSlot] {
        let row = &mut self.spare;
        // SAFETY: both are in one allocation, `top` not before `bottom`.
        let nr = unsafe { row.top.offset_from(row.bottom) };
        row.top = row.bottom;
        // SAFETY: so many slots have been written there, and nothing else is before the reference ends,
        // which the sheaf is borrowed for.
        unsafe { core::slice::from_raw_parts(row.bottom, usize::try_from(nr).unwrap_or(0)) }
    }
}

/// One CPU's.
///
/// # Invariants
///
/// `busy` is used by its CPU only, and is not 0 while somebody has a reference to the sheaf.
struct CpuSlot {
    sheaf: Sheaf,
    busy: u32,
}

// SAFETY: rows own what they point to.
unsafe impl Send for CpuSlot {}

/// All CPUs'.
pub(crate) struct Cpus {
    slots: PerCpu<CpuSlot>,
    /// What the rows point into.
    _entries: KVVec<MaybeUninit<FreeSlot>>,
}

// SAFETY: what is inside is reached by `with`, which lets in one at a time, and by `with_gone`,
// whose caller is the only one.
unsafe impl Send for Cpus {}
// SAFETY: as above.
unsafe impl Sync for Cpus {}

impl Cpus {
    /// Makes them, for slots of `stride_bytes`. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new(machine: &dyn Machine, stride_bytes: usize) -> Result<Self> {
        let nr_cpus = machine.nr_cpus();
        let nr_row = nr_row(stride_bytes);
        let nr_entries = nr_cpus * 2 * nr_row;
        let mut entries = KVVec::with_capacity(nr_entries, GFP_KERNEL)?;
        for _ in 0..nr_entries {
            entries.push(MaybeUninit::uninit(), GFP_KERNEL)?;
        }
        let first = entries.as_mut_ptr().cast::<FreeSlot>();
        let row = |at: usize| {
            let bottom = first.wrapping_add(at * nr_row);
            // INVARIANT: an empty row, closed, over entries that are in no other; the vector is not
            // touched again while the rows are there.
            Row {
                top: bottom,
                bottom,
                limit: bottom,
            }
        };
        let slots = PerCpu::new(machine, |cpu| CpuSlot {
            sheaf: Sheaf {
                main: row(2 * cpu),
                spare: row(2 * cpu + 1),
                nr_row: nr_row as u32,
            },
            busy: 0,
        })?;
        Ok(Self {
            slots,
            _entries: entries,
        })
    }

    /// Lets into this CPU's sheaf; `None` if that is being worked on already, by what this
    /// interrupts.
    #[inline(always)]
    pub(crate) fn enter<'a>(&'a self, machine: &'a dyn Machine) -> Option<Here<'a>> {
        let pinned = Pinned::new(machine);
        let slot = self.slots.here(&pinned);
        // SAFETY: this CPU's value, which lives as long as `self`.
        let busy = unsafe { &raw mut (*slot).busy };
        // SAFETY: only this CPU reads and writes it, by the type invariants of `CpuSlot`.
        if unsafe { busy.read_volatile() } != 0 {
            return None;
        }
        // SAFETY: as above.
        unsafe { busy.write_volatile(1) };
        compiler_fence(Ordering::SeqCst);
        // INVARIANT: pinned, so no other CPU's code is here and no other task runs; and what
        // interrupts this sees `busy` and stays out.
        Some(Here {
            slot,
            _slot: PhantomData,
            _pinned: pinned,
        })
    }

    /// Works on the sheaf of another CPU; `None` if there is no such CPU.
    ///
    /// # Safety
    ///
    /// The CPU is not running, all that it did is visible here, and it stays off until this
    /// returns; nobody else works on its sheaf.
    pub(crate) unsafe fn with_gone<R>(
        &self,
        cpu: usize,
        work: impl FnOnce(&mut Sheaf) -> R,
    ) -> Option<R> {
        let slot = self.slots.of(cpu)?;
        // SAFETY: the caller promises that nobody else is here; the value lives as long as `self`.
        Some(work(unsafe { &mut (*slot).sheaf }))
    }
}

/// This CPU's sheaf, and the only way to it.
///
/// # Invariants
///
/// `slot` is this CPU's, valid for `'a`; `busy` is set, and this is the only one to use the sheaf.
pub(crate) struct Here<'a> {
    slot: *mut CpuSlot,
    _slot: PhantomData<&'a mut CpuSlot>,
    /// Dropped last.
    _pinned: Pinned<'a>,
}

impl Here<'_> {
    /// Returns the sheaf.
    #[inline(always)]
    pub(crate) fn sheaf(&mut self) -> &mut Sheaf {
        // SAFETY: valid, and nobody else uses it, by the type invariants.
        unsafe { &mut (*self.slot).sheaf }
    }
}

impl Drop for Here<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: valid, by the type invariants.
        let busy = unsafe { &raw mut (*self.slot).busy };
        // SAFETY: only this CPU uses it, by the type invariants.
        unsafe { busy.write_volatile(0) };
    }
}

/// Returns how many slots go into a row: fewer of the big ones, so that what a CPU keeps to itself
/// stays below 32 KiB where a slot does.
const fn nr_row(stride_bytes: usize) -> usize {
    match stride_bytes {
        0..256 => NR_ROW_MAX,
        256..1024 => NR_ROW_MAX / 2,
        1024..4096 => NR_ROW_MAX / 4,
        _ => NR_ROW_MAX / 8,
    }
}
