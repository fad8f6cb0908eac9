// SPDX-License-Identifier: GPL-2.0

//! Kernel state that survives kexec without serialization: the framework people use.
//!
//! A subsystem keeps its state, all the time, in objects of a preservable [`Cache`] and in
//! preservable areas ([`Area`], [`PVec`]), and finds them by name after a kexec:
//!
//! ```
//! use kpreserve::prelude::*;
//!
//! kpreserve::preservable! {
//!     pub struct VcpuSer { pub id: u32, pub flags: u32, pub next: Handle<VcpuSer> }
//!     compatible = "kvm-vcpu", version = 1
//! }
//!
//! fn add(id: u32) -> Result<Handle<VcpuSer>> {
//!     let cache = Cache::<VcpuSer>::open(c"kvm/vcpu", GFP_KERNEL)?;
//!     let vcpu = cache.alloc(VcpuSer { id, flags: 0, next: Handle::NULL }, GFP_KERNEL)?;
//!     Ok(vcpu.park())
//! }
//! ```
//!
//! Files in this directory may depend on the public parts of the kho, slab and vmalloc crates and
//! of the `kernel` crate, and on nothing else; only `boot.rs` (with `helpers.c`) speaks to C, and
//! nothing here calls KHO by name.
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: root page, dictionary entries |
//! | `root`, `table` | the root page; the run table |
//! | `survey`, `overlap`, `adopt` | looking at the previous kernel's image, and taking it over |
//! | `flip`, `carry`, `begin` | entries with a wrong bit; an image that is refused, and handed on; a new one |
//! | `tally`, `opened` | what there is, and what of it nobody has opened |
//! | `pool` | runs of arenas that nobody has open |
//! | [`framework`] | [`Framework`]: one a boot |
//! | `names`, `dictionary` | arena table, names |
//! | [`namespace`] | names as such: listing, renaming, taking away |
//! | `roll`, `reclaim` | the caches that are up; memory given back under pressure |
//! | [`open`], `named` | opening caches, areas and objects |
//! | [`allocator`], `classes`, [`box_handle`] | [`preserved_pool!`]: `Box` and `Vec` in preserved memory |
//! | `rwlock` | a lock that readers share |
//! | `contents` | what something is of, for who has no type at hand |
//! | `global`, `boot` | the framework of this boot; init, freeze by reboot notifier, worker |

#![cfg_attr(not(CONFIG_RUST), no_std)]

#[cfg(not(CONFIG_RUST))]
extern crate pin_init as pinned_init;
#[cfg(not(CONFIG_RUST))]
extern crate std;

pub mod abi;
mod adopt;
pub mod allocator;
mod begin;
#[cfg(CONFIG_RUST)]
pub mod boot;
pub mod box_handle;
mod carry;
mod classes;
mod contents;
mod dictionary;
mod flip;
pub mod framework;
pub mod global;
#[cfg(CONFIG_KPRESERVE_LUO)]
pub mod luo;
mod maps;
mod named;
mod names;
pub mod namespace;
pub mod open;
mod opened;
mod overlap;
mod pool;
mod reclaim;
mod roll;
mod root;
mod rwlock;
mod survey;
mod table;
mod tally;

pub use allocator::PreservedPool;
pub use box_handle::{
    BoxHandle,
    BoxLink, //
};
pub use framework::{
    Framework,
    IfRefused,
    Stats, //
};
pub use kpreserve_kho as kho;
pub use kpreserve_kho::{
    preservable,
    ArenaHandle,
    Handle,
    Node,
    Phys,
    Preservable,
    SharedU64, //
};
pub use kpreserve_slab::{
    Cache,
    CacheOptions,
    Preserved, //
};
pub use kpreserve_vmalloc::{
    pmap::MapHeadSer,
    Area,
    Chunks,
    ChunksMut,
    KhoVmalloc,
    KhoVmallocSer,
    PMap,
    PStrings,
    PVec,
    StrSer,
    View,
    ViewMut, //
};
pub use named::Named;
pub use open::{
    Anonymous,
    Open,
    OpenWith, //
};

/// What a consumer imports, beside its own `preservable!` structs.
pub mod prelude {
    pub use crate::{
        Anonymous as _,
        Area,
        ArenaHandle,
        BoxHandle,
        BoxLink,
        Cache,
        CacheOptions,
        Handle,
        KhoVmalloc,
        KhoVmallocSer,
        MapHeadSer,
        Named,
        Node,
        Open as _,
        OpenWith as _,
        PMap,
        PStrings,
        PVec,
        Preservable,
        Preserved,
        PreservedPool as _,
        SharedU64,
        StrSer, //
    };
    pub use kernel::prelude::*;
}

/// What the macros of this crate need in the crates that use them.
#[doc(hidden)]
pub mod __private {
    pub use kernel::alloc::{
        AllocError,
        Allocator,
        Flags,
        NumaNode, //
    };
}

kpreserve_kho::crate_of_kpreserve!();
