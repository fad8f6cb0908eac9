// SPDX-License-Identifier: GPL-2.0

//! A key-value store that survives kexec: what a consumer of kpreserve looks like.
//!
//! The store *is* its preserved memory. Nothing is written out before a kexec and nothing is read
//! in after it: the next kernel opens three things by name or by handle, and goes on. README.md
//! tells the story.
//!
//! Files in this directory may depend on the `kpreserve` and `kernel` crates, and on nothing else.
//! There is no unsafe code here.
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: the store's root, a record |
//! | [`heap`] | bytes of keys and values |
//! | [`index`] | from a hash to a record |
//! | [`store`] | set, get, delete, list |
//! | [`uapi`] | the ioctl interface |

use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

pub mod abi;
pub mod heap;
pub mod index;
pub mod store;
pub mod uapi;

use store::Store;

module! {
    type: Kv,
    name: "kpreserve_kv",
    authors: ["The kpreserve developers"],
    description: "A key-value store that survives kexec (sample)",
    license: "GPL",
}

#[pin_data]
struct Kv {
    #[pin]
    _device: MiscDeviceRegistration<KvDevice>,
}

impl kernel::InPlaceModule for Kv {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"kpreserve-kv",
            }),
        })
    }
}

/// The open device, which holds the store.
///
/// Opening is exclusive in kpreserve, so one process at a time has the device: EBUSY for the
/// second. Closing gives nothing up.
#[pin_data]
struct KvDevice {
    #[pin]
    store: Mutex<Store>,
}

#[vtable]
impl MiscDevice for KvDevice {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        let store = Store::open()?;
        KBox::try_pin_init(
            try_pin_init!(Self {
                store <- new_mutex!(store),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(device: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        uapi::ioctl(&mut device.store.lock(), cmd, arg)
    }
}
