// SPDX-License-Identifier: GPL-2.0

//! What happens to the memory of files: it is swapped out, and charged to a control group.

use crate::{memfd, words, Machine};
use anyhow::{bail, ensure, Context, Result};
use rustix::mount::{mount, MountFlags};
use std::{ffi::CString, fs, io, os::fd::AsRawFd, os::unix::fs::FileExt, path::Path, ptr};

const PAGE_SIZE: usize = 4096;
const SWAP: &str = "/dev/ram0";
const GROUPS: &str = "/groups";

/// `swap-on`: swaps to /dev/ram0, all of it.
pub(crate) fn swap_on(_machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let sectors = fs::read_to_string("/sys/block/ram0/size").context("/dev/ram0")?;
    let nr_pages = sectors.trim().parse::<u32>()? / (PAGE_SIZE as u32 / 512);
    // `union swap_header` (include/linux/swap.h), version 1.
    let mut header = vec![0u8; PAGE_SIZE];
    header[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    header[1028..1032].copy_from_slice(&(nr_pages - 1).to_le_bytes());
    header[PAGE_SIZE - 10..].copy_from_slice(b"SWAPSPACE2");
    let device = fs::File::options().write(true).open(SWAP).context(SWAP)?;
    device.write_all_at(&header, 0)?;
    device.sync_all()?;
    let path = CString::new(SWAP)?;
    // SAFETY: a path that lives for the call.
    if unsafe { libc::swapon(path.as_ptr(), 0) } != 0 {
        return Err(io::Error::last_os_error()).context("swapon");
    }
    Ok(())
}

/// `page-out FILE`: has the pages of a memfd swapped out; replies `swapped`, what is in the swap then, in KiB.
pub(crate) fn page_out(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("page-out: FILE");
    };
    let file = memfd::get(machine, name)?;
    let size = file.metadata()?.len() as usize;
    // SAFETY: a new mapping, anywhere.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    ensure!(
        start != libc::MAP_FAILED,
        "mmap: {}",
        io::Error::last_os_error()
    );
    for page in (0..size).step_by(PAGE_SIZE) {
        let mut byte = 0u8;
        // SAFETY: each page of the mapping; only what is mapped is looked for.
        let there = unsafe { libc::mincore(start.add(page), PAGE_SIZE, &mut byte) } == 0;
        if there && byte & 1 != 0 {
            // SAFETY: within the mapping; a hole is not read, it would be filled.
            unsafe { start.cast::<u8>().add(page).read_volatile() };
        }
    }
    // SAFETY: the mapping.
    let advised = unsafe { libc::madvise(start, size, libc::MADV_PAGEOUT) };
    let advised = if advised == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    // SAFETY: nobody has a reference into it.
    unsafe { libc::munmap(start, size) };
    advised.context("madvise(MADV_PAGEOUT)")?;
    let text = fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.trim().strip_suffix("kB"));
        Ok(value
            .with_context(|| format!("/proc/meminfo has no {name}"))?
            .trim()
            .parse()?)
    };
    let swapped = field("SwapTotal:")? - field("SwapFree:")?;
    machine.reply.clear();
    machine
        .reply
        .push(("swapped".to_owned(), swapped.to_string()));
    Ok(())
}

/// What a process writes to to go into a group.
pub(crate) fn procs(name: &str) -> Result<CString> {
    Ok(CString::new(format!("{GROUPS}/{name}/cgroup.procs"))?)
}

/// `cgroup NAME [max=BYTES]`: goes into a control group of that name, which is made if need be, and has a limit then.
pub(crate) fn enter_group(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (max, rest) = words::option(arguments, "max");
    let [name] = rest[..] else {
        bail!("cgroup: NAME [max=BYTES]");
    };
    if !Path::new(GROUPS).is_dir() {
        fs::create_dir(GROUPS)?;
        mount("cgroup2", GROUPS, "cgroup2", MountFlags::empty(), None).context("cgroup2")?;
        fs::write(format!("{GROUPS}/cgroup.subtree_control"), "+memory").context("+memory")?;
    }
    let group = format!("{GROUPS}/{name}");
    fs::create_dir_all(&group).context("making the group")?;
    if let Some(max) = max {
        fs::write(format!("{group}/memory.max"), max).context("memory.max")?;
    }
    fs::write(format!("{group}/cgroup.procs"), "1").context("going into the group")?;
    Ok(())
}

/// `charged NAME`: replies `shmem`, the KiB of memfds that are charged to a control group, and `all`, of whatever kind.
pub(crate) fn charged(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("charged: NAME");
    };
    let text = fs::read_to_string(format!("{GROUPS}/{name}/memory.stat"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("shmem "));
    let shmem: u64 = line.context("memory.stat has no shmem")?.trim().parse()?;
    let all: u64 = fs::read_to_string(format!("{GROUPS}/{name}/memory.current"))?
        .trim()
        .parse()?;
    machine.reply.clear();
    for (key, bytes) in [("shmem", shmem), ("all", all)] {
        let kib = (bytes / 1024).to_string();
        machine.report.note(&format!("{key}={kib}"));
        machine.reply.push((key.to_owned(), kib));
    }
    Ok(())
}
