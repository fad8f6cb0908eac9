// SPDX-License-Identifier: GPL-2.0

//! A file that goes through the keys with a prefix, and that LUO can preserve.
//!
//! Where it is, and what it sees, stand in a [`CursorSer`] from when it is opened on: in preserved memory, so
//! there is nothing to be done when user space asks LUO to preserve it, and what is read until the CPUs
//! stop counts. The next kernel makes a file of the same object.

use core::ffi::CStr;
use core::pin::Pin;

use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::sync::{
    aref::ARef,
    Arc, //
};
use kpreserve::luo::{
    anon,
    AnonFile,
    AnonOps,
    FileHandler,
    NotRetrieved,
    Registration, //
};
use kpreserve::prelude::*;

use crate::abi::{
    CursorSer,
    RecordSer,
    PREFIX_LEN_MAX, //
};
use crate::shared::{
    StoreRef,
    SHARED, //
};
use crate::store::Store;
use crate::uapi;

/// A cursor, and the store that it keeps open.
pub struct Cursor {
    state: Arc<Preserved<CursorSer>>,
    store: StoreRef,
}

static OPS: AnonOps<Cursor> = AnonOps::new();

#[vtable]
impl AnonFile for Cursor {
    const NAME: &'static CStr = c"[kpreserve-kv-cursor]";

    fn ops() -> &'static AnonOps<Self> {
        &OPS
    }

    fn ioctl(self: Pin<&Self>, cmd: u32, arg: usize) -> Result<isize> {
        uapi::cursor_ioctl(&self, cmd, arg)
    }
}

impl Cursor {
    /// Makes a cursor before the first of the keys that begin so, and returns its descriptor.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP if LUO is off; E2BIG for a long prefix; ENOMEM, EMFILE.
    pub fn open(prefix: &[u8]) -> Result<u32> {
        let mut state = CursorSer {
            position: SharedU64::new(0),
            prefix_len: prefix.len() as u64,
            prefix: [0; PREFIX_LEN_MAX],
        };
        state
            .prefix
            .get_mut(..prefix.len())
            .ok_or(E2BIG)?
            .copy_from_slice(prefix);
        let cache = SHARED.lock().cursors.clone().ok_or(EOPNOTSUPP)?;
        anon::install(Self::file(cache.alloc(state, GFP_KERNEL)?)?)
    }

    /// Makes a file of a state.
    fn file(state: Preserved<CursorSer>) -> Result<ARef<File>> {
        let cursor = Self {
            state: Arc::new(state, GFP_KERNEL)?,
            store: StoreRef::new()?,
        };
        anon::create(KBox::pin(cursor, GFP_KERNEL)?)
    }

    /// Shows the next record, and goes on.
    ///
    /// # Errors
    ///
    /// ENOENT at the end; EIO if the store is damaged; what `show` returns, and the record is next again.
    pub fn next(&self, show: impl FnOnce(&Store, &RecordSer) -> Result) -> Result {
        let prefix = self.state.prefix().ok_or(EIO)?;
        self.store.with(|store| loop {
            // Ends: the store says so after as many records as it has.
            let (record, next) = store.list(self.state.position.load())?;
            if !store.has_prefix(&record, prefix)? {
                self.state.position.store(next);
                continue;
            }
            show(store, &record)?;
            self.state.position.store(next);
            return Ok(());
        })
    }
}

/// What LUO calls.
pub struct Cursors;

#[vtable]
impl FileHandler for Cursors {
    type State = CursorSer;
    type Owner = Arc<Preserved<CursorSer>>;
    const COMPATIBLE: &'static CStr = c"kpreserve-kv-cursor-v1";

    fn can_preserve(&self, file: &LocalFile) -> bool {
        anon::object_of::<Cursor>(file).is_some()
    }

    fn preserve(&self, file: &LocalFile, _cache: &Cache<CursorSer>) -> Result<Self::Owner> {
        let cursor = anon::object_of::<Cursor>(file).ok_or(EINVAL)?;
        Ok(cursor.state.clone())
    }

    fn unpreserve(&self, _file: &LocalFile, state: Self::Owner) {
        drop(state);
    }

    fn retrieve(&self, state: Preserved<CursorSer>) -> Result<ARef<File>, NotRetrieved<CursorSer>> {
        state.prefix().ok_or(EINVAL)?;
        Ok(Cursor::file(state)?)
    }

    fn discard(&self, state: Preserved<CursorSer>) {
        drop(state);
    }
}

/// Cursors are known to LUO, and can be made.
pub struct Registered {
    _handler: Registration<Cursors>,
}

/// Makes cursors known to LUO.
///
/// # Errors
///
/// EOPNOTSUPP if LUO is off; others as [`Registration::new`].
pub fn register() -> Result<Registered> {
    let handler = Registration::new(Cursors)?;
    SHARED.lock().cursors = handler.cache().ok().cloned();
    Ok(Registered { _handler: handler })
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A static is not dropped with the module, and the cache would stay open.
        SHARED.lock().cursors = None;
    }
}
