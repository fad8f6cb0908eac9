// SPDX-License-Identifier: GPL-2.0

//! The Live Update Orchestrator: sessions, and files that are preserved in them (include/uapi/linux/liveupdate.h).

use crate::{
    charge,
    child::{self, End},
    errno,
    faults::Faults,
    memfd, scm, words, Machine,
};
use anyhow::{bail, Context, Result};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    time::{Duration, Instant},
};

const DEVICE: &str = "/dev/liveupdate";
const NAME_SIZE_BYTES: usize = 64;

/// `_IO(0xBA, number)`: no direction, no size.
const fn command(number: libc::c_ulong) -> libc::c_ulong {
    0xba << 8 | number
}

const CREATE_SESSION: libc::c_ulong = command(0x00);
const RETRIEVE_SESSION: libc::c_ulong = command(0x01);
const PRESERVE_FD: libc::c_ulong = command(0x40);
const RETRIEVE_FD: libc::c_ulong = command(0x41);
const FINISH: libc::c_ulong = command(0x42);

/// `struct liveupdate_ioctl_create_session`, and `_retrieve_session`.
#[repr(C)]
struct SessionArgs {
    size: u32,
    fd: i32,
    name: [u8; NAME_SIZE_BYTES],
}

/// `struct liveupdate_session_preserve_fd`, and `_retrieve_fd`.
#[repr(C)]
struct FdArgs {
    size: u32,
    fd: i32,
    token: u64,
}

/// `struct liveupdate_session_finish`.
#[repr(C)]
struct FinishArgs {
    size: u32,
    reserved: u32,
}

/// What is open.
#[derive(Default)]
pub(crate) struct Luo {
    device: Option<File>,
    sessions: BTreeMap<String, OwnedFd>,
}

