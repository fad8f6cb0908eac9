// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail, one after the other: the kernel's fault injection (Documentation/fault-injection), for this task alone.

use anyhow::{bail, Context, Result};
use std::{fs::File, fs::OpenOptions, os::unix::fs::FileExt};

/// What can fail, and that sleeping makes no difference.
const SETTINGS: &[(&str, &str)] = &[
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
];

/// More allocations than any call makes.
pub(crate) const LIMIT: u32 = 10_000;

/// Lets the Nth allocation of a call fail.
pub(crate) struct Faults(File);

impl Faults {
    /// Sets all up.
    pub(crate) fn new() -> Result<Self> {
        for (file, value) in SETTINGS {
            let path = format!("/sys/kernel/debug/{file}");
            std::fs::write(&path, value).with_context(|| path.clone())?;
        }
        const PATH: &str = "/proc/thread-self/fail-nth";
        let file = OpenOptions::new().read(true).write(true).open(PATH);
        Ok(Self(file.context(PATH)?))
    }

    /// Makes a call whose `nth` allocation fails; returns whether it got so far, and what it returned.
    pub(crate) fn nth<T>(&self, nth: u32, call: impl FnOnce() -> T) -> Result<(bool, T)> {
        if nth == 0 || nth > LIMIT {
            bail!("more than {LIMIT} allocations in one call");
        }
        self.0.write_at(nth.to_string().as_bytes(), 0)?;
        let result = call();
        let mut left = [0; 16];
        let len = self.0.read_at(&mut left, 0)?;
        self.0.write_at(b"0", 0)?;
        let left: u32 = std::str::from_utf8(&left[..len])?.trim().parse()?;
        Ok((left == 0, result))
    }
}
