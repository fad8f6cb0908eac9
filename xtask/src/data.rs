// SPDX-License-Identifier: GPL-2.0

//! Real data for the machine: the package index of the build root, and what it should still be after a kexec.

use crate::{ui::Stage, workshop::Workshop};
use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Makes the data of that name and returns its file.
pub(crate) fn make(shop: &Workshop, name: &str) -> Result<PathBuf> {
    exists(name)?;
    let made = shop
        .cache()
        .folder(&format!("data-packages-{}", shop.root()?.id()), |part| {
            packages(shop, part)
        })?;
    Ok(made.join(name))
}

/// The names that there are.
const NAMES: &[&str] = &["packages", "digests.bin"];

/// Fails unless there is data of that name.
pub(crate) fn exists(name: &str) -> Result<()> {
    if !NAMES.contains(&name) {
        bail!(
            "no data is called {name:?}; there are: {}",
            NAMES.join(", ")
        );
    }
    Ok(())
}

/// `packages`: the index as it is. `digests.bin`: for each stanza in order the SHA-256 of its key and of its text.
fn packages(shop: &Workshop, folder: &Path) -> Result<()> {
    let mut stage = Stage::start("data: Debian's package index");
    let root = shop.root()?;
    let index = index(&root.path("var/lib/apt/lists"))?;
    let inside = format!(
        "/var/lib/apt/lists/{}",
        index.file_name().unwrap_or_default().to_string_lossy()
    );
    // It may be compressed; this undoes whatever the package manager did.
    let output = root
        .jail()
        .command("/usr/lib/apt/apt-helper", ["cat-file", &inside])
        .output()
        .context("apt-helper in the build root")?;
    if !output.status.success() {
        bail!(
            "cannot unpack {}: {}",
            index.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = output.stdout;
    let mut digests = Vec::new();
    let mut count = 0usize;
    for stanza in stanzas(&text) {
        let key = key(stanza)
            .with_context(|| format!("stanza {count} of {} lacks a field", index.display()))?;
        digests.extend_from_slice(&Sha256::digest(key.as_bytes()));
        digests.extend_from_slice(&Sha256::digest(stanza));
        count += 1;
    }
    if count < 1000 {
        bail!(
            "{} has only {count} packages: is it the index of the release?",
            index.display()
        );
    }
    fs::write(folder.join("packages"), &text)?;
    fs::write(folder.join("digests.bin"), &digests)?;
    stage.note("");
    stage.done(format!("{count} packages, {} MiB", text.len() >> 20));
    Ok(())
}

/// The index of the release's main section.
fn index(lists: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(lists).with_context(|| format!("cannot list {}", lists.display()))?;
    let found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.contains("_main_binary-amd64_Packages")
                && !name.contains("-backports")
                && !name.contains("_sid_")
        });
    found.with_context(|| {
        format!(
            "no package index *_main_binary-amd64_Packages in {}; remove the build root with `cargo xtask clean --cache`",
            lists.display()
        )
    })
}

/// The stanzas of an index: separated by empty lines, each without the line feed of its last line.
pub(crate) fn stanzas(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some(tail) = rest.strip_prefix(b"\n") {
            rest = tail;
        }
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .windows(2)
            .position(|pair| pair == b"\n\n")
            .unwrap_or(rest.len());
        let (stanza, tail) = rest.split_at(end);
        rest = tail;
        Some(stanza.strip_suffix(b"\n").unwrap_or(stanza))
    })
}

/// `Package/Version/Architecture`.
pub(crate) fn key(stanza: &[u8]) -> Option<String> {
    let field = |name: &str| {
        stanza.split(|byte| *byte == b'\n').find_map(|line| {
            let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b": ")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    };
    Some(format!(
        "{}/{}/{}",
        field("Package")?,
        field("Version")?,
        field("Architecture")?
    ))
}

#[cfg(test)]
mod tests {
    use super::{key, stanzas};

    #[test]
    fn index() {
        let text = b"Package: a\nVersion: 1\nArchitecture: all\n\n\nPackage: b\nVersion: 2\nArchitecture: amd64\nX: y\n";
        let found: Vec<_> = stanzas(text).collect();
        assert_eq!(found.len(), 2);
        assert!(found[1].ends_with(b"X: y"));
        assert_eq!(key(found[0]).unwrap(), "a/1/all");
        assert_eq!(key(b"Package: a\nVersion: 1"), None);
    }
}
