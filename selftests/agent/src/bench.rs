// SPDX-License-Identifier: GPL-2.0

//! Figures that user space takes: in exact mode a nanosecond is an instruction.

use crate::{words, Machine};
use anyhow::{bail, Context, Result};
use serde_json::json;

/// `keep NAME [KEY]`: keeps `ns`, or another figure, of the last reply, of this generation.
pub(crate) fn keep(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (name, key) = match arguments {
        [name] => (name, "ns"),
        [name, key] => (name, key.as_str()),
        _ => bail!("keep: NAME [KEY]"),
    };
    let found = machine.reply.iter().rev().find(|(k, _)| k == key);
    let (_, value) = found.with_context(|| format!("the last reply has no {key}"))?;
    let value = value
        .parse()
        .with_context(|| format!("{key} is no number: {value:?}"))?;
    machine.kept.insert(name.clone(), value);
    Ok(())
}

/// `bench-row ROW N OURS PEER PEER_NAME [unit=UNIT]`: a row of two figures that were kept.
pub(crate) fn row(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (unit, rest) = words::option(arguments, "unit");
    let [row, n, ours, peer, peer_name] = rest[..] else {
        bail!("bench-row: ROW N OURS PEER PEER_NAME");
    };
    let kept = |name: &str| {
        let figure = machine.kept.get(name);
        figure
            .copied()
            .with_context(|| format!("{name:?} was not kept"))
    };
    let (ours, peer) = (kept(ours)?, kept(peer)?);
    let n: u64 = n.parse().context("N is a number")?;
    let row = json!({
        "name": row,
        "n": n,
        "ours": ours as f64,
        "peer": peer as f64,
        "peer_name": peer_name,
        "unit": unit.unwrap_or("instructions"),
        "ratio": ours as f64 / peer as f64,
    });
    machine.report.json("bench", &row);
    Ok(())
}
