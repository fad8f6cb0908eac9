// SPDX-License-Identifier: GPL-2.0

//! The memory of a machine: a memfd, mapped where this boot has its direct map.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{
    AsRawFd,
    FromRawFd, //
};
use std::os::unix::fs::FileExt;
use std::sync::{
    Arc,
    PoisonError,
    RwLock, //
};

use kpreserve_kho::phys::PAGE_SIZE_BYTES;
use kpreserve_kho::{
    Phys,
    Window, //
};

use crate::config::Config;
use crate::region::Place;

/// A page's bytes.
pub(crate) type Bytes = [u8; PAGE_SIZE_BYTES];

/// What one boot sees of the memory.
#[derive(Debug)]
pub(crate) struct Memory {
    /// `None` once this boot has ended.
    file: RwLock<Option<Arc<File>>>,
    phys_base: u64,
    nr_pages: usize,
    place: Place,
}

impl Memory {
    /// Makes memory.
    pub(crate) fn create(config: &Config) -> io::Result<Arc<File>> {
        const NAME: &CStr = c"kpreserve-sim";
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is ours and open.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len((config.nr_pages * PAGE_SIZE_BYTES) as u64)?;
        Ok(Arc::new(file))
    }

    /// Maps memory for one boot, `gap_bytes` away from where the last one was.
    pub(crate) fn map(file: Arc<File>, config: &Config, gap_bytes: usize) -> Self {
        // The window begins at the physical address 0, as a direct map does, and reaches a bit
        // beyond the last page.
        let ram_offset = config.phys_base as usize;
        let window_bytes = ram_offset + (config.nr_pages + 1024) * PAGE_SIZE_BYTES;
        let place = Place::take(window_bytes, gap_bytes);
        let mut page = 0;
        while page < config.nr_pages {
            let absent = config.absent.iter().find(|range| range.contains(&page));
            if let Some(range) = absent {
                page = range.end;
                continue;
            }
            let end = config
                .absent
                .iter()
                .map(|range| range.start)
                .filter(|&start| start > page)
                .min()
                .unwrap_or(config.nr_pages)
                .min(config.nr_pages);
            let from = page * PAGE_SIZE_BYTES;
            place.map(
                ram_offset + from,
                (end - page) * PAGE_SIZE_BYTES,
                &file,
                from,
            );
            page = end;
        }
        Self {
            file: RwLock::new(Some(file)),
            phys_base: config.phys_base,
            nr_pages: config.nr_pages,
            place,
        }
    }

    /// Returns the window of this boot.
    pub(crate) fn window(&self) -> Window {
        let size_bytes = self.phys_base + ((self.nr_pages + 1024) * PAGE_SIZE_BYTES) as u64;
        // SAFETY: physical memory is mapped from the beginning of the place on, where the
        // configuration has it, as long as the machine runs; the place does not wrap around.
        unsafe { Window::new(0, self.place.start(), size_bytes) }
    }

    /// Ends the access of this boot.
    pub(crate) fn retire(&self) {
        self.place.retire();
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the file; the offset of a page in it is its number times the page size.
    #[track_caller]
    pub(crate) fn file(&self) -> Arc<File> {
        match &*self.file.read().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => Arc::clone(file),
            None => panic!("the memory of a machine that was stopped was asked for"),
        }
    }

    /// Returns the number of the page at `phys`; `None` outside the memory.
    pub(crate) fn page_number(&self, phys: Phys) -> Option<usize> {
        let offset = phys.get().checked_sub(self.phys_base)?;
        let number = (offset / PAGE_SIZE_BYTES as u64) as usize;
        (number < self.nr_pages).then_some(number)
    }

    /// Returns where page `number` lies.
    pub(crate) fn phys(&self, number: usize) -> Phys {
        Phys::new(self.phys_base + (number * PAGE_SIZE_BYTES) as u64)
    }

    /// Reads pages, as they are in memory, whoever else uses them.
    pub(crate) fn read(&self, number: usize, bytes: &mut [u8]) {
        if let Err(error) = self
            .file()
            .read_exact_at(bytes, (number * PAGE_SIZE_BYTES) as u64)
        {
            panic!("cannot read page {number}: {error}");
        }
    }

    /// Writes pages.
    pub(crate) fn write(&self, number: usize, bytes: &[u8]) {
        if let Err(error) = self
            .file()
            .write_all_at(bytes, (number * PAGE_SIZE_BYTES) as u64)
        {
            panic!("cannot write page {number}: {error}");
        }
    }

    /// Makes pages zero by giving up what is behind them: costs no memory until they are touched, so
    /// that a machine may be larger than the host.
    pub(crate) fn clear(&self, number: usize, nr_pages: usize) {
        let (offset, len) = (number * PAGE_SIZE_BYTES, nr_pages * PAGE_SIZE_BYTES);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open; who uses these pages gets zeros, and has been promised them.
        let result =
            unsafe { libc::fallocate(self.file().as_raw_fd(), mode, offset as i64, len as i64) };
        if result != 0 {
            let error = io::Error::last_os_error();
            panic!("cannot clear {nr_pages} pages from {number} on: {error}");
        }
    }
}
