// SPDX-License-Identifier: GPL-2.0

//! Copies our tree to where the kernel's build system works on it, so that the checkout stays clean.
//!
//! Files whose content is the same keep their times, and make builds only what changed. Files that left the checkout
//! leave the copy, too; what make put there stays.

use crate::cache;
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use walkdir::WalkDir;

/// Folders of the checkout that Kbuild has no business in.
const HOST_ONLY: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".github",
    "Documentation",
    "host-tests",
    "kernel",
    "selftests/agent",
    "selftests/scenarios",
    "target",
    "xtask",
];

/// Folders of that name anywhere are Cargo's alone.
const CARGO_ONLY: &[&str] = &["benches", "examples", "tests"];

/// What Kbuild leaves behind when somebody builds in the checkout itself.
const BUILD_OUTPUT: &[&str] = &[
    "a", "cmd", "d", "ko", "mod", "o", "order", "rmeta", "symvers",
];

/// The list of what was copied, in the copy.
const MANIFEST: &str = ".synced";

/// Makes `copy` hold what the checkout holds.
pub(crate) fn tree(checkout: &Path, copy: &Path) -> Result<()> {
    tree_with(checkout, copy, |_, _| {})
}

/// Makes `copy` hold what a folder of somebody else's holds.
pub(crate) fn folder(from: &Path, copy: &Path) -> Result<()> {
    let mut files = files(from, &[".git", "target"])?;
    files.retain(|file| !is_output(file));
    lay(from, copy, &files, |_, _| {})
}

/// The same, with what `edit` does to the content of each file.
pub(crate) fn tree_with(
    checkout: &Path,
    copy: &Path,
    edit: impl Fn(&Path, &mut Vec<u8>),
) -> Result<()> {
    lay(checkout, copy, &sources(checkout)?, edit)
}

fn lay(
    checkout: &Path,
    copy: &Path,
    files: &BTreeSet<PathBuf>,
    edit: impl Fn(&Path, &mut Vec<u8>),
) -> Result<()> {
    for file in files {
        let from = checkout.join(file);
        let mut content = match fs::read(&from) {
            Ok(content) => content,
            // Somebody is editing: gone between listing and reading.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", from.display()))
            }
        };
        edit(file, &mut content);
        cache::write_if_changed(&copy.join(file), &content)?;
    }
    let manifest = copy.join(MANIFEST);
    let before = fs::read_to_string(&manifest).unwrap_or_default();
    for old in before.lines().map(Path::new) {
        if !files.contains(old) {
            // Gone already is as good.
            let _ = fs::remove_file(copy.join(old));
        }
    }
    let list: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
    cache::write_if_changed(&manifest, list.join("\n").as_bytes())?;
    Ok(())
}

/// All files that Kbuild may read, relative to the checkout.
pub(crate) fn sources(checkout: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = files(checkout, HOST_ONLY)?;
    files.retain(|file| !is_output(file));
    Ok(files)
}

/// What a build in the checkout itself (`make modules`) left there, relative to it.
pub(crate) fn outputs(checkout: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = files(checkout, HOST_ONLY)?;
    files.retain(|file| is_output(file));
    Ok(files)
}

fn is_output(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.extension()
        .is_some_and(|e| BUILD_OUTPUT.iter().any(|output| e == *output))
        || name.ends_with(".mod.c")
        || name.ends_with("_generated.h")
        || name == ".module-common.c"
}

/// The files in the folders that Kbuild works on: not in those that are named.
fn files(checkout: &Path, skipped: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let relative = |path: &Path| path.strip_prefix(checkout).unwrap_or(path).to_owned();
    let mut files = BTreeSet::new();
    let walk = WalkDir::new(checkout).into_iter().filter_entry(|entry| {
        let path = relative(entry.path());
        let name = entry.file_name();
        // What the checkout itself is called is nobody's business.
        let is_inside = entry.depth() > 0 && entry.file_type().is_dir();
        let cargo_only = is_inside && CARGO_ONLY.iter().any(|skip| name == *skip);
        let skip = skipped.iter().any(|skip| path == Path::new(skip));
        !cargo_only && !skip
    });
    for entry in walk {
        let entry = entry.with_context(|| format!("cannot list {}", checkout.display()))?;
        if entry.file_type().is_file() {
            files.insert(relative(entry.path()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::sources;
    use std::{fs, path::Path};

    #[test]
    fn the_name_of_the_checkout_does_not_matter() {
        let place = std::env::temp_dir().join(format!("kpreserve-sync-{}", std::process::id()));
        let checkout = place.join("tests");
        fs::create_dir_all(checkout.join("slab/tests")).unwrap();
        for file in ["Kconfig", "slab/cache.rs", "slab/tests/cache.rs"] {
            fs::write(checkout.join(file), "").unwrap();
        }
        let found = sources(&checkout);
        fs::remove_dir_all(&place).unwrap();
        let found = found.unwrap();
        assert!(found
            .iter()
            .eq([Path::new("Kconfig"), Path::new("slab/cache.rs")]));
    }
}
