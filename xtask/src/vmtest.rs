// SPDX-License-Identifier: GPL-2.0

//! All scenarios in the virtual machine, and the proof that the runner can fail.

use crate::{
    bench,
    chain::Parts,
    hotpath,
    kernel::Variant,
    outcome::Kind,
    scenario::Scenario,
    tally::Tally,
    ui,
    vm::{self, Options},
    without::Without,
    workshop::Workshop,
};
use anyhow::Result;

/// Runs every scenario on each of its kernels, one kernel after the other, since each takes a while to build; on each the broken
/// ones first, then short chains, and what needs a further kernel last.
pub(crate) fn all(shop: &Workshop, without: &Without) -> Result<Tally> {
    let mut scenarios = Scenario::all(shop.checkout().folder())?;
    let parts = Parts::new(shop)?;
    scenarios.retain(|scenario| !scenario.is_bench());
    scenarios.sort_by_key(|scenario| (scenario.broken.is_none(), scenario.generations.len()));
    let mut tally = Tally::default();
    for variant in Variant::ALL {
        for scenario in &scenarios {
            if !scenario.kernels.contains(&variant) {
                continue;
            }
            if without.skips(scenario, variant) {
                tally += Tally::one(false);
                continue;
            }
            if let Some(expected) = scenario.broken {
                tally += broken(shop, &parts, scenario, variant, expected);
            } else {
                ui::say(format!("--- {}: {}", scenario.name, scenario.summary));
                tally += one(shop, &parts, scenario, variant);
            }
        }
    }
    ui::say("--- what measures, at its smallest size");
    let benches = bench::smallest_in_machine(shop, &parts);
    tally += Tally::of("the benches", benches);
    ui::say("--- the fast paths in the disassembly: nothing locked");
    let looked = hotpath::look(shop, &parts).map(|(_, tally)| tally);
    tally += Tally::of("the fast paths", looked);
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
        if let Some(expected) = scenario.broken {
            for &variant in &scenario.kernels {
                tally += broken(shop, parts, &scenario, variant, expected);
            }
        }
    }
    Ok(tally)
}

fn broken(
    shop: &Workshop,
    parts: &Parts<'_>,
    scenario: &Scenario,
    variant: Variant,
    expected: Kind,
) -> Tally {
    Tally::of(
        format!("the scenario {}", scenario.name),
        noticed(shop, parts, scenario, variant, expected),
    )
}

/// Whether the runner reports what is broken in a scenario.
fn noticed(
    shop: &Workshop,
    parts: &Parts<'_>,
    scenario: &Scenario,
    variant: Variant,
    expected: Kind,
) -> Result<Tally> {
    let outcome = vm::boot(shop, parts, scenario, variant)?;
    let seen = outcome.failures.iter().any(|f| f.kind == expected);
    if !seen {
        ui::say(format!(
                "the runner did not notice: {} ({}) should have been reported as {expected:?}, but was: {:?}",
                scenario.name, scenario.summary, outcome.failures
            ));
    }
    Ok(Tally::one(seen))
}
