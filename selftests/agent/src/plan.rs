// SPDX-License-Identifier: GPL-2.0

//! What this generation is to do: `/scenario.json`, written by xtask.

use anyhow::{bail, Context, Result};
use serde::Deserialize;
use std::fs;

/// The file.
#[derive(Deserialize)]
pub(crate) struct Plan {
    pub(crate) scenario: String,
    pub(crate) generation: u32,
    pub(crate) generations: u32,
    pub(crate) steps: Vec<String>,
    /// The command line for the kernel that the `kexec` step starts; none in the last generation.
    pub(crate) next_cmdline: Option<String>,
    /// Modules that this kernel has built in: `insmod` has nothing to do for them.
    pub(crate) builtin: Vec<String>,
    /// For scenarios that prove that the runner notices: what this program does wrong.
    pub(crate) sabotage: Option<String>,
}

impl Plan {
    /// Reads the plan and checks that it is the one that the kernel's command line asks for.
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string("/scenario.json").context("/scenario.json")?;
        let plan: Self = serde_json::from_str(&text).context("/scenario.json")?;
        let cmdline = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
        for (name, here) in [
            ("kpreserve.scenario", plan.scenario.clone()),
            ("kpreserve.gen", plan.generation.to_string()),
        ] {
            let asked = cmdline
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            if asked != Some(here.as_str()) {
                bail!(
                    "this initramfs is for {name}={here}, the kernel's command line says {}: {}",
                    asked.unwrap_or("nothing about it"),
                    cmdline.trim()
                );
            }
        }
        Ok(plan)
    }
}
