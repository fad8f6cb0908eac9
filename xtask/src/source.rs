// SPDX-License-Identifier: GPL-2.0

//! The kernel source: a Debian package, unpacked into the cache.

use crate::{
    buildroot::BuildRoot,
    cache::{self, Cache},
    jail::quote,
    run,
    series::{Series, Wanted},
    ui::{self, Stage},
};
use anyhow::{bail, Context, Result};
use std::{fs, path::Path, path::PathBuf};

/// Where the source lies inside the build root. Compiled files remember it.
pub(crate) const INSIDE: &str = "/src/linux";

/// An unpacked kernel source.
pub(crate) struct Source {
    /// The folder with the top Makefile.
    pub(crate) folder: PathBuf,
    /// Series and version of the package, `7.3-7.3.4-1~bpo13+1`.
    pub(crate) id: String,
}

impl Source {
    /// Its series, `7.3`.
    pub(crate) fn series(&self) -> &str {
        self.id.split('-').next().unwrap_or_default()
    }
}

/// A package that the archive has.
struct Package {
    series: String,
    suite: String,
    version: String,
}

impl Source {
    /// Finds the source in the cache, or fetches it. The newest version is chosen once and kept.
    pub(crate) fn make(cache: &Cache, root: &BuildRoot, series: &Series) -> Result<Self> {
        let wanted = series.wanted();
        let choice = cache.path(format!("series-{}", choice_id(root, &wanted)));
        if let Some(source) = chosen(cache, &choice) {
            return Ok(source);
        }
        root.refresh_resolver();
        let package = choose(cache, root, series, &wanted)?;
        let id = format!("{}-{}", package.series, package.version);
        let folder = cache.folder(&format!("linux-{id}"), |part| {
            fetch(cache, root, &package, part)
        })?;
        fs::write(&choice, &id).with_context(|| format!("cannot write {}", choice.display()))?;
        Ok(Self { folder, id })
    }
}

/// Names the question that a remembered choice answers.
fn choice_id(root: &BuildRoot, wanted: &[Wanted]) -> String {
    let words = wanted
        .iter()
        .flat_map(|w| [w.series.as_str(), w.suite.as_str()]);
    cache::hash([root.id()].into_iter().chain(words))
}

/// The source that was chosen before, if it is still there.
fn chosen(cache: &Cache, choice: &Path) -> Option<Source> {
    let id = fs::read_to_string(choice).ok()?;
    let folder = cache.path(format!("linux-{id}"));
    folder.is_dir().then_some(Source { folder, id })
}

/// Asks the archive for the wanted series, one after the other.
fn choose(cache: &Cache, root: &BuildRoot, series: &Series, wanted: &[Wanted]) -> Result<Package> {
    let mut broken = false;
    for candidate in wanted {
        if let Err(error) = add_suite(cache, root, series.release(), &candidate.suite) {
            ui::say(format!("{error:#}"));
            broken = true;
            continue;
        }
        let name = format!("linux-source-{}", candidate.series);
        let listing = run::capture(&mut root.jail().command("apt-cache", ["madison", &name]))?;
        // Newest first: "linux-source-7.3 | 7.3.4-1~bpo13+1 | http://... trixie-backports/main amd64 Packages"
        let version = listing.lines().find_map(|line| {
            let mut fields = line.split('|').map(str::trim);
            let version = fields.nth(1)?;
            let suite = format!(" {}/", candidate.suite);
            fields.next()?.contains(&suite).then(|| version.to_owned())
        });
        if let Some(version) = version {
            return Ok(Package {
                series: candidate.series.clone(),
                suite: candidate.suite.clone(),
                version,
            });
        }
        ui::say(format!(
            "the archive has no Linux {} in {}",
            candidate.series, candidate.suite
        ));
    }
    if broken {
        bail!("the package lists of the archive could not be read, see above; is the network up?");
    }
    let names = run::capture(
        &mut root
            .jail()
            .command("apt-cache", ["pkgnames", "linux-source-"]),
    )?;
    let mut has: Vec<_> = names
        .lines()
        .filter_map(|name| name.strip_prefix("linux-source-"))
        .collect();
    has.sort_unstable();
    let mut tried: Vec<_> = wanted.iter().map(|w| w.series.as_str()).collect();
    tried.dedup();
    bail!(
        "the Debian archive has no kernel source of series {}. It has: {}. Choose one of these with \
         KPRESERVE_SERIES=<series>, or change kernel/series.toml. kpreserve is written for 7.3 (KHO ABI kho-v4).",
        tried.join(", "),
        has.join(", ")
    );
}

/// Makes the package lists of one more suite known to the build root. The mirror is the one that debootstrap used.
fn add_suite(cache: &Cache, root: &BuildRoot, release: &str, suite: &str) -> Result<()> {
    let list = root.path("etc/apt/sources.list");
    let main =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mirror = main
        .lines()
        .find_map(|line| line.strip_prefix("deb ")?.split_whitespace().next())
        .with_context(|| format!("{} names no mirror", list.display()))?;
    let part = format!("etc/apt/sources.list.d/{suite}.list");
    if suite != release {
        fs::write(root.path(&part), format!("deb {mirror} {suite} main\n"))?;
    }
    let mut stage = Stage::start(format!("package lists of {suite}"));
    let file = if suite == release {
        "/etc/apt/sources.list".to_owned()
    } else {
        format!("/{part}")
    };
    let mut update = root.jail().command(
        "apt-get",
        [
            "update",
            "-q",
            "-o",
            &format!("Dir::Etc::SourceList={file}"),
            "-o",
            "Dir::Etc::SourceParts=-",
            "-o",
            "APT::Get::List-Cleanup=0",
            "-o",
            "Acquire::Languages=none",
            // Mirrors that stand still (snapshots, test networks) have release files past their date. The signature is
            // checked all the same.
            "-o",
            "Acquire::Check-Valid-Until=false",
        ],
    );
    run::logged(&mut stage, &cache.log("kernel-source"), &mut update).with_context(|| {
        format!(
            "no package lists from {mirror}; the build root was made from it, and stays with it: to change to another mirror, \
             remove {} and set KPRESERVE_MIRROR=URL",
            root.path("").display()
        )
    })?;
    stage.done("");
    Ok(())
}

/// Downloads the package and unpacks the tarball in it.
fn fetch(cache: &Cache, root: &BuildRoot, package: &Package, part: &Path) -> Result<()> {
    let mut stage = Stage::start(format!(
        "kernel source {} from {}",
        package.version, package.suite
    ));
    let name = format!("linux-source-{}", package.series);
    let line = format!(
        "apt-get download -q -o APT::Sandbox::User=root {name}={version} && \
         dpkg-deb --fsys-tarfile {name}_*.deb | tar xO ./usr/src/{name}.tar.xz | xz -dcT0 | \
         tar x --strip-components=1 && rm {name}_*.deb",
        name = name,
        version = quote(&package.version),
    );
    let jail = root.jail().lend(part, INSIDE).in_folder(INSIDE);
    run::logged(
        &mut stage,
        &cache.log("kernel-source"),
        &mut jail.shell(&line),
    )?;
    if !part.join("Kbuild").is_file() {
        bail!(
            "package {name} {} was unpacked, but {} holds no kernel source; is the package laid out differently now?",
            package.version,
            part.display()
        );
    }
    stage.done("");
    Ok(())
}
