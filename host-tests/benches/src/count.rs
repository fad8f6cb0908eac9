// SPDX-License-Identifier: GPL-2.0

//! Instructions: this program, run by callgrind with two numbers of rounds; the difference is what the
//! rounds between cost, and nothing else.

use std::env;
use std::fs;
use std::process::{
    Command,
    Stdio, //
};

use anyhow::{
    bail,
    Context,
    Result, //
};

use crate::heap::Heap;
use crate::ours::{
    Classes,
    Lines, //
};
use crate::peers;
use crate::rows::{
    Figures,
    OURS, //
};
use crate::workloads::{
    batch,
    larson,
    pair,
    xmalloc, //
};
use crate::BenchMachine;

/// Whose workloads are counted; snmalloc does not run under valgrind.
pub const HEAPS: [&str; 6] = [
    OURS,
    "jemalloc",
    "mimalloc",
    "glibc",
    "slab",
    "sharded-slab",
];

/// What is counted: the workload, the size of a batch, and a number of rounds.
pub const WORKLOADS: [(&str, usize, u64); 5] = [
    ("host.pair", 1, 20_000),
    ("host.batch", 16, 2000),
    ("host.batch", 64, 500),
    ("host.batch", 256, 200),
    ("host.batch", 4096, 20),
];

/// Runs so many rounds of a workload.
///
/// # Errors
///
/// If there is no such workload, or no such heap.
pub fn run(name: &str, heap: &str, n: usize, rounds: u64) -> Result<()> {
    if name == "host.larson" || name == "host.xmalloc" {
        return run_any_size(name, heap, n, rounds);
    }
    match heap {
        OURS => of(name, &Lines::open(BenchMachine::boot().1), n, rounds),
        "jemalloc" => of(
            name,
            &peers::Lines::<tikv_jemallocator::Jemalloc>::new(),
            n,
            rounds,
        ),
        "mimalloc" => of(name, &peers::Lines::<mimalloc::MiMalloc>::new(), n, rounds),
        "snmalloc" => of(
            name,
            &peers::Lines::<snmalloc_rs::SnMalloc>::new(),
            n,
            rounds,
        ),
        "glibc" => of(name, &peers::Lines::<std::alloc::System>::new(), n, rounds),
        "slab" | "sharded-slab" => of_typed(name, heap, n, rounds),
        other => bail!("no heap {other}"),
    }
}

fn run_any_size(name: &str, heap: &str, n: usize, rounds: u64) -> Result<()> {
    match heap {
        OURS => of(name, &Classes::open(BenchMachine::boot().1), n, rounds),
        "jemalloc" => of(
            name,
            &peers::AnySize::<tikv_jemallocator::Jemalloc>::new(),
            n,
            rounds,
        ),
        "mimalloc" => of(
            name,
            &peers::AnySize::<mimalloc::MiMalloc>::new(),
            n,
            rounds,
        ),
        other => bail!("{name} is not run alone for {other}"),
    }
}

fn of<H: Heap>(name: &str, heap: &H, n: usize, rounds: u64) -> Result<()> {
    match name {
        "host.pair" => pair::run(heap, rounds),
        "host.batch" => batch::run(heap, &mut Vec::with_capacity(n), rounds),
        "host.larson" => {
            larson::run(heap, n, rounds);
        }
        "host.xmalloc" => {
            xmalloc::run(heap, n, rounds);
        }
        other => bail!("{other} is not run alone"),
    }
    Ok(())
}

fn of_typed(name: &str, heap: &str, n: usize, rounds: u64) -> Result<()> {
    let (mut slab, sharded) = (slab::Slab::new(), sharded_slab::Slab::new());
    let keys = &mut Vec::with_capacity(n);
    match (name, heap) {
        ("host.pair", "slab") => pair::run_slab(&mut slab, rounds),
        ("host.pair", _) => pair::run_sharded_slab(&sharded, rounds),
        ("host.batch", "slab") => batch::run_slab(&mut slab, keys, rounds),
        ("host.batch", _) => batch::run_sharded_slab(&sharded, keys, rounds),
        (other, _) => bail!("no workload {other}"),
    }
    Ok(())
}

/// Counts all workloads of all heaps: instructions for an operation. `say` hears what is going on.
///
/// # Errors
///
/// If valgrind is missing, or does not count.
pub fn all(mut say: impl FnMut(String)) -> Result<Figures> {
    let mut figures = Figures::default();
    for (name, n, rounds) in WORKLOADS {
        for heap in HEAPS {
            say(format!("counting {name}/{heap}/{n}"));
            let few = counted(name, heap, n, rounds)?;
            let many = counted(name, heap, n, 2 * rounds)?;
            let nr_operations = rounds * n as u64;
            let figure = many.saturating_sub(few) as f64 / nr_operations as f64;
            // A name has one unit: it is one drawing.
            figures.add(&format!("{name}.instructions"), n as u64, heap, figure);
        }
    }
    Ok(figures)
}

/// Runs this program by callgrind, and returns how many instructions it took.
fn counted(name: &str, heap: &str, n: usize, rounds: u64) -> Result<u64> {
    let out = env::temp_dir().join(format!("host-bench-{}.callgrind", std::process::id()));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(["run", name, heap, &n.to_string(), &rounds.to_string()])
        .stdin(Stdio::null())
        .status()
        .context("cannot start valgrind; is it installed?")?;
    let text = fs::read_to_string(&out);
    let _ = fs::remove_file(&out);
    if !status.success() {
        bail!("callgrind failed: {name}/{heap}/{n}: {status}");
    }
    let text = text.context("callgrind has written nothing")?;
    let line = text.lines().find_map(|line| {
        line.strip_prefix("totals: ")
            .or_else(|| line.strip_prefix("summary: "))
    });
    line.and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .context("callgrind has written no sum")
}
