// SPDX-License-Identifier: GPL-2.0

//! All scenarios in the virtual machine, and the proof that the runner can fail.

use crate::{
    chain::Parts,
    kernel::Variant,
    scenario::Scenario,
    tally::Tally,
    ui,
    vm::{self, Options},
    workshop::Workshop,
};
use anyhow::Result;

/// Runs every scenario on each of its kernels, then the broken ones.
pub(crate) fn all(shop: &Workshop) -> Result<Tally> {
    let parts = Parts::new(shop)?;
    let mut tally = Tally::default();
    for scenario in Scenario::all(shop.checkout().folder())? {
        if scenario.is_bench() || scenario.broken.is_some() {
            continue;
        }
        ui::say(format!("--- {}: {}", scenario.name, scenario.summary));
        for &variant in &scenario.kernels {
            tally += one(shop, &parts, &scenario, variant);
        }
    }
    tally += selfcheck(shop, &parts)?;
    Ok(tally)
}

/// Runs one scenario; what keeps it from running at all counts as a failure, and the others still run.
fn one(shop: &Workshop, parts: &Parts<'_>, scenario: &Scenario, variant: Variant) -> Tally {
    match vm::scenario(shop, parts, scenario, variant, Options::default()) {
        Ok(outcome) => Tally {
            passed: outcome.passed,
            failed: outcome.failures.len().max(usize::from(!outcome.is_good())),
        },
        Err(error) => {
            ui::say(format!(
                "{} on the {} kernel: {error:#}",
                scenario.name,
                variant.name()
            ));
            Tally::one(false)
        }
    }
}

/// Runs the scenarios that are broken on purpose. Each must be reported, and as what it is.
pub(crate) fn selfcheck(shop: &Workshop, parts: &Parts<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    for scenario in Scenario::all(shop.checkout().folder())? {
        let Some(expected) = scenario.broken else {
            continue;
        };
        let outcome = vm::boot(shop, parts, &scenario, Variant::Plain)?;
        let seen = outcome.failures.iter().any(|f| f.kind == expected);
        if !seen {
            ui::say(format!(
                "the runner did not notice: {} ({}) should have been reported as {expected:?}, but was: {:?}",
                scenario.name, scenario.summary, outcome.failures
            ));
        }
        tally += Tally::one(seen);
    }
    Ok(tally)
}
