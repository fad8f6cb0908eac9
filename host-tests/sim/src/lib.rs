// SPDX-License-Identifier: GPL-2.0

//! A machine that reboots.
//!
//! [`SimMachine`] implements the seams of `kho/` over a memfd: physical pages, a buddy allocator,
//! and what mainline KHO does with keys, subtrees and struct pages. It is as strict as a kernel
//! with all debug options: what a kernel would WARN about is a *violation*, and a test asserts
//! that there were none ([`SimMachine::assert_sound`]).
//!
//! - [`SimMachine::reboot`] stops the machine and starts the next kernel on the same memory, mapped
//!   at another address; all that was not preserved is scrambled. Touching the memory of a machine
//!   that was stopped ends the process with a message.
//! - [`Recorder`] takes an [`Image`] before each observed step (seam call, atomic store) of a
//!   workload; each can be booted on its own, so one run of the workload tries a cut at each step.
//! - [`Faults`] let the n-th fallible call fail; [`Counters`] tell what things cost.
//! - [`SimLedger`] is a small run table for tests of what lies below the framework.
//!
//! | file | noun |
//! | --- | --- |
//! | `config` | [`Config`] |
//! | `region` | where in the address space machines lie |
//! | `memory` | the memfd and its window |
//! | `buddy` | the page allocator |
//! | `machine` | [`SimMachine`], boot and reboot |
//! | `kho` | its `Handover`: keys, magic, subtrees |
//! | `pages` | its `PageSource` |
//! | `cpu` | its `CpuLocal`: a thread is a CPU |
//! | `image`, `recorder` | [`Image`], [`Recorder`] |
//! | `counters`, `faults` | [`Counters`], [`Faults`] |
//! | `exec` | handing the memfd to the next image of the same process |
//! | `ledger` | [`SimLedger`] |
//!
//! Files here may depend on `kho/`, the stand-in `kernel` and libc, and on nothing above.

mod buddy;
mod config;
mod counters;
mod cpu;
mod exec;
mod faults;
mod image;
mod kho;
mod ledger;
mod machine;
mod memory;
mod pages;
mod random;
mod recorder;
mod region;

pub use config::Config;
pub use counters::Counters;
pub use cpu::set_cpu;
pub use faults::{
    Call,
    Faults, //
};
pub use image::Image;
pub use ledger::SimLedger;
pub use machine::SimMachine;
pub use random::Random;
pub use recorder::{
    Cut,
    Recorder, //
};
