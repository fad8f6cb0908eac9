// SPDX-License-Identifier: GPL-2.0

//! From LUO's callbacks to the trait.
//!
//! What LUO promises (kernel/liveupdate/luo_file.c): `handler` is the one it was given; `file` is one
//! that `can_preserve` accepted, or that `retrieve` returned, and LUO holds a reference; between
//! `preserve` and `unpreserve` `private_data` is what `preserve` left there; the callbacks of one file
//! come one at a time.

use kernel::bindings::file;
use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::types::ForeignOwnable;

use kpreserve_kho::Preservable;
use kpreserve_slab::Preserved;

use super::bindings::{
    FileHandler as RawHandler,
    FileOpArgs,
    FileOps,
    NotifierBlock,
    NOTIFY_DONE, //
};
use super::file::{
    FileHandler,
    NotRetrieved,
    Outcome, //
};
use super::owner::Owner;
use super::raw::may_log;
use super::registration::Known;

/// Returns the callbacks of a handler. LUO does without those that it has none for.
pub(super) fn ops<H: FileHandler>(owner: *mut c_void) -> FileOps {
    FileOps {
        can_preserve: can_preserve::<H>,
        preserve: preserve::<H>,
        unpreserve: unpreserve::<H>,
        freeze: if H::HAS_FREEZE {
            Some(freeze::<H>)
        } else {
            None
        },
        unfreeze: if H::HAS_UNFREEZE {
            Some(unfreeze::<H>)
        } else {
            None
        },
        retrieve: retrieve::<H>,
        can_finish: if H::HAS_CAN_FINISH {
            Some(can_finish::<H>)
        } else {
            None
        },
        finish: finish::<H>,
        get_id: if H::HAS_ID { Some(get_id::<H>) } else { None },
        owner,
    }
}

