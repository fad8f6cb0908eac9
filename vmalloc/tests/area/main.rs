// SPDX-License-Identifier: GPL-2.0

//! Areas and vectors on the simulated machine.

mod common;
mod errors;
mod reboot;
mod refusals;
mod runs;
mod vector;
mod views;
