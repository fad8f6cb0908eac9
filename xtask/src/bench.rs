// SPDX-License-Identifier: GPL-2.0

//! Measuring: in the virtual machine the scenarios named `bench-*`, on the host what [`hostbench`] runs. Keeps the rows of both, draws them.

use crate::{
    chain::Parts,
    demo, draw, figures, host, hostbench, hotpath,
    outcome::Outcome,
    qemu::Accel,
    scenario::{Mode, Scenario},
    tally::Tally,
    ui,
    vm::{self, Options},
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use comfy_table::{presets, CellAlignment, Table};
use serde::{Deserialize, Serialize};

/// One figure. The same form everywhere: `target/bench/vm.json` and `target/bench/host.json` are arrays of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    /// What was measured, `object.preserve`.
    pub(crate) name: String,
    /// The size of the problem.
    pub(crate) n: u64,
    pub(crate) ours: f64,
    /// What the peer took, in the same boot.
    pub(crate) peer: Option<f64>,
    /// The function or crate that it is compared with.
    pub(crate) peer_name: Option<String>,
    pub(crate) unit: String,
    /// ours / peer.
    pub(crate) ratio: Option<f64>,
}

/// Where to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Where {
    pub(crate) host: bool,
    pub(crate) vm: bool,
}

/// `xtask bench`.
pub(crate) fn command(shop: &Workshop, place: Where, smallest: bool) -> Result<()> {
    let everywhere = place == Where::default();
    if place.vm || everywhere {
        // Before minutes of building.
        host::prepare()?;
    }
    let mut tally = Tally::default();
    if place.host || everywhere {
        tally += match smallest {
            true => hostbench::smallest(shop.checkout())?,
            false => on_host(shop)?,
        };
    }
    if place.vm || everywhere {
        tally += match smallest {
            true => smallest_in_machine(shop, &Parts::new(shop)?)?,
            false => in_machine(shop)?,
        };
    }
    tally.close()
}

/// Against the allocators of the field; a comparison counts as a test that passed.
fn on_host(shop: &Workshop) -> Result<Tally> {
    let rows = hostbench::all(shop.checkout())?;
    show(shop, &rows, "host")?;
    let missing = figures::of_host(shop.checkout(), &rows)?;
    Ok(Tally {
        passed: rows.len(),
        failed: complain("host", &missing),
    })
}

/// Runs each scenario that measures at its smallest size. It is to run, and to give the rows that
/// it promises; their figures say nothing, and are not kept. Scenarios that differ in size alone
/// are one then.
pub(crate) fn smallest_in_machine(shop: &Workshop, parts: &Parts<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut done: Vec<(Scenario, Vec<Row>)> = Vec::new();
    for scenario in Scenario::all(shop.checkout().folder())? {
        if !scenario.is_bench() {
            continue;
        }
        let small = scenario.reduced()?;
        if let Some((same, rows)) = done.iter().find(|(other, _)| small.does_as(other)) {
            ui::say(format!("--- {}: as {}", small.name, same.name));
            tally += judge(&small, rows);
            continue;
        }
        ui::say(format!("--- {}: {}", small.name, small.summary));
        let mut rows = Vec::new();
        for &variant in &small.kernels {
            let outcome = vm::scenario(shop, parts, &small, variant, Options::default());
            tally += Tally::of(
                &small.name,
                outcome.and_then(|outcome| {
                    rows.extend(rows_of(&small, &outcome)?);
                    Ok(counted(&outcome))
                }),
            );
        }
        tally += judge(&small, &rows);
        done.push((small, rows));
    }
    // The last two come from the disassembly.
    let rows = done.iter().flat_map(|(_, rows)| rows);
    let names = rows.map(|row| row.name.as_str()).chain(hotpath::ROWS);
    let missing = figures::of_machine(shop.checkout(), names)?;
    tally += Tally::one(complain("the scenarios", &missing) == 0);
    Ok(tally)
}

