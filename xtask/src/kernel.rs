// SPDX-License-Identifier: GPL-2.0

//! Unpatched kernels: the plain one, the one that watches itself, and the one that checks indirect
//! calls. Each is built once per source, configuration and build root.

use crate::{
    buildroot::BuildRoot,
    cache::{self, Cache},
    config::Fragment,
    jail::Jail,
    run,
    source::{self, Source},
    ui::Stage,
};
use anyhow::{bail, Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// Where the build folder (`O=`) lies inside the build root.
pub(crate) const OUT: &str = "/src/out";

/// Modules of the kernel itself that scenarios may load.
const OWN_MODULES: &[&str] = &["drivers/misc/lkdtm/lkdtm.ko"];

/// What an unpatched kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// To be measured.
    Plain,
    /// To notice what goes wrong in it.
    Debug,
    /// To check the type of each function that is called through a pointer (kCFI). Built by clang.
    Cfi,
}

impl Flavour {
    /// How many there are: `self as usize` is below it.
    pub(crate) const COUNT: usize = 3;

    /// Its fragments beyond `kernel/base.config`.
    pub(crate) fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Debug => &["debug.config"],
            Self::Cfi => &["cfi.config"],
        }
    }

    /// What the names of its folders start with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "kernel",
            Self::Debug => "debug",
            Self::Cfi => "cfi",
        }
    }

    /// What people are told: `debug kernel`.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Plain => "kernel",
            Self::Debug => "debug kernel",
            Self::Cfi => "cfi kernel",
        }
    }

    /// Has each make in the jail, for the kernel and for modules, take the compiler of this kernel.
    pub(crate) fn equip(self, jail: Jail) -> Jail {
        match self {
            Self::Plain | Self::Debug => jail,
            // gcc has no kCFI; clang and rustc have LLVM's, and the same one in the build root.
            Self::Cfi => jail.variable("LLVM", "1"),
        }
    }
}

/// A built kernel.
pub(crate) struct Kernel {
    /// The build folder.
    pub(crate) out: PathBuf,
    /// Names everything that went into it.
    pub(crate) id: String,
}

impl Kernel {
    /// Finds a kernel in the cache, or builds it.
    pub(crate) fn make(
        cache: &Cache,
        root: &BuildRoot,
        source: &Source,
        checkout: &Path,
        flavour: Flavour,
    ) -> Result<Self> {
        let fragment = fragment(source, checkout, flavour.fragments())?;
        let id = cache::hash([root.id(), &source.id, fragment.text()]);
        let out = cache.folder(
            &format!("{}-{}-{}-{id}", flavour.prefix(), source.id, root.id()),
            |part| {
                cache.need_space(2, "building the kernel")?;
                let jail = flavour
                    .equip(root.jail())
                    .show(&source.folder, source::INSIDE)
                    .lend(part, OUT);
                let log = cache.log(flavour.prefix());
                seed(cache, root, source, flavour, part, &log)?;
                configure(&jail, part, &fragment, &log)?;
                let what = format!("{}: build (takes some minutes)", flavour.what());
                build(&jail, &log, &what)
            },
        )?;
        Ok(Self { out, id })
    }

    /// The image that boots.
    pub(crate) fn image(&self) -> PathBuf {
        self.out.join("arch/x86/boot/bzImage")
    }

    /// The kernel's own module of that name, if there is one.
    pub(crate) fn module(&self, name: &str) -> Option<PathBuf> {
        OWN_MODULES
            .iter()
            .map(|path| self.out.join(path))
            .find(|path| path.file_stem().is_some_and(|stem| stem == name))
    }

