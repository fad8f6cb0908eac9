// SPDX-License-Identifier: GPL-2.0

//! Where in the address space machines lie.
//!
//! One large range is reserved, without access, once. Each mapping takes a fresh part of it and
//! gives it back without access again: what a machine used is never used by another, so that a
//! pointer that survived its kernel faults, and a handler says why.

use core::ffi::c_void;
use core::sync::atomic::{
    AtomicUsize,
    Ordering, //
};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// As much as there is to be had, from this on; tools that watch memory leave less.
const SIZE_BYTES: usize = 1 << 45;
const SIZE_MIN_BYTES: usize = 1 << 38;

/// The largest run: virtual addresses are congruent to physical ones modulo this.
pub(crate) const ALIGN_BYTES: usize = 4 << 20;

static REGION: OnceLock<(usize, usize)> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Where the region begins, and its size.
fn region() -> (usize, usize) {
    *REGION.get_or_init(|| {
        let sizes = core::iter::successors(Some(SIZE_BYTES), |size_bytes| Some(size_bytes / 2));
        let reserved = sizes
            .take_while(|&size_bytes| size_bytes >= SIZE_MIN_BYTES)
            .find_map(|size_bytes| Some((reserve(size_bytes)?, size_bytes)));
        let (start, size_bytes) = reserved.expect("cannot reserve address space");
        explain_faults();
        let base = start.next_multiple_of(ALIGN_BYTES);
        (base, size_bytes - (base - start))
    })
}

fn reserve(size_bytes: usize) -> Option<usize> {
    // SAFETY: a fresh mapping somewhere, without access; touches nothing else.
    let at = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            size_bytes,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    (at != libc::MAP_FAILED).then(|| at.addr())
}

/// A part of the region; without access until something is mapped there.
#[derive(Debug)]
pub(crate) struct Place {
    start: usize,
    size_bytes: usize,
}

impl Place {
    /// Takes a fresh part, `gap_bytes` (rounded up to the alignment) behind the last one.
    pub(crate) fn take(size_bytes: usize, gap_bytes: usize) -> Self {
        let gap = gap_bytes.next_multiple_of(ALIGN_BYTES) + ALIGN_BYTES;
        let whole = gap + size_bytes.next_multiple_of(ALIGN_BYTES);
        let (base, region_bytes) = region();
        let start = base + NEXT.fetch_add(whole, Ordering::Relaxed) + gap;
        assert!(
            start + size_bytes < base + region_bytes - 2 * ALIGN_BYTES,
            "too many machines in one process"
        );
        Self { start, size_bytes }
    }

    /// Returns the address of the first byte.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Maps `len_bytes` of a file, from `file_offset` on, at `offset`.
    pub(crate) fn map(&self, offset: usize, len_bytes: usize, file: &File, file_offset: usize) {
        assert!(
            offset + len_bytes <= self.size_bytes,
            "mapping outside its place"
        );
        self.remap(
            offset,
            len_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            Some((file, file_offset)),
        );
    }

    /// Takes all access away.
    pub(crate) fn retire(&self) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.remap(0, self.size_bytes, libc::PROT_NONE, flags, None);
    }

    fn remap(
        &self,
        offset: usize,
        len_bytes: usize,
        prot: i32,
        flags: i32,
        file: Option<(&File, usize)>,
    ) {
        if len_bytes == 0 {
            return;
        }
        let at = core::ptr::with_exposed_provenance_mut::<c_void>(self.start + offset);
        let (fd, from) = match file {
            Some((file, from)) => (file.as_raw_fd(), from),
            None => (-1, 0),
        };
        // SAFETY: the addresses lie in the part of the region that `self` alone has; who uses
        // memory there was promised it until now only.
        let mapped = unsafe {
            libc::mmap(
                at,
                len_bytes,
                prot,
                flags | libc::MAP_FIXED,
                fd,
                from as i64,
            )
        };
        assert!(
            mapped == at,
            "cannot map memory of a machine: {}",
            std::io::Error::last_os_error()
        );
        mapped.expose_provenance();
    }
}

extern "C" fn on_fault(_signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let info = unsafe { &*info };
    // SAFETY: a SIGSEGV carries an address.
    let address = unsafe { info.si_addr() }.addr();
    let (start, region_bytes) = REGION.get().copied().unwrap_or((0, 0));
    if (start..start.saturating_add(region_bytes)).contains(&address) {
        let text =
            b"\nkpreserve_sim: access to memory that is not there: a machine that was stopped, \
                     an absent page, or a mapping that was taken away\n";
        // SAFETY: the text has the length that is named; write(2) may be called from a handler.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: may be called from a handler; the access is repeated and ends the process.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
}

fn explain_faults() {
    // SAFETY: all zeroes is a value of this plain C struct.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_fault;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler calls only what a handler may call.
    unsafe { libc::sigaction(libc::SIGSEGV, &action, core::ptr::null_mut()) };
}
