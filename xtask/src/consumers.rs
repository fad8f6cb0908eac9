// SPDX-License-Identifier: GPL-2.0

//! Modules of others: folders outside of this tree that a scenario names, built for the kernels that it runs on.

use crate::{
    builtin, cache,
    chain::Parts,
    jail::Jail,
    kernel::{self, Variant},
    modules::{self, Place},
    scenario::Scenario,
    source, sync,
    ui::Stage,
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the copy of a consumer's folder lies inside the build root.
const INSIDE: &str = "/src/consumer";

/// What was built.
#[derive(Default)]
pub(crate) struct Consumers {
    copies: Vec<(Variant, PathBuf)>,
}

impl Consumers {
    /// Builds the consumers of a scenario for one more kernel.
    pub(crate) fn make(
        &mut self,
        shop: &Workshop,
        parts: &Parts<'_>,
        scenario: &Scenario,
        variant: Variant,
    ) -> Result<()> {
        if self.copies.iter().any(|(built, _)| *built == variant) {
            return Ok(());
        }
        for folder in &scenario.consumers {
            let folder = scenario.folder.join(folder);
            let copy = consumer(shop, parts, variant, &folder)?;
            self.copies.push((variant, copy));
        }
        Ok(())
    }

    /// The module file of that name.
    pub(crate) fn file(&self, name: &str, variant: Variant) -> Option<PathBuf> {
        let copies = self.copies.iter().filter(|(built, _)| *built == variant);
        copies
            .map(|(_, copy)| copy.join(format!("{name}.ko")))
            .find(|path| path.is_file())
    }
}

/// Builds one; returns where.
fn consumer(
    shop: &Workshop,
    parts: &Parts<'_>,
    variant: Variant,
    folder: &Path,
) -> Result<PathBuf> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("a consumer of the scenario: {}", folder.display()))?;
    if !folder.join("Kbuild").is_file() {
        bail!(
            "{} has no Kbuild: a consumer's says `include $(KPRESERVE)/kpreserve.mk` and `obj-m := NAME.o`",
            folder.display()
        );
    }
    let (jail, variables) = against(shop, parts, variant)?;
    let checkout = shop.checkout();
    let _lock = checkout.lock()?;
    let hash = cache::hash([folder.to_string_lossy().as_ref()]);
    let name = format!("consumer-{}-{hash}", variant.name());
    let copy = checkout.against(&name, &parts.kernel(variant)?.id)?;
    sync::folder(&folder, &copy)?;
    let log = checkout.corner(format!("{name}.log"));
    let _ = fs::remove_file(&log);
    let what = folder.display().to_string();
    let mut stage = Stage::start(format!("{what} for the {} kernel", variant.name()));
    let place = Place {
        inside: INSIDE,
        outside: &folder,
        what: &what,
    };
    modules::make(
        &mut stage,
        &jail.lend(&copy, INSIDE),
        &log,
        &variables,
        &place,
    )?;
    stage.done("");
    Ok(copy)
}

/// What a module is built against: a jail in which the kernel's build folder lies, and where kpreserve is in it.
fn against(shop: &Workshop, parts: &Parts<'_>, variant: Variant) -> Result<(Jail, Vec<String>)> {
    let m = format!("M={INSIDE}");
    if variant == Variant::Plain {
        let jail = shop
            .root()?
            .jail()
            .show(&shop.source()?.folder, source::INSIDE)
            .show(&shop.kernel()?.out, kernel::OUT)
            .show(parts.modules()?.tree(), modules::TREE);
        return Ok((jail, vec![m, format!("KPRESERVE={}", modules::TREE)]));
    }
    let jail = parts.builtin(variant.flavour())?.jail().clone();
    let variables = vec![
        m,
        format!("KPRESERVE={}/{}", source::INSIDE, builtin::PLACE),
        format!("KPRESERVE_OBJ={}/{}", kernel::OUT, builtin::PLACE),
    ];
    Ok((jail, variables))
}
