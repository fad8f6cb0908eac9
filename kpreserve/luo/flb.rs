// SPDX-License-Identifier: GPL-2.0

//! State that files share, and that lives as long as they do.
//!
//! LUO calls it File-Lifecycle-Bound (kernel/liveupdate/luo_flb.c): made when the first file that
//! depends on it is preserved, there in the next kernel from early on, and gone with the last of those
//! files. Which devices must not be reset, for one.

mod callbacks;

use core::ffi::CStr;
use core::pin::Pin;

use kernel::module::this_module;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use kernel::sync::{
    Arc,
    Mutex, //
};
use kernel::types::Opaque;

use kpreserve_kho::{
    Handle,
    Preservable, //
};
use kpreserve_slab::{
    Cache,
    Preserved, //
};

use super::bindings::{
    self,
    FlbOpArgs,
    FlbOps,
    NotifierBlock,
    COMPATIBLE_SIZE_BYTES, //
};
use super::raw;
use super::registration::{
    expect_decided,
    open_cache, //
};
use crate::global::framework;

/// State that the files of one or more handlers share.
///
/// There are two, at times both at once: the *incoming* one, of the previous kernel's files, and the
/// *outgoing* one, of files that are preserved now. Each is an object in preserved memory, and what is in it
/// when the CPUs stop is what the next kernel gets.
///
/// LUO calls these in task context, where they may sleep, each under a mutex of the object's: they must
/// not look at it by way of [`Flb`].
///
/// LUO holds the module that the implementation is in, its `OwnerModule`: [`macro@vtable`] knows it.
#[vtable]
pub trait FlbHandler: Send + Sync + 'static {
    /// The state.
    type State: Preservable;

    /// The name by which the next kernel finds it: 1 to 47 bytes, not the same as another's.
    const COMPATIBLE: &'static CStr;

    /// Makes the outgoing state: the first file that depends on it is about to be preserved.
    ///
    /// # Errors
    ///
    /// Any; the file is not preserved, and user space gets it.
    fn preserve(&self, cache: &Cache<Self::State>) -> Result<Preserved<Self::State>>;

    /// Undoes [`preserve`](Self::preserve): no file that depends on it is preserved any more.
    fn unpreserve(&self, state: Preserved<Self::State>) {
        drop(state);
    }

    /// The incoming state is not needed any more: the last of the previous kernel's files is finished.
    fn finish(&self, state: Preserved<Self::State>) {
        drop(state);
    }

    /// This kernel goes, and some of those files were never finished: gives back what the state has in
    /// preserved memory. LUO does not carry it on, and neither do we.
    fn forget(&self, state: Preserved<Self::State>) {
        drop(state);
    }
}

/// A shared state that LUO can be told of: [`Registration::depending_on`](super::Registration::depending_on).
///
/// While it is preserved, or waits for its last file, LUO holds the module.
pub struct Flb<F: FlbHandler> {
    known: Arc<Known<F>>,
}

/// What LUO's callbacks find.
#[pin_data(PinnedDrop)]
struct Known<F: FlbHandler> {
    // The chain that this is in is changed by C.
    notifier: Opaque<NotifierBlock>,
    /// LUO's, made once this has an address.
    raw: Opaque<*mut bindings::Flb>,
    ops: FlbOps,
    handler: F,
    cache: Result<Cache<F::State>>,
    #[pin]
    outgoing: Mutex<Option<Preserved<F::State>>>,
    /// Registrations that depend on it.
    nr_users: Atomic<u32>,
    /// An error: what LUO carried is no state. LUO is not told, for it would warn at each look.
    #[pin]
    incoming: Mutex<Option<Result<Preserved<F::State>>>>,
}

// SAFETY: the handler, the cache and the states are for any CPU; `raw` does not change after `Flb::new`;
// the rest is LUO's and the notifier chain's, who lock it.
unsafe impl<F: FlbHandler> Send for Known<F> {}
// SAFETY: as above.
unsafe impl<F: FlbHandler> Sync for Known<F> {}

impl<F: FlbHandler> Clone for Flb<F> {
    fn clone(&self) -> Self {
        Self {
            known: self.known.clone(),
        }
    }
}

