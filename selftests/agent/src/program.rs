// SPDX-License-Identifier: GPL-2.0

//! Programs of others: the kernel's own selftests, which report in TAP.

use crate::{words, Machine};
use anyhow::{bail, ensure, Context, Result};
use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

/// Not a pipe: who goes on in the background would keep it open.
const OUTPUT: &str = "/output";

/// `run PROGRAM [ARGUMENT ...] [exit=N]`: passes if the program exits with N (0 unless said otherwise), and by its own account has
/// neither skipped nor failed a test, nor left out one that it planned.
pub(crate) fn run(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (exit, rest) = words::option(arguments, "exit");
    let Some((program, arguments)) = rest.split_first() else {
        bail!("run: which program?");
    };
    let expected: i32 = exit.unwrap_or("0").parse().context("exit=NUMBER")?;
    let output = File::create(OUTPUT)?;
    let status = Command::new(format!("/programs/{program}"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("/programs/{program} cannot be started"))?;
    let text = String::from_utf8_lossy(&fs::read(OUTPUT)?).into_owned();
    machine.report.said(&text);
    let bad = text
        .lines()
        .find(|line| line.starts_with("not ok") || line.to_ascii_uppercase().contains("# SKIP"));
    ensure!(
        status.code() == Some(expected),
        "{program} ended with {status}, not with {expected}{}",
        bad.map(|line| format!(": {line}")).unwrap_or_default()
    );
    if expected == 0 {
        if let Some(line) = bad {
            bail!("{program}: {line}");
        }
        let planned = text.lines().find_map(|line| line.strip_prefix("1.."));
        let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
        if let Some(planned) = planned.and_then(|number| number.trim().parse::<usize>().ok()) {
            ensure!(
                passed == planned,
                "{program} planned {planned} tests, and {passed} have passed"
            );
        }
    }
    Ok(())
}
