// SPDX-License-Identifier: GPL-2.0

//! A driver whose devices go on across a kexec: what a client that is more than files looks like.
//!
//! The devices are of memory, but what there is to decide is what drivers of PCI devices have to:
//! which ones may be reset at boot, who gets them, and when they are let go. README.md tells the story.
//!
//! Files in this directory may depend on the `kpreserve` and `kernel` crates, and on nothing else.
//! There is no unsafe code here, but for what the kernel's `global_lock!` asks for.
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: a device, an attachment, the table of those that are preserved |
//! | [`bus`] | which devices there are, and who has them |
//! | [`attachment`] | a device that is open, and what LUO calls |

use kernel::{
    fs::File,
    ioctl::_IO,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};
use kpreserve::luo::{
    anon,
    Registration, //
};

pub mod abi;
pub mod attachment;
pub mod bus;

use attachment::{
    Attachment,
    Attachments, //
};
use bus::Probed;

module! {
    type: Dev,
    name: "kpreserve_dev",
    authors: ["The kpreserve developers"],
    description: "A bus of devices that survive kexec (sample)",
    license: "GPL",
}

/// `DEV_ATTACH`, with the number of a device: returns a descriptor.
const DEV_ATTACH: u32 = _IO(b'D' as u32, 1);

/// The driver. Fields are dropped in this order.
#[pin_data]
pub struct Dev {
    #[pin]
    _device: MiscDeviceRegistration<DevDevice>,
    _up: (Registration<Attachments>, Probed),
}

impl kernel::InPlaceModule for Dev {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: once, before all that uses it.
        unsafe { bus::BUS.init() };
        let up = attachment::register().and_then(|(attachments, kept)| {
            // Not before LUO has said which devices go on: the others are reset.
            Ok((attachments, bus::probe(kept)?))
        });
        try_pin_init!(Self {
            _up: up?,
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"kpreserve-dev",
            }),
        })
    }
}

/// The device file of the bus.
struct DevDevice;

#[vtable]
impl MiscDevice for DevDevice {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        Ok(KBox::new(Self, GFP_KERNEL)?)
    }

    /// ENODEV if there is no such device, EBUSY if somebody has it, ENOMEM, EMFILE, ENOTTY.
    fn ioctl(_device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != DEV_ATTACH {
            return Err(ENOTTY);
        }
        let device = bus::Attached::new(arg as u64)?;
        Ok(anon::install(Attachment::file(device)?)? as isize)
    }
}
