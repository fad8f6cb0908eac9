// SPDX-License-Identifier: GPL-2.0

//! What is measured. The multi-threaded ones have been the field's for decades; they are scaled down
//! so that all of them, for all allocators, take minutes.
//!
//! Each returns the time that it took, from the moment all threads are ready to the end of the last.

pub mod batch;
pub mod larson;
pub mod mstress;
pub mod pair;
pub mod prodcon;
mod team;
pub mod threadtest;
pub mod xmalloc;
