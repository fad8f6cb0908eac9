// SPDX-License-Identifier: GPL-2.0

//! A device that somebody has open, which LUO can preserve; and the table of those that are.

use core::ffi::CStr;
use core::pin::Pin;

use kernel::fs::{
    File,
    LocalFile, //
};
use kernel::ioctl::{
    _IOW, //
    _IOWR,
};
use kernel::sync::aref::ARef;
use kernel::uaccess::UserSlice;
use kpreserve::luo::{
    anon,
    AnonFile,
    AnonOps,
    FileHandler,
    Flb,
    FlbHandler,
    NotRetrieved,
    Registration, //
};
use kpreserve::prelude::*;

use crate::abi::{
    AttachedSer,
    AttachmentSer,
    NR_REGISTERS, //
};
use crate::bus::{
    self,
    Attached, //
};

/// `struct dev_register`: number, value.
type RegisterArgs = [u64; 2];

const DEV_WRITE: u32 = _IOW::<RegisterArgs>(b'D' as u32, 2);
const DEV_READ: u32 = _IOWR::<RegisterArgs>(b'D' as u32, 3);

/// The register that says whether the device is in the middle of something: then it cannot be preserved.
const BUSY: u64 = NR_REGISTERS as u64 - 1;

/// The file.
pub struct Attachment {
    device: Attached,
}

static OPS: AnonOps<Attachment> = AnonOps::new();

impl Attachment {
    /// Makes a file of a device.
    ///
    /// # Errors
    ///
    /// ENOMEM, ENFILE; the device is let go.
    pub fn file(device: Attached) -> Result<ARef<File>> {
        anon::create(KBox::pin(Self { device }, GFP_KERNEL)?)
    }
}

#[vtable]
impl AnonFile for Attachment {
    const NAME: &'static CStr = c"[kpreserve-dev]";

    fn ops() -> &'static AnonOps<Self> {
        &OPS
    }

    fn ioctl(self: Pin<&Self>, cmd: u32, arg: usize) -> Result<isize> {
        let user = || UserSlice::new(UserPtr::from_addr(arg), size_of::<RegisterArgs>());
        let [register, value]: RegisterArgs = match cmd {
            DEV_WRITE | DEV_READ => user().reader().read()?,
            _ => return Err(ENOTTY),
        };
        if cmd == DEV_WRITE {
            self.device.register(register, |place| place.store(value))?;
        } else {
            let value = self.device.register(register, SharedU64::load)?;
            user().writer().write(&[register, value])?;
        }
        Ok(0)
    }
}

/// What LUO calls for the files.
pub struct Attachments {
    attached: Flb<AttachedTable>,
}

#[vtable]
impl FileHandler for Attachments {
    type State = AttachmentSer;
    type Owner = Preserved<AttachmentSer>;
    const COMPATIBLE: &'static CStr = c"kpreserve-dev-v1";

    fn can_preserve(&self, file: &LocalFile) -> bool {
        anon::object_of::<Attachment>(file).is_some()
    }

    fn preserve(&self, file: &LocalFile, cache: &Cache<AttachmentSer>) -> Result<Self::Owner> {
        let attachment = anon::object_of::<Attachment>(file).ok_or(EINVAL)?;
        let device = attachment.device.number();
        let state = cache.alloc(AttachmentSer { device }, GFP_KERNEL)?;
        let bit = bus::bit(device)?;
        self.attached.with_outgoing(|table| table.devices |= bit)?;
        Ok(state)
    }

    fn unpreserve(&self, _file: &LocalFile, state: Self::Owner) {
        if let Ok(bit) = bus::bit(state.device) {
            // LUO drops the table after the last of the files.
            let _ = self.attached.with_outgoing(|table| table.devices &= !bit);
        }
    }

    /// The kernel goes. What the device is in the middle of would be lost.
    fn freeze(&self, file: &LocalFile, _state: &mut AttachmentSer) -> Result {
        let attachment = anon::object_of::<Attachment>(file).ok_or(EINVAL)?;
        let is_busy = |register: &SharedU64| register.load() != 0;
        if attachment.device.register(BUSY, is_busy)? {
            return Err(EBUSY);
        }
        Ok(())
    }

    fn retrieve(
        &self,
        state: Preserved<AttachmentSer>,
    ) -> Result<ARef<File>, NotRetrieved<AttachmentSer>> {
        Ok(Attachment::file(Attached::take_over(state.device)?)?)
    }

    fn discard(&self, state: Preserved<AttachmentSer>) {
        // Dropped at once: reset, and there for all.
        let _ = Attached::take_over(state.device);
    }
}

/// What LUO calls for the table.
pub struct AttachedTable;

#[vtable]
impl FlbHandler for AttachedTable {
    type State = AttachedSer;
    const COMPATIBLE: &'static CStr = c"kpreserve-dev-attached-v1";

    fn preserve(&self, cache: &Cache<AttachedSer>) -> Result<Preserved<AttachedSer>> {
        cache.alloc(AttachedSer { devices: 0 }, GFP_KERNEL)
    }

    fn finish(&self, state: Preserved<AttachedSer>) {
        drop(state);
        bus::stop_waiting();
    }
}

/// Makes attachments known to LUO; returns the devices that the previous kernel's are.
///
/// # Errors
///
/// EOPNOTSUPP if LUO is off; others as [`Registration::new`].
pub fn register() -> Result<(Registration<Attachments>, u64)> {
    let attached = Flb::new(AttachedTable)?;
    let handler = Attachments {
        attached: attached.clone(),
    };
    let registration = Registration::depending_on(handler, &[&attached])?;
    let kept = match attached.with_incoming(|table| table.devices) {
        Ok(kept) => kept,
        Err(error) if error == ENOENT || error == ENODATA => 0,
        Err(error) => {
            // To fail would take all sessions from user space, not ours alone: LUO wants a handler for each file.
            pr_err!(
                "which devices go on is not to be known ({:?}): none is reset\n",
                error
            );
            u64::MAX
        }
    };
    Ok((registration, kept))
}