impl<F: FlbHandler> Flb<F> {
    /// Makes one.
    ///
    /// Opens the cache `.luo/<compatible>`. If that is refused, so is each preservation, and there is no
    /// incoming state.
    ///
    /// # Errors
    ///
    /// EPROBE_DEFER before the framework is up; ENAMETOOLONG; ENOMEM.
    pub fn new(handler: F) -> Result<Self> {
        expect_decided()?;
        if F::COMPATIBLE.to_bytes_with_nul().len() > COMPATIBLE_SIZE_BYTES {
            return Err(ENAMETOOLONG);
        }
        let owner = this_module::<F::OwnerModule>().as_ptr();
        let known = Arc::pin_init(
            pin_init!(Known {
                notifier: Opaque::new(NotifierBlock {
                    notifier_call: Some(callbacks::on_reboot::<F>),
                    next: core::ptr::null_mut(),
                    // Before the framework freezes, which comes last of all.
                    priority: 0,
                }),
                raw: Opaque::new(core::ptr::null_mut()),
                ops: FlbOps {
                    preserve: callbacks::preserve::<F>,
                    unpreserve: callbacks::unpreserve::<F>,
                    retrieve: callbacks::retrieve::<F>,
                    finish: callbacks::finish::<F>,
                    owner: owner.cast(),
                },
                handler,
                nr_users: Atomic::new(0),
                cache: open_cache::<F::State>(F::COMPATIBLE),
                outgoing <- new_mutex!(None),
                incoming <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: what LUO will call stands in `known`, which outlives what is made: `drop` frees it.
        let raw = unsafe { raw::new_flb(&known.ops, F::COMPATIBLE, (&raw const *known).cast()) }?;
        // SAFETY: nobody else knows of it yet.
        unsafe { known.raw.get().write(raw) };
        // SAFETY: it stays where it is until `drop` has taken it back.
        unsafe { raw::register_notifier(known.notifier.get()) }?;
        Ok(Self { known })
    }

    /// Shows the state that the previous kernel left. May sleep; there is one look at a time.
    ///
    /// # Errors
    ///
    /// ENOENT, ENODATA if it left none, or its last file is finished; EINVAL, ENOENT, ESTALE or EBUSY if what LUO
    /// carried is no state of this kind, or why the cache was refused; EOPNOTSUPP if LUO is off.
    pub fn with_incoming<R>(&self, look: impl FnOnce(&mut F::State) -> R) -> Result<R> {
        // SAFETY: made by `new`, and freed when nobody has `known`.
        unsafe { raw::get_incoming(self.known.raw()) }?;
        let result = match &mut *self.known.incoming.lock() {
            Some(Ok(state)) => Ok(look(state)),
            Some(Err(error)) => Err(*error),
            None => Err(ENODATA),
        };
        // SAFETY: as above, and got.
        unsafe { raw::put_incoming(self.known.raw()) };
        result
    }

    /// Shows the state that the next kernel gets. May sleep; there is one look at a time.
    ///
    /// LUO is not asked: what it counts crosses, so a look from elsewhere than its callbacks could be taken for a
    /// file.
    ///
    /// # Errors
    ///
    /// ENOENT unless a file that depends on it is preserved.
    pub fn with_outgoing<R>(&self, look: impl FnOnce(&mut F::State) -> R) -> Result<R> {
        match &mut *self.known.outgoing.lock() {
            Some(state) => Ok(look(state)),
            None => Err(ENOENT),
        }
    }
}

/// What a file handler depends on: an [`Flb`], whatever its state.
pub trait Dependency: Send + Sync + sealed::Raw {
    /// Returns a reference of its own.
    #[doc(hidden)]
    fn reference(&self) -> Result<KBox<dyn Dependency>>;
}

impl<F: FlbHandler> Dependency for Flb<F> {
    fn reference(&self) -> Result<KBox<dyn Dependency>> {
        self.known.nr_users.fetch_add(1, Relaxed);
        Ok(KBox::new(Use(self.clone()), GFP_KERNEL)?)
    }
}

/// An [`Flb`] that a registration depends on.
struct Use<F: FlbHandler>(Flb<F>);

impl<F: FlbHandler> Drop for Use<F> {
    fn drop(&mut self) {
        self.0.known.nr_users.fetch_sub(1, Relaxed);
    }
}

impl<F: FlbHandler> Dependency for Use<F> {
    fn reference(&self) -> Result<KBox<dyn Dependency>> {
        self.0.reference()
    }
}

impl<F: FlbHandler> sealed::Raw for Use<F> {
    fn raw(&self) -> *mut c_void {
        self.0.raw()
    }

    fn nr_holds(&self, owner: *mut c_void) -> c_uint {
        self.0.nr_holds(owner)
    }

    fn retire(&self) {
        self.0.retire();
    }
}

impl<F: FlbHandler> sealed::Raw for Flb<F> {
    fn raw(&self) -> *mut c_void {
        self.known.raw().cast()
    }

    fn nr_holds(&self, owner: *mut c_void) -> c_uint {
        // While others depend on it, too, their files come and go.
        if self.known.nr_users.load(Relaxed) > 1
            || this_module::<F::OwnerModule>().as_ptr().cast() != owner
        {
            return 0;
        }
        let is_outgoing = self.known.outgoing.lock().is_some();
        let is_incoming = self.known.incoming.lock().is_some();
        c_uint::from(is_outgoing) + c_uint::from(is_incoming)
    }

    fn retire(&self) {
        // SAFETY: it is valid as long as this is.
        unsafe { raw::unregister_notifier(self.known.notifier.get()) };
    }
}

pub(super) mod sealed {
    use kernel::prelude::*;

    /// Only ours.
    pub trait Raw {
        /// Returns what LUO knows: a `struct liveupdate_flb`.
        fn raw(&self) -> *mut c_void;

        /// Returns how often LUO holds this module, `owner`, for the state, at least; for as long as the caller alone depends on
        /// it, and no file of its can, how often.
        fn nr_holds(&self, owner: *mut c_void) -> c_uint;

        /// The module that it is in does not come up: nobody is called any more when the kernel goes.
        fn retire(&self);
    }
}

impl<F: FlbHandler> Known<F> {
    fn raw(&self) -> *mut bindings::Flb {
        // SAFETY: written by `Flb::new` before anybody else had this.
        unsafe { self.raw.get().read() }
    }

    /// Lets go of the states, which stay in preserved memory: LUO has their handles.
    fn park(&self) {
        let (outgoing, incoming) = (self.outgoing.lock().take(), self.incoming.lock().take());
        outgoing.map(Preserved::park);
        incoming.and_then(Result::ok).map(Preserved::park);
    }

    fn cache(&self) -> Result<&Cache<F::State>> {
        self.cache.as_ref().map_err(|error| *error)
    }

    /// Returns what the arguments of a callback belong to.
    ///
    /// # Safety
    ///
    /// They are LUO's, for an FLB of a `Known<F>` that lives for `'a`.
    unsafe fn of<'a>(args: &FlbOpArgs) -> &'a Self {
        // SAFETY: made by `raw::new_flb`.
        let known = unsafe { raw::known_of(args.flb) };
        // SAFETY: `raw::new_flb` was given a `Known<F>`.
        unsafe { &*known.cast::<Self>() }
    }

    /// Claims what LUO has carried, and checks it by that.
    fn claim(&self, handle: u64) -> Result<Preserved<F::State>> {
        self.cache()?
            .claim(Handle::from_raw(handle))
            .inspect_err(|error| {
                pr_err!(
                    "\"{}\": {:#x}, which LUO has carried, is no state of files ({:?})\n",
                    F::State::COMPATIBLE,
                    handle,
                    error
                )
            })
    }
}

#[pinned_drop]
impl<F: FlbHandler> PinnedDrop for Known<F> {
    fn drop(self: Pin<&mut Self>) {
        self.park();
        let raw = self.raw();
        if !raw.is_null() {
            // SAFETY: no handler depends on it: a registration has a reference to this. Taking back what
            // is not in the chain is refused, no more.
            unsafe { raw::free_flb(raw, self.notifier.get()) };
        }
    }
}
