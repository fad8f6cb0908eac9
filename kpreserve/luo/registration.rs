// SPDX-License-Identifier: GPL-2.0

//! A handler that LUO knows.

use core::ffi::CStr;
use core::mem::ManuallyDrop;
use core::pin::Pin;

use kernel::module::this_module;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Release, //
};
use kernel::types::Opaque;

use kpreserve_kho::{
    Handle,
    Preservable, //
};
use kpreserve_slab::{
    Cache,
    CacheOptions,
    Preserved, //
};

use super::bindings::{
    self,
    COMPATIBLE_SIZE_BYTES, //
};
use super::callbacks;
use super::file::FileHandler;
use super::flb::Dependency;
use super::given_up::GivenUp;
use super::raw::{
    self,
    Unregistered, //
};
use crate::contents::Contents;
use crate::global::framework;
use crate::open::{
    check_cache,
    with_cache, //
};

/// Caches of LUO's clients have names that begin so.
const PREFIX: &[u8] = b".luo/";

/// A handler that LUO knows, until this is dropped. While files of the handler are preserved, or wait
/// to be retrieved, LUO holds the module that it is in, so that it cannot go.
///
/// Dropping this takes no more files. If LUO may have some of them, which is so unless the module is going,
/// the handler stays for them, its cache with it (who registers one of the same name anew, in this kernel, is refused the
/// cache), and the module for ever; a built-in handler does in any case. Nothing can keep a
/// module whose init fails: files of it that LUO has by then cannot be retrieved (ENODEV) or preserved any more.
pub struct Registration<H: FileHandler> {
    known: ManuallyDrop<Pin<KBox<Known<H>>>>,
    shared: ManuallyDrop<KVec<KBox<dyn Dependency>>>,
}

/// What LUO's callbacks find: LUO has the address of `raw`.
#[repr(C)]
pub(super) struct Known<H: FileHandler> {
    // Lists that these are in are changed by C.
    raw: Opaque<bindings::FileHandler>,
    notifier: Opaque<bindings::NotifierBlock>,
    ops: bindings::FileOps,
    handler: H,
    cache: Result<Cache<H::State>>,
    given_up: GivenUp,
    /// Whether LUO knows all that the files depend on.
    ready: Atomic<bool>,
}

// SAFETY: the handler and the cache are for any CPU; the rest is LUO's, which locks it, and the
// notifier chain's, which does, too.
unsafe impl<H: FileHandler> Send for Registration<H> {}
// SAFETY: as above.
unsafe impl<H: FileHandler> Sync for Registration<H> {}

impl<H: FileHandler> Registration<H> {
    /// Makes a handler known to LUO.
    ///
    /// Opens the cache `.luo/<compatible>`. If that is refused, the handler is registered
    /// nevertheless, and its callbacks fail: LUO, which finds no handler for a file that it is handed,
    /// gives up all sessions.
    ///
    /// # Errors
    ///
    /// EPROBE_DEFER before the framework is up; EOPNOTSUPP if LUO is off (`liveupdate=on` on the command
    /// line turns it on); EEXIST if there is a handler of that name; ENAMETOOLONG; ENOMEM.
    pub fn new(handler: H) -> Result<Self> {
        Self::depending_on(handler, &[])
    }

