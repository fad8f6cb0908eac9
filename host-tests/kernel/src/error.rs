// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/error.rs.

use core::fmt;
use core::num::{
    NonZeroI32,
    TryFromIntError, //
};
use core::str::Utf8Error;

use crate::alloc::{
    layout::LayoutError,
    AllocError, //
};

const MAX_ERRNO: i32 = 4095;

macro_rules! declare {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        /// The error numbers, as include/uapi/asm-generic/errno*.h and include/linux/errno.h have
        /// them.
        pub mod code {
            $(
                #[doc = $doc]
                pub const $name: super::Error = super::Error::of($number);
            )*
        }

        const NAMES: &[(i32, &str)] = &[$(($number, stringify!($name)),)*];
    };
}

declare! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such file or directory.";
    EINTR = 4, "Interrupted system call.";
    EIO = 5, "I/O error.";
    ENXIO = 6, "No such device or address.";
    E2BIG = 7, "Argument list too long.";
    EBADF = 9, "Bad file number.";
    EAGAIN = 11, "Try again.";
    ENOMEM = 12, "Out of memory.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Device or resource busy.";
    EEXIST = 17, "File exists.";
    ENODEV = 19, "No such device.";
    EINVAL = 22, "Invalid argument.";
    EFBIG = 27, "File too large.";
    ENOSPC = 28, "No space left on device.";
    ERANGE = 34, "Math result not representable.";
    ENAMETOOLONG = 36, "File name too long.";
    ENOSYS = 38, "Invalid system call number.";
    ENOTEMPTY = 39, "Directory not empty.";
    ENODATA = 61, "No data available.";
    EBADMSG = 74, "Not a data message.";
    EOVERFLOW = 75, "Value too large for defined data type.";
    EILSEQ = 84, "Illegal byte sequence.";
    EOPNOTSUPP = 95, "Operation not supported on transport endpoint.";
    ETIMEDOUT = 110, "Connection timed out.";
    EALREADY = 114, "Operation already in progress.";
    EINPROGRESS = 115, "Operation now in progress.";
    ESTALE = 116, "Stale file handle.";
    EUCLEAN = 117, "Structure needs cleaning.";
    ECANCELED = 125, "Operation Canceled.";
    EOWNERDEAD = 130, "Owner died.";
    ERESTARTSYS = 512, "Restart the system call.";
    EPROBE_DEFER = 517, "Driver requests probe retry.";
}

/// An error number; never 0.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Error(NonZeroI32);

impl Error {
    const fn of(positive: i32) -> Self {
        match NonZeroI32::new(-positive) {
            Some(errno) => Self(errno),
            None => panic!("an error number is not 0"),
        }
    }

    /// Makes an error of a negative number; EINVAL if there is no such error.
    pub fn from_errno(errno: crate::ffi::c_int) -> Error {
        match NonZeroI32::new(errno) {
            Some(errno) if (-MAX_ERRNO..0).contains(&errno.get()) => Self(errno),
            _ => {
                crate::pr_warn!(
                    "attempted to create `Error` with out of range `errno`: {}\n",
                    errno
                );
                code::EINVAL
            }
        }
    }

    /// Returns the number, which is negative.
    pub fn to_errno(self) -> crate::ffi::c_int {
        self.0.get()
    }

    fn name_str(self) -> Option<&'static str> {
        let number = -self.0.get();
        NAMES
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, name)| *name)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name_str() {
            Some(name) => f.debug_tuple(name).finish(),
            None => f.debug_tuple("Error").field(&-self.0.get()).finish(),
        }
    }
}

macro_rules! convert {
    ($($from:ty => $to:ident),* $(,)?) => {$(
        impl From<$from> for Error {
            fn from(_: $from) -> Error {
                code::$to
            }
        }
    )*};
}

convert! {
    AllocError => ENOMEM,
    LayoutError => ENOMEM,
    TryFromIntError => EINVAL,
    Utf8Error => EINVAL,
    fmt::Error => EINVAL,
}

impl From<core::convert::Infallible> for Error {
    fn from(e: core::convert::Infallible) -> Error {
        match e {}
    }
}

/// A result whose error is an [`Error`].
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Turns what a C function returned into a [`Result`].
///
/// # Errors
///
/// The one that a negative number stands for.
pub fn to_result(err: crate::ffi::c_int) -> Result {
    if err < 0 {
        Err(Error::from_errno(err))
    } else {
        Ok(())
    }
}
