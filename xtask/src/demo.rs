// SPDX-License-Identifier: GPL-2.0

//! The main job, and its numbers as a table and as JSON.
//!
//! The machine sends rows `@@json demo {"PART": {"FIGURE": number, ...}, "FIGURE": value, ...}`. They are merged: objects become lines of
//! the table, plain figures are listed below it.

use crate::{
    chain::Parts,
    kernel::Variant,
    scenario::Scenario,
    ui,
    vm::{self, Options},
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use comfy_table::{presets, CellAlignment, Table};
use serde_json::{Map, Value};
use std::{fs, path::Path};

/// `xtask demo`.
pub(crate) fn command(shop: &Workshop) -> Result<()> {
    let scenario = Scenario::read(shop.checkout().folder(), "demo")?;
    let parts = Parts::new(shop)?;
    ui::say(format!("--- {}", scenario.summary));
    let outcome = vm::scenario(shop, &parts, &scenario, Variant::Plain, Options::default())?;
    let mut all = Map::new();
    for row in outcome.rows("demo") {
        match row {
            Value::Object(row) => merge(&mut all, row),
            other => bail!("a row of the demo is no object: {other}"),
        }
    }
    let path = shop.checkout().target("demo.json");
    write(&path, &Value::Object(all.clone()))?;
    println!("{}", table(&all));
    println!(
        "{} checks passed, {} failed; figures: {}; log: {}",
        outcome.passed,
        outcome.failures.len(),
        path.display(),
        vm::log(shop, &scenario, Variant::Plain).display()
    );
    if !outcome.is_good() {
        bail!("the demo failed");
    }
    Ok(())
}

/// Adds `from` to `into`, objects within objects included.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Writes JSON for people and programs.
pub(crate) fn write(path: &Path, value: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn table(all: &Map<String, Value>) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for part in all.values().filter_map(Value::as_object) {
        for key in part.keys() {
            if !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header([""].iter().chain(&columns).map(|name| heading(name)));
    for (name, part) in all {
        let Some(part) = part.as_object() else {
            continue;
        };
        let cells = columns
            .iter()
            .map(|column| part.get(*column).map_or(String::new(), |v| show(column, v)));
        table.add_row(std::iter::once(name.clone()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let figures = all
        .iter()
        .filter(|(_, value)| !value.is_object())
        .map(|(name, value)| format!("{}: {}\n", heading(name), show(name, value)));
    format!("{table}\n{}", figures.collect::<String>())
}

/// `added_boot_ns` reads "added boot": the unit stands with each figure.
fn heading(name: &str) -> String {
    name.trim_end_matches("_ns").replace('_', " ")
}

/// A figure with its unit, which the end of its name tells.
fn show(name: &str, value: &Value) -> String {
    let Some(number) = value.as_u64() else {
        return value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
    };
    if name.ends_with("_ns") {
        match number {
            0..10_000 => format!("{number} ns"),
            10_000..10_000_000 => format!("{} us", number / 1000),
            _ => format!("{} ms", number / 1_000_000),
        }
    } else if name.ends_with("bytes") && number >= 10 << 20 {
        format!("{} MiB", number >> 20)
    } else if name.ends_with("bytes") && number >= 10 << 10 {
        format!("{} KiB", number >> 10)
    } else {
        grouped(number)
    }
}

/// 1234567 as "1 234 567".
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{grouped, merge, show, table};
    use serde_json::{json, Map, Value};

    #[test]
    fn rows_are_merged() {
        let mut all = Map::new();
        for row in [
            json!({"cache": {"objects": 5}, "kernels": 2}),
            json!({"cache": {"bytes": 7}, "kernels": 3}),
        ] {
            merge(&mut all, row.as_object().unwrap());
        }
        assert_eq!(
            Value::Object(all.clone()),
            json!({"cache": {"objects": 5, "bytes": 7}, "kernels": 3})
        );
        let text = table(&all);
        assert!(
            text.contains("objects") && text.contains("kernels: 3"),
            "{text}"
        );
    }

    #[test]
    fn figures() {
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(12), "12");
        assert_eq!(show("freeze_ns", &json!(25_000)), "25 us");
        assert_eq!(show("bytes", &json!(268_435_456u64)), "256 MiB");
        assert_eq!(show("name", &json!("x")), "x");
    }
}
