// SPDX-License-Identifier: GPL-2.0

//! kpreserve's slab caches on the host, against the allocators of the field.
//!
//! Ours run under the real framework on [`BenchMachine`], a machine that is as cheap as can be: it
//! hands nothing over and checks nothing. The other allocators run in the same process, called by
//! their `GlobalAlloc`.
//!
//! | file | noun |
//! | --- | --- |
//! | `machine`, `pages`, `cpu` | [`BenchMachine`]: the seams over plain memory |
//! | [`heap`] | [`Heap`](heap::Heap): what a workload asks of an allocator |
//! | [`ours`] | [`Lines`](ours::Lines), [`Classes`](ours::Classes): caches as heaps |
//! | [`peers`] | the others as heaps |
//! | [`random`] | random numbers that cost next to nothing |
//! | [`workloads`] | what is measured |
//! | [`rows`] | figures as JSON |
//! | [`count`] | instructions, by callgrind |

pub mod count;
mod cpu;
pub mod heap;
mod machine;
pub mod ours;
mod pages;
pub mod peers;
pub mod random;
pub mod rows;
pub mod workloads;

pub use machine::BenchMachine;
