// SPDX-License-Identifier: GPL-2.0

//! Builds the test machine's init: static, since nothing else is in its initramfs.

use crate::{checkout::Checkout, run, ui::Stage};
use anyhow::{Context, Result};
use std::{env, path::PathBuf, process::Command};

/// Named explicitly, so that the flags below do not reach proc macros and build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Cargo, as it called us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the agent and returns its file.
pub(crate) fn make(checkout: &Checkout) -> Result<PathBuf> {
    // A folder of its own: other runs of Cargo in this checkout do not make us wait.
    let folder = checkout.target("agent");
    let mut stage = Stage::start("agent");
    let log = checkout.target("agent.log");
    let mut build = cargo();
    build
        .current_dir(checkout.folder())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-C target-feature=+crt-static -C strip=symbols",
        )
        .args(["build", "--release", "-p", "kpreserve-agent"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&folder);
    run::logged(&mut stage, &log, &mut build).context("the test machine's agent does not build")?;
    stage.done("");
    Ok(folder.join(TARGET).join("release/kpreserve-agent"))
}
