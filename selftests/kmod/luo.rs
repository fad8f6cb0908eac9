// SPDX-License-Identifier: GPL-2.0

//! A file handler that comes and goes before the module does: what becomes of its files.

use core::ffi::CStr;
use core::pin::Pin;

use kernel::error::to_result;
use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::sync::aref::ARef;
use kpreserve::luo::{
    anon,
    AnonFile,
    AnonOps,
    FileHandler,
    NotRetrieved,
    Registration, //
};
use kpreserve::prelude::*;

use crate::command::Words;
use crate::reply::Reply;

extern "C" {
    fn selftest_look_at_sessions() -> c_int;
}

kpreserve::preservable! {
    /// What is behind a file.
    pub(crate) struct ProbeSer {
        value: u64,
    }
    compatible = "selftest-probe", version = 1
}

kernel::sync::global_lock! {
    // SAFETY: initialized by `Handler::new`, before there is a device to write commands to.
    unsafe(uninit) static HANDLER: Mutex<Option<Registration<Probes>>> = None;
}

/// The handler goes with the module, at the latest.
pub(crate) struct Handler(());

impl Handler {
    /// To be called once, before there are commands.
    pub(crate) fn new() -> Self {
        // SAFETY: once, says the module's init.
        unsafe { HANDLER.init() };
        Self(())
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        *HANDLER.lock() = None;
    }
}

/// A file with a number.
struct Probe {
    value: u64,
}

static OPS: AnonOps<Probe> = AnonOps::new();

#[vtable]
impl AnonFile for Probe {
    const NAME: &'static CStr = c"[kpreserve-selftest]";

    fn ops() -> &'static AnonOps<Self> {
        &OPS
    }

    /// Whatever is asked, the number is the answer.
    fn ioctl(self: Pin<&Self>, _cmd: u32, _arg: usize) -> Result<isize> {
        Ok(self.value as isize)
    }
}

fn probe(value: u64) -> Result<ARef<File>> {
    anon::create(KBox::pin(Probe { value }, GFP_KERNEL)?)
}

struct Probes;

#[vtable]
impl FileHandler for Probes {
    type State = ProbeSer;
    type Owner = Preserved<ProbeSer>;
    const COMPATIBLE: &'static CStr = c"kpreserve-selftest-v1";

    fn can_preserve(&self, file: &LocalFile) -> bool {
        anon::object_of::<Probe>(file).is_some()
    }

    fn preserve(&self, file: &LocalFile, cache: &Cache<ProbeSer>) -> Result<Self::Owner> {
        let value = anon::object_of::<Probe>(file).ok_or(EINVAL)?.value;
        cache.alloc(ProbeSer { value }, GFP_KERNEL)
    }

    fn unpreserve(&self, _file: &LocalFile, state: Self::Owner) {
        drop(state);
    }

    fn retrieve(&self, state: Preserved<ProbeSer>) -> Result<ARef<File>, NotRetrieved<ProbeSer>> {
        Ok(probe(state.value)?)
    }

    fn discard(&self, state: Preserved<ProbeSer>) {
        drop(state);
    }
}

/// `luo.register`: EBUSY if it is.
pub(crate) fn register(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    start()
}

/// Registers the handler.
///
/// # Errors
///
/// EBUSY if it is; those of [`Registration::new`].
pub(crate) fn start() -> Result {
    let mut handler = HANDLER.lock();
    if handler.is_some() {
        return Err(EBUSY);
    }
    *handler = Some(Registration::new(Probes)?);
    Ok(())
}

/// Has LUO find the files of the handler that the previous kernel left, and hold the module for them.
///
/// # Errors
///
/// Those of LUO.
pub(crate) fn look_at_sessions() -> Result {
    // SAFETY: in a task of user space's, which may sleep.
    to_result(unsafe { selftest_look_at_sessions() })
}

/// `luo.drop`: ENOENT if it is not registered.
pub(crate) fn unregister(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    HANDLER.lock().take().map(drop).ok_or(ENOENT)
}

/// `luo.file VALUE`: makes a file, for the task that asks (`fd=...`).
pub(crate) fn file(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let value = words.number()? as u64;
    reply.put("fd", anon::install(probe(value)?)?.into());
    Ok(())
}
