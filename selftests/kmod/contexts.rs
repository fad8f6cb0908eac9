// SPDX-License-Identifier: GPL-2.0

//! Running code in contexts that the kernel crate has no types for.
//!
//! C header: `helpers.h`.

use kernel::error::to_result;
use kpreserve::prelude::*;

use crate::command::Words;
use crate::pattern::ItemSer;
use crate::reply::Reply;

mod bindings {
    use super::{
        c_int,
        c_uint,
        c_void, //
    };

    extern "C" {
        pub(super) fn selftest_run_in(
            context: c_uint,
            work: unsafe extern "C" fn(*mut c_void),
            data: *mut c_void,
        ) -> c_int;
        pub(super) fn selftest_start_storm(period_ns: u64, tick: extern "C" fn()) -> c_int;
        pub(super) fn selftest_stop_storm();
        pub(super) fn selftest_lockdep_is_on() -> c_int;
        pub(super) fn selftest_provoke(sleep_in_atomic: bool);
    }
}

/// Where code runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Context {
    PreemptOff = 0,
    SpinLock = 1,
    IrqsOff = 2,
    SoftIrq = 3,
    HardIrq = 4,
    NoFs = 5,
    NoIo = 6,
    NoReclaim = 7,
}

impl Context {
    /// Returns the context of that name.
    ///
    /// # Errors
    ///
    /// EPROTO if there is none.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "preempt-off" => Self::PreemptOff,
            "spinlock" => Self::SpinLock,
            "irqs-off" => Self::IrqsOff,
            "softirq" => Self::SoftIrq,
            "hardirq" => Self::HardIrq,
            "nofs" => Self::NoFs,
            "noio" => Self::NoIo,
            "noreclaim" => Self::NoReclaim,
            _ => return Err(EPROTO),
        })
    }

    /// Returns the flags that allocations have there. In scopes it is the scope that forbids.
    pub(crate) fn flags(self) -> kernel::alloc::Flags {
        match self {
            Self::NoFs | Self::NoIo | Self::NoReclaim => GFP_KERNEL,
            Self::PreemptOff => GFP_NOWAIT,
            _ => GFP_ATOMIC,
        }
    }

    /// Runs `work` there, and returns when it has ended. On this CPU, if the caller stays on it.
    pub(crate) fn run<F: FnOnce() + Send>(self, work: F) -> Result {
        let mut work = Some(work);
        // SAFETY: `call` takes what `data` points to, which outlives the call.
        to_result(unsafe {
            bindings::selftest_run_in(self as c_uint, call::<F>, (&raw mut work).cast())
        })
    }
}

/// # Safety
///
/// `data` points to an `Option<F>` that nobody else uses meanwhile.
unsafe extern "C" fn call<F: FnOnce()>(data: *mut c_void) {
    // SAFETY: says the caller.
    let work = unsafe { &mut *data.cast::<Option<F>>() };
    if let Some(work) = work.take() {
        work();
    }
}

/// Calls `tick` from a hard interrupt on each CPU, over and over.
///
/// # Errors
///
/// EBUSY if that is so already.
pub(crate) fn start_storm(period_ns: u64, tick: extern "C" fn()) -> Result {
    // SAFETY: `tick` is there as long as the module, which lives as long as the machine wherever
    // this is used.
    to_result(unsafe { bindings::selftest_start_storm(period_ns, tick) })
}

/// Ends it.
pub(crate) fn stop_storm() {
    // SAFETY: no requirements.
    unsafe { bindings::selftest_stop_storm() }
}

/// `lockdep`: `lockdep=1` if it watches and has found nothing; `lockdep=0` if it has stopped;
/// EOPNOTSUPP if this kernel has none.
pub(crate) fn lockdep(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    // SAFETY: no requirements.
    let is_on = unsafe { bindings::selftest_lockdep_is_on() };
    reply.put("lockdep", u64::try_from(is_on).map_err(|_| EOPNOTSUPP)?);
    Ok(())
}

/// `provoke WHAT`: what a debug kernel must complain about. `deadlock` and `sleep` have nothing to do
/// with kpreserve; `alloc` uses GFP_KERNEL under a spin lock, though there are free slots; `claim`
/// claims in an interrupt.
pub(crate) fn provoke(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let sleep_in_atomic = match words.word()? {
        "deadlock" => false,
        "sleep" => true,
        "alloc" => {
            let cache = Cache::<ItemSer>::open(c"selftest/provoke", GFP_KERNEL)?;
            drop(cache.alloc(ItemSer::new(1, 1), GFP_KERNEL)?);
            return Context::SpinLock.run(|| {
                let _ = cache.alloc(ItemSer::new(2, 1), GFP_KERNEL);
            });
        }
        "claim" => {
            let cache = Cache::<ItemSer>::open(c"selftest/provoke", GFP_KERNEL)?;
            let handle = cache.alloc(ItemSer::new(1, 1), GFP_KERNEL)?.park();
            return Context::HardIrq.run(|| {
                let _ = cache.claim(handle);
            });
        }
        _ => return Err(EPROTO),
    };
    // SAFETY: it does nothing but what a debug kernel complains about; nobody else takes its locks.
    unsafe { bindings::selftest_provoke(sleep_in_atomic) };
    Ok(())
}
