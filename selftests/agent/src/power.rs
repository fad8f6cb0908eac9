// SPDX-License-Identifier: GPL-2.0

//! Leaving this kernel: for the next one, or for good.

use crate::{errno, report::Report, words, Machine};
use anyhow::{bail, ensure, Context, Result};
use rustix::system::{reboot, RebootCommand};
use std::{
    ffi::CString,
    fs,
    fs::File,
    io,
    os::fd::AsRawFd,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// The line by which the runner knows that the last generation came to its end.
const END: &str = "# end of scenario";

/// `sleep MILLISECONDS`.
pub(crate) fn sleep(_machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [milliseconds] = arguments else {
        bail!("sleep: how many milliseconds?");
    };
    let milliseconds = milliseconds
        .parse()
        .with_context(|| format!("sleep: {milliseconds:?} is no number"))?;
    thread::sleep(Duration::from_millis(milliseconds));
    Ok(())
}

/// The program of kexec-tools.
const KEXEC_TOOLS: &str = "/programs/kexec";

/// `kexec-load`: kexec_file_load(2) of the next kernel, its initramfs and its command line.
pub(crate) fn kexec_load(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    load_file(machine, 0)
}

/// `kexec-tools`: the same by kexec_load(2), as old scripts do it.
pub(crate) fn kexec_tools(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    let cmdline = machine.plan.next_cmdline.as_deref();
    let cmdline = cmdline.context("kexec: this is the last generation of the scenario")?;
    let output = Command::new(KEXEC_TOOLS)
        .args(["-c", "-l", "/next/bzImage", "--initrd=/next/initramfs"])
        .arg(format!("--command-line={cmdline}"))
        .stdin(Stdio::null())
        .output()
        .context(KEXEC_TOOLS)?;
    for text in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(text).lines() {
            machine.report.note(line);
        }
    }
    ensure!(output.status.success(), "it ended with {}", output.status);
    Ok(())
}

/// kexec_file_load(2) of the next kernel.
pub(crate) fn load_file(machine: &Machine, flags: libc::c_ulong) -> Result<()> {
    let cmdline = machine
        .plan
        .next_cmdline
        .as_deref()
        .context("kexec: this is the last generation of the scenario")?;
    let kernel = File::open("/next/bzImage").context("/next/bzImage")?;
    let initramfs = File::open("/next/initramfs").context("/next/initramfs")?;
    let cmdline = CString::new(cmdline)?;
    // SAFETY: Both descriptors are open, and `cmdline` is valid for reads of its length, the final NUL included.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs.as_raw_fd(),
            cmdline.as_bytes_with_nul().len(),
            cmdline.as_ptr(),
            flags,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("kexec_file_load");
    }
    Ok(())
}

/// `kexec`: into the next generation. The step is reported as passed before the jump: the next kernel cannot know its number.
pub(crate) fn kexec(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let loaded = fs::read_to_string("/sys/kernel/kexec_loaded").unwrap_or_default();
    if loaded.trim() != "1" {
        kexec_load(machine, arguments)?;
    }
    let (fails, _) = words::option(arguments, "fails");
    rustix::fs::sync();
    if fails.is_some() {
        let result = reboot(RebootCommand::Kexec).map_err(io::Error::from);
        errno::expect("kexec", result, fails)?;
        return Ok(());
    }
    machine.report.passed();
    machine.report.drain();
    let error = reboot(RebootCommand::Kexec);
    // Reported twice then, and the runner sees a result too many: fine, it is a failure.
    bail!("reboot(LINUX_REBOOT_CMD_KEXEC) came back: {error:?}");
}

/// `poweroff`: the end of the scenario.
pub(crate) fn poweroff(machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    machine.report.passed();
    machine.report.line(END);
    off();
}

/// `vanish`: off, with the plan unfulfilled. For the scenarios that must fail.
pub(crate) fn vanish(_machine: &mut Machine, _arguments: &[String]) -> Result<()> {
    off();
}

/// Powers off; if that fails there is nothing left to do but to wait for the runner's time limit.
pub(crate) fn off() -> ! {
    rustix::fs::sync();
    let error = reboot(RebootCommand::PowerOff);
    Report::open().note(&format!("poweroff came back: {error:?}"));
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}
