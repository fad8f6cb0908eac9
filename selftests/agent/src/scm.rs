// SPDX-License-Identifier: GPL-2.0

//! Descriptors passed over a UNIX socket (SCM_RIGHTS) to a process that has no other, and back.

use anyhow::{bail, ensure, Context, Result};
use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// Descriptors of one message.
const NR_MAX: usize = 2;

/// Room for one control message with so many.
#[repr(C, align(8))]
struct Control([u8; 64]);

fn message(iov: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a plain struct of C's.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    message
}

/// Sends a number, and descriptors with it.
fn send(socket: RawFd, number: i32, fds: &[RawFd]) -> io::Result<()> {
    let mut bytes = number.to_ne_bytes();
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    let mut message = message(&mut iov, &mut control);
    let size_bytes = size_of_val(fds) as libc::c_uint;
    // SAFETY: numbers.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_bytes) } as usize;
    if fds.is_empty() {
        message.msg_controllen = 0;
    } else {
        // SAFETY: there is room for the header and NR_MAX descriptors.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_bytes) as usize;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
        }
    }
    // SAFETY: all that the message points to lives.
    let sent = unsafe { libc::sendmsg(socket, &message, 0) };
    if sent != bytes.len() as isize {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Receives a number, and the descriptors that came with it; -1 where there is none.
fn receive(socket: RawFd) -> io::Result<(i32, [RawFd; NR_MAX])> {
    let mut bytes = [0; 4];
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    let mut message = message(&mut iov, &mut control);
    // SAFETY: all that the message points to lives.
    let received = unsafe { libc::recvmsg(socket, &mut message, 0) };
    if received != bytes.len() as isize {
        return Err(io::Error::last_os_error());
    }
    let mut fds = [-1; NR_MAX];
    // SAFETY: the kernel has filled it; no more than there is room for is copied.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if !header.is_null() {
            let size_bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
            let count = (size_bytes / size_of::<RawFd>()).min(NR_MAX);
            std::ptr::copy_nonoverlapping(libc::CMSG_DATA(header).cast(), fds.as_mut_ptr(), count);
        }
    }
    Ok((i32::from_ne_bytes(bytes), fds))
}

/// What the other process does: closes all that it has inherited but the socket, and calls `work`
/// with what it was sent.
fn other(socket: RawFd, work: impl FnOnce([RawFd; NR_MAX]) -> io::Result<Option<RawFd>>) -> i32 {
    let closed = [(0, socket - 1), (socket + 1, i32::MAX)].map(|(first, last)| {
        // SAFETY: nothing here uses them any more; this process ends without looking back.
        first > last || unsafe { libc::close_range(first as u32, last as u32, 0) } == 0
    });
    if closed != [true; 2] {
        return 2;
    }
    let answer = receive(socket).and_then(|(_, fds)| work(fds));
    let sent = match answer {
        Ok(fd) => send(socket, 0, fd.as_slice()),
        Err(error) => send(socket, error.raw_os_error().unwrap_or(libc::EIO), &[]),
    };
    i32::from(sent.is_err())
}

/// Lets another process, which gets these descriptors over a socket and has no others, do `work`.
/// Returns its result, and the descriptor that it has sent back.
///
/// An error of the outer kind is one of the test itself.
pub(crate) fn elsewhere(
    fds: &[RawFd],
    work: impl FnOnce([RawFd; NR_MAX]) -> io::Result<Option<RawFd>>,
) -> Result<io::Result<Option<OwnedFd>>> {
    ensure!(fds.len() <= NR_MAX, "too many descriptors");
    let (here, there) = UnixStream::pair().context("socketpair")?;
    // SAFETY: the child calls only what needs no lock, and ends by _exit.
    match unsafe { libc::fork() } {
        -1 => bail!("fork: {}", io::Error::last_os_error()),
        0 => {
            let status = other(there.into_raw_fd(), work);
            // SAFETY: ends this process.
            unsafe { libc::_exit(status) }
        }
        child => {
            drop(there);
            let answer = send(here.as_raw_fd(), 0, fds).and_then(|()| receive(here.as_raw_fd()));
            let mut status = 0;
            // SAFETY: a child of ours; the pointer is to a local.
            let ended = unsafe { libc::waitpid(child, &mut status, 0) };
            ensure!(
                ended == child && status == 0,
                "the other process ended with status {status:#x}"
            );
            let (errno, [fd, _]) = answer.context("no answer from the other process")?;
            // SAFETY: the kernel has just installed it for us.
            let fd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(match errno {
                0 => Ok(fd),
                errno => Err(io::Error::from_raw_os_error(errno)),
            })
        }
    }
}
