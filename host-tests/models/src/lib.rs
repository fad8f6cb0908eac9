// SPDX-License-Identifier: GPL-2.0

//! Models of `slab/`: what several CPUs do at once, in all orders (loom) or in many (shuttle).
//!
//! They call the sources that the kernel is built from. `--cfg models` puts loom or shuttle below
//! the stand-in kernel (`kernel::models`), so that everything above runs as it is, overlaid
//! memory included. Without it this package is empty. `make test-host` runs them; one alone:
//!
//! ```text
//! RUSTFLAGS="--cfg models" cargo test -p host-models --profile models --target-dir target/models shrink
//! ```
//!
//! For each model there is a test `catches_...` with something broken on purpose, which the model has to notice.
//!
//! | file | model |
//! | --- | --- |
//! | `words` | refill against give-back on a word; noting that a slab is full; claims of a bit |
//! | `sheaf` | sheaf exchange: CPUs that take from and give to the same word, a CPU that is gone |
//! | `claim` | claims of one handle |
//! | `publish` | publishing against who looks |
//! | `shrink` | condemning runs against refill, free, claim; the reserve |
//! | `rest` | settling against use; news of empty runs; a dry cache against give-back |
//! | `mix` | with shuttle: everything at once, interrupts included |

#![cfg(all(test, models))]

mod claim;
mod mix;
mod publish;
mod rest;
mod sheaf;
mod shrink;
mod words;
mod world;