fn ioctl<T>(fd: RawFd, command: libc::c_ulong, args: &mut T) -> io::Result<()> {
    // SAFETY: the argument is the struct of the command, with its size in front, and lives for the call.
    let ret = unsafe { libc::ioctl(fd, command as _, args as *mut T) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just installed it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl Luo {
    /// The session of a name: open, or else made, or taken from the previous kernel.
    fn session(&mut self, name: &str, make: libc::c_ulong) -> io::Result<RawFd> {
        if let Some(session) = self.sessions.get(name) {
            return Ok(session.as_raw_fd());
        }
        let device = match self.device.take() {
            Some(device) => device,
            None => File::options().read(true).write(true).open(DEVICE)?,
        };
        let mut args = SessionArgs {
            size: size_of::<SessionArgs>() as u32,
            fd: -1,
            name: [0; NAME_SIZE_BYTES],
        };
        let end = name.len().min(NAME_SIZE_BYTES - 1);
        args.name[..end].copy_from_slice(&name.as_bytes()[..end]);
        let made = ioctl(device.as_raw_fd(), make, &mut args);
        self.device = Some(device);
        made?;
        let session = own(args.fd);
        let fd = session.as_raw_fd();
        self.sessions.insert(name.to_owned(), session);
        Ok(fd)
    }
}

fn take_time(machine: &mut Machine, elapsed: Duration) {
    machine.reply.clear();
    let ns = elapsed.as_nanos().to_string();
    machine.reply.push(("ns".to_owned(), ns));
}

/// The files and tokens of a step with `count=N`: FILE.0 with TOKEN, FILE.1 with the next one; without it, FILE with
/// TOKEN alone.
fn several(count: Option<&str>, token: &str, file: &str) -> Result<Vec<(u64, String)>> {
    let token: u64 = token.parse().context("the token is a number")?;
    Ok((token..).zip(words::several(count, file)?).collect())
}

/// `luo-preserve SESSION TOKEN FILE [count=N] [fails=ERRNO]`. Makes the session if it is not open. Replies `ns`.
pub(crate) fn preserve(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let ([count, fails], rest) = words::options(arguments, ["count", "fails"]);
    let [session, token, file] = rest[..] else {
        bail!("luo-preserve: SESSION TOKEN FILE [count=N]");
    };
    let session = machine.luo.session(session, CREATE_SESSION)?;
    let mut elapsed = Duration::ZERO;
    for (token, file) in several(count, token, file)? {
        let mut args = FdArgs {
            size: size_of::<FdArgs>() as u32,
            fd: memfd::get(machine, &file)?.as_raw_fd(),
            token,
        };
        let started = Instant::now();
        let result = ioctl(session, PRESERVE_FD, &mut args);
        elapsed += started.elapsed();
        errno::expect("preserve", result, fails)?;
    }
    take_time(machine, elapsed);
    Ok(())
}

/// `luo-retrieve SESSION TOKEN FILE [count=N] [fails=ERRNO]`. Takes the session over if it is not open. Replies `ns`.
pub(crate) fn retrieve(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let ([count, fails], rest) = words::options(arguments, ["count", "fails"]);
    let [session, token, file] = rest[..] else {
        bail!("luo-retrieve: SESSION TOKEN FILE [count=N]");
    };
    let session = match machine.luo.session(session, RETRIEVE_SESSION) {
        Ok(session) => session,
        Err(error) => {
            errno::expect::<()>("session", Err(error), fails)?;
            return Ok(());
        }
    };
    let mut elapsed = Duration::ZERO;
    for (token, file) in several(count, token, file)? {
        let mut args = FdArgs {
            size: size_of::<FdArgs>() as u32,
            fd: -1,
            token,
        };
        let started = Instant::now();
        let result = ioctl(session, RETRIEVE_FD, &mut args);
        elapsed += started.elapsed();
        if errno::expect("retrieve", result, fails)?.is_some() {
            machine.files.insert(file, own(args.fd).into());
        }
    }
    take_time(machine, elapsed);
    Ok(())
}

/// `luo-preserve-elsewhere SESSION TOKEN FILE [fails=ERRNO]`: session and file are passed to
/// another process, which preserves.
pub(crate) fn preserve_elsewhere(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [session, token, file] = rest[..] else {
        bail!("luo-preserve-elsewhere: SESSION TOKEN FILE");
    };
    let token = token.parse().context("the token is a number")?;
    let session = machine.luo.session(session, CREATE_SESSION)?;
    let file = memfd::get(machine, file)?.as_raw_fd();
    let result = scm::elsewhere(&[session, file], |[session, fd]| {
        let mut args = FdArgs {
            size: size_of::<FdArgs>() as u32,
            fd,
            token,
        };
        ioctl(session, PRESERVE_FD, &mut args).map(|()| None)
    })?;
    errno::expect("preserve elsewhere", result, fails)?;
    Ok(())
}

/// `luo-retrieve-elsewhere SESSION TOKEN FILE [fails=ERRNO]`: the session is passed to another
/// process, which retrieves, and passes back what it got.
pub(crate) fn retrieve_elsewhere(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [session, token, file] = rest[..] else {
        bail!("luo-retrieve-elsewhere: SESSION TOKEN FILE");
    };
    let token = token.parse().context("the token is a number")?;
    let session = machine.luo.session(session, RETRIEVE_SESSION)?;
    let result = scm::elsewhere(&[session], |[session, _]| {
        let mut args = FdArgs {
            size: size_of::<FdArgs>() as u32,
            fd: -1,
            token,
        };
        ioctl(session, RETRIEVE_FD, &mut args).map(|()| Some(args.fd))
    })?;
    if let Some(fd) = errno::expect("retrieve elsewhere", result, fails)? {
        let fd = fd.context("no descriptor came back")?;
        machine.files.insert(file.to_owned(), fd.into());
    }
    Ok(())
}

/// `luo-retrieve-in GROUP SESSION TOKEN FILE [fails=ERRNO]`: retrieves in a process of its own that
/// goes into a control group before; then asks for the file again, which must say the same.
pub(crate) fn retrieve_in(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [group, name, token, _] = rest[..] else {
        bail!("luo-retrieve-in: GROUP SESSION TOKEN FILE");
    };
    let session = machine.luo.session(name, RETRIEVE_SESSION)?;
    let mut args = FdArgs {
        size: size_of::<FdArgs>() as u32,
        fd: -1,
        token: token.parse().context("the token is a number")?,
    };
    let ended = child::Ioctl {
        group: Some(charge::procs(group)?),
        fd: session,
        command: RETRIEVE_FD,
        args: &mut args,
    }
    .run(None)?;
    match (ended, fails) {
        (End::Exited(0), None) => {}
        // It may have been killed for it.
        (End::Exited(_) | End::Killed(libc::SIGKILL), Some(_)) => {}
        _ => bail!("retrieve: the process in {group} ended with {ended:?}"),
    }
    retrieve(machine, &arguments[1..])
}

/// `luo-preserve-killed SESSION TOKEN FILE MILLISECONDS`: preserves in a process of its own that is
/// killed after a while. Replies `blocks`, the units of 512 bytes that the file has then.
pub(crate) fn preserve_killed(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name, token, file, after] = arguments else {
        bail!("luo-preserve-killed: SESSION TOKEN FILE MILLISECONDS");
    };
    let session = machine.luo.session(name, CREATE_SESSION)?;
    let mut args = FdArgs {
        size: size_of::<FdArgs>() as u32,
        fd: memfd::get(machine, file)?.as_raw_fd(),
        token: token.parse().context("the token is a number")?,
    };
    let ended = child::Ioctl {
        group: None,
        fd: session,
        command: PRESERVE_FD,
        args: &mut args,
    }
    .run(Some(Duration::from_millis(after.parse()?)))?;
    if ended != End::Killed(libc::SIGKILL) {
        bail!("preserve: the process was through before it could be killed: {ended:?}");
    }
    let blocks = memfd::get(machine, file)?.metadata()?.blocks();
    machine.reply.clear();
    machine
        .reply
        .push(("blocks".to_owned(), blocks.to_string()));
    Ok(())
}

/// `luo-finish SESSION [fails=ERRNO]`. Replies `ns`.
pub(crate) fn finish(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let [name] = rest[..] else {
        bail!("luo-finish: SESSION");
    };
    let session = machine.luo.session(name, RETRIEVE_SESSION)?;
    let mut args = FinishArgs {
        size: size_of::<FinishArgs>() as u32,
        reserved: 0,
    };
    let started = Instant::now();
    let result = ioctl(session, FINISH, &mut args);
    take_time(machine, started.elapsed());
    errno::expect("finish", result, fails)?;
    Ok(())
}

/// `luo-close SESSION`: what is preserved in it is not, any more.
pub(crate) fn close(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("luo-close: SESSION");
    };
    let started = Instant::now();
    let Some(session) = machine.luo.sessions.remove(name) else {
        bail!("no session {name:?} is open");
    };
    drop(session);
    take_time(machine, started.elapsed());
    Ok(())
}

