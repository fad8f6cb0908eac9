// SPDX-License-Identifier: GPL-2.0

//! The build root: a minimal Debian with the compilers and the emulator, the same on every machine.

use crate::{
    cache::{self, Cache},
    jail::{self, Jail},
    run,
    series::Series,
    ui::Stage,
};
use anyhow::{ensure, Context, Result};
use std::{env, fs, path::Path, path::PathBuf};

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
            let mirror = mirror(env::var("KPRESERVE_MIRROR").ok())?;
            // A PID namespace, and one of mounts: it leaves nothing running or mounted, however it
            // ends.
            let mut command = jail::apart();
            command
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .args(["debootstrap", "--variant=minbase", release])
                .arg(part)
                .args(&mirror);
            run::logged(&mut stage, &log, &mut command)
                .with_context(|| unreachable_mirror(mirror.as_deref()))?;
            stage.done("");
            install(part, &log).with_context(|| unreachable_mirror(mirror.as_deref()))
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

/// The mirror that `KPRESERVE_MIRROR` names, if it does.
fn mirror(value: Option<String>) -> Result<Option<String>> {
    let Some(mirror) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let schemes = ["http://", "https://", "file://", "file:/"];
    ensure!(
        schemes.iter().any(|scheme| mirror.starts_with(scheme)),
        "KPRESERVE_MIRROR is {mirror:?}; expected the URL of a Debian mirror, http://HOST/debian"
    );
    Ok(Some(mirror))
}

/// What to say when packages do not come.
fn unreachable_mirror(mirror: Option<&str>) -> String {
    match mirror {
        Some(mirror) => format!(
            "the build root could not be made from {mirror}, which KPRESERVE_MIRROR names; is it a Debian mirror, and within reach? \
             Without KPRESERVE_MIRROR it is debootstrap's own default"
        ),
        None => "the build root could not be made from debootstrap's default mirror; if that cannot be reached, name one with \
             KPRESERVE_MIRROR=URL"
            .to_owned(),
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

#[cfg(test)]
mod tests {
    use super::{mirror, unreachable_mirror};

    #[test]
    fn a_mirror_that_fails_is_named() {
        let named = mirror(Some("http://mirror.test/debian".to_owned())).unwrap();
        let text = unreachable_mirror(named.as_deref());
        assert!(text.contains("http://mirror.test/debian, which KPRESERVE_MIRROR names"));
        assert!(unreachable_mirror(None).contains("KPRESERVE_MIRROR=URL"));
    }

    #[test]
    fn a_mirror_is_a_url() {
        assert_eq!(mirror(None).unwrap(), None);
        assert_eq!(mirror(Some(String::new())).unwrap(), None);
        let error = mirror(Some("mirror.test".to_owned()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("KPRESERVE_MIRROR is \"mirror.test\""),
            "{error}"
        );
    }
}
