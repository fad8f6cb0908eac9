// SPDX-License-Identifier: GPL-2.0

//! A key-value store that survives kexec: what a consumer of kpreserve looks like.
//!
//! The store *is* its preserved memory. Nothing is written out before a kexec and nothing is read
//! in after it: the next kernel opens three things by name or by handle, and goes on. README.md
//! tells the story.
//!
//! Files in this directory may depend on the `kpreserve` and `kernel` crates, and on nothing else.
//! There is no unsafe code here, but for what the kernel's `global_lock!` asks for.
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: the store's root, a record |
//! | [`heap`] | bytes of keys and values |
//! | [`index`] | from a hash to a record |
//! | [`store`] | set, get, delete, list |
//! | [`shared`] | the store, open as long as the device or a cursor is |
//! | [`cursor`] | a file that LUO can preserve (CONFIG_KPRESERVE_LUO) |
//! | [`uapi`] | the ioctl interface |

use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};

pub mod abi;
#[cfg(CONFIG_KPRESERVE_LUO)]
pub mod cursor;
pub mod heap;
pub mod index;
pub mod shared;
pub mod store;
pub mod uapi;

use shared::{
    StoreRef,
    SHARED, //
};

module! {
    type: Kv,
    name: "kpreserve_kv",
    authors: ["The kpreserve developers"],
    description: "A key-value store that survives kexec (sample)",
    license: "GPL",
}

/// What the module holds. Fields are dropped in this order.
#[pin_data]
pub struct Kv {
    #[cfg(CONFIG_KPRESERVE_LUO)]
    _cursors: Option<cursor::Registered>,
    #[pin]
    _device: MiscDeviceRegistration<KvDevice>,
}

impl kernel::InPlaceModule for Kv {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: once, before all that uses it.
        unsafe { SHARED.init() };
        try_pin_init!(Self {
            #[cfg(CONFIG_KPRESERVE_LUO)]
            _cursors: register_cursors()?,
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"kpreserve-kv",
            }),
        })
    }
}

/// Makes cursors known to LUO, if it is on.
#[cfg(CONFIG_KPRESERVE_LUO)]
fn register_cursors() -> Result<Option<cursor::Registered>> {
    match cursor::register() {
        Ok(registration) => Ok(Some(registration)),
        Err(error) if error == EOPNOTSUPP => {
            pr_info!("no cursors: LUO is off (liveupdate=on on the command line turns it on)\n");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The open device.
///
/// One process at a time has it: EBUSY for the second. Closing gives nothing up.
struct KvDevice {
    store: StoreRef,
}

#[vtable]
impl MiscDevice for KvDevice {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        let store = StoreRef::of_device()?;
        Ok(KBox::new(Self { store }, GFP_KERNEL)?)
    }

    fn ioctl(device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        #[cfg(CONFIG_KPRESERVE_LUO)]
        if cmd == uapi::KV_CURSOR {
            return uapi::open_cursor(arg);
        }
        device.store.with(|store| uapi::ioctl(store, cmd, arg))
    }
}
