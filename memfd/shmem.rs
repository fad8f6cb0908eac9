// SPDX-License-Identifier: GPL-2.0

//! The seam to shmem, the page cache and KHO. Kernel only; `shmem.h` is what C has for it: `file.c`, `pin.c`, `blocks.c`.

use kernel::error::to_result;
use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use core::ptr::NonNull;

use crate::abi::{
    FolioRunSer,
    MemfdSer, //
};
use crate::pinned::PinnedRun;

mod bindings {
    use kernel::bindings::file;
    use kernel::prelude::*;

    use crate::pinned::PinnedRun;

    /// As in shmem.h.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub(super) struct Attributes {
        pub(super) size_bytes: u64,
        pub(super) pos: u64,
        pub(super) mtime_ns: i64,
        pub(super) seals: u32,
        pub(super) flags: u32,
        pub(super) uid: u32,
        pub(super) gid: u32,
        pub(super) mode: u32,
        pub(super) reserved: u32,
    }

    /// As in shmem.h.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub(super) struct Filling {
        pub(super) unaccounted: u64,
        pub(super) beyond_commit: u64,
        pub(super) beyond_group: u64,
        pub(super) unasked: u32,
        pub(super) reserved: u32,
    }

    // Without lockdep `struct file` has a part without fields.
    #[allow(improper_ctypes)]
    extern "C" {
        pub(super) fn kpreserve_memfd_is_ours(file: *mut file) -> bool;
        pub(super) fn kpreserve_memfd_id(file: *mut file) -> c_ulong;
        pub(super) fn kpreserve_memfd_lock(file: *mut file);
        pub(super) fn kpreserve_memfd_unlock(file: *mut file);
        pub(super) fn kpreserve_memfd_freeze(file: *mut file, freeze: bool);
        pub(super) fn kpreserve_memfd_look(file: *mut file, attributes: *mut Attributes) -> c_int;
        pub(super) fn kpreserve_memfd_deny_writable(file: *mut file) -> c_int;
        pub(super) fn kpreserve_memfd_allow_writable(file: *mut file);
        pub(super) fn kpreserve_memfd_pin(
            file: *mut file,
            index: *mut u32,
            end: u32,
            skip_holes: bool,
            runs: *mut PinnedRun,
            max_runs: u32,
            nr_runs: *mut u32,
        ) -> c_int;
        pub(super) fn kpreserve_memfd_absent(
            file: *mut file,
            nr_pages: u64,
            skip_holes: bool,
            room: *mut u64,
        ) -> u64;
        pub(super) fn kpreserve_memfd_pin_slow(
            file: *mut file,
            index: *mut u32,
            end: u32,
            runs: *mut PinnedRun,
            max_runs: u32,
            nr_runs: *mut u32,
        ) -> c_int;
        pub(super) fn kpreserve_memfd_unpin(pfn: u64, nr_pages: u32);
        pub(super) fn kpreserve_memfd_preserve(pfn: u64, nr_pages: u32, order: u32) -> c_int;
        pub(super) fn kpreserve_memfd_unpreserve(pfn: u64, nr_pages: u32, order: u32, end: u32);
        pub(super) fn kpreserve_memfd_can_keep_holes() -> bool;
        pub(super) fn kpreserve_memfd_create(
            attributes: *const Attributes,
            file: *mut *mut file,
        ) -> c_int;
        pub(super) fn kpreserve_memfd_account(file: *mut file, filling: *mut Filling);
        pub(super) fn kpreserve_memfd_is_there(
            pfn: u64,
            nr_pages: u32,
            order: u32,
            bad: *mut u64,
        ) -> bool;
        pub(super) fn kpreserve_memfd_insert(
            file: *mut file,
            pfn: u64,
            index: u32,
            nr_pages: u32,
            order: u32,
            filling: *mut Filling,
        ) -> c_int;
        pub(super) fn kpreserve_memfd_discard(pfn: u64, nr_pages: u32, order: u32);
        pub(super) fn kpreserve_memfd_finish_open(file: *mut file, attributes: *const Attributes);
    }
}

