// SPDX-License-Identifier: GPL-2.0

//! What a client implements for its kind of files.

use core::ffi::CStr;

use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::types::ForeignOwnable;

use kpreserve_kho::Preservable;
use kpreserve_slab::{
    Cache,
    Preserved, //
};

use super::owner::Owner;

/// Files of one kind that LUO can preserve.
///
/// An implementor names its state, an object that lives in preserved memory from
/// [`preserve`](Self::preserve) to [`unpreserve`](Self::unpreserve), or to
/// [`retrieve`](Self::retrieve) in the next kernel, and that all callbacks are given. There is nothing to
/// serialize: what is in the object when the CPUs stop is what the next kernel gets.
///
/// LUO calls all but [`can_preserve`](Self::can_preserve) in task context, where they may sleep, one at a
/// time for each file (kernel/liveupdate/luo_file.c).
///
/// LUO holds the module that the implementation is in, its `OwnerModule`, while files of the handler are
/// preserved or wait: [`macro@vtable`] knows it.
#[vtable]
pub trait FileHandler: Send + Sync + 'static {
    /// The state of a file.
    type State: Preservable;

    /// What LUO holds of it: [`Preserved<Self::State>`](Preserved), or an `Arc` of one if the file keeps
    /// its state there all the time, or a type that has one of them and what `unpreserve` takes beside it.
    type Owner: Owner<Self::State> + Send;

    /// The name of the handler, by which the next kernel finds it: 1 to 47 bytes, not the same as
    /// another handler's.
    const COMPATIBLE: &'static CStr;

    /// Returns whether this is a file of the kind. Must not sleep for long: a lock of LUO's is held.
    fn can_preserve(&self, file: &LocalFile) -> bool;

    /// Makes the state of a file, which user space has asked to preserve. From here to `unpreserve` LUO
    /// holds a reference to the file.
    ///
    /// # Errors
    ///
    /// Any; user space gets it. The file must be as it was.
    fn preserve(&self, file: &LocalFile, cache: &Cache<Self::State>) -> Result<Self::Owner>;

    /// Undoes [`preserve`](Self::preserve): the session was closed. Cannot fail, so what it takes beside the
    /// state, memory above all, is for the [`Owner`](Self::Owner) to keep.
    fn unpreserve(&self, file: &LocalFile, state: Self::Owner);

    /// The kernel is about to be replaced: the last chance to change the state, or to stop that.
    /// LUO passes over handlers that have none.
    ///
    /// # Errors
    ///
    /// Any; the update does not take place, and reboot(2) returns it.
    fn freeze(&self, _file: &LocalFile, _state: Borrowed<'_, Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Undoes [`freeze`](Self::freeze): another file's failed. Not called for a file whose own
    /// freeze failed. LUO passes over handlers that have none.
    fn unfreeze(&self, _file: &LocalFile, _state: Borrowed<'_, Self>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a file, which nobody has yet, of the state that the previous kernel left. Called at most once, when user space asks
    /// for the file.
    ///
    /// # Errors
    ///
    /// Any; user space gets it, now and whenever it asks again. What the state names must be given back, or
    /// the state itself, as it was ([`NotRetrieved::later`]): then it goes to [`discard`](Self::discard) when
    /// the session is finished.
    fn retrieve(
        &self,
        state: Preserved<Self::State>,
    ) -> Result<ARef<File>, NotRetrieved<Self::State>>;

    /// Returns whether the session may be finished, as far as this file goes; if not, user space gets
    /// EBUSY and may try again. Asked, too, when user space closes a session that it has retrieved, by the end of its process for
    /// one: then there is nobody to try again, and LUO keeps the session and its files until the
    /// kernel is left. LUO takes the files of handlers that have none as ready.
    fn can_finish(&self, _outcome: Outcome<'_>) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The session is finished; the file, if it was retrieved, belongs to user space alone from now on.
    fn finish(&self, _outcome: Outcome<'_>) {}

    /// The session is finished, and nobody has retrieved the file, or what `retrieve` was given it has given back:
    /// gives back what the state names, in memory of this kernel too.
    fn discard(&self, state: Preserved<Self::State>);

    /// This kernel goes, the session was never finished: gives back what the state has in preserved memory, and
    /// nothing else. LUO does not carry it on, and neither do we.
    fn forget(&self, state: Preserved<Self::State>) {
        drop(state);
    }

    /// Returns how many bytes are lost with a state that nobody retrieves: for the log. The state
    /// may be damaged.
    fn size_bytes(_state: &Self::State) -> u64 {
        size_of::<Self::State>() as u64
    }

    /// What is the same for two files that must not both be preserved, and for no others: LUO keeps
    /// files under it. For handlers that have none it is the address of the file.
    fn id(_file: &LocalFile) -> usize {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// What `freeze` gets of a state: `&mut State`, or an `ArcBorrow`, as the owner is.
pub type Borrowed<'a, H> = <<H as FileHandler>::Owner as ForeignOwnable>::BorrowedMut<'a>;

/// Why a file could not be made. An error becomes one without the state, which is dropped then.
pub struct NotRetrieved<S: Preservable> {
    pub(super) error: Error,
    pub(super) state: Option<Preserved<S>>,
}

impl<S: Preservable> NotRetrieved<S> {
    /// Nothing has been done with the state.
    pub fn later(error: Error, state: Preserved<S>) -> Self {
        Self {
            error,
            state: Some(state),
        }
    }
}

impl<S: Preservable> From<Error> for NotRetrieved<S> {
    fn from(error: Error) -> Self {
        Self { error, state: None }
    }
}

/// What has become of a file when its session is to be finished.
pub enum Outcome<'a> {
    /// Nobody has asked for it.
    NotRetrieved,
    /// It was retrieved.
    Retrieved(&'a LocalFile),
    /// It was asked for, and could not be made.
    Failed(Error),
}
