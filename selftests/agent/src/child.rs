// SPDX-License-Identifier: GPL-2.0

//! A process of its own for what may kill who does it: the agent is init, and the machine lives no
//! longer.

use anyhow::{bail, ensure, Result};
use std::{ffi::CString, io, os::fd::RawFd, ptr, thread, time::Duration};

/// How a child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Goes into the control group whose `cgroup.procs` this is, if any, makes an ioctl, and exits: 0,
/// or the errno. In a group it then needs some memory more, and is killed if the group has none.
///
/// It allocates nothing on the way.
pub(crate) struct Ioctl<'a, T> {
    pub(crate) group: Option<CString>,
    pub(crate) fd: RawFd,
    pub(crate) command: libc::c_ulong,
    /// The struct that `command` takes, with its size in front.
    pub(crate) args: &'a mut T,
}

impl<T> Ioctl<'_, T> {
    /// Does it in a child; kills it after a while, if asked to.
    pub(crate) fn run(mut self, kill_after: Option<Duration>) -> Result<End> {
        // SAFETY: the child only makes system calls.
        let pid = unsafe { libc::fork() };
        ensure!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            // Nothing is dropped: who writes to a page copies it, and the group may have no room
            // for one more.
            let status = self.in_child();
            // SAFETY: ends this process, and nothing of the parent.
            unsafe { libc::_exit(status) };
        }
        if let Some(after) = kill_after {
            thread::sleep(after);
            // SAFETY: our child, which nobody has waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let mut status = 0;
        // SAFETY: as above; the status is ours.
        let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
        ensure!(waited == pid, "waitpid: {}", io::Error::last_os_error());
        if libc::WIFEXITED(status) {
            return Ok(End::Exited(libc::WEXITSTATUS(status)));
        }
        if libc::WIFSIGNALED(status) {
            return Ok(End::Killed(libc::WTERMSIG(status)));
        }
        bail!("the child ended with {status:#x}")
    }

    fn in_child(&mut self) -> i32 {
        let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(-1);
        if let Some(group) = &self.group {
            // SAFETY: a path that lives for the call.
            let fd = unsafe { libc::open(group.as_ptr(), libc::O_WRONLY) };
            // SAFETY: a descriptor, or refused; one byte that is there.
            if unsafe { libc::write(fd, b"0".as_ptr().cast(), 1) } != 1 {
                return errno();
            }
        }
        // SAFETY: `args` is the struct of `command`, as the field says, and lives for the call.
        match unsafe { libc::ioctl(self.fd, self.command as _, &raw mut *self.args) } {
            0 if self.group.is_some() => touch(MORE_BYTES),
            0 => 0,
            _ => errno(),
        }
    }
}

/// What a process needs when it goes on.
const MORE_BYTES: usize = 1 << 20;

/// Has that much memory, page by page.
fn touch(size_bytes: usize) -> i32 {
    // SAFETY: a new mapping, anywhere.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return io::Error::last_os_error().raw_os_error().unwrap_or(-1);
    }
    for page in (0..size_bytes).step_by(4096) {
        // SAFETY: within the mapping.
        unsafe { start.cast::<u8>().add(page).write_volatile(1) };
    }
    0
}
