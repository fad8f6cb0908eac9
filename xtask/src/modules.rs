// SPDX-License-Identifier: GPL-2.0

//! Our modules, built out of tree against the plain kernel, in a copy of the checkout.

use crate::{
    cache,
    jail::Jail,
    kernel, run, source, sync,
    ui::{self, Stage},
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    thread,
};

/// Where the copy of the checkout lies inside the build root.
pub(crate) const TREE: &str = "/src/kpreserve";

/// Modules that use kpreserve.ko, each with a Kbuild of its own; they are built after it. Absent ones are left out.
const CONSUMERS: &[&str] = &["samples/kv", "selftests/kmod"];

/// What to build them for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To load them; warnings are shown.
    Use,
    /// To see what clippy says: a warning fails in the end, and everything is compiled anew so that none is missed.
    Clippy,
    /// To see them refused: from sources that differ in a comment, so that no consumer fits the kpreserve.ko that is in use.
    Stale,
}

impl Purpose {
    /// The name of the copy and its log.
    fn name(self) -> &'static str {
        match self {
            Self::Use => "modules",
            Self::Clippy => "clippy",
            Self::Stale => "stale",
        }
    }

    /// For people.
    fn what(self) -> &'static str {
        match self {
            Self::Use => "modules",
            Self::Clippy => "modules under clippy",
            Self::Stale => "modules of other sources",
        }
    }
}

/// The source to which a stale copy adds a line.
const STALE_SOURCE: &str = "kho/kpreserve_kho.rs";

/// The built modules.
pub(crate) struct Modules {
    tree: PathBuf,
}

impl Modules {
    /// Builds what changed.
    pub(crate) fn make(shop: &Workshop, purpose: Purpose) -> Result<Self> {
        let checkout = shop.checkout();
        if !checkout.path("Kbuild").is_file() {
            bail!(
                "there is no Kbuild file in {} (yet): nothing to build modules from",
                checkout.folder().display()
            );
        }
        let _lock = checkout.lock()?;
        let kernel = shop.kernel()?;
        let tree = checkout.against(purpose.name(), &kernel.id)?;
        if purpose == Purpose::Clippy {
            cache::remove_folder(&tree)?;
        }
        sync::tree_with(checkout.folder(), &tree, |file, content| {
            if purpose == Purpose::Stale && file == Path::new(STALE_SOURCE) {
                content.extend_from_slice(b"// Another version.\n");
            }
        })?;
        let mut stage = Stage::start(purpose.what());
        let jail = shop
            .root()?
            .jail()
            .show(&shop.source()?.folder, source::INSIDE)
            .show(&kernel.out, kernel::OUT)
            .lend(&tree, TREE);
        let mut folders = vec![String::new()];
        folders.extend(
            CONSUMERS
                .iter()
                .filter(|folder| checkout.path(folder).join("Kbuild").is_file())
                .map(|folder| format!("/{folder}")),
        );
        let log = checkout.corner(format!("{}.log", purpose.name()));
        // A log of this build alone: people look into it for what the compiler said.
        let _ = fs::remove_file(&log);
        let mut warned = false;
        for folder in &folders {
            let mut arguments = vec![format!("M={TREE}{folder}"), format!("KPRESERVE={TREE}")];
            if purpose == Purpose::Clippy {
                // Without W=e: a crate with a warning still builds, and those above it are checked in the same run.
                arguments.push("CLIPPY=1".into());
            }
            let place = Place {
                inside: TREE,
                outside: checkout.folder(),
                what: match folder.trim_start_matches('/') {
                    "" => "kpreserve.ko",
                    folder => folder,
                },
            };
            warned |= make(&mut stage, &jail, &log, &arguments, &place)?;
        }
        if warned && purpose == Purpose::Clippy {
            bail!("clippy has warnings (all of them: {})", log.display());
        }
        stage.done("");
        Ok(Self { tree })
    }

    /// The folder that they were built in.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// The module file of that name.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        [""].iter()
            .chain(CONSUMERS)
            .map(|folder| self.tree.join(folder).join(format!("{name}.ko")))
            .find(|path| path.is_file())
    }

    /// All module files.
    pub(crate) fn list(&self) -> Vec<PathBuf> {
        [""].iter()
            .chain(CONSUMERS)
            .filter_map(|folder| fs::read_dir(self.tree.join(folder)).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "ko"))
            .collect()
    }
}

/// A copy that modules are built in.
pub(crate) struct Place<'a> {
    /// Where it lies in the build root.
    pub(crate) inside: &'a str,
    /// The folder that people edit.
    pub(crate) outside: &'a Path,
    /// What is built, for people.
    pub(crate) what: &'a str,
}

/// Runs make for modules and shows what the compilers had to say. Returns whether they warned.
pub(crate) fn make(
    stage: &mut Stage,
    jail: &Jail,
    log: &Path,
    variables: &[String],
    place: &Place<'_>,
) -> Result<bool> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = vec![format!("-j{jobs}"), "-C".into(), kernel::OUT.into()];
    arguments.extend_from_slice(variables);
    arguments.push("modules".into());
    let mut file = run::open_log(log)?;
    let mut warned = false;
    let succeeded = run::lines(&mut jail.command("make", &arguments), |line| {
        let Some(line) = line else {
            stage.tick();
            return Ok(());
        };
        // Errors name files of the copy; people edit the checkout.
        let line = line.replace(&format!("{}/", place.inside), "");
        writeln!(file, "{line}")?;
        warned |= line.starts_with("warning: ");
        if is_chatter(&line) {
            stage.note(&line);
        } else {
            stage.print(&line);
        }
        Ok(())
    })?;
    if !succeeded {
        bail!(
            "building {} failed (paths above are relative to {}; all of the output: {})",
            place.what,
            place.outside.display(),
            log.display()
        );
    }
    Ok(warned)
}

/// Whether a line of make's output is of no interest when all goes well.
fn is_chatter(line: &str) -> bool {
    let quiet = ["make: ", "make["].iter().any(|start| {
        line.starts_with(start) && (line.contains("Entering") || line.contains("Leaving"))
    });
    // "  RUSTC [M] kho/kpreserve_kho.o"
    let short = line.strip_prefix("  ").is_some_and(|rest| {
        let word = rest.split(' ').next().unwrap_or_default();
        word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    });
    quiet || short || line.trim().is_empty()
}

/// `xtask modules`.
pub(crate) fn command(shop: &Workshop, purpose: Purpose) -> Result<()> {
    let modules = Modules::make(shop, purpose)?;
    if purpose == Purpose::Clippy {
        return Ok(());
    }
    let release = shop.kernel()?.release()?;
    let list = modules.list();
    if list.is_empty() {
        bail!("make succeeded, but built no .ko: does Kbuild say obj-m?");
    }
    for path in list {
        let size = fs::metadata(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        ui::say(format!(
            "{} ({} KiB, for {release})",
            path.display(),
            size >> 10
        ));
    }
    Ok(())
}