    /// As [`new`](Self::new), for files that share state, which comes and goes with them.
    ///
    /// The incoming states are looked at before this returns: LUO 7.3 counts the files of the previous kernel
    /// no earlier, and warns of a wrong count if they are finished before.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); EEXIST for a state that is named twice, or has the compatible string of
    /// another; ENOSPC if LUO knows too many.
    pub fn depending_on(handler: H, shared: &[&dyn Dependency]) -> Result<Self> {
        expect_decided()?;
        let mut compatible = [0; COMPATIBLE_SIZE_BYTES];
        let name = H::COMPATIBLE.to_bytes_with_nul();
        compatible
            .get_mut(..name.len())
            .ok_or(ENAMETOOLONG)?
            .copy_from_slice(name);
        let owner = this_module::<H::OwnerModule>().as_ptr();
        let empty = kernel::bindings::list_head {
            next: core::ptr::null_mut(),
            prev: core::ptr::null_mut(),
        };
        let known = KBox::pin(
            Known {
                raw: Opaque::new(bindings::FileHandler {
                    ops: core::ptr::null(),
                    compatible,
                    list: empty,
                    flb_list: empty,
                }),
                notifier: Opaque::new(bindings::NotifierBlock {
                    notifier_call: Some(callbacks::on_reboot::<H>),
                    next: core::ptr::null_mut(),
                    // Before the framework freezes, which comes last of all.
                    priority: 0,
                }),
                ops: callbacks::ops::<H>(owner.cast()),
                handler,
                cache: open_cache::<H::State>(H::COMPATIBLE),
                given_up: GivenUp::new(),
                ready: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let mut references = KVec::with_capacity(shared.len(), GFP_KERNEL)?;
        for dependency in shared {
            references.push(dependency.reference()?, GFP_KERNEL)?;
        }
        let (raw, notifier) = known.places();
        // SAFETY: nobody else knows of it yet.
        let ops = unsafe { &raw mut (*raw).ops };
        // SAFETY: a field of what was just made; the callbacks stay beside it.
        unsafe { ops.write(&known.ops) };
        // SAFETY: both stay where they are until `drop` has taken them back; the callbacks take what
        // LUO gives them.
        unsafe { raw::register(raw, notifier) }?;
        let this = Self {
            known: ManuallyDrop::new(known),
            shared: ManuallyDrop::new(references),
        };
        for dependency in this.shared.iter() {
            // SAFETY: registered above; the reference outlives the registration, since `drop` takes that
            // back first.
            unsafe { raw::depend(raw, dependency.raw().cast()) }?;
        }
        // A file that is preserved is counted in each state.
        this.known.ready.store(true, Release);
        Ok(this)
    }

    /// Returns the cache of the states, for files whose state is there from when they are opened on.
    ///
    /// # Errors
    ///
    /// Why it could not be opened.
    pub fn cache(&self) -> Result<&Cache<H::State>> {
        self.known.cache()
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        self.known.handler()
    }
}

impl<H: FileHandler> Drop for Registration<H> {
    fn drop(&mut self) {
        self.known.ready.store(false, Release);
        let (raw, notifier) = self.known.places();
        let owner = this_module::<H::OwnerModule>().as_ptr().cast();
        // SAFETY: registered by `new`.
        unsafe { raw::unregister(raw) };
        // Only now can the files of this handler not change how often that is.
        let count = || -> c_uint { self.shared.iter().map(|state| state.nr_holds(owner)).sum() };
        let nr_holds = count();
        // SAFETY: the module is that of the handler.
        let is_unused = unsafe { raw::is_unused(owner, nr_holds) } && count() == nr_holds;
        // SAFETY: registered by `new`, unregistered above.
        match unsafe { raw::settle(raw, notifier, owner, is_unused) } {
            Unregistered::Gone => {}
            // LUO has the address of it: it is not dropped.
            Unregistered::Stays => return,
            Unregistered::Leaked => {
                self.shared.iter().for_each(|state| state.retire());
                return;
            }
        }
        // SAFETY: LUO has no file of the handler, and finds it no more: nobody calls it. Not used again.
        unsafe { ManuallyDrop::drop(&mut self.known) };
        // SAFETY: nor are these: the handler that depended on them is gone.
        unsafe { ManuallyDrop::drop(&mut self.shared) };
    }
}

impl<H: FileHandler> Known<H> {
    /// Returns what C is told of.
    fn places(&self) -> (*mut bindings::FileHandler, *mut bindings::NotifierBlock) {
        (self.raw.get(), self.notifier.get())
    }

    /// Returns whether files can be preserved.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Acquire)
    }

    /// Returns the handler.
    pub(super) fn handler(&self) -> &H {
        &self.handler
    }

    /// Returns the count of its files that nobody has retrieved.
    pub(super) fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    /// Returns the cache of its states.
    ///
    /// # Errors
    ///
    /// Why it could not be opened.
    pub(super) fn cache(&self) -> Result<&Cache<H::State>> {
        self.cache.as_ref().map_err(|error| *error)
    }

    /// Claims the state of a handle that LUO has carried.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::claim`]; why there is no cache.
    pub(super) fn claim(&self, handle: u64) -> Result<Preserved<H::State>> {
        self.cache()?.claim(Handle::from_raw(handle))
    }

    /// Returns what LUO's callbacks belong to.
    ///
    /// # Safety
    ///
    /// `raw` is the first field of a `Known<H>` that lives for `'a`.
    pub(super) unsafe fn of<'a>(raw: *mut bindings::FileHandler) -> &'a Self {
        // SAFETY: says the caller; the layout is C's.
        unsafe { &*raw.cast::<Self>() }
    }

    /// Returns what the notifier belongs to.
    ///
    /// # Safety
    ///
    /// `notifier` is the one of a `Known<H>` that lives for `'a`.
    pub(super) unsafe fn of_notifier<'a>(notifier: *mut bindings::NotifierBlock) -> &'a Self {
        let offset = core::mem::offset_of!(Self, notifier);
        // SAFETY: says the caller: both are in one allocation.
        let start = unsafe { notifier.byte_sub(offset) };
        // SAFETY: says the caller.
        unsafe { &*start.cast::<Self>() }
    }
}

/// Fails while it is open whether there will be a framework.
///
/// A handler is registered without one, too: LUO, which finds none for a file that it is handed,
/// gives up all sessions, also those that have files of others only.
///
/// # Errors
///
/// EPROBE_DEFER.
pub(super) fn expect_decided() -> Result {
    match framework() {
        Err(error) if error == EPROBE_DEFER => Err(error),
        _ => Ok(()),
    }
}

/// Opens the cache `.luo/<compatible>`.
pub(super) fn open_cache<S: Preservable>(compatible: &CStr) -> Result<Cache<S>> {
    let contents = Contents::of::<S>();
    let mut name = KVec::new();
    name.extend_from_slice(PREFIX, GFP_KERNEL)?;
    name.extend_from_slice(compatible.to_bytes(), GFP_KERNEL)?;
    with_cache(
        framework()?,
        &name,
        (&contents, CacheOptions::NONE.geometry::<S>()?),
        GFP_KERNEL,
        check_cache(&name, &contents),
        |names, handle| names.cache_if_up(handle).map(Cache::from_raw).transpose(),
        |names, handle| Cache::from_raw(names.cache(handle)?),
    )
    .inspect_err(|error| {
        pr_err!(
            "no cache for the files of \"{}\": {:?}; they can be neither preserved nor retrieved\n",
            S::COMPATIBLE,
            error
        )
    })
}
