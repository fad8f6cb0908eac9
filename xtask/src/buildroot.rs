// SPDX-License-Identifier: GPL-2.0

//! The build root: a minimal Debian with the compilers and the emulator, the same on every machine.

use crate::{
    cache::{self, Cache},
    jail::Jail,
    run,
    series::Series,
    ui::Stage,
};
use anyhow::{Context, Result};
use std::{env, fs, path::Path, path::PathBuf, process::Command};

/// What a kernel with Rust needs to build, and what boots it.
const PACKAGES: &[&str] = &[
    "bc",
    "bindgen",
    "bison",
    "busybox-static",
    "cargo",
    // A kernel with control-flow integrity, whose compiler has to be that of rustc's LLVM.
    "clang",
    "cpio",
    "dwarves",
    "flex",
    "gcc",
    // kexec_load(2) as users call it.
    "kexec-tools",
    "kmod",
    "libc6-dev",
    "libclang-dev",
    "libdw-dev",
    "libelf-dev",
    "libssl-dev",
    "lld",
    "llvm",
    "lz4",
    "make",
    "python3",
    "qemu-system-x86",
    "rust-clippy",
    "rust-src",
    "rustc",
    "rustfmt",
    "seabios",
    "xz-utils",
];

/// Counts up when the recipe below changes in a way that its inputs do not show.
const RECIPE: &str = "1";

/// The build root.
#[derive(Clone)]
pub(crate) struct BuildRoot {
    folder: PathBuf,
    id: String,
}

impl BuildRoot {
    /// Finds the build root in the cache, or makes it.
    pub(crate) fn make(cache: &Cache, series: &Series) -> Result<Self> {
        let release = series.release();
        let id = cache::hash(
            [RECIPE, release]
                .into_iter()
                .chain(PACKAGES.iter().copied()),
        );
        let folder = cache.folder(&format!("root-{release}-{id}"), |part| {
            cache.need_space(9, "the build root and the kernel")?;
            let log = cache.log("build-root");
            let mut stage = Stage::start(format!("build root: Debian {release}"));
            let mut command = Command::new("debootstrap");
            command
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .args(["--variant=minbase", release])
                .arg(part);
            if let Ok(mirror) = env::var("KPRESERVE_MIRROR") {
                command.arg(mirror);
            }
            run::logged(&mut stage, &log, &mut command).context(
                "debootstrap failed; if its default mirror cannot be reached, name one with KPRESERVE_MIRROR=URL",
            )?;
            stage.done("");
            install(part, &log)
        })?;
        Ok(Self { folder, id })
    }

    /// Names everything that went into it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// A path inside, as seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside.trim_start_matches('/'))
    }

    /// The way in.
    pub(crate) fn jail(&self) -> Jail {
        Jail::new(&self.folder)
    }

    /// Lets programs inside reach the network as those outside do.
    pub(crate) fn refresh_resolver(&self) {
        refresh_resolver(&self.folder);
    }
}

fn refresh_resolver(root: &Path) {
    let target = root.join("etc/resolv.conf");
    let _ = fs::remove_file(&target);
    // Without it the package manager says itself that it cannot resolve names.
    let _ = fs::copy("/etc/resolv.conf", target);
}

/// Installs the packages into a fresh build root.
fn install(root: &Path, log: &Path) -> Result<()> {
    refresh_resolver(root);
    let mut stage = Stage::start("build root: compilers, QEMU");
    let jail = Jail::new(root);
    run::logged(
        &mut stage,
        log,
        &mut jail.command("apt-get", ["update", "-q"]),
    )?;
    let arguments = ["install", "-y", "-q", "--no-install-recommends"];
    run::logged(
        &mut stage,
        log,
        &mut jail.command("apt-get", arguments.iter().chain(PACKAGES)),
    )?;
    run::logged(&mut stage, log, &mut jail.command("apt-get", ["clean"]))?;
    stage.done("");
    Ok(())
}
