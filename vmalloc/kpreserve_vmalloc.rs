// SPDX-License-Identifier: GPL-2.0

//! Preservable areas: memory that is reached by index, survives a kexec as it is, and is adopted
//! whole and untouched.
//!
//! Files in this directory may depend on the public parts of `kpreserve_kho` and on the safe parts
//! of the `kernel` crate (no `bindings`), and on nothing else: not on `slab`, not on `kpreserve`.
//! Unsafe code is confined to `raw/access.rs` and `raw/tail.rs` (elements in the runs; `pvec.rs` calls the latter), one call in
//! `raw/structure.rs` (giving a run back), `raw/exchange.rs` and `interchange/` (runs that come and go
//! whole, and mainline's list of them) and `view.rs` (mappings).
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: which element lies where; [`abi::COMPATIBLE`] |
//! | [`stride`] | [`Stride`]: element size, and what it makes of a run |
//! | `validate` | the descriptor and the run list of the previous kernel, checked |
//! | `directory` | element index to run, in O(1) |
//! | `redo` | a change in the middle that was decided on, checked |
//! | [`raw`] | [`RawArea`]: an arena as a sequence of elements, not generic |
//! | [`area`] | [`Area`]: a fixed number of elements |
//! | [`pvec`] | [`PVec`]: a vector |
//! | [`buckets`] | [`Buckets`]: a hash index, from hash to index |
//! | [`strings`] | [`PStrings`]: strings, one behind the other |
//! | [`pmap`] | [`PMap`]: a hash map |
//! | [`chunks`] | [`Chunks`], [`ChunksMut`]: elements run by run |
//! | [`interchange`] | [`KhoVmalloc`]: areas as mainline's `struct kho_vmalloc`, and the reverse |
//! | [`view`] | [`View`], [`ViewMut`]: the elements as one slice |
//!
//! # Who may change what, and when
//!
//! An area has one owner, like a `Vec`: what writes takes `&mut self`, and there is no lock
//! inside. Changes come in four kinds:
//!
//! | change | after the framework froze |
//! | --- | --- |
//! | of an element | goes on, as for objects of a cache; the last completed store crosses |
//! | of the length, by a push into the run that was added to last | goes on, as slots of existing slabs do |
//! | of the length, within the runs that are there | EBUSY, by one look at the gate |
//! | of the runs (grow, shrink, discard) | EBUSY: a [`GatePass`](kpreserve_kho::GatePass) is held throughout |
//!
//! The second and the third kind do not enter the gate, since nothing depends on it: an element is written
//! before the length that includes it is published, and the length is retracted before the
//! elements beyond it are cleared, so a length that changes while the machine is being stopped
//! crosses whole, with either its old or its new value. The look is there to tell the caller, not
//! to protect the area; a push that raced with the freeze is not an error. Whoever holds a pass,
//! because several areas have to change together, uses the `_with` forms, which never look: they
//! do not fail half-way because somebody else began to freeze.

#![cfg_attr(not(CONFIG_RUST), no_std)]

pub mod abi;
pub mod area;
pub mod buckets;
pub mod chunks;
mod directory;
pub mod interchange;
pub mod pmap;
pub mod pvec;
pub mod raw;
mod redo;
pub mod stride;
pub mod strings;
mod validate;
pub mod view;

pub use area::Area;
pub use buckets::Buckets;
pub use chunks::{
    Chunks,
    ChunksMut, //
};
pub use interchange::{
    KhoVmalloc,
    KhoVmallocSer, //
};
pub use pmap::PMap;
pub use pvec::PVec;
pub use raw::RawArea;
pub use stride::Stride;
pub use strings::{
    PStrings,
    StrSer, //
};
pub use view::{
    View,
    ViewMut, //
};

kpreserve_kho::crate_of_kpreserve!();
