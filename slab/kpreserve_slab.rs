// SPDX-License-Identifier: GPL-2.0

//! Slab caches whose slabs survive a kexec: typed objects in preserved memory, over an arena.
//!
//! Files in this directory may depend on the public parts of `kpreserve_kho` and the safe parts of
//! the `kernel` crate, and on nothing else; not on bindings, areas or names. Memory is touched in
//! `slots.rs` (slabs), `run.rs` and `directory.rs` (words and places), `sheaf.rs` (sheaves),
//! `owner.rs` and `preserved.rs` (owners); the rest asks them.
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: [`SlabSer`](abi::SlabSer), the tags behind it |
//! | [`geometry`] | [`Geometry`]: how slots are laid into a slab |
//! | [`options`] | [`CacheOptions`]: what may be asked of a cache |
//! | [`tag`] | [`Tag`](tag::Tag): live or free, and which object |
//! | [`words`] | [`Words`](words::Words), [`Taken`](words::Taken): slots taken and given back by 64 |
//! | [`owner`] | [`Vacant`], [`Slot`]: owning a slot |
//! | `slots` | the memory of a slab: header, tags, slots |
//! | `run` | what this boot knows of a run |
//! | `directory` | the runs of a cache, by place and by address |
//! | `sheaf` | the sheaves of each CPU |
//! | `touch`, `validate` | taking a slab into use; quarantine |
//! | `check` | debug builds: poison, redzones |
//! | [`raw`] | [`RawCache`]: a cache without its type |
//! | `alloc`, `free` | taking slots, giving them back |
//! | `dry` | what a search leaves to the next one |
//! | `bulk` | many objects at once |
//! | `grow` | growth, reserve |
//! | `excess`, `rest` | empty runs go; what CPUs hold goes back |
//! | `look` | looking over what was inherited |
//! | [`claim`] | from a handle to an owner; what nobody claims |
//! | [`cache`], [`preserved`] | [`Cache`], [`Preserved`]: the typed face |
//!
//! # Contexts
//!
//! Allocating (without GFP_KERNEL), publishing and freeing: any but NMI. Claiming, parking,
//! peeking, discarding, iterating: tasks, also atomic ones. Growing, `work`, `set_reserve`: where
//! sleeping is fine.

#![cfg_attr(not(CONFIG_RUST), no_std)]

#[cfg(not(CONFIG_RUST))]
extern crate pin_init as pinned_init;

pub mod abi;
mod alloc;
mod bulk;
pub mod cache;
mod check;
pub mod claim;
mod directory;
#[doc(hidden)]
pub mod dry;
mod excess;
mod free;
pub mod geometry;
mod grow;
mod look;
pub mod options;
pub mod owner;
pub mod preserved;
pub mod raw;
mod rest;
mod run;
mod sheaf;
mod slots;
pub mod tag;
mod touch;
mod validate;
pub mod words;

pub use cache::Cache;
pub use geometry::Geometry;
pub use options::CacheOptions;
pub use owner::{
    Owner,
    Slot,
    Vacant, //
};
pub use preserved::Preserved;
pub use raw::{
    Counts,
    Opened,
    RawCache, //
};

kpreserve_kho::crate_of_kpreserve!();
