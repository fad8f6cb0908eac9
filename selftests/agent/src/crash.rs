// SPDX-License-Identifier: GPL-2.0

//! Leaving this kernel by a crash, and what the kernel after it finds.

use crate::{power, Machine};
use anyhow::{bail, ensure, Context, Result};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

const VMCORE: &str = "/proc/vmcore";
const TRIGGER: &str = "/proc/sysrq-trigger";

/// KEXEC_FILE_ON_CRASH.
const ON_CRASH: libc::c_ulong = 0x2;

/// PT_LOAD.
const LOADABLE: u64 = 1;

/// `crash-load`: kexec_file_load(2) of the next kernel, for the case that this one crashes.
pub(crate) fn load(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    power::load_file(machine, ON_CRASH)
}

/// `crash`: as `kexec` into the next generation, but by way of a panic.
pub(crate) fn crash(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let loaded = fs::read_to_string("/sys/kernel/kexec_crash_loaded").unwrap_or_default();
    ensure!(loaded.trim() == "1", "no kernel is loaded for a crash");
    machine.report.passed();
    machine.report.drain();
    fs::write(TRIGGER, "c").context(TRIGGER)?;
    bail!("{TRIGGER} came back");
}

/// `vmcore`: there is a dump of the kernel that crashed, whose memory can be read. Replies
/// `segments` and `bytes`.
pub(crate) fn vmcore(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let file = File::open(VMCORE).context(VMCORE)?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    ensure!(header.starts_with(b"\x7fELF\x02"), "no 64-bit ELF file");
    let table = number(&header[32..40]);
    let count = number(&header[56..58]);
    let (mut segments, mut bytes) = (0u64, 0);
    for index in 0..count {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, table + index * 56)?;
        if number(&entry[0..4]) != LOADABLE {
            continue;
        }
        let (offset, size) = (number(&entry[8..16]), number(&entry[32..40]));
        // Its last byte: the old kernel's memory is there, not only said to be.
        file.read_exact_at(&mut [0], offset + size - 1)?;
        segments += 1;
        bytes += size;
    }
    machine.reply = [("segments", segments), ("bytes", bytes)]
        .map(|(key, value)| (key.to_owned(), value.to_string()))
        .into();
    Ok(())
}

/// A number, the lowest byte first.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
