// SPDX-License-Identifier: GPL-2.0

//! Counting tests of all kinds.

use crate::ui;
use anyhow::{bail, Context, Result};
use std::{fmt::Display, ops::AddAssign};

/// How many passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Tally {
    /// One test.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: usize::from(passed),
            failed: usize::from(!passed),
        }
    }

    /// Tests that may not have run to their end: what kept them from it is printed and counts as a failure.
    pub(crate) fn of(what: impl Display, result: Result<Self>) -> Self {
        result.context(what.to_string()).unwrap_or_else(|error| {
            ui::complain(&error);
            Self::one(false)
        })
    }

    /// Prints the closing line, and turns failures (and the absence of any test) into an error.
    pub(crate) fn close(self) -> Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout();
        writeln!(out, "{} passed, {} failed", self.passed, self.failed)?;
        out.flush()?;
        if self.failed > 0 || self.passed == 0 {
            bail!(Closed);
        }
        Ok(())
    }
}

/// The run failed, and the closing line said so: nothing is to be printed after it.
#[derive(Debug)]
pub(crate) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tests failed, or none ran")
    }
}

impl std::error::Error for Closed {}
