// SPDX-License-Identifier: GPL-2.0

//! The kernel with our tree in it.
//!
//! The source is the plain one with an overlay: our tree as `drivers/kpreserve`, one `source` line in
//! `drivers/Kconfig`, one `obj-` line in `drivers/Makefile`. It is seen at the same path, and the build folder starts as a copy
//! of the unpatched kernel's (that of its flavour), so that make compiles little more than our
//! code.

use crate::{
    cache::{self, Cache},
    jail::Jail,
    kernel::{self, Flavour, Kernel},
    run, source, sync,
    ui::{self, Stage},
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use walkdir::WalkDir;

/// Where our tree goes in the kernel source.
pub(crate) const PLACE: &str = "drivers/kpreserve";

/// The built-in kernel of a checkout.
pub(crate) struct Builtin {
    kernel: Kernel,
    jail: Jail,
}

impl Builtin {
    /// Builds what changed.
    pub(crate) fn make(shop: &Workshop, flavour: Flavour) -> Result<Self> {
        let checkout = shop.checkout();
        if !checkout.path("Kconfig").is_file() {
            bail!(
                "there is no Kconfig file in {} (yet): nothing to build in",
                checkout.folder().display()
            );
        }
        let _lock = checkout.lock()?;
        let unpatched = shop.unpatched(flavour)?;
        let (name, what) = match flavour {
            Flavour::Plain => ("builtin", "kernel with kpreserve built in"),
            Flavour::Debug => ("debug", "debug kernel with kpreserve built in"),
            Flavour::Cfi => ("cfi", "cfi kernel with kpreserve built in"),
        };
        let place = checkout.against(name, &unpatched.id)?;
        let out = place.join("out");
        if !out.is_dir() {
            copy_out(shop.cache(), &unpatched.out, &out)?;
        }
        let jail = flavour.equip(lay(shop, &place)?.lend(&out, kernel::OUT));
        let fragments = [flavour.fragments(), &["builtin.config"]].concat();
        let fragment = kernel::fragment(shop.source()?, checkout.folder(), &fragments)?;
        let log = checkout.corner(format!("{name}.log"));
        let _ = fs::remove_file(&log);
        // Only our own Kconfig can change what the fragment leads to.
        let kconfig = fs::read_to_string(checkout.path("Kconfig"))?;
        let stamp = cache::hash([fragment.text(), &kconfig]);
        let stamp_file = place.join("configured");
        if fs::read_to_string(&stamp_file).ok().as_ref() != Some(&stamp) {
            kernel::configure(&jail, &out, &fragment, &log)?;
            fs::write(&stamp_file, &stamp)?;
        }
        kernel::build(&jail, &log, what)?;
        let kernel = Kernel {
            out,
            id: unpatched.id.clone(),
        };
        kernel::expect_file(&kernel.image(), "the built-in kernel")?;
        Ok(Self { kernel, jail })
    }

    /// The kernel itself.
    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Where to build modules against it: the source with our tree in it, and the build folder.
    pub(crate) fn jail(&self) -> &Jail {
        &self.jail
    }

    /// A module of our tree that the configuration left as a module.
    pub(crate) fn module(&self, name: &str) -> Option<PathBuf> {
        let file = format!("{name}.ko");
        WalkDir::new(self.kernel.out.join(PLACE))
            .into_iter()
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy() == file)
            .map(walkdir::DirEntry::into_path)
    }
}

/// Copies the plain kernel's build folder, times included.
fn copy_out(cache: &Cache, from: &Path, to: &Path) -> Result<()> {
    cache.need_space(2, "a kernel with kpreserve built in")?;
    let mut stage = Stage::start("kernel: copying the build folder");
    let part = to.with_extension("part");
    cache::remove_folder(&part)?;
    if let Some(parent) = part.parent() {
        fs::create_dir_all(parent)?;
    }
    run::logged(
        &mut stage,
        &cache.log("builtin-copy"),
        Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .args([from, &part]),
    )?;
    fs::rename(&part, to)?;
    stage.done("");
    Ok(())
}

/// Lays our tree over the source and returns a jail that shows the result.
fn lay(shop: &Workshop, place: &Path) -> Result<Jail> {
    let (upper, work) = (place.join("upper"), place.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let lower = &shop.source()?.folder;
    let root = shop.root()?;
    let overlaid = root.jail().overlay(lower, &upper, &work, source::INSIDE);
    let copy = place.join("source");
    let jail = if !copy.is_dir()
        && overlaid
            .command("true", [""; 0])
            .output()
            .is_ok_and(|output| output.status.success())
    {
        write(shop, lower, &upper)?;
        overlaid
    } else {
        // No overlays here (some containers): a whole copy does the same, but takes its space.
        if !copy.is_dir() {
            ui::say("this machine refuses overlay mounts: copying the kernel source instead");
            shop.cache().need_space(3, "a copy of the kernel source")?;
            copy_out(shop.cache(), lower, &copy)?;
        }
        write(shop, lower, &copy)?;
        root.jail().lend(&copy, source::INSIDE)
    };
    Ok(jail)
}

/// Writes our tree and the two changed files into `to`.
fn write(shop: &Workshop, pristine: &Path, to: &Path) -> Result<()> {
    sync::tree(shop.checkout().folder(), &to.join(PLACE))?;
    let edits = [
        (
            "drivers/Kconfig",
            "menu \"Device Drivers\"\n",
            "\nsource \"drivers/kpreserve/Kconfig\"\n",
        ),
        // First of all drivers: before everything that may come to use it.
        (
            "drivers/Makefile",
            "obj-y",
            "obj-$(CONFIG_KPRESERVE)\t+= kpreserve/\nobj-y",
        ),
    ];
    for (file, anchor, text) in edits {
        let path = pristine.join(file);
        let old =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(at) = old.find(anchor) else {
            bail!(
                "{} has no line that starts with {anchor:?}: this kernel is laid out differently, \
                 xtask/src/builtin.rs has to learn where to put {PLACE}",
                path.display()
            );
        };
        let (head, tail) = old.split_at(at);
        let new = match tail.strip_prefix(anchor) {
            Some(rest) if anchor.ends_with('\n') => format!("{head}{anchor}{text}{rest}"),
            Some(rest) => format!("{head}{text}{rest}"),
            None => old.clone(),
        };
        cache::write_if_changed(&to.join(file), new.as_bytes())?;
    }
    Ok(())
}
