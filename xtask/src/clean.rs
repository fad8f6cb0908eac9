// SPDX-License-Identifier: GPL-2.0

//! Removing what was made.

use crate::{cache, sync, ui, workshop::Workshop};
use anyhow::{Context, Result};
use std::fs;

/// `xtask clean`.
pub(crate) fn command(shop: &Workshop, whole_cache: bool) -> Result<()> {
    let corner = shop.checkout().corner("");
    let target = shop.checkout().path("target");
    cache::remove_folder(&corner)?;
    cache::remove_folder(&target)?;
    for file in sync::outputs(shop.checkout().folder())? {
        let path = shop.checkout().path(file);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    if whole_cache {
        cache::remove_folder(&shop.cache().path(""))?;
    } else {
        ui::say(format!(
            "the build root and the kernel stay in {}; `cargo xtask clean --cache` removes them, too",
            shop.cache().path("").display()
        ));
    }
    Ok(())
}
