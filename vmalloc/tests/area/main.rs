// SPDX-License-Identifier: GPL-2.0

//! Areas and vectors on the simulated machine.

mod common;
mod edit;
mod edit_cut;
mod edit_refusals;
mod errors;
mod interchange;
mod reboot;
mod refusals;
mod runs;
mod vector;
mod views;
