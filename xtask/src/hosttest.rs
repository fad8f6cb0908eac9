// SPDX-License-Identifier: GPL-2.0

//! The tests that need no virtual machine.

use crate::{agent::cargo, checkout::Checkout, hostbench, run, tally::Tally, ui::Stage};
use anyhow::{bail, Result};
use std::{io::Write, path::PathBuf, process::Command};

/// Runs them all.
pub(crate) fn all(checkout: &Checkout) -> Result<Tally> {
    // At once, and the more so since nothing else builds them.
    let locked = hostbench::is_locked(checkout).map(|()| Tally::one(true));
    let mut tally = Tally::of("the benches", locked);
    tally += workspace(checkout)?;
    tally += models(checkout)?;
    tally += Tally::of("the benches", hostbench::smallest(checkout));
    if checkout
        .path("host-tests/examples/exec_handover.rs")
        .is_file()
    {
        tally += example(checkout, "exec_handover")?;
        tally += example(checkout, "host_scale")?;
    }
    Ok(tally)
}

/// `cargo test` of everything, doc tests included.
fn workspace(checkout: &Checkout) -> Result<Tally> {
    let mut command = cargo();
    command
        .current_dir(checkout.folder())
        .args(["test", "--workspace", "--no-fail-fast"]);
    test(checkout, "cargo test", "host-test.log", command)
}

/// The models of slab/ under loom and shuttle, which are built apart.
pub(crate) fn models(checkout: &Checkout) -> Result<Tally> {
    let mut command = cargo();
    command
        .current_dir(checkout.folder())
        .env("RUSTFLAGS", "--cfg models")
        .args(["test", "-p", "host-models", "--lib", "--profile", "models"])
        .arg("--target-dir")
        .arg(checkout.target("models"));
    test(checkout, "models", "models.log", command)
}

/// mstress over our caches, on real threads without a lock between them, under the thread sanitizer. Not part of the others: it
/// takes a nightly compiler with its sources, as the standard library has to be built for it, too, and minutes for the peers.
pub(crate) fn tsan(checkout: &Checkout) -> Result<Tally> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let sysroot = Command::new("rustc")
        .args(["+nightly", "--print", "sysroot"])
        .output();
    let sources = sysroot
        .ok()
        .filter(|output| output.status.success())
        .map(|output| {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
                .join("lib/rustlib/src/rust/library/Cargo.lock")
        });
    if !sources.is_some_and(|sources| sources.is_file()) {
        bail!(
            "the thread sanitizer takes a nightly compiler with the sources of its standard library\n  \
             do: rustup toolchain install nightly --component rust-src"
        );
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(checkout.path("host-tests/benches"))
        .env("RUSTFLAGS", "-Zsanitizer=thread")
        .args([
            "+nightly",
            "test",
            "--locked",
            "-Zbuild-std",
            "--target",
            TARGET,
        ])
        .args(["--test", "mstress", "--target-dir"])
        .arg(checkout.target("tsan"))
        .args(["--", "our_objects"]);
    test(checkout, "thread sanitizer", "tsan.log", command)
}

/// Runs tests, and counts them.
pub(crate) fn test(
    checkout: &Checkout,
    name: &str,
    log: &str,
    mut command: Command,
) -> Result<Tally> {
    let mut stage = Stage::start(format!("host: {name}"));
    let path = checkout.target(log);
    let _ = std::fs::remove_file(&path);
    let mut log = run::open_log(&path)?;
    let mut tally = Tally::default();
    let mut failing = false;
    let succeeded = run::lines(&mut command, |line| {
        let Some(line) = line else {
            stage.tick();
            return Ok(());
        };
        writeln!(log, "{line}")?;
        if let Some(counts) = counts(line) {
            tally += counts;
            failing = false;
        }
        // What a failed test printed, and what the compiler has to say.
        failing |= line == "failures:" || line.starts_with("error") || line.starts_with("warning:");
        if failing {
            stage.print(line);
            failing = !line.is_empty() || line == "failures:" || tally.failed == 0;
        } else {
            stage.note(line);
        }
        Ok(())
    })?;
    if !succeeded && tally.failed == 0 {
        // It did not even build.
        tally += Tally::one(false);
    }
    stage.done(format!(
        "{} passed, {} failed (log: {})",
        tally.passed,
        tally.failed,
        path.display()
    ));
    Ok(tally)
}

/// An example that checks itself.
fn example(checkout: &Checkout, name: &str) -> Result<Tally> {
    let mut stage = Stage::start(format!("host: example {name}"));
    let mut command = cargo();
    command
        .current_dir(checkout.folder())
        .args(["run", "-q", "--release", "-p", "host-tests"])
        .args(["--example", name]);
    let succeeded = run::lines(&mut command, |line| {
        match line {
            Some(line) => stage.print(format!("    {line}")),
            None => stage.tick(),
        }
        Ok(())
    })?;
    let tally = Tally::one(succeeded);
    stage.done(if succeeded { "passed" } else { "failed" });
    Ok(tally)
}

/// `test result: ok. 15 passed; 0 failed; 0 ignored; ...`
fn counts(line: &str) -> Option<Tally> {
    let line = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let before = &line[..line.find(what)?];
        before.split_whitespace().next_back()?.parse().ok()
    };
    Some(Tally {
        passed: number(" passed;")?,
        failed: number(" failed;")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{counts, Tally};

    #[test]
    fn cargo_lines() {
        let line = "test result: FAILED. 15 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let expected = Tally {
            passed: 15,
            failed: 2,
        };
        assert_eq!(counts(line), Some(expected));
        assert_eq!(counts("test a ... ok"), None);
    }
}