/// A run that reports nothing has failed.
fn counted(outcome: &Outcome) -> Tally {
    Tally {
        passed: outcome.passed,
        failed: outcome.failures.len().max(usize::from(!outcome.is_good())),
    }
}

/// Whether a scenario gave the rows that it promises: one test.
fn judge(scenario: &Scenario, rows: &[Row]) -> Tally {
    let wrong = figures::of_scenario(scenario, rows);
    Tally::one(complain(&scenario.name, &wrong) == 0)
}

fn complain(whose: &str, wrong: &[String]) -> usize {
    for what in wrong {
        ui::say(format!("    {whose}: {what}"));
    }
    wrong.len()
}

fn rows_of(scenario: &Scenario, outcome: &Outcome) -> Result<Vec<Row>> {
    let parse = |value: &serde_json::Value| {
        serde_json::from_value(value.clone())
            .map(complete)
            .with_context(|| format!("{}: not a row of figures: {value}", scenario.name))
    };
    outcome.rows("bench").iter().map(parse).collect()
}

/// In the virtual machine.
fn in_machine(shop: &Workshop) -> Result<Tally> {
    let parts = Parts::new(shop)?;
    let mut rows = Vec::new();
    let mut tally = Tally::default();
    for scenario in Scenario::all(shop.checkout().folder())? {
        if !scenario.is_bench() {
            continue;
        }
        // Wall time says little without the machine that it was taken on.
        let clock = match scenario.mode {
            Mode::Exact => String::new(),
            Mode::Normal => {
                let accel = Accel::choose(shop, &parts, scenario.mode)?;
                format!(", wall clock, {}", accel.name())
            }
        };
        ui::say(format!("--- {}: {}", scenario.name, scenario.summary));
        let mut of_scenario = Vec::new();
        for &variant in &scenario.kernels {
            let outcome = vm::scenario(shop, &parts, &scenario, variant, Options::default())?;
            of_scenario.extend(rows_of(&scenario, &outcome)?);
            tally += counted(&outcome);
        }
        tally += judge(&scenario, &of_scenario);
        rows.extend(of_scenario.into_iter().map(|mut row| {
            row.unit.push_str(&clock);
            row
        }));
    }
    if rows.is_empty() {
        bail!("no scenario bench-* of selftests/scenarios gave any figures");
    }
    let (of_hotpaths, looked) = hotpath::look(shop, &parts)?;
    rows.extend(of_hotpaths);
    tally += looked;
    let names = rows.iter().map(|row| row.name.as_str());
    let missing = figures::of_machine(shop.checkout(), names)?;
    tally += Tally::one(complain("the scenarios", &missing) == 0);
    show(shop, &rows, "vm")?;
    Ok(tally)
}

/// Keeps the rows as `target/bench/NAME.json`, draws them in a folder of that name, prints them.
fn show(shop: &Workshop, rows: &[Row], name: &str) -> Result<()> {
    let folder = shop.checkout().target("bench");
    let path = folder.join(format!("{name}.json"));
    demo::write(&path, &serde_json::to_value(rows)?)?;
    let drawings = folder.join(name);
    let nr_drawings = draw::all(rows, &drawings)?;
    println!("{}", table(rows));
    println!(
        "figures: {}; {nr_drawings} drawings in {}",
        path.display(),
        drawings.display()
    );
    Ok(())
}

/// Adds the ratio if the machine left it out: the kernel has no floating point.
fn complete(mut row: Row) -> Row {
    if let (None, Some(peer)) = (row.ratio, row.peer) {
        if peer > 0.0 {
            row.ratio = Some(row.ours / peer);
        }
    }
    row
}

/// The rows, for people.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["what", "n", "ours", "peer", "ratio", "unit", "peer is"]);
    for row in rows {
        table.add_row([
            row.name.clone(),
            row.n.to_string(),
            figure(row.ours),
            row.peer.map_or(String::new(), figure),
            row.ratio
                .map_or(String::new(), |ratio| format!("{ratio:.3}")),
            row.unit.clone(),
            row.peer_name.clone().unwrap_or_default(),
        ]);
    }
    for index in 1..5 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn figure(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}
