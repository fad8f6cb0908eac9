// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/lib.rs.
//!
//! The shared sources say `use kernel::...`; Kbuild gives them the real crate, Cargo this one. It
//! mirrors the paths and signatures that they use, and no more, so that what compiles here compiles
//! there. What only a host needs stands in files of its own:
//!
//! | file | host-only extra |
//! | --- | --- |
//! | [`fault`] | lets the n-th allocation of a thread fail |
//! | `observe` | tells an observer of each atomic store before it happens (feature `observe`) |
//! | [`context`] | panics where the kernel would sleep while it must not |
//! | [`task_local`] | what each thread has to itself, or each task of a model |
//! | `models` | with `--cfg models`: atomics of loom, and steps of shuttle |
//! | [`print::take_log`] | what a thread has logged |

pub mod alloc;
pub mod build_assert;
pub mod context;
pub mod error;
pub mod fault;
pub mod ffi;
pub mod fmt;
pub mod init;
#[cfg(models)]
pub mod models;
#[cfg(feature = "observe")]
pub mod observe;
pub mod page;
pub mod prelude;
pub mod print;
pub mod processor;
pub mod str;
pub mod sync;
pub mod task_local;
pub mod time;
pub mod types;

// For our macros, in crates that do not depend on it.
#[doc(hidden)]
pub use pin_init as __pin_init;

#[doc(hidden)]
pub const __LOG_PREFIX: &[u8] = b"kernel\0";
