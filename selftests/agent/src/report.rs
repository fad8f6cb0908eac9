// SPDX-License-Identifier: GPL-2.0

//! What the runner reads: KTAP and rows of JSON.
//!
//! They go over the second serial line, so that the kernel's own messages, on the first one, never break into a line.

use rustix::termios::{tcdrain, tcgetattr, tcsetattr, OptionalActions};
use std::{
    fs::{File, OpenOptions},
    io::Write,
};

/// Where lines go.
pub(crate) struct Report {
    out: Option<File>,
    /// Number and text of the running step.
    pub(crate) step: (usize, String),
}

impl Report {
    /// Opens the second serial line, or else the console.
    pub(crate) fn open() -> Self {
        let out = ["/dev/ttyS1", "/dev/console"]
            .iter()
            .find_map(|path| OpenOptions::new().write(true).open(path).ok());
        if let Some(out) = &out {
            if let Ok(mut settings) = tcgetattr(out) {
                settings.make_raw();
                let _ = tcsetattr(out, OptionalActions::Now, &settings);
            }
        }
        Self {
            out,
            step: (0, String::new()),
        }
    }

    /// Writes one line and waits until it is out: the machine may be gone after the next step.
    pub(crate) fn line(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            // Nobody is left to tell when the only line out is broken; the runner misses the report.
            let _ = out.write_all(format!("{text}\n").as_bytes());
        }
        self.drain();
    }

    /// Waits until everything is out.
    pub(crate) fn drain(&mut self) {
        if let Some(out) = &self.out {
            let _ = tcdrain(out);
        }
    }

    /// A remark.
    pub(crate) fn note(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("# {line}"));
        }
    }

    /// What a program said; `xtask vm` shows these lines.
    pub(crate) fn said(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("#| {line}"));
        }
    }

    /// A row for the runner to collect.
    pub(crate) fn json(&mut self, channel: &str, row: &serde_json::Value) {
        self.line(&format!("@@json {channel} {row}"));
    }

    /// The running step succeeded.
    pub(crate) fn passed(&mut self) {
        let line = format!("ok {} - {}", self.step.0, escape(&self.step.1));
        self.line(&line);
    }

    /// The running step failed.
    pub(crate) fn failed(&mut self, why: &str) {
        let line = format!(
            "not ok {} - {} # {}",
            self.step.0,
            escape(&self.step.1),
            why.replace('\n', " ")
        );
        self.line(&line);
    }
}

/// A `#` would end the name.
fn escape(name: &str) -> String {
    name.replace('#', "\\#")
}