    /// Whether a module of that name is part of the kernel itself.
    pub(crate) fn has_builtin(&self, name: &str) -> Result<bool> {
        let path = self.out.join("modules.builtin");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text
            .lines()
            .filter_map(|line| Path::new(line).file_stem())
            .any(|stem| stem.to_string_lossy().replace('-', "_") == name.replace('-', "_")))
    }

    /// The release, as `uname -r` says it.
    pub(crate) fn release(&self) -> Result<String> {
        let path = self.out.join("include/config/kernel.release");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// `kernel/base.config`, what the series needs beyond it (`kernel/7.2.config`), and further fragments.
pub(crate) fn fragment(source: &Source, checkout: &Path, more: &[&str]) -> Result<Fragment> {
    let folder = checkout.join("kernel");
    let mut paths = vec![folder.join("base.config")];
    let of_series = folder.join(format!("{}.config", source.series()));
    paths.extend(of_series.is_file().then_some(of_series));
    paths.extend(more.iter().map(|name| folder.join(name)));
    Fragment::read(&paths)
}

/// Starts from a kernel of the same source and build root with another configuration, if the cache has one: make then
/// compiles what the configuration changes, minutes less than everything.
fn seed(
    cache: &Cache,
    root: &BuildRoot,
    source: &Source,
    flavour: Flavour,
    part: &Path,
    log: &Path,
) -> Result<()> {
    // Another flavour would not do: lock debugging, or another compiler, is in every object.
    let start = format!("{}-{}-{}-", flavour.prefix(), source.id, root.id());
    let newest = fs::read_dir(cache.path(""))?
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(&start) && !name.ends_with(".part")
        })
        .max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok());
    let Some(newest) = newest else {
        return Ok(());
    };
    let mut stage = Stage::start("kernel: copying one with another configuration");
    let mut from = newest.path().into_os_string();
    from.push("/.");
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"]).arg(from).arg(part);
    run::logged(&mut stage, log, &mut copy)?;
    stage.done("");
    Ok(())
}

/// Makes `.config` from nothing and a fragment, and checks it.
pub(crate) fn configure(jail: &Jail, out: &Path, fragment: &Fragment, log: &Path) -> Result<()> {
    let mut stage = Stage::start("kernel: configuration");
    let asked = out.join("asked.config");
    fs::write(&asked, fragment.text())?;
    let jail = jail
        .clone()
        .in_folder(source::INSIDE)
        .variable("KCONFIG_ALLCONFIG", &format!("{OUT}/asked.config"));
    let make = |target: &str| jail.command("make", ["-s", &format!("O={OUT}"), target]);
    run::logged(&mut stage, log, &mut make("allnoconfig"))?;
    if fragment.text().lines().any(|line| line == "CONFIG_RUST=y") {
        // Its own error is more to the point than an option that vanished.
        run::logged(&mut stage, log, &mut make("rustavailable"))
            .context("this kernel does not take the build root's Rust toolchain")?;
    }
    fragment.check(&out.join(".config"))?;
    stage.done("");
    Ok(())
}

/// Builds image and modules.
pub(crate) fn build(jail: &Jail, log: &Path, what: &str) -> Result<()> {
    let mut stage = Stage::start(what);
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let jail = jail.clone().in_folder(source::INSIDE);
    let mut make = jail.command(
        "make",
        [
            &format!("-j{jobs}"),
            &format!("O={OUT}"),
            "bzImage",
            "modules",
        ],
    );
    run::logged(&mut stage, log, &mut make)?;
    stage.done("");
    Ok(())
}

/// Which kernel a scenario runs on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Variant {
    /// Unpatched; our code comes as modules.
    Plain,
    /// Our tree is part of the kernel.
    Builtin,
    /// The same, and the kernel watches itself: lockdep, sleeping where one must not, page and slab debugging.
    Debug,
    /// Our tree is part of a kernel that stops at a call through a pointer of another type (kCFI).
    Cfi,
}

impl Variant {
    /// The word that scenarios and the command line use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Builtin => "builtin",
            Self::Debug => "debug",
            Self::Cfi => "cfi",
        }
    }

    /// All, in the order in which tests run.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Builtin, Self::Debug, Self::Cfi];

    /// The unpatched kernel under it.
    pub(crate) fn flavour(self) -> Flavour {
        match self {
            Self::Plain | Self::Builtin => Flavour::Plain,
            Self::Debug => Flavour::Debug,
            Self::Cfi => Flavour::Cfi,
        }
    }
}

/// Fails when a built file is not where it should be.
pub(crate) fn expect_file(path: &Path, what: &str) -> Result<()> {
    if !path.is_file() {
        bail!("{what} was built, but {} is not there", path.display());
    }
    Ok(())
}
