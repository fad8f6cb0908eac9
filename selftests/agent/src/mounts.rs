// SPDX-License-Identifier: GPL-2.0

//! The usual file systems.

use anyhow::{Context, Result};
use rustix::mount::{mount, MountFlags};
use std::fs;

/// Mounts what a system expects to find.
pub(crate) fn all() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        // sysfs brings its own folders and lets nobody make one.
        let _ = fs::create_dir_all(place);
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {kind} at {place}"))?;
    }
    Ok(())
}
