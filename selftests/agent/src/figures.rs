// SPDX-License-Identifier: GPL-2.0

//! Rows of the demo's table.

use crate::{klog, module, Machine};
use anyhow::{bail, Context, Result};
use serde_json::{json, Map, Value};
use std::time::Instant;

/// `figures ROW KEY[=NAME] ...`: reports figures of the last reply, as they are or by another name. With `-` as ROW they
/// stand below the table.
pub(crate) fn figures(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let Some((row, keys)) = arguments.split_first() else {
        bail!("figures: which row?");
    };
    let mut figures = Map::new();
    for word in keys {
        let (key, name) = word.split_once('=').unwrap_or((word, word));
        let found = machine.reply.iter().rev().find(|(k, _)| k == key);
        let (_, value) = found.with_context(|| format!("the last reply has no {key}"))?;
        let number = value
            .parse()
            .map_or_else(|_| json!(value), |n: u64| json!(n));
        figures.insert(name.to_owned(), number);
    }
    put(machine, row, figures);
    Ok(())
}

/// `adopt ROW`: loads kpreserve and reports how long that took, and when this kernel began to unpack its initramfs: the
/// time that it needed for itself, whatever the size of the initramfs.
pub(crate) fn adopt(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [row] = arguments else {
        bail!("adopt: which row?");
    };
    let started = Instant::now();
    module::insmod(machine, &["kpreserve".to_owned()])?;
    let adopt_ns = started.elapsed().as_nanos() as u64;
    let boot_ns = klog::when("Unpacking initramfs...")?;
    let figures = [("boot_ns", boot_ns), ("adopt_ns", adopt_ns)];
    let figures = figures.map(|(name, value)| (name.to_owned(), json!(value)));
    put(machine, row, figures.into_iter().collect());
    Ok(())
}

fn put(machine: &mut Machine, row: &str, figures: Map<String, Value>) {
    let rows = if row == "-" {
        figures
    } else {
        Map::from_iter([(row.to_owned(), Value::Object(figures))])
    };
    machine.report.json("demo", &Value::Object(rows));
}
