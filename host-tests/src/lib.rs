// SPDX-License-Identifier: GPL-2.0

//! What is proved of kpreserve without a kernel. Nothing here is used by anything but tests.
//!
//! | test | proves |
//! | --- | --- |
//! | `tests/kernel.rs` | that the stand-in kernel is as strict as it says |
//! | `tests/sim.rs` | that the simulated machine notices what it should |
//! | `tests/kho.rs` | runs, arenas, the gate, validation |
//! | `tests/abi_golden.rs` | the formats, byte by byte, and that the document shows them |
//! | `tests/slab.rs` | caches, against a model that keeps its occupancy in a bit vector |
//! | `tests/options.rs`, `tests/foreign.rs` | wishes about a cache; objects that C owns |
//! | `tests/pool.rs` | pools under boxes and vectors |
//! | `tests/vmalloc.rs` | areas and vectors, against `Vec` |
//! | `tests/cut.rs` | a stop at each step of a workload |
//! | `tests/fault.rs` | a failure of each call of a workload |
//! | `tests/framework_*.rs` | boot, names, carry-over, costs, damaged images |
//!
//! How each test was seen to fail: README.md.

pub mod workload;
