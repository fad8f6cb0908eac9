// SPDX-License-Identifier: GPL-2.0

//! Which kernel: the series and their fallbacks, from `kernel/series.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::{env, fs, path::Path};

/// The file `kernel/series.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Series {
    release: String,
    #[serde(rename = "series")]
    wanted: Vec<Wanted>,
}

/// One series, and where to look for it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// As in the package's name, `7.3`.
    pub(crate) series: String,
    /// The suite of the archive that has it.
    pub(crate) suite: String,
}

impl Series {
    /// Reads the file of a checkout.
    pub(crate) fn read(checkout: &Path) -> Result<Self> {
        let path = checkout.join("kernel/series.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }

    /// The Debian release of the build root.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The series to try, in order. `KPRESERVE_SERIES` names a single one; it is looked for in every known suite.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        match env::var("KPRESERVE_SERIES") {
            Ok(series) if !series.is_empty() => self
                .suites()
                .map(|suite| Wanted {
                    series: series.clone(),
                    suite: suite.to_owned(),
                })
                .collect(),
            _ => self.wanted.clone(),
        }
    }

    /// The suites of the archive that may have kernel sources.
    pub(crate) fn suites(&self) -> impl Iterator<Item = &str> {
        let mut suites: Vec<_> = self.wanted.iter().map(|w| w.suite.as_str()).collect();
        suites.push(&self.release);
        suites.dedup();
        suites.into_iter()
    }
}
