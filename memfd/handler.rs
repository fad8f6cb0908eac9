// SPDX-License-Identifier: GPL-2.0

//! The handler: which callback does what.

use core::ffi::CStr;

use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kpreserve::luo::{
    FileHandler,
    NotRetrieved,
    Registration, //
};
use kpreserve::prelude::*;

use crate::abi::{
    MemfdSer,
    COMPATIBLE, //
};
use crate::owner::PreservedMemfd;
use crate::{
    preserving,
    retrieving,
    shmem, //
};

/// The handler of memfds.
pub struct Memfd;

#[vtable]
impl FileHandler for Memfd {
    type State = MemfdSer;
    type Owner = PreservedMemfd;
    const COMPATIBLE: &'static CStr = COMPATIBLE;

    fn can_preserve(&self, file: &LocalFile) -> bool {
        shmem::is_ours(file)
    }

    fn preserve(&self, file: &LocalFile, cache: &Cache<MemfdSer>) -> Result<PreservedMemfd> {
        preserving::preserve(file, cache)
    }

    fn unpreserve(&self, file: &LocalFile, state: PreservedMemfd) {
        preserving::unpreserve(file, state);
    }

    /// What may have changed since: all but size, contents and holes.
    fn freeze(&self, file: &LocalFile, state: &mut MemfdSer) -> Result {
        let found = shmem::look(file)?;
        *state = MemfdSer {
            size_bytes: state.size_bytes,
            here: state.here,
            nr_runs: state.nr_runs,
            inline: state.inline,
            runs: state.runs,
            check: state.check,
            ..found
        };
        Ok(())
    }

    fn retrieve(&self, state: Preserved<MemfdSer>) -> Result<ARef<File>, NotRetrieved<MemfdSer>> {
        retrieving::retrieve(state)
    }

    fn discard(&self, state: Preserved<MemfdSer>) {
        retrieving::discard(state);
    }

    fn forget(&self, state: Preserved<MemfdSer>) {
        retrieving::forget(state);
    }

    fn size_bytes(state: &MemfdSer) -> u64 {
        state.size_bytes
    }

    fn id(file: &LocalFile) -> usize {
        shmem::id(file)
    }
}

/// Takes memfds from now on, and before mainline's handler, which registers later.
///
/// # Errors
///
/// As [`Registration::new`].
pub fn register() -> Result<Registration<Memfd>> {
    Registration::new(Memfd)
}
