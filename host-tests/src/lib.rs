// SPDX-License-Identifier: GPL-2.0

//! What is proved of kpreserve without a kernel. Nothing here is used by anything but tests.
//!
//! | test | proves |
//! | --- | --- |
//! | `tests/sim.rs` | that the simulated machine notices what it should |
//! | `tests/kho.rs` | runs, arenas, validation |
//! | `tests/abi_golden.rs` | the formats, byte by byte |
//! | `tests/slab.rs` | caches, against a model that keeps its occupancy in a bit vector |
//! | `tests/vmalloc.rs` | areas and vectors, against `Vec` |
//! | `tests/framework.rs` | boot, names, carry-over, costs |
//! | `tests/cut.rs` | a stop at each step of a workload |
//! | `tests/fault.rs` | a failure of each call of a workload |
//! | `tests/damage.rs` | images that are damaged in each word |

pub mod workload;
