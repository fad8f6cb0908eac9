// SPDX-License-Identifier: GPL-2.0

//! Files that have nothing but a Rust object behind them, as fs/anon_inodes.c makes them.
//!
//! What LUO preserves are files, and a handler has to know its own again. These it knows, without unsafe
//! code, by their operations: a static of the client's, for one type.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::marker::PhantomData;
use core::pin::Pin;

use kernel::bindings::{
    file_operations,
    inode, //
};
use kernel::error::from_err_ptr;
use kernel::fs::{
    file::{
        flags,
        FileDescriptorReservation, //
    },
    File,
    LocalFile, //
};
use kernel::module::this_module;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::types::ForeignOwnable;

use super::bindings;

/// What a file of this kind is and does. It lives as long as the file, and is dropped in task context.
///
/// Files hold the module that the implementation is in, its `OwnerModule`: [`macro@vtable`] knows it.
#[vtable]
pub trait AnonFile: Send + Sync + Sized + 'static {
    /// What /proc/PID/fd shows behind `anon_inode:`, for example `[kv-cursor]`.
    const NAME: &'static CStr;

    /// Returns the operations: a static of the client's.
    ///
    /// ```ignore
    /// static OPS: AnonOps<Cursor> = AnonOps::new();
    /// ```
    fn ops() -> &'static AnonOps<Self>;

    /// Does what an ioctl asks for. `arg` is user space's.
    ///
    /// # Errors
    ///
    /// Any; user space gets it.
    fn ioctl(self: Pin<&Self>, cmd: u32, arg: usize) -> Result<isize>;
}

/// The operations of a kind of file.
#[repr(transparent)]
pub struct AnonOps<T: AnonFile> {
    raw: file_operations,
    _files: PhantomData<fn(T)>,
    // A constant of such a type has no address to be borrowed for ever; two statics never share theirs.
    _static: UnsafeCell<()>,
}

// SAFETY: nothing in it ever changes.
unsafe impl<T: AnonFile> Sync for AnonOps<T> {}

impl<T: AnonFile> AnonOps<T> {
    /// Makes them. For a static.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            raw: file_operations {
                owner: this_module::<T::OwnerModule>().as_ptr(),
                unlocked_ioctl: Some(ioctl::<T>),
                #[cfg(CONFIG_COMPAT)]
                compat_ioctl: kernel::bindings::compat_ptr_ioctl,
                release: Some(release::<T>),
                ..pin_init::zeroed()
            },
            _files: PhantomData,
            _static: UnsafeCell::new(()),
        }
    }
}

/// Makes a file, for reading and writing.
///
/// # Errors
///
/// ENFILE, ENOMEM; ENOENT if the module is on its way out. The object is dropped.
pub fn create<T: AnonFile>(object: Pin<KBox<T>>) -> Result<ARef<File>> {
    let object = object.into_foreign();
    // SAFETY: `release` of the same type takes it back.
    let created = unsafe { get_file(T::NAME, &T::ops().raw, object) };
    if created.is_err() {
        // SAFETY: from above; no file has it.
        drop(unsafe { Pin::<KBox<T>>::from_foreign(object) });
    }
    created
}

/// Gives the current task a descriptor for a file, to be closed on exec, and returns it.
///
/// # Errors
///
/// EMFILE, ENOMEM. The file is let go.
pub fn install(file: ARef<File>) -> Result<u32> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let fd = reservation.reserved_fd();
    reservation.fd_install(file);
    Ok(fd)
}

/// Returns the object behind a file, if it is of this kind.
pub fn object_of<T: AnonFile>(file: &LocalFile) -> Option<Pin<&T>> {
    // SAFETY: a file; neither field changes while it is open.
    let raw = unsafe { &*file.as_ptr() };
    if !core::ptr::eq(raw.f_op, &T::ops().raw) {
        return None;
    }
    // SAFETY: such operations are given to files by `create` only, with an object of the type; it
    // is dropped with the file.
    Some(unsafe { <Pin<KBox<T>>>::borrow(raw.private_data) })
}

/// # Safety
///
/// The kernel calls it, for a file of [`create`].
unsafe extern "C" fn ioctl<T: AnonFile>(
    file: *mut kernel::bindings::file,
    cmd: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: says the caller.
    let object = unsafe { (*file).private_data };
    // SAFETY: put there by `create`; the file is open for this call.
    let object = unsafe { <Pin<KBox<T>>>::borrow(object) };
    match object.ioctl(cmd, arg) {
        Ok(value) => value as c_long,
        Err(error) => error.to_errno() as c_long,
    }
}

/// # Safety
///
/// The kernel calls it, for a file of [`create`], and nothing else after it.
unsafe extern "C" fn release<T: AnonFile>(
    _inode: *mut inode,
    file: *mut kernel::bindings::file,
) -> c_int {
    // SAFETY: says the caller.
    let object = unsafe { (*file).private_data };
    // SAFETY: put there by `create`, and taken back once.
    drop(unsafe { Pin::<KBox<T>>::from_foreign(object) });
    0
}

/// Not generic: one place that calls C.
///
/// # Safety
///
/// `private_data` is what the operations expect.
#[inline(never)]
unsafe fn get_file(
    name: &'static CStr,
    ops: &'static file_operations,
    private_data: *mut c_void,
) -> Result<ARef<File>> {
    let flags = (flags::O_RDWR | flags::O_CLOEXEC) as c_int;
    // SAFETY: says the caller; the name and the operations live as long as the module, which the file holds.
    let file =
        unsafe { bindings::anon_inode_getfile(name.as_ptr().cast(), ops, private_data, flags) };
    let file = core::ptr::NonNull::new(from_err_ptr(file)?).ok_or(ENOMEM)?;
    // SAFETY: a file that nobody else has, with the reference that this takes over; `File` has its layout.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}
