// SPDX-License-Identifier: GPL-2.0

//! Steps of the key-value sample.

use crate::Machine;
use anyhow::{bail, Result};

/// `kv-load FILE`.
pub(crate) fn load(_machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    bail!("kv-load: not written yet");
}

/// `kv-verify FILE`.
pub(crate) fn verify(_machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    bail!("kv-verify: not written yet");
}
