// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading modules.

use crate::{errno, words, Machine};
use anyhow::{bail, Context, Result};
use rustix::system::{delete_module, finit_module};
use std::{ffi::CString, fs::File};

/// `insmod NAME [parameter=value ...] [fails=ERRNO]`.
pub(crate) fn insmod(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let Some((name, parameters)) = rest.split_first() else {
        bail!("insmod: which module?");
    };
    if machine.plan.builtin.iter().any(|builtin| builtin == name) {
        machine.report.note(&format!("{name} is built in"));
        return Ok(());
    }
    let path = format!("/modules/{name}.ko");
    let file = File::open(&path)
        .with_context(|| format!("{path}: is it in this generation's `modules`?"))?;
    let parameters = CString::new(parameters.join(" "))?;
    let result = finit_module(&file, &parameters, 0).map_err(Into::into);
    errno::expect(&format!("insmod {name}"), result, fails)?;
    Ok(())
}

/// `rmmod NAME [fails=ERRNO]`.
pub(crate) fn rmmod(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [name] = rest[..] else {
        bail!("rmmod: which module?");
    };
    // O_NONBLOCK: "in use" is an error at once.
    let result = delete_module(&CString::new(name)?, libc::O_NONBLOCK).map_err(Into::into);
    errno::expect(&format!("rmmod {name}"), result, fails)?;
    Ok(())
}
