// SPDX-License-Identifier: GPL-2.0

//! Form: rustfmt, clippy, rustdoc. On the host with its own toolchain, then with the build root's, which is the oldest that counts.

use crate::{
    agent::cargo,
    cache, host, hostbench,
    modules::{Modules, Purpose},
    run, sync,
    ui::{self, Stage},
    workshop::Workshop,
};
use anyhow::{bail, Result};
use std::{fs, io::Write, process::Command};

/// `xtask check`. Runs everything, then fails if anything failed.
pub(crate) fn command(shop: &Workshop) -> Result<()> {
    // The later half runs in the build root.
    host::prepare()?;
    let mut failed = Vec::new();
    let mut step = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            ui::say(format!("{error:#}"));
            failed.push(name);
        }
    };
    step(
        "rustfmt",
        cargo_says(shop, "rustfmt", &["fmt", "--all", "--", "--check"]),
    );
    let benches = [
        "fmt",
        "--manifest-path",
        "host-tests/benches/Cargo.toml",
        "--",
        "--check",
    ];
    step(
        "rustfmt of the host benches",
        cargo_says(shop, "rustfmt of the host benches", &benches),
    );
    step(
        "lock file of the host benches",
        hostbench::is_locked(shop.checkout()),
    );
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-Dwarnings",
    ];
    step("clippy", cargo_says(shop, "clippy", &clippy));
    let doc = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ];
    step("rustdoc", cargo_says(shop, "rustdoc", &doc));
    step("rustfmt of the build root", kernel_rustfmt(shop));
    step("clippy of the build root", kernel_clippy(shop));
    step("cargo of the build root", oldest_cargo(shop));
    if failed.is_empty() {
        ui::say("all checks passed");
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "));
}

/// Runs a command whose output is for people, but only if it fails.
fn quiet(shop: &Workshop, name: &str, command: &mut Command) -> Result<()> {
    let mut stage = Stage::start(format!("check: {name}"));
    let path = shop
        .checkout()
        .target(format!("check-{}.log", name.replace(' ', "-")));
    let _ = fs::remove_file(&path);
    let mut log = run::open_log(&path)?;
    let mut all = Vec::new();
    let succeeded = run::lines(command, |line| {
        if let Some(line) = line {
            writeln!(log, "{line}")?;
            stage.note(line);
            all.push(line.to_owned());
        }
        stage.tick();
        Ok(())
    })?;
    if !succeeded {
        bail!("{}\n{name} failed; log: {}", all.join("\n"), path.display());
    }
    stage.done("");
    Ok(())
}

fn cargo_says(shop: &Workshop, name: &str, arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command
        .current_dir(shop.checkout().folder())
        .env("RUSTDOCFLAGS", "-Dwarnings")
        .args(arguments);
    quiet(shop, name, &mut command)
}

/// The kernel's sources in the form that its own rustfmt gives them.
fn kernel_rustfmt(shop: &Workshop) -> Result<()> {
    let checkout = shop.checkout();
    let files = sync::sources(checkout.folder())?;
    let files: Vec<_> = files
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        .collect();
    if files.is_empty() {
        return Ok(());
    }
    let jail = shop
        .root()?
        .jail()
        .show(checkout.folder(), "/src/checkout")
        .in_folder("/src/checkout");
    let mut arguments = vec!["--check".into(), "--edition".into(), "2021".into()];
    arguments.extend(files.iter().map(|file| file.as_os_str().to_owned()));
    quiet(
        shop,
        "rustfmt of the build root",
        &mut jail.command("rustfmt", arguments),
    )
}

fn kernel_clippy(shop: &Workshop) -> Result<()> {
    if !shop.checkout().path("Kbuild").is_file() {
        return Ok(());
    }
    Modules::make(shop, Purpose::Clippy).map(drop)
}

/// Builds the workspace with the oldest Cargo and rustc that are supported: the build root's.
fn oldest_cargo(shop: &Workshop) -> Result<()> {
    let checkout = shop.checkout();
    let lock = fs::read_to_string(checkout.path("Cargo.lock"))?;
    let vendor = checkout.corner(format!("vendor-{}", cache::hash([lock.as_str()])));
    if !vendor.is_dir() {
        let part = vendor.with_extension("part");
        cache::remove_folder(&part)?;
        let mut command = cargo();
        command
            .current_dir(checkout.folder())
            .args(["vendor", "--locked", "--versioned-dirs"])
            .arg(&part);
        quiet(shop, "sources of all crates", &mut command)?;
        fs::rename(&part, &vendor)?;
    }
    let target = checkout.corner("oldest-target");
    fs::create_dir_all(&target)?;
    let jail = shop
        .root()?
        .jail()
        .show(checkout.folder(), "/src/checkout")
        .show(&vendor, "/src/vendor")
        .lend(&target, "/src/target")
        .variable("CARGO_TARGET_DIR", "/src/target")
        .in_folder("/src/checkout");
    let arguments = [
        "--config",
        "source.crates-io.replace-with='vendored'",
        "--config",
        "source.vendored.directory='/src/vendor'",
        "check",
        "--workspace",
        "--locked",
        "--offline",
    ];
    quiet(
        shop,
        "cargo of the build root",
        &mut jail.command("cargo", arguments),
    )
}