/// Returns the file that LUO names.
///
/// # Safety
///
/// It is one, and LUO holds a reference for `'a`.
unsafe fn file_of<'a>(file: *mut file) -> &'a LocalFile {
    // SAFETY: says the caller. LUO has it by fget(), beside the descriptor that the task has: so no
    // fdget_pos() of it goes without its lock.
    unsafe { LocalFile::from_raw_file(file) }
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn can_preserve<H: FileHandler>(raw: *mut RawHandler, file: *mut file) -> bool {
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(raw) };
    // SAFETY: LUO holds it.
    known.is_ready() && known.handler().can_preserve(unsafe { file_of(file) })
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn preserve<H: FileHandler>(args: *mut FileOpArgs) -> c_int {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    // SAFETY: LUO holds it.
    let file = unsafe { file_of(args.file) };
    match known
        .cache()
        .and_then(|cache| known.handler().preserve(file, cache))
    {
        Ok(state) => {
            args.serialized_data = state.state_handle().into_raw();
            args.private_data = state.into_foreign();
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn unpreserve<H: FileHandler>(args: *mut FileOpArgs) {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    // SAFETY: LUO holds it.
    let file = unsafe { file_of(args.file) };
    // SAFETY: what `preserve` left there; LUO forgets it after this.
    let state = unsafe { H::Owner::from_foreign(args.private_data) };
    known.handler().unpreserve(file, state);
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn freeze<H: FileHandler>(args: *mut FileOpArgs) -> c_int {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    // SAFETY: LUO holds it.
    let file = unsafe { file_of(args.file) };
    // SAFETY: what `preserve` left there, and nobody else's meanwhile.
    let state = unsafe { H::Owner::borrow_mut(args.private_data) };
    match known.handler().freeze(file, state) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn unfreeze<H: FileHandler>(args: *mut FileOpArgs) {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    // SAFETY: LUO holds it.
    let file = unsafe { file_of(args.file) };
    // SAFETY: what `preserve` left there, and nobody else's meanwhile.
    let state = unsafe { H::Owner::borrow_mut(args.private_data) };
    known.handler().unfreeze(file, state);
}

/// Claims the state that a handle of LUO's names: it has crossed a kexec, and is checked.
fn claim<H: FileHandler>(known: &Known<H>, handle: u64) -> Result<Preserved<H::State>> {
    known.claim(handle).inspect_err(|error| {
        pr_err!(
            "\"{}\": {:#x}, which LUO has carried, is no state of a file ({:?}); nothing that it may name is touched\n",
            H::State::COMPATIBLE,
            handle,
            error
        )
    })
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn retrieve<H: FileHandler>(args: *mut FileOpArgs) -> c_int {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    let made = claim(known, args.serialized_data)
        .map_err(NotRetrieved::from)
        .and_then(|state| {
            let made = known.handler().retrieve(state);
            made.inspect_err(report_failure::<H>)
        });
    match made {
        Ok(file) => {
            args.file = ARef::<File>::into_raw(file).as_ptr().cast();
            0
        }
        Err(NotRetrieved { error, state }) => {
            // `finish` claims it again, or `on_reboot` finds it.
            state.map(Preserved::unclaim);
            error.to_errno()
        }
    }
}

/// Says why a file could not be retrieved, and what has become of its contents.
fn report_failure<H: FileHandler>(failure: &NotRetrieved<H::State>) {
    if !may_log() {
        return;
    }
    match &failure.state {
        Some(state) => pr_err!(
            "\"{}\": a file ({} bytes) cannot be retrieved ({:?}), and LUO does not try twice; nothing of it is freed \
             until its session is finished or closed\n",
            H::State::COMPATIBLE,
            H::size_bytes(state),
            failure.error
        ),
        None => pr_err!(
            "\"{}\": a file cannot be retrieved ({:?}), and LUO does not try twice; what it held is given up\n",
            H::State::COMPATIBLE,
            failure.error
        ),
    }
}

/// Returns what has become of a file.
///
/// # Safety
///
/// The arguments of `can_finish` or `finish`.
unsafe fn outcome<'a>(args: &FileOpArgs) -> Outcome<'a> {
    match args.retrieve_status {
        0 => Outcome::NotRetrieved,
        // SAFETY: it was retrieved, so LUO holds it.
        1.. => Outcome::Retrieved(unsafe { file_of(args.file) }),
        error => Outcome::Failed(Error::from_errno(error)),
    }
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn can_finish<H: FileHandler>(args: *mut FileOpArgs) -> bool {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    // SAFETY: those of `can_finish`.
    known.handler().can_finish(unsafe { outcome(args) })
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn finish<H: FileHandler>(args: *mut FileOpArgs) {
    // SAFETY: LUO's, for this call.
    let args = unsafe { &mut *args };
    // SAFETY: LUO has it from `Registration::new`.
    let known = unsafe { Known::<H>::of(args.handler) };
    let state = match args.retrieve_status {
        0 => claim(known, args.serialized_data).ok(),
        // It is there if it could not be claimed then, or was given back. If not, it was dropped: a handle is of
        // no use to find another object.
        status if status < 0 => known.claim(args.serialized_data).ok(),
        _ => None,
    };
    // What cannot be claimed is not ours to free.
    if let Some(state) = state {
        known
            .given_up()
            .discarded(H::State::COMPATIBLE, H::size_bytes(&state));
        known.handler().discard(state);
    }
    // SAFETY: those of `finish`.
    known.handler().finish(unsafe { outcome(args) });
}

/// # Safety
///
/// LUO calls it, as the module says.
unsafe extern "C" fn get_id<H: FileHandler>(file: *mut file) -> c_ulong {
    // SAFETY: LUO holds it.
    H::id(unsafe { file_of(file) }) as c_ulong
}

/// The kernel goes: what was left to us and never asked for does not go on. Files that are preserved
/// now have owners and are not among them.
///
/// # Safety
///
/// For the notifier of a `Known<H>`.
pub(super) unsafe extern "C" fn on_reboot<H: FileHandler>(
    notifier: *mut NotifierBlock,
    _action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: says the caller.
    let known = unsafe { Known::<H>::of_notifier(notifier) };
    let (mut nr_files, mut nr_bytes) = (0u64, 0u64);
    if let Ok(cache) = known.cache() {
        for state in cache.unclaimed() {
            nr_files += 1;
            nr_bytes = nr_bytes.saturating_add(H::size_bytes(&state));
            known.handler().forget(state);
        }
    }
    known
        .given_up()
        .report(H::State::COMPATIBLE, nr_files, nr_bytes);
    NOTIFY_DONE
}

#[cfg(CONFIG_KPRESERVE_KUNIT_TEST)]
#[kernel::macros::kunit_tests(kpreserve_luo_callbacks)]
mod tests {
    use super::*;

    /// Handlers that are built in.
    struct Nobody;

    impl kernel::ModuleMetadata for Nobody {
        const NAME: &'static kernel::str::CStr = c"kpreserve";

        const THIS_MODULE: kernel::ThisModule = {
            // SAFETY: what is built in has a null pointer in C, too.
            unsafe { kernel::ThisModule::from_ptr(core::ptr::null_mut()) }
        };
    }

    /// What each handler has to have.
    macro_rules! handler {
        ($name:ident { $($more:item)* }) => {
            struct $name;

            #[vtable]
            impl FileHandler for $name {
                type State = u64;
                type Owner = Preserved<u64>;
                type OwnerModule = Nobody;
                const COMPATIBLE: &'static core::ffi::CStr = c"kunit";

                fn can_preserve(&self, _file: &LocalFile) -> bool {
                    false
                }

                fn preserve(
                    &self,
                    _file: &LocalFile,
                    _cache: &kpreserve_slab::Cache<u64>,
                ) -> Result<Preserved<u64>> {
                    Err(EINVAL)
                }

                fn unpreserve(&self, _file: &LocalFile, _state: Preserved<u64>) {}

                fn retrieve(&self, _state: Preserved<u64>) -> Result<ARef<File>, NotRetrieved<u64>> {
                    Err(EINVAL.into())
                }

                fn discard(&self, _state: Preserved<u64>) {}

                $($more)*
            }
        };
    }

    handler!(Bare {});
    handler!(Full {
        fn freeze(&self, _file: &LocalFile, _state: &mut u64) -> Result {
            Ok(())
        }
        fn unfreeze(&self, _file: &LocalFile, _state: &mut u64) {}
        fn can_finish(&self, _outcome: Outcome<'_>) -> bool {
            true
        }
        fn id(_file: &LocalFile) -> usize {
            0
        }
    });

    #[test]
    fn luo_calls_what_a_handler_has() {
        let bare = ops::<Bare>(core::ptr::null_mut());
        assert!(bare.freeze.is_none());
        assert!(bare.unfreeze.is_none());
        assert!(bare.can_finish.is_none());
        assert!(bare.get_id.is_none());
        let full = ops::<Full>(core::ptr::null_mut());
        assert!(full.freeze.is_some());
        assert!(full.unfreeze.is_some());
        assert!(full.can_finish.is_some());
        assert!(full.get_id.is_some());
    }
}