fn reply(machine: &mut Machine, pairs: &[(&str, u32)]) {
    machine.reply.clear();
    for (name, value) in pairs {
        machine.reply.push(((*name).to_owned(), value.to_string()));
    }
}

/// Passes if it worked, or failed for want of memory; returns whether it worked.
fn worked(what: &str, nth: u32, result: &io::Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        // shmem says ENOSPC if there is no memory for an inode.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOSPC)) => {
            Ok(false)
        }
        Err(error) => bail!(
            "{what}: allocation {nth} failed, expected ENOMEM, got {}",
            errno::name(error)
        ),
    }
}

/// `luo-preserve-faults SESSION TOKEN FILE`: preserves once for each allocation, which fails, and gives up what is preserved
/// nevertheless; in the end none fails. Replies `faults`, how many there were, and `failed`, after how many of them user space
/// was refused.
pub(crate) fn preserve_faults(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name, token, file] = arguments else {
        bail!("luo-preserve-faults: SESSION TOKEN FILE");
    };
    let faults = Faults::new()?;
    let mut args = FdArgs {
        size: size_of::<FdArgs>() as u32,
        fd: memfd::get(machine, file)?.as_raw_fd(),
        token: token.parse().context("the token is a number")?,
    };
    let (mut nth, mut failed) = (1, 0);
    loop {
        let session = machine.luo.session(name, CREATE_SESSION)?;
        let (reached, result) = faults.nth(nth, || ioctl(session, PRESERVE_FD, &mut args))?;
        if !reached {
            result.context("preserving, with all memory there is")?;
            break;
        }
        failed += u32::from(!worked("preserve", nth, &result)?);
        machine.luo.sessions.remove(name);
        nth += 1;
    }
    reply(machine, &[("faults", nth - 1), ("failed", failed)]);
    Ok(())
}

