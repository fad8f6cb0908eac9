// SPDX-License-Identifier: GPL-2.0

//! This clone: where it lies, and its own corner of the cache.

use crate::cache::{self, Cache, Lock};
use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// A clone of the repository.
pub(crate) struct Checkout {
    folder: PathBuf,
    corner: PathBuf,
}

impl Checkout {
    /// The clone that this program was built from.
    pub(crate) fn find(cache: &Cache) -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let folder = manifest
            .join("..")
            .canonicalize()
            .with_context(|| format!("cannot resolve the checkout of {}", manifest.display()))?;
        let corner = cache.path(format!(
            "checkout-{}",
            cache::hash([folder.to_string_lossy().as_ref()])
        ));
        Ok(Self { folder, corner })
    }

    /// The top folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the clone.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// A path in Cargo's target folder, where results go.
    pub(crate) fn target(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join("target").join(name)
    }

    /// A path in this clone's corner of the cache, where its own builds lie.
    pub(crate) fn corner(&self, name: impl AsRef<Path>) -> PathBuf {
        self.corner.join(name)
    }

    /// A folder in the corner whose name ends in the kernel that it was built against. Those of other kernels are
    /// removed: nobody comes back to them, and a built-in kernel is big.
    pub(crate) fn against(&self, what: &str, kernel: &str) -> Result<PathBuf> {
        let name = format!("{what}-{kernel}");
        let start = format!("{what}-");
        for entry in fs::read_dir(&self.corner).into_iter().flatten().flatten() {
            let old = entry.file_name().to_string_lossy().into_owned();
            if old.starts_with(&start) && old != name {
                cache::remove_folder(&entry.path())?;
            }
        }
        Ok(self.corner.join(name))
    }

    /// Keeps other runs in this clone from building at the same time.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::take(
            &self.corner.join("lock"),
            "another run is building in this checkout",
        )
    }
}
