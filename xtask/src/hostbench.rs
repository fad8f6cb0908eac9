// SPDX-License-Identifier: GPL-2.0

//! Measuring on the host: ours and the allocators of the field in one process, by `host-tests/benches`.

use crate::{
    agent::cargo,
    bench::Row,
    checkout::Checkout,
    figures, hosttest, run,
    tally::Tally,
    ui::{self, Stage},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// How the benches are built and run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// To measure.
    Measure,
    /// To see whether they run: quick to build, each workload for some milliseconds.
    Smallest,
}

impl How {
    /// The profile of Cargo's, whose folder has the same name.
    fn profile(self) -> &'static str {
        match self {
            Self::Measure => "release",
            Self::Smallest => "smallest",
        }
    }
}

/// Runs the benches and returns their figures.
pub(crate) fn all(checkout: &Checkout) -> Result<Vec<Row>> {
    let target = target(checkout);
    build(checkout, &target, How::Measure)?;
    rows(checkout, &target, How::Measure)
}

/// Builds everything, as `bench` would, from the locked versions; runs the tests, and each workload
/// for each allocator, and reads the figures, which say nothing and are not kept. A comparison
/// counts as a test that passed.
pub(crate) fn smallest(checkout: &Checkout) -> Result<Tally> {
    let target = target(checkout);
    build(checkout, &target, How::Smallest)?;
    let arguments = ["test", "--locked", "--profile", How::Smallest.profile()];
    let tests = command(checkout, &target, &arguments);
    let mut tally = hosttest::test(checkout, "the benches' tests", "host-bench-test.log", tests)?;
    let rows = rows(checkout, &target, How::Smallest)?;
    let missing = figures::of_host(checkout, &rows)?;
    for what in &missing {
        ui::say(format!("    {what}"));
    }
    tally += Tally {
        passed: rows.len(),
        failed: missing.len(),
    };
    Ok(tally)
}

/// Fails unless the lock file of the benches' workspace, which is one of its own, matches its
/// manifests.
pub(crate) fn is_locked(checkout: &Checkout) -> Result<()> {
    let mut metadata = command(checkout, &target(checkout), &["metadata", "--locked"]);
    metadata.args(["--format-version", "1"]);
    run::capture(&mut metadata).map(drop).context(
        "host-tests/benches/Cargo.lock does not match the manifests\n  \
         do: cargo update --workspace --manifest-path host-tests/benches/Cargo.toml, and commit the file",
    )
}

/// A workspace of its own, and a target folder: the peers are built once, which takes minutes.
fn target(checkout: &Checkout) -> PathBuf {
    checkout.target("host-benches")
}

fn rows(checkout: &Checkout, target: &Path, how: How) -> Result<Vec<Row>> {
    let criterion = target.join(format!("criterion-{}", how.profile()));
    measure(checkout, target, &criterion, how)?;
    let path = count(checkout, target, &criterion, how)?;
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: no rows", path.display()))
}

fn command(checkout: &Checkout, target: &Path, arguments: &[&str]) -> Command {
    let mut command = cargo();
    command
        .current_dir(checkout.path("host-tests/benches"))
        .env("CARGO_TARGET_DIR", target)
        // Flags for another linker or another CPU would be for one side only.
        .env_remove("RUSTFLAGS")
        .args(arguments);
    command
}

fn build(checkout: &Checkout, target: &Path, how: How) -> Result<()> {
    is_locked(checkout)?;
    let mut stage = Stage::start("host: building the other allocators, and the benches");
    let arguments = ["build", "--locked", "--bins", "--benches", "--profile"];
    let mut command = command(checkout, target, &arguments);
    command.arg(how.profile());
    if how == How::Smallest {
        command.arg("--tests");
    }
    run::logged(
        &mut stage,
        &checkout.target("host-bench-build.log"),
        &mut command,
    )
    .context("the host benches do not build; a C++ compiler is needed")?;
    stage.done("");
    Ok(())
}

fn measure(checkout: &Checkout, target: &Path, criterion: &Path, how: How) -> Result<()> {
    let mut stage = Stage::start(match how {
        How::Measure => "host: measuring",
        How::Smallest => "host: each workload once",
    });
    // Nothing of an earlier run is taken for a figure of this one.
    match fs::remove_dir_all(criterion) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", criterion.display()));
        }
        _ => {}
    }
    let mut command = command(checkout, target, &["bench", "--locked", "--bench", "host"]);
    command.env("CRITERION_HOME", criterion);
    if how == How::Smallest {
        command.args(["--profile", how.profile()]);
        command.env("KPRESERVE_BENCH_SMALLEST", "1");
    }
    run::logged(&mut stage, &checkout.target("host-bench.log"), &mut command)?;
    stage.done("");
    Ok(())
}

/// Counts instructions; returns where all figures are.
fn count(checkout: &Checkout, target: &Path, criterion: &Path, how: How) -> Result<PathBuf> {
    let has_valgrind =
        how == How::Measure && run::capture(Command::new("valgrind").arg("--version")).is_ok();
    let mut stage = Stage::start(match how {
        How::Measure => "host: counting instructions",
        How::Smallest => "host: reading figures",
    });
    let path = target.join(format!("host-{}.json", how.profile()));
    let mut command = Command::new(target.join(how.profile()).join("host-bench"));
    command.arg("rows").arg("--criterion").arg(criterion);
    command.arg("--out").arg(&path);
    if !has_valgrind {
        command.arg("--no-count");
    }
    run::logged(
        &mut stage,
        &checkout.target("host-bench-count.log"),
        &mut command,
    )?;
    stage.done(match how {
        How::Measure if !has_valgrind => "left out, valgrind is not installed",
        How::Measure | How::Smallest => "",
    });
    Ok(path)
}
