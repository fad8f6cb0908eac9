// SPDX-License-Identifier: GPL-2.0

//! Everything that commands work with. Each part is made when it is first asked for.

use crate::{
    buildroot::BuildRoot,
    cache::Cache,
    checkout::Checkout,
    host,
    kernel::{Flavour, Kernel},
    series::Series,
    source::Source,
};
use anyhow::Result;
use std::cell::OnceCell;

/// The cache, the checkout, and what is made from them.
pub(crate) struct Workshop {
    cache: Cache,
    checkout: Checkout,
    series: Series,
    root: OnceCell<BuildRoot>,
    source: OnceCell<Source>,
    kernels: [OnceCell<Kernel>; Flavour::COUNT],
}

/// `OnceCell::get_or_try_init`, which is not stable yet.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

impl Workshop {
    /// Opens it; nothing is made yet.
    pub(crate) fn open() -> Result<Self> {
        let cache = Cache::open()?;
        let checkout = Checkout::find(&cache)?;
        let series = Series::read(checkout.folder())?;
        Ok(Self {
            cache,
            checkout,
            series,
            root: OnceCell::new(),
            source: OnceCell::new(),
            kernels: Default::default(),
        })
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// This clone.
    pub(crate) fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    /// The build root.
    pub(crate) fn root(&self) -> Result<&BuildRoot> {
        once(&self.root, || {
            host::prepare()?;
            BuildRoot::make(&self.cache, &self.series)
        })
    }

    /// The kernel source.
    pub(crate) fn source(&self) -> Result<&Source> {
        let root = self.root()?;
        once(&self.source, || {
            Source::make(&self.cache, root, &self.series)
        })
    }

    /// The plain kernel.
    pub(crate) fn kernel(&self) -> Result<&Kernel> {
        self.unpatched(Flavour::Plain)
    }

    /// An unpatched kernel.
    pub(crate) fn unpatched(&self, flavour: Flavour) -> Result<&Kernel> {
        let (root, source) = (self.root()?, self.source()?);
        once(&self.kernels[flavour as usize], || {
            Kernel::make(&self.cache, root, source, self.checkout.folder(), flavour)
        })
    }
}