use bindings::{
    Attributes,
    Filling, //
};

/// Returns whether a file is a memfd (or what cannot be told from one), and memfds are asked for.
pub(crate) fn is_ours(file: &LocalFile) -> bool {
    // SAFETY: a file, by the type.
    unsafe { bindings::kpreserve_memfd_is_ours(file.as_ptr()) }
}

/// Returns what is the same for all open files of one memfd.
pub(crate) fn id(file: &LocalFile) -> usize {
    // SAFETY: a file, by the type.
    unsafe { bindings::kpreserve_memfd_id(file.as_ptr()) as usize }
}

/// A memfd whose inode is locked.
///
/// # Invariants
///
/// `file` is a shmem file, and this task holds the lock of its inode.
pub(crate) struct Locked<'a> {
    file: &'a LocalFile,
}

impl<'a> Locked<'a> {
    /// Locks. May sleep. `file` is one of those that [`is_ours`] has accepted.
    pub(crate) fn new(file: &'a LocalFile) -> Self {
        // SAFETY: a file, by the type.
        unsafe { bindings::kpreserve_memfd_lock(file.as_ptr()) };
        // INVARIANT: locked above, says LUO of the rest: it gives callbacks the files that the
        // handler has accepted.
        Self { file }
    }

    /// Forbids to change the size, and to punch holes; or allows it again.
    pub(crate) fn freeze(&self, freeze: bool) {
        // SAFETY: a shmem file, locked, by the type invariants.
        unsafe { bindings::kpreserve_memfd_freeze(self.file.as_ptr(), freeze) }
    }

    /// Returns what a memfd is apart from its contents.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP if it has a seal that is not known here.
    pub(crate) fn look(&self) -> Result<MemfdSer> {
        look(self.file)
    }

    /// Forbids to map it for writing.
    ///
    /// # Errors
    ///
    /// EBUSY if somebody has mapped it so.
    pub(crate) fn deny_writable(&self) -> Result {
        // SAFETY: a shmem file, by the type invariants.
        to_result(unsafe { bindings::kpreserve_memfd_deny_writable(self.file.as_ptr()) })
    }

    /// Undoes [`deny_writable`](Self::deny_writable).
    pub(crate) fn allow_writable(&self) {
        // SAFETY: a shmem file, by the type invariants.
        unsafe { bindings::kpreserve_memfd_allow_writable(self.file.as_ptr()) }
    }

    /// Pins what is in the page cache, as far as that goes without waiting.
    pub(crate) fn pin(
        &self,
        index: &mut u32,
        end: u32,
        skip_holes: bool,
        runs: &mut [PinnedRun],
    ) -> Result<(Pinned, usize)> {
        let mut nr_runs = 0;
        // SAFETY: a shmem file (type invariants); the list has as many places as is said, and the
        // other pointers are to locals.
        let ret = unsafe {
            bindings::kpreserve_memfd_pin(
                self.file.as_ptr(),
                index,
                end,
                skip_holes,
                runs.as_mut_ptr(),
                runs.len() as u32,
                &mut nr_runs,
            )
        };
        let pinned = match ret {
            0 => Pinned::Everything,
            1 => Pinned::ThereIsMore,
            2 => Pinned::UpToSomething,
            error => Pinned::Failed(to_result(error).err().unwrap_or(EIO)),
        };
        Ok((pinned, nr_runs as usize))
    }

    /// Returns how many pages have to be brought into memory, of a file of `nr_pages`, and how many
    /// there is room for.
    pub(crate) fn absent(&self, nr_pages: u32, skip_holes: bool) -> (u64, u64) {
        let mut room = 0;
        // SAFETY: a shmem file, by the type invariants; the last pointer is to a local.
        let nr_absent = unsafe {
            bindings::kpreserve_memfd_absent(
                self.file.as_ptr(),
                nr_pages.into(),
                skip_holes,
                &mut room,
            )
        };
        (nr_absent, room)
    }

