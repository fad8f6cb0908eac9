// SPDX-License-Identifier: GPL-2.0

//! All scenarios in the virtual machine, and the proof that the runner can fail.

use crate::{
    chain::Parts,
    kernel::Variant,
    outcome::Kind,
    scenario::Scenario,
    tally::Tally,
    ui,
    vm::{self, Options},
    workshop::Workshop,
};
use anyhow::Result;

/// Runs the broken scenarios, then every other one on each of its kernels: short chains first, and what needs a further kernel last.
pub(crate) fn all(shop: &Workshop) -> Result<Tally> {
    let parts = Parts::new(shop)?;
    let mut scenarios = Scenario::all(shop.checkout().folder())?;
    scenarios.retain(|scenario| !scenario.is_bench() && scenario.broken.is_none());
    scenarios.sort_by_key(|scenario| scenario.generations.len());
    let mut tally = selfcheck(shop, &parts)?;
    for variant in [Variant::Plain, Variant::Builtin] {
        for scenario in &scenarios {
            if scenario.kernels.contains(&variant) {
                ui::say(format!("--- {}: {}", scenario.name, scenario.summary));
                tally += one(shop, &parts, scenario, variant);
            }
        }
    }
    Ok(tally)
}

/// Runs one scenario; what keeps it from running at all counts as a failure, and the others still run.
fn one(shop: &Workshop, parts: &Parts<'_>, scenario: &Scenario, variant: Variant) -> Tally {
    let outcome = vm::scenario(shop, parts, scenario, variant, Options::default());
    let tally = outcome.map(|outcome| Tally {
        passed: outcome.passed,
        failed: outcome.failures.len().max(usize::from(!outcome.is_good())),
    });
    Tally::of(
        format!("{} on the {} kernel", scenario.name, variant.name()),
        tally,
    )
}

/// Runs the scenarios that are broken on purpose. Each must be reported, and as what it is.
pub(crate) fn selfcheck(shop: &Workshop, parts: &Parts<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    for scenario in Scenario::all(shop.checkout().folder())? {
        let Some(expected) = scenario.broken else {
            continue;
        };
        tally += Tally::of(
            format!("the scenario {}", scenario.name),
            noticed(shop, parts, &scenario, expected),
        );
    }
    Ok(tally)
}

/// Whether the runner reports what is broken in a scenario.
fn noticed(
    shop: &Workshop,
    parts: &Parts<'_>,
    scenario: &Scenario,
    expected: Kind,
) -> Result<Tally> {
    let outcome = vm::boot(shop, parts, scenario, Variant::Plain)?;
    let seen = outcome.failures.iter().any(|f| f.kind == expected);
    if !seen {
        ui::say(format!(
                "the runner did not notice: {} ({}) should have been reported as {expected:?}, but was: {:?}",
                scenario.name, scenario.summary, outcome.failures
            ));
    }
    Ok(Tally::one(seen))
}
