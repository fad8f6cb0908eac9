// SPDX-License-Identifier: GPL-2.0

//! Initramfs images: cpio archives in the "newc" format.

use anyhow::{Context, Result};
use cpio::newc::{self, Builder};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// What goes into an image.
#[derive(Default)]
pub(crate) struct Image {
    files: Vec<Entry>,
    folders: Vec<String>,
}

struct Entry {
    inside: String,
    mode: u32,
    content: Content,
}

enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;

impl Image {
    /// Adds an executable file.
    pub(crate) fn program(&mut self, inside: &str, file: &Path) {
        self.add(inside, PROGRAM, Content::File(file.to_owned()));
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, inside: &str, file: &Path) {
        self.add(inside, PLAIN, Content::File(file.to_owned()));
    }

    /// Adds a folder, which is there without files in it, too.
    pub(crate) fn folder(&mut self, inside: &str) {
        self.folders.push(inside.to_owned());
    }

    /// Adds a file with this content.
    pub(crate) fn bytes(&mut self, inside: &str, content: Vec<u8>) {
        self.add(inside, PLAIN, Content::Bytes(content));
    }

    fn add(&mut self, inside: &str, mode: u32, content: Content) {
        self.files.push(Entry {
            inside: inside.trim_start_matches('/').to_owned(),
            mode,
            content,
        });
    }

    /// Writes the archive.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut folders = BTreeSet::from(["dev".to_owned()]);
        folders.extend(self.folders.iter().cloned());
        for entry in &self.files {
            let parents = Path::new(&entry.inside).ancestors().skip(1);
            folders.extend(parents.map(|p| p.to_string_lossy().into_owned()));
        }
        folders.remove("");
        let mut out = BufWriter::with_capacity(
            1 << 20,
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
        );
        // Each its own inode: the same number would make them hard links of one another.
        let mut inode = 1;
        let mut next = |name: &str, mode: u32| {
            inode += 1;
            Builder::new(name).ino(inode).mode(mode).nlink(1)
        };
        for folder in &folders {
            next(folder, FOLDER).write(&mut out, 0).finish()?;
        }
        for entry in &self.files {
            let builder = next(&entry.inside, entry.mode);
            match &entry.content {
                Content::Bytes(bytes) => {
                    put(builder, &mut out, bytes.len() as u64, bytes.as_slice())?;
                }
                Content::File(file) => {
                    let from = File::open(file)
                        .with_context(|| format!("cannot read {}", file.display()))?;
                    let length = from.metadata()?.len();
                    put(builder, &mut out, length, from)
                        .with_context(|| format!("packing {}", file.display()))?;
                }
            }
        }
        newc::trailer(&mut out)?;
        out.flush().context("writing an initramfs")
    }
}

/// Writes one member.
fn put(builder: Builder, out: &mut impl Write, length: u64, mut from: impl Read) -> Result<()> {
    let size = u32::try_from(length)
        .ok()
        .context("a file of 4 GiB or more does not fit into an initramfs")?;
    let mut writer = builder.write(out, size);
    io::copy(&mut from, &mut writer)?;
    writer.finish()?;
    Ok(())
}
