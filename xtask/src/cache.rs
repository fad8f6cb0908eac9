// SPDX-License-Identifier: GPL-2.0

//! The cache: everything that takes long to make and is the same for each clone.
//!
//! A step makes its folder under a temporary name and renames it when complete. The final name holds a hash of the
//! step's inputs, so that a folder of that name *is* the proof that the step was done, whatever interrupted what.

use crate::ui;
use anyhow::{bail, Context, Result};
use rustix::fs::{flock, FlockOperation};
use sha2::{Digest, Sha256};
use std::{
    env, fs,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

/// The cache folder.
#[derive(Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// A lock that is held until it is dropped (or the process ends, however it ends).
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    /// Finds the cache: `$KPRESERVE_CACHE`, else a folder of ours in the user's cache directory.
    pub(crate) fn open() -> Result<Self> {
        let folder = if let Some(folder) = env::var_os("KPRESERVE_CACHE") {
            PathBuf::from(folder)
        } else if let Some(folder) = env::var_os("XDG_CACHE_HOME").filter(|f| !f.is_empty()) {
            PathBuf::from(folder).join("kpreserve")
        } else {
            let home = env::var_os("HOME").context(
                "neither KPRESERVE_CACHE nor XDG_CACHE_HOME nor HOME is set: where should the cache be?",
            )?;
            PathBuf::from(home).join(".cache/kpreserve")
        };
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the cache {}", folder.display()))?;
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot resolve the cache {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// A cache that nothing is made in.
    #[cfg(test)]
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A path in the cache.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The log of the step `name`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// Fails unless the file system of the cache has `gib` GiB to spare.
    pub(crate) fn need_space(&self, gib: u64, what: &str) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.folder)
            .with_context(|| format!("cannot ask for free space at {}", self.folder.display()))?;
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        if available < gib << 30 {
            bail!(
                "{what} needs about {gib} GiB in {}, but only {:.1} GiB are free there. \
                 Free some, or name another place with KPRESERVE_CACHE=DIR.",
                self.folder.display(),
                available as f64 / f64::from(1 << 30)
            );
        }
        Ok(())
    }

    /// Makes the folder `name` by `make`, unless it is there already. One process at a time.
    pub(crate) fn folder(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let done = self.folder.join(name);
        if done.exists() {
            return Ok(done);
        }
        let _lock = Lock::take(
            &self.folder.join("lock"),
            &format!(
                "another run is making something in {}",
                self.folder.display()
            ),
        )?;
        if done.exists() {
            return Ok(done);
        }
        let part = self.folder.join(format!("{name}.part"));
        remove_folder(&part)?;
        if let Some(parent) = done.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        make(&part)?;
        rustix::fs::syncfs(File::open(&part)?).context("syncing the cache")?;
        fs::rename(&part, &done)
            .with_context(|| format!("cannot rename {} when it was made", part.display()))?;
        Ok(done)
    }
}

impl Lock {
    /// Takes the lock `path`, and says what it waits for if somebody else has it.
    pub(crate) fn take(path: &Path, why: &str) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            ui::say(format!("waiting: {why}"));
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Self { _file: file })
    }
}

/// Removes a folder if it is there.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file only if its content differs, so that its time of change tells the truth.
/// Returns whether it did.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// A short name for the given inputs.
pub(crate) fn hash<'a>(inputs: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(input.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())[..12].to_owned()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
