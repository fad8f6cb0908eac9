// SPDX-License-Identifier: GPL-2.0

//! Measuring on the host: ours and the allocators of the field in one process, by `host-tests/benches`.

use crate::{agent::cargo, bench::Row, checkout::Checkout, run, ui::Stage};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs the benches and returns their figures.
pub(crate) fn all(checkout: &Checkout) -> Result<Vec<Row>> {
    // A workspace of its own, and a target folder: the peers are built once, which takes minutes.
    let target = checkout.target("host-benches");
    build(checkout, &target)?;
    let criterion = target.join("criterion");
    measure(checkout, &target, &criterion)?;
    let path = count(checkout, &target, &criterion)?;
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

fn build(checkout: &Checkout, target: &Path) -> Result<()> {
    let mut stage = Stage::start("host: building the other allocators, and the benches");
    let arguments = ["build", "--release", "--locked", "--bins", "--benches"];
    let mut command = command(checkout, target, &arguments);
    run::logged(
        &mut stage,
        &checkout.target("host-bench-build.log"),
        &mut command,
    )
    .context("the host benches do not build; a C++ compiler is needed")?;
    stage.done("");
    Ok(())
}

fn measure(checkout: &Checkout, target: &Path, criterion: &Path) -> Result<()> {
    let mut stage = Stage::start("host: measuring");
    // Nothing of an earlier run is taken for a figure of this one.
    match fs::remove_dir_all(criterion) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", criterion.display()));
        }
        _ => {}
    }
    let mut command = command(checkout, target, &["bench", "--locked", "--bench", "host"]);
    command.env("CRITERION_HOME", criterion);
    run::logged(&mut stage, &checkout.target("host-bench.log"), &mut command)?;
    stage.done("");
    Ok(())
}

/// Counts instructions; returns where all figures are.
fn count(checkout: &Checkout, target: &Path, criterion: &Path) -> Result<PathBuf> {
    let has_valgrind = run::capture(Command::new("valgrind").arg("--version")).is_ok();
    let mut stage = Stage::start("host: counting instructions");
    let path = target.join("host.json");
    let mut command = Command::new(target.join("release/host-bench"));
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
    stage.done(if has_valgrind {
        ""
    } else {
        "left out, valgrind is not installed"
    });
    Ok(path)
}