    /// Pins some folios from `index` on: holes are filled, what is swapped out is read in, what
    /// cannot stay where it is is moved. Sleeps.
    ///
    /// # Errors
    ///
    /// EAGAIN, ENOMEM, ENOSPC, EIO, EHWPOISON; EOPNOTSUPP if it is in memory that the next kernel
    /// does not have; EINTR if the task is being killed. Nothing is pinned then.
    pub(crate) fn pin_slow(
        &self,
        index: &mut u32,
        end: u32,
        runs: &mut [PinnedRun],
    ) -> Result<usize> {
        let mut nr_runs = 0;
        // SAFETY: as above.
        to_result(unsafe {
            bindings::kpreserve_memfd_pin_slow(
                self.file.as_ptr(),
                index,
                end,
                runs.as_mut_ptr(),
                runs.len() as u32,
                &mut nr_runs,
            )
        })?;
        Ok(nr_runs as usize)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: locked by this task, by the type invariants.
        unsafe { bindings::kpreserve_memfd_unlock(self.file.as_ptr()) };
    }
}

/// How far [`Locked::pin`] got.
pub(crate) enum Pinned {
    /// To the end.
    Everything,
    /// To where it wants to be called again.
    ThereIsMore,
    /// To a page that has to be waited for.
    UpToSomething,
    /// To a page that cannot be preserved. What came before is pinned.
    Failed(Error),
}

/// Returns what a memfd is apart from its contents.
///
/// # Errors
///
/// EOPNOTSUPP if it has a seal that is not known here.
pub(crate) fn look(file: &LocalFile) -> Result<MemfdSer> {
    let mut found = Attributes::default();
    // SAFETY: a shmem file, since the handler has accepted it; the other pointer is to a local.
    to_result(unsafe { bindings::kpreserve_memfd_look(file.as_ptr(), &mut found) })?;
    Ok(MemfdSer {
        size_bytes: found.size_bytes,
        pos: found.pos,
        mtime_ns: found.mtime_ns,
        seals: found.seals,
        flags: found.flags,
        uid: found.uid,
        gid: found.gid,
        mode: found.mode as u16,
        here: 0,
        nr_runs: 0,
        inline: [FolioRunSer::NONE; 2],
        runs: kpreserve::ArenaHandle::NULL,
        check: crate::abi::CHECK_OF_NONE,
    })
}

/// Returns whether nobody can put a page into a hole who is kept from writing, in this kernel.
pub(crate) fn can_keep_holes() -> bool {
    // SAFETY: says what was configured.
    unsafe { bindings::kpreserve_memfd_can_keep_holes() }
}

/// Lets go of folios that were pinned.
///
/// # Safety
///
/// They were, with these pages, and the caller forgets them.
pub(crate) unsafe fn unpin(pfn: u64, nr_pages: u32) {
    // SAFETY: says the caller.
    unsafe { bindings::kpreserve_memfd_unpin(pfn, nr_pages) }
}

/// Preserves a run. May sleep.
///
/// # Safety
///
/// Its folios are pinned.
///
/// # Errors
///
/// ENOMEM; nothing is preserved then.
pub(crate) unsafe fn preserve(run: &FolioRunSer) -> Result {
    // SAFETY: says the caller.
    to_result(unsafe { bindings::kpreserve_memfd_preserve(run.pfn(), run.nr_pages, run.order()) })
}

/// Undoes [`preserve`].
///
/// # Safety
///
/// It was preserved, as this run.
pub(crate) unsafe fn unpreserve(run: &FolioRunSer) {
    // SAFETY: says the caller.
    unsafe {
        bindings::kpreserve_memfd_unpreserve(run.pfn(), run.nr_pages, run.order(), run.nr_pages)
    }
}

/// Frees the folios of an incoming run. What is not preserved, or with another order, is left alone.
pub(crate) fn discard(run: &FolioRunSer) {
    // SAFETY: the callee looks at each block before it takes it.
    unsafe { bindings::kpreserve_memfd_discard(run.pfn(), run.nr_pages, run.order()) }
}

