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
//! | `callbacks` | from LUO's callbacks to the trait |
//! | `bindings` | LUO's structs, as layout.c checks them |
//!
//! Kernel only: CONFIG_KPRESERVE_LUO, built in, since LUO exports nothing. A client may be a module:
//! it talks to this crate.

mod bindings;
mod callbacks;
mod file;
mod registration;

pub use file::{
    FileHandler,
    Outcome, //
};
pub use registration::Registration;
