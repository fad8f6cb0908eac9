// SPDX-License-Identifier: GPL-2.0

//! Kernels that a run of all scenarios is to do without.

use crate::{kernel::Variant, scenario::Scenario, ui};
use anyhow::{bail, Result};
use clap::ValueEnum;
use std::env;

/// Names them, with commas between.
const VARIABLE: &str = "KPRESERVE_WITHOUT";

/// What is left out.
pub(crate) struct Without(Vec<Variant>);

impl Without {
    /// Reads the variable. A word that is no kernel is an error: asked for before anything is
    /// built.
    pub(crate) fn read() -> Result<Self> {
        Self::parse(&env::var(VARIABLE).unwrap_or_default())
    }

    fn parse(words: &str) -> Result<Self> {
        let mut kernels = Vec::new();
        for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let Ok(variant) = Variant::from_str(word, false) else {
                let names = Variant::ALL.map(Variant::name).join(", ");
                bail!("{VARIABLE} names a kernel {word:?}; there are {names}");
            };
            kernels.push(variant);
        }
        Ok(Self(kernels))
    }

    /// Whether a scenario is left out on a kernel; says so. The caller counts it as failed: half of
    /// a test must not look like all of it.
    pub(crate) fn skips(&self, scenario: &Scenario, variant: Variant) -> bool {
        let is_left_out = self.0.contains(&variant);
        if is_left_out {
            ui::say(format!(
                "--- {} on the {} kernel: left out by {VARIABLE}, which counts as a failure",
                scenario.name,
                variant.name()
            ));
        }
        is_left_out
    }
}

#[cfg(test)]
mod tests {
    use super::Without;
    use crate::kernel::Variant;

    #[test]
    fn what_is_left_out_is_spelt_right() {
        let without = Without::parse("cfi, debug").unwrap();
        assert_eq!(without.0, [Variant::Cfi, Variant::Debug]);
        assert!(Without::parse("").unwrap().0.is_empty());
        let error = Without::parse("cif").err().unwrap().to_string();
        assert!(
            error.contains("\"cif\"") && error.contains("cfi"),
            "{error}"
        );
    }
}
