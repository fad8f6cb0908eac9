// SPDX-License-Identifier: GPL-2.0

//! Which figures there have to be: what scenarios promise, and what Documentation/benchmarks.rst
//! lists.

use crate::{bench::Row, checkout::Checkout, scenario::Scenario};
use anyhow::{ensure, Context, Result};
use std::{collections::BTreeSet, fs};

/// Where the documentation lists what is measured.
const DOCUMENT: &str = "Documentation/benchmarks.rst";

/// Allocators that each workload of the host is run for, beside ours.
const HOST_PEERS: &[&str] = &["jemalloc", "mimalloc", "snmalloc", "glibc"];

/// Says what is wrong with the rows of a scenario: those that it promises and did not give, and
/// those that it gave and did not promise.
pub(crate) fn of_scenario(scenario: &Scenario, rows: &[Row]) -> Vec<String> {
    let given: BTreeSet<_> = rows.iter().map(|row| (name(row), peer(row))).collect();
    let promised: BTreeSet<_> = scenario.rows.iter().map(|row| promise(row)).collect();
    let missing = promised.difference(&given);
    let missing = missing.map(|(name, peer)| format!("there is no row {name} against {peer}"));
    let new = given
        .iter()
        .filter(|(name, _)| promised.iter().all(|(promised, _)| promised != name));
    let new = new.map(|(name, _)| format!("the row {name} is not in `rows`"));
    missing.chain(new).collect()
}

/// Says which workloads of the documentation the host's rows lack, or lack a peer of.
pub(crate) fn of_host(checkout: &Checkout, rows: &[Row]) -> Result<Vec<String>> {
    let text = read(checkout)?;
    let workloads = first_column(&text, "workload")?;
    let mut missing = Vec::new();
    // mstress has no figures.
    for workload in workloads.iter().filter(|name| name.starts_with("host.")) {
        for wanted in HOST_PEERS {
            if !rows
                .iter()
                .any(|row| row.name == *workload && peer(row) == *wanted)
            {
                missing.push(format!("there is no row {workload} against {wanted}"));
            }
        }
    }
    Ok(missing)
}

/// Says which rows of the virtual machine are documented, and are not among `rows`.
pub(crate) fn of_machine<'a>(
    checkout: &Checkout,
    rows: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>> {
    let mut missing = documented(checkout)?;
    for name in rows {
        missing.remove(name);
    }
    let say = |name| format!("there is no row {name}, which {DOCUMENT} lists");
    Ok(missing.into_iter().map(say).collect())
}

/// The names of the rows of the virtual machine that are documented.
fn documented(checkout: &Checkout) -> Result<BTreeSet<String>> {
    let cells = first_column(&read(checkout)?, "row")?;
    Ok(cells.iter().flat_map(|cell| names(cell)).collect())
}

fn read(checkout: &Checkout) -> Result<String> {
    let path = checkout.path(DOCUMENT);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn name(row: &Row) -> &str {
    &row.name
}

fn peer(row: &Row) -> &str {
    row.peer_name.as_deref().unwrap_or("nothing")
}

/// `NAME PEER`; a peer's name may have blanks.
fn promise(row: &str) -> (&str, &str) {
    row.split_once(' ').unwrap_or((row, "nothing"))
}

/// `slab.alloc, .free` as `slab.alloc` and `slab.free`.
fn names(cell: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in cell.split(", ") {
        let start = names.first().and_then(|first| first.rsplit_once('.'));
        names.push(match (word.strip_prefix('.'), start) {
            (Some(end), Some((start, _))) => format!("{start}.{end}"),
            _ => word.to_owned(),
        });
    }
    names
}

/// The first column of the first table whose heading is `heading`.
fn first_column(text: &str, heading: &str) -> Result<Vec<String>> {
    let mut lines = text.lines();
    let is_rule = |line: &str| line.starts_with("==") && line.contains(' ');
    let mut rule = None;
    for line in lines.by_ref() {
        if rule.is_some() && line.split("  ").next() == Some(heading) {
            break;
        }
        rule = is_rule(line).then_some(line);
    }
    let rule = rule.with_context(|| format!("{DOCUMENT} has no table of {heading:?}"))?;
    let width = rule.find(' ').unwrap_or(rule.len());
    let cells: Vec<String> = lines
        .skip(1)
        .take_while(|line| !is_rule(line))
        .filter_map(|line| line.get(..width.min(line.len())))
        .map(|cell| cell.trim().to_owned())
        .filter(|cell| !cell.is_empty())
        .collect();
    ensure!(
        !cells.is_empty(),
        "{DOCUMENT}: the table of {heading:?} is empty"
    );
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::{documented, first_column, names, of_host, of_machine, of_scenario};
    use crate::{bench::Row, cache::Cache, checkout::Checkout, hotpath, scenario::Scenario};
    use std::collections::BTreeSet;

    fn row(name: &str, peer: &str) -> Row {
        Row {
            name: name.to_owned(),
            n: 1,
            ours: 1.0,
            peer: Some(1.0),
            peer_name: Some(peer.to_owned()),
            unit: "ns".to_owned(),
            ratio: None,
        }
    }

    fn checkout() -> Checkout {
        Checkout::find(&Cache::at("/nowhere".into())).unwrap()
    }

    #[test]
    fn a_table_has_a_first_column() {
        let text = "==  ==\nno  table\n==  ==\n\n=====  ====\nrow    what\n=====  ====\na      x\n       y\nb, .c  z\n=====  ====\nd      e\n";
        assert_eq!(first_column(text, "row").unwrap(), ["a", "b, .c"]);
        assert!(first_column(text, "column").is_err());
        assert_eq!(names("slab.alloc, .free"), ["slab.alloc", "slab.free"]);
        assert_eq!(names("a.b"), ["a.b"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let text =
            "summary='x'\nrows=['a.b the peer', 'a.b other']\n[[generation]]\nsteps=['poweroff']";
        let scenario = Scenario::parse("bench-x", text).unwrap();
        let rows = [
            row("a.b", "the peer"),
            row("a.b", "third"),
            row("a.c", "other"),
        ];
        assert_eq!(
            of_scenario(&scenario, &rows),
            [
                "there is no row a.b against other",
                "the row a.c is not in `rows`"
            ]
        );
        assert!(of_scenario(&scenario, &[]).len() == 2);
    }

    #[test]
    fn what_is_documented_is_measured_and_the_reverse() {
        let checkout = checkout();
        let mut measured: BTreeSet<String> = hotpath::ROWS.map(str::to_owned).into();
        for scenario in Scenario::all(checkout.folder()).unwrap() {
            if !scenario.is_bench() {
                assert!(scenario.rows.is_empty() && scenario.smallest.is_none());
                continue;
            }
            assert!(!scenario.rows.is_empty(), "{}", scenario.name);
            assert!(scenario.smallest.is_some(), "{}", scenario.name);
            scenario.reduced().unwrap();
            measured.extend(
                scenario
                    .rows
                    .iter()
                    .map(|row| super::promise(row).0.to_owned()),
            );
        }
        assert_eq!(measured, documented(&checkout).unwrap());
        let mut names = measured.iter().map(String::as_str);
        names.next();
        assert_eq!(of_machine(&checkout, names).unwrap().len(), 1);
    }

    #[test]
    fn the_host_has_workloads() {
        let missing = of_host(&checkout(), &[]).unwrap();
        assert_eq!(missing.len(), 6 * super::HOST_PEERS.len(), "{missing:?}");
    }
}
