// SPDX-License-Identifier: GPL-2.0

//! What the machine itself has to have: a few packages, and root.

use crate::{
    run,
    ui::{self, Stage},
};
use anyhow::{bail, Result};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// A program (or file) that is needed, and the Debian package that brings it.
struct Need {
    what: &'static str,
    package: &'static str,
}

/// Everything outside cargo and rustc that this machine must have; the rest lives in the build root.
const NEEDS: &[Need] = &[
    Need {
        what: "debootstrap",
        package: "debootstrap",
    },
    Need {
        what: "cc",
        package: "gcc",
    },
    // The benches' other allocators.
    Need {
        what: "c++",
        package: "g++",
    },
    Need {
        what: "make",
        package: "make",
    },
    // The test machine's init is linked statically.
    Need {
        what: "/usr/lib/x86_64-linux-gnu/libc.a",
        package: "libc6-dev",
    },
    Need {
        what: "unshare",
        package: "util-linux",
    },
    Need {
        what: "mount",
        package: "mount",
    },
    Need {
        what: "/usr/share/keyrings/debian-archive-keyring.gpg",
        package: "debian-archive-keyring",
    },
];

/// Whether we may install packages, mount and chroot.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Finds a program in `PATH` and in the system folders that are often missing from it.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Installs what is missing; without root says what to install.
pub(crate) fn prepare() -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        bail!(
            "this machine is {}; the tests build and boot an x86_64 kernel and need an x86_64 machine",
            env::consts::ARCH
        );
    }
    let missing: Vec<_> = NEEDS
        .iter()
        .filter(|need| {
            if need.what.starts_with('/') {
                !Path::new(need.what).exists()
            } else {
                find(need.what).is_none()
            }
        })
        .map(|need| need.package)
        .collect();
    let packages = missing.join(" ");
    if !is_root() {
        let install = if missing.is_empty() {
            String::new()
        } else {
            format!("Install what is missing:\n\n    sudo apt-get install {packages}\n\nThen r")
        };
        let run = if missing.is_empty() { "R" } else { "" };
        bail!(
            "root is needed: the kernel is built inside a Debian build root (debootstrap, mount, chroot). \
             {install}{run}un the same command as root, for instance with sudo -E."
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(
            "missing: {packages} (names of Debian packages), and this machine has no apt-get: \
             install them your way and run the same command again"
        );
    }
    let mut stage = Stage::start(format!("installing {packages}"));
    let log = env::temp_dir().join(format!("kpreserve-apt-{}.log", std::process::id()));
    let mut install = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing);
        run::logged(&mut stage, &log, &mut command)
    };
    if install().is_err() {
        // The usual reason on a fresh machine: it has no package lists yet.
        let mut stage = Stage::start("updating the package lists");
        run::logged(
            &mut stage,
            &log,
            Command::new("apt-get").args(["update", "-q"]),
        )?;
        stage.done("");
        install()?;
    }
    stage.done("");
    // Left behind only when something failed.
    let _ = std::fs::remove_file(&log);
    ui::say("");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::PermissionsExt, process::Command};

    /// What `make` says to somebody who is not root, before it starts cargo.
    #[test]
    fn root_is_asked_for_before_anything_is_built() {
        let folder = env::temp_dir().join(format!("kpreserve-root-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (program, does) in [("id", "echo 1000"), ("cargo", "echo cargo was started")] {
            let path = folder.join(program);
            fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
        for target in ["demo", "test", "test-vm", "bench", "check"] {
            let make = Command::new("make")
                .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/.."), target])
                .env("PATH", &path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&make.stderr).into_owned();
            assert!(!make.status.success(), "{target}");
            assert!(said.contains(&format!("sudo -E make {target}")), "{said}");
            let out = String::from_utf8_lossy(&make.stdout).into_owned();
            assert!(!out.contains("cargo was started"), "{out}");
        }
        let make = Command::new("make")
            .args([
                "-C",
                concat!(env!("CARGO_MANIFEST_DIR"), "/.."),
                "test-host",
            ])
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&make.stdout).contains("cargo was started"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn help_names_what_people_look_for() {
        let make = Command::new("make")
            .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/.."), "help"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&make.stdout);
        for part in ["xtask -- vm my.toml", "make demo", "KPRESERVE_MIRROR"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
