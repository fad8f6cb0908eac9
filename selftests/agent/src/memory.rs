// SPDX-License-Identifier: GPL-2.0

//! What the kernel counts about its memory: /proc/meminfo, /proc/vmstat.

use crate::Machine;
use anyhow::{bail, ensure, Context, Result};
use std::fs;

/// A line of /proc/meminfo, in KiB.
fn meminfo(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| {
        let (found, rest) = line.split_once(':')?;
        (found == name).then_some(rest)
    });
    let line = line.with_context(|| format!("/proc/meminfo has no {name}"))?;
    let number = line.trim().strip_suffix("kB").context("not in kB")?;
    Ok(number.trim().parse()?)
}

/// A line of /proc/vmstat, with what each CPU has counted for itself.
fn vmstat(name: &str) -> Result<u64> {
    fs::read("/proc/sys/vm/stat_refresh")?;
    let text = fs::read_to_string("/proc/vmstat")?;
    let number = text.lines().find_map(|line| {
        let (found, rest) = line.split_once(' ')?;
        (found == name).then_some(rest)
    });
    let number = number.with_context(|| format!("/proc/vmstat has no {name}"))?;
    Ok(number.trim().parse()?)
}

fn reply(machine: &mut Machine, figures: &[(&str, u64)]) {
    let figures = figures.iter();
    machine.reply = figures
        .map(|(key, value)| ((*key).to_owned(), value.to_string()))
        .collect();
}

/// `huge-pages`: replies how much of all memfds is in huge pages, in KiB.
pub(crate) fn huge_pages(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let huge = meminfo("ShmemHugePages")?;
    reply(machine, &[("huge", huge)]);
    Ok(())
}

/// `pages-moved`: replies how many pages were migrated since it was asked before, or since boot. To preserve a page of CMA is to
/// migrate it, which costs more than all the rest; KHO's scratch is CMA, and who got such pages is chance: a row would say
/// that, and not whose handler is faster.
pub(crate) fn moved(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let moved = vmstat("pgmigrate_success")?;
    let before = machine.kept.insert("pages-moved".to_owned(), moved);
    reply(machine, &[("moved", moved - before.unwrap_or(0))]);
    Ok(())
}

/// `pins-balanced`: no page is pinned for long; what was has been let go of.
pub(crate) fn pins_balanced(_machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let acquired = vmstat("nr_foll_pin_acquired")?;
    let released = vmstat("nr_foll_pin_released")?;
    ensure!(
        acquired == released,
        "{acquired} pins were taken, {released} let go of"
    );
    Ok(())
}

/// `memory-total`: replies how much memory this kernel manages, and how much that has grown since the last time it was asked,
/// in KiB: what is preserved and was not restored is not managed.
pub(crate) fn total(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let total = meminfo("MemTotal")?;
    let before = machine.kept.insert("memory-total".to_owned(), total);
    let grown = total.saturating_sub(before.unwrap_or(total));
    reply(machine, &[("total", total), ("grown", grown)]);
    Ok(())
}

/// `memory-online STATE`: brings what was added, and is offline, online as `online_kernel` or
/// `online_movable`. Replies `blocks`, how many blocks that were; there has to be one.
pub(crate) fn online(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [state] = arguments else {
        bail!("memory-online: online_kernel or online_movable?");
    };
    let mut blocks = 0;
    for entry in fs::read_dir("/sys/devices/system/memory")? {
        let file = entry?.path().join("state");
        if fs::read_to_string(&file).is_ok_and(|found| found.trim() == "offline") {
            fs::write(&file, state).with_context(|| format!("{}", file.display()))?;
            blocks += 1;
        }
    }
    ensure!(blocks > 0, "no memory is offline");
    reply(machine, &[("blocks", blocks)]);
    Ok(())
}
