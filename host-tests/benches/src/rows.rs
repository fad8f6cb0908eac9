// SPDX-License-Identifier: GPL-2.0

//! Figures as JSON, in the form that `xtask bench` reads: ours beside each peer's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{
    Path,
    PathBuf, //
};

use anyhow::{
    bail,
    Context,
    Result, //
};
use serde::{
    Deserialize,
    Serialize, //
};

use crate::workloads::{
    larson,
    prodcon,
    threadtest,
    xmalloc, //
};

/// Who is not a peer.
pub const OURS: &str = "kpreserve";

/// One comparison.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Objects of a batch, or threads.
    pub n: u64,
    /// What ours took for an operation: an object allocated and freed.
    pub ours: f64,
    /// What the peer took.
    pub peer: f64,
    /// The peer.
    pub peer_name: String,
    /// `ns` or `instructions`.
    pub unit: String,
    /// Ours by the peer's.
    pub ratio: f64,
}

/// What was measured of all allocators: by workload and size, then by allocator.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<(String, u64), BTreeMap<String, f64>>);

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &str, n: u64, heap: &str, figure: f64) {
        let figures = self.0.entry((name.to_owned(), n)).or_default();
        figures.insert(heap.to_owned(), figure);
    }

    /// Returns the comparisons.
    ///
    /// # Errors
    ///
    /// If there is no figure of ours.
    pub fn rows(&self, unit: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for ((name, n), figures) in &self.0 {
            let ours = *figures
                .get(OURS)
                .with_context(|| format!("{name}, {n}: nothing of ours"))?;
            for (peer_name, &peer) in figures.iter().filter(|(heap, _)| *heap != OURS) {
                rows.push(Row {
                    name: name.clone(),
                    n: *n,
                    ours,
                    peer,
                    peer_name: peer_name.clone(),
                    unit: unit.to_owned(),
                    ratio: ours / peer,
                });
            }
        }
        Ok(rows)
    }
}

/// Criterion's `benchmark.json`, as far as it is needed.
#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: String,
    value_str: String,
}

/// Criterion's `sample.json`.
#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Reads what criterion has left in a folder (`target/criterion`): nanoseconds for an operation.
///
/// The fastest sample counts: what else goes on on the machine makes a sample slower, never faster,
/// and each sample is long enough to hold what an allocator does only now and then.
///
/// # Errors
///
/// If there is nothing, or it is not what criterion writes.
pub fn of_criterion(folder: &Path) -> Result<Figures> {
    let mut figures = Figures::default();
    for file in files(folder, "benchmark.json")? {
        if file.parent().and_then(Path::file_name) != Some("new".as_ref()) {
            continue;
        }
        let what: Benchmark = read(&file)?;
        let sample: Sample = read(&file.with_file_name("sample.json"))?;
        let n = what.value_str.parse().context("a size is a number")?;
        let nr_operations = operations(&what.group_id, n)?;
        let fastest = sample
            .iters
            .iter()
            .zip(&sample.times)
            .map(|(rounds, nanos)| nanos / rounds / nr_operations)
            .fold(f64::INFINITY, f64::min);
        figures.add(&what.group_id, n, &what.function_id, fastest);
    }
    if figures.0.is_empty() {
        bail!("criterion has left nothing in {}", folder.display());
    }
    Ok(figures)
}

/// How many operations a round of a workload has, in all threads together.
fn operations(name: &str, n: u64) -> Result<f64> {
    let nr = match name {
        "host.pair" => 1,
        "host.batch" => n as usize,
        "host.threadtest" => threadtest::NR_OBJECTS,
        "host.larson" => larson::NR_REPLACED * n as usize,
        "host.xmalloc" => xmalloc::NR_BATCH * n.div_ceil(2) as usize,
        "host.prodcon" => prodcon::NR_ROUND * n.div_ceil(2) as usize,
        other => bail!("no workload {other}"),
    };
    Ok(nr as f64)
}

fn files(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
}
