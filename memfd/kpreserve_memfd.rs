// SPDX-License-Identifier: GPL-2.0

//! Memfds that survive kexec: a file handler for mainline's Live Update Orchestrator.
//!
//! May depend on `kpreserve` and nothing else of ours. What crosses is in [`abi`]: one object a file
//! in a cache, and a list of runs of folios, in the object while it is short, in an area otherwise.
//!
//! | module | noun |
//! | --- | --- |
//! | [`abi`] | what the next kernel finds |
//! | [`pinned`] | runs of folios as they are in memory, and how they are cut for KHO |
//! | [`list`] | the runs of a file, inline or in an area |
//! | `shmem` | the seam: page cache, shmem, KHO (kernel only) |
//! | `owner` | what LUO holds of a file (kernel only) |
//! | `preserving`, `retrieving`, `handler` | the callbacks (kernel only) |
//!
//! Documentation/memfd.rst is the text for users.

#![cfg_attr(not(CONFIG_RUST), no_std)]

pub mod abi;
#[cfg(CONFIG_KPRESERVE_MEMFD)]
pub mod handler;
pub mod list;
#[cfg(CONFIG_KPRESERVE_MEMFD)]
mod owner;
pub mod pinned;
#[cfg(CONFIG_KPRESERVE_MEMFD)]
mod preserving;
#[cfg(CONFIG_KPRESERVE_MEMFD)]
mod retrieving;
#[cfg(CONFIG_KPRESERVE_MEMFD)]
mod shmem;

/// The handler is in no module: it is built in, which `vtable` asks for.
#[cfg(CONFIG_KPRESERVE_MEMFD)]
pub struct LocalModule;

#[cfg(CONFIG_KPRESERVE_MEMFD)]
impl kernel::ModuleMetadata for LocalModule {
    const NAME: &'static kernel::str::CStr = c"kpreserve";

    const THIS_MODULE: kernel::ThisModule = {
        // SAFETY: what is built in has a null pointer in C, too.
        unsafe { kernel::ThisModule::from_ptr(core::ptr::null_mut()) }
    };
}

kpreserve::kho::crate_of_kpreserve!();