/// `luo-close-faults SESSION TOKEN FILE`: preserves, and closes the session, once for each allocation of closing, which fails.
/// Nothing may come of that. Replies `faults`, how many there were.
pub(crate) fn close_faults(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name, token, file] = arguments else {
        bail!("luo-close-faults: SESSION TOKEN FILE");
    };
    let faults = Faults::new()?;
    let mut args = FdArgs {
        size: size_of::<FdArgs>() as u32,
        fd: memfd::get(machine, file)?.as_raw_fd(),
        token: token.parse().context("the token is a number")?,
    };
    let mut nth = 1;
    loop {
        let session = machine.luo.session(name, CREATE_SESSION)?;
        ioctl(session, PRESERVE_FD, &mut args).context("preserving, with all memory there is")?;
        let (reached, closed) = faults.nth(nth, || machine.luo.sessions.remove(name).map(drop))?;
        closed.context("the session was there")?;
        if !reached {
            break;
        }
        nth += 1;
    }
    reply(machine, &[("faults", nth - 1)]);
    Ok(())
}

/// `luo-preserve-apart SESSION FILE COUNT`: preserves FILE.0 in SESSION.0, FILE.1 in SESSION.1 and so on.
pub(crate) fn preserve_apart(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [session, file, count] = arguments else {
        bail!("luo-preserve-apart: SESSION FILE COUNT");
    };
    let sessions = words::several(Some(count), session)?;
    for (session, file) in sessions.iter().zip(words::several(Some(count), file)?) {
        let session = machine.luo.session(session, CREATE_SESSION)?;
        let mut args = FdArgs {
            size: size_of::<FdArgs>() as u32,
            fd: memfd::get(machine, &file)?.as_raw_fd(),
            token: 1,
        };
        ioctl(session, PRESERVE_FD, &mut args).with_context(|| file)?;
    }
    Ok(())
}

/// `luo-finish-faults SESSION COUNT`: finishes SESSION.0 with its first allocation failing, SESSION.1 with its second one and so
/// on; nothing may come of that. COUNT must be more than there are. Replies `faults`, how many there were.
pub(crate) fn finish_faults(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [session, count] = arguments else {
        bail!("luo-finish-faults: SESSION COUNT");
    };
    let faults = Faults::new()?;
    let (mut nth, mut reached_any) = (0, 0);
    for name in words::several(Some(count), session)? {
        nth += 1;
        let session = machine.luo.session(&name, RETRIEVE_SESSION)?;
        let mut args = FinishArgs {
            size: size_of::<FinishArgs>() as u32,
            reserved: 0,
        };
        let (reached, result) = faults.nth(nth, || ioctl(session, FINISH, &mut args))?;
        result.with_context(|| format!("finish: allocation {nth} failed"))?;
        reached_any += u32::from(reached);
        machine.luo.sessions.remove(&name);
    }
    if reached_any == nth {
        bail!("{count} sessions are not enough: each lacked an allocation");
    }
    reply(machine, &[("faults", reached_any)]);
    Ok(())
}

/// `luo-retrieve-faults SESSION TOKEN FILE COUNT`: retrieves FILE.0 with TOKEN, FILE.1 with the next one and so on; the first
/// allocation fails for the first, the second for the second. COUNT must be more than there are. Replies as
/// `luo-preserve-faults`, and `tolerated`, how many were retrieved nevertheless.
pub(crate) fn retrieve_faults(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name, token, file, count] = arguments else {
        bail!("luo-retrieve-faults: SESSION TOKEN FILE COUNT");
    };
    let faults = Faults::new()?;
    let session = machine.luo.session(name, RETRIEVE_SESSION)?;
    let (mut reached_any, mut failed, mut tolerated, mut complete) = (0, 0, 0, 0);
    for (index, (token, file)) in several(Some(count), token, file)?.into_iter().enumerate() {
        let nth = index as u32 + 1;
        let mut args = FdArgs {
            size: size_of::<FdArgs>() as u32,
            fd: -1,
            token,
        };
        let (reached, result) = faults.nth(nth, || ioctl(session, RETRIEVE_FD, &mut args))?;
        if reached {
            reached_any += 1;
        } else {
            complete += 1;
        }
        if worked("retrieve", nth, &result)? {
            tolerated += u32::from(reached);
            machine.files.insert(file, own(args.fd).into());
        } else {
            failed += 1;
            // As it was said once it stays.
            if ioctl(session, RETRIEVE_FD, &mut args).is_ok() {
                bail!("retrieve: {file} could not be made, and is there when asked for again");
            }
        }
    }
    if complete == 0 {
        bail!("{count} files are not enough: each lacked an allocation");
    }
    reply(
        machine,
        &[
            ("faults", reached_any),
            ("failed", failed),
            ("tolerated", tolerated),
        ],
    );
    Ok(())
}
