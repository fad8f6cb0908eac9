// SPDX-License-Identifier: GPL-2.0

//! How a run ended: what passed, what failed and why, and the rows it brought.

use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The kernel panicked.
    Panic,
    /// The kernel printed a WARN, BUG, oops or the like.
    Warn,
    /// Nothing more came, or not in time.
    Hang,
    /// A test failed.
    Test,
    /// A test was skipped that may not be.
    Skip,
    /// Results are missing: no plan, too few results, a generation or the end not reached.
    Plan,
    /// A line that should have been JSON was not.
    Json,
    /// QEMU itself failed.
    Qemu,
}

/// A failure.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Panic => "kernel panic",
            Kind::Warn => "kernel warning",
            Kind::Hang => "hang",
            Kind::Test => "test failed",
            Kind::Skip => "test skipped",
            Kind::Plan => "results missing",
            Kind::Json => "bad row",
            Kind::Qemu => "qemu",
        };
        write!(f, "{kind}: {}", self.what)
    }
}

/// Everything about a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failures: Vec<Failure>,
    /// Rows of `@@json CHANNEL {...}`, by channel.
    pub(crate) rows: BTreeMap<String, Vec<Value>>,
}

impl Outcome {
    /// Records a failure.
    pub(crate) fn fail(&mut self, kind: Kind, what: impl Into<String>) {
        self.failures.push(Failure {
            kind,
            what: what.into(),
        });
    }

    /// Whether all went well. Nothing at all is not well.
    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.passed > 0
    }

    /// The rows of a channel.
    pub(crate) fn rows(&self, channel: &str) -> &[Value] {
        self.rows.get(channel).map_or(&[], Vec::as_slice)
    }
}
