// SPDX-License-Identifier: GPL-2.0

//! What people see while it works: stages with their elapsed time.
//!
//! On a terminal a stage is one line that is redrawn; elsewhere (CI, a pipe) it is plain lines, with a sign of life
//! every few seconds, so that nobody mistakes a long compile for a hang.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fmt::Display,
    io::IsTerminal,
    time::{Duration, Instant},
};

/// How often a stage says something where it cannot redraw its line.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Prints a line that is not part of any stage.
pub(crate) fn say(text: impl Display) {
    eprintln!("{text}");
}

/// Prints the last line, in the place of a stage's own.
pub(crate) fn last_word(text: &str) {
    if std::io::stderr().is_terminal() {
        // To the left, and clear to the right.
        eprint!("\r\x1b[K");
    }
    eprintln!("{text}");
}

/// Prints an error with its causes, and without a backtrace, whatever the environment says: these errors are about the machine, not about
/// us.
pub(crate) fn complain(error: &anyhow::Error) {
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    eprintln!("error: {}", causes.join("\n  because: "));
    if let Some(hint) = causes.iter().find_map(|cause| hint(cause)) {
        eprintln!("  do: {hint}");
    }
}

/// What to do about what the system says, wherever it says it.
fn hint(cause: &str) -> Option<&'static str> {
    // Of this process, or in the output of another one.
    cause.contains("No space left on device").then_some(
        "free some space, or name another place for the cache with KPRESERVE_CACHE=DIR; what is complete is kept",
    )
}

/// One step of the work, shown with its elapsed time.
pub(crate) struct Stage {
    name: String,
    started: Instant,
    last_sign: Instant,
    last_note: String,
    bar: Option<ProgressBar>,
}

impl Stage {
    /// Starts a stage and shows its name.
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("==> {name}");
        }
        let now = Instant::now();
        Self {
            name,
            started: now,
            last_sign: now,
            last_note: String::new(),
            bar,
        }
    }

    /// Shows what the stage is doing right now, for instance the last line of a compiler's output.
    pub(crate) fn note(&mut self, line: &str) {
        self.last_note = line.trim().chars().take(100).collect();
        if let Some(bar) = &self.bar {
            bar.set_message(self.last_note.clone());
        }
        self.tick();
    }

    /// Gives a sign of life if it is time for one.
    pub(crate) fn tick(&mut self) {
        if self.bar.is_none() && self.last_sign.elapsed() >= SIGN_OF_LIFE {
            self.last_sign = Instant::now();
            eprintln!(
                "    {:4} s  {}",
                self.started.elapsed().as_secs(),
                self.last_note
            );
        }
    }

    /// Prints a whole line without disturbing the stage's own.
    pub(crate) fn print(&self, line: impl Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Ends the stage and prints its time with a short result.
    pub(crate) fn done(self, result: impl Display) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let result = result.to_string();
        let gap = if result.is_empty() { "" } else { ": " };
        eprintln!("<== {}{gap}{result} ({seconds:.1} s)", self.name);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn a_full_disk_has_a_hint() {
        let error = std::io::Error::from_raw_os_error(28).to_string();
        assert!(hint(&error).is_some(), "{error}");
        assert!(hint("cc1: fatal error: x.s: No space left on device").is_some());
        assert!(hint("no such file").is_none());
    }
}
