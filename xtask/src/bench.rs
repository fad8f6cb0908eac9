// SPDX-License-Identifier: GPL-2.0

//! Measuring: in the virtual machine the scenarios named `bench-*`, on the host what [`hostbench`] runs. Keeps the rows of both, draws them.

use crate::{
    chain::Parts,
    demo, draw, hostbench, hotpath,
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
pub(crate) fn command(shop: &Workshop, place: Where) -> Result<()> {
    let everywhere = place == Where::default();
    let mut tally = Tally::default();
    if place.host || everywhere {
        tally += host(shop)?;
    }
    if place.vm || everywhere {
        tally += machine(shop)?;
    }
    tally.close()
}

/// Against the allocators of the field; a comparison counts as a test that passed.
fn host(shop: &Workshop) -> Result<Tally> {
    let rows = hostbench::all(shop.checkout())?;
    show(shop, &rows, "host")?;
    Ok(Tally {
        passed: rows.len(),
        failed: 0,
    })
}

/// In the virtual machine.
fn machine(shop: &Workshop) -> Result<Tally> {
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
        for &variant in &scenario.kernels {
            let outcome = vm::scenario(shop, &parts, &scenario, variant, Options::default())?;
            for value in outcome.rows("bench") {
                let mut row: Row = serde_json::from_value(value.clone())
                    .with_context(|| format!("{}: not a row of figures: {value}", scenario.name))?;
                row.unit.push_str(&clock);
                rows.push(complete(row));
            }
            tally += Tally {
                passed: outcome.passed,
                failed: outcome.failures.len(),
            };
        }
    }
    if rows.is_empty() {
        bail!("no scenario bench-* of selftests/scenarios gave any figures");
    }
    let (of_hotpaths, looked) = hotpath::look(shop, &parts)?;
    rows.extend(of_hotpaths);
    tally += looked;
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