/// Returns the first page frame that no block of a run is found at; `None` if all are there.
pub(crate) fn missing(run: &FolioRunSer) -> Option<u64> {
    let mut bad = 0;
    // SAFETY: the callee looks at no struct page of what is no memory; the pointer is to a local.
    let is_there = unsafe {
        bindings::kpreserve_memfd_is_there(run.pfn(), run.nr_pages, run.order(), &mut bad)
    };
    (!is_there).then_some(bad)
}

/// Pages of a file that limits had no room for, and that are there all the same.
#[derive(Clone, Copy)]
pub(crate) struct Beyond {
    /// Of the commit limit (vm.overcommit_memory).
    pub(crate) nr_commit: u64,
    /// Of the control group of who retrieves the file.
    pub(crate) nr_group: u64,
}

/// A memfd that nobody has seen yet.
///
/// # Invariants
///
/// `file` is a memfd of ours, of which this owns the only reference.
pub(crate) struct NewFile {
    file: NonNull<kernel::bindings::file>,
    attributes: Attributes,
    filling: Filling,
}

impl NewFile {
    /// Makes an empty one. Nothing after this fails for want of memory, or for a limit.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP for unknown seals; EINVAL for an owner that cannot be; ENOMEM, ENOSPC, ENFILE.
    pub(crate) fn new(from: &MemfdSer) -> Result<Self> {
        let attributes = Attributes {
            size_bytes: from.size_bytes,
            pos: from.pos,
            mtime_ns: from.mtime_ns,
            seals: from.seals,
            flags: from.flags,
            uid: from.uid,
            gid: from.gid,
            mode: from.mode.into(),
            reserved: 0,
        };
        let mut file = core::ptr::null_mut();
        // SAFETY: both pointers are to locals; any values may be asked for.
        to_result(unsafe { bindings::kpreserve_memfd_create(&attributes, &mut file) })?;
        // INVARIANT: just made.
        Ok(Self {
            file: NonNull::new(file).ok_or(EIO)?,
            attributes,
            filling: Filling::default(),
        })
    }

    /// Restores a run and puts it into the file. Sleeps.
    ///
    /// # Safety
    ///
    /// [`missing`] has found nothing missing of it.
    ///
    /// # Errors
    ///
    /// EINVAL if a block has been restored before, EIO if it cannot be.
    pub(crate) unsafe fn insert(&mut self, run: &FolioRunSer) -> Result {
        // SAFETY: a memfd, by the type invariants; all pages of the run have a struct page, as the
        // caller has seen; the last pointer is to a field.
        to_result(unsafe {
            bindings::kpreserve_memfd_insert(
                self.file.as_ptr(),
                run.pfn(),
                run.index,
                run.nr_pages,
                run.order(),
                &mut self.filling,
            )
        })
    }

    /// Ends the making.
    pub(crate) fn finish(mut self) -> (ARef<File>, Beyond) {
        self.account();
        // SAFETY: a memfd that nobody else knows, by the type invariants.
        unsafe { bindings::kpreserve_memfd_finish_open(self.file.as_ptr(), &self.attributes) };
        let beyond = Beyond {
            nr_commit: self.filling.beyond_commit,
            nr_group: self.filling.beyond_group,
        };
        let file = self.file;
        core::mem::forget(self);
        // SAFETY: the reference that this owned (type invariants); a `File` is a `struct file`, and
        // no task has an fdget_pos() of one that nobody has seen.
        (unsafe { ARef::from_raw(file.cast::<File>()) }, beyond)
    }

    /// Accounts for what has come.
    fn account(&mut self) {
        // SAFETY: a memfd, by the type invariants; the last pointer is to a field.
        unsafe { bindings::kpreserve_memfd_account(self.file.as_ptr(), &mut self.filling) };
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // What is not accounted for must not be unaccounted with the inode.
        self.account();
        // SAFETY: the reference that this owns, by the type invariants.
        unsafe { kernel::bindings::fput(self.file.as_ptr()) };
    }
}
