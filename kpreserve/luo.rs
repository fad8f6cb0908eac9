// SPDX-License-Identifier: GPL-2.0

//! Clients of mainline's Live Update Orchestrator (LUO), without a serializer.
//!
//! LUO carries, for each file that user space asks it to preserve, a compatible string, a token and
//! one u64. For us the u64 is the [`Handle`](crate::Handle) of an object in a cache of the handler's,
//! `.luo/<compatible>`: the state of record, which the next kernel claims.
//!
//! | module | noun |
//! | --- | --- |
//! | `file` | [`FileHandler`]: what a client implements for its kind of files |
//! | `registration` | [`Registration`]: a handler that LUO knows, and what holds it |
//! | `owner` | [`Owner`]: what LUO holds of a state, while the file is preserved |
//! | `flb` | [`FlbHandler`], [`Flb`]: state that files share |
//! | `anon` | [`AnonFile`]: files that have nothing but a Rust object behind them |
//! | `given_up` | files that nobody has retrieved, counted for the log |
//! | `callbacks` | from LUO's callbacks to the trait |
//! | `raw` | what of LUO is called |
//! | `bindings` | LUO's structs, as layout.c checks them |
//!
//! Kernel only: CONFIG_KPRESERVE_LUO, built in, since LUO exports nothing. A client may be a module:
//! it talks to this crate.

pub mod anon;
mod bindings;
mod callbacks;
mod file;
mod flb;
mod given_up;
mod owner;
mod raw;
mod registration;

pub use anon::{
    AnonFile,
    AnonOps, //
};
pub use file::{
    Borrowed,
    FileHandler,
    NotRetrieved,
    Outcome, //
};
pub use flb::{
    Dependency,
    Flb,
    FlbHandler, //
};
pub use owner::Owner;
pub use raw::may_log;
pub use registration::Registration;
