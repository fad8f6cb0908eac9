// SPDX-License-Identifier: GPL-2.0

//! Ctrl-C: one line, and no trace.
//!
//! What runs in the build root, QEMU included, dies with this process (see jail.rs). What was half
//! made in the cache has a temporary name, and is made anew by the next run (see cache.rs).

use crate::ui;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{process, thread};

/// What is said; it follows a terminal's `^C`.
const LINE: &str =
    "interrupted. What is complete is kept; run the same command again, and it goes on from there";

/// Ends the process with one line when it is told to end.
pub(crate) fn watch() {
    let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) else {
        // Then it ends without a line.
        return;
    };
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            ui::last_word(LINE);
            // As a shell says it of a process that a signal ended.
            process::exit(128 + signal);
        }
    });
}
