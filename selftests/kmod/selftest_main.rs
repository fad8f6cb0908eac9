// SPDX-License-Identifier: GPL-2.0

//! /dev/kpreserve-selftest: what the scenarios make kpreserve do inside the test machine.
//!
//! One write(2) is one command, and its errno is that of the operation. What can be read back
//! afterwards are lines of `key=value`; `ns` is the time that the command took.
//!
//! Files in this directory may depend on the public parts of the `kpreserve` and `kernel` crates,
//! and on nothing else. Unsafe code is in `image.rs`, which damages an image on purpose, in `slots.rs`,
//! which looks into free slots, and where C is called: `contexts.rs`, `threads.rs`, `reclaim.rs`, `interchange.rs`,
//! `views.rs`, `luo.rs`.
//!
//! | file | commands |
//! | --- | --- |
//! | `objects` | `objects.*`: a million objects in a cache |
//! | `caches` | `cache.*`: caches of any name |
//! | `areas` | `area.*`: areas with a pattern |
//! | `views` | what a contiguous view is made of |
//! | `named` | `named.*`: objects with a name |
//! | `opening` | `open`: each way in which opening fails |
//! | `claims` | `claim`: each way in which claiming fails |
//! | `luo` | `luo.*`: a file handler that comes and goes (where LUO is) |
//! | `gate` | `freeze`, `thaw`, `frozen` |
//! | `atomic` | `alloc-atomic`, `alloc-in`: allocation where one cannot sleep |
//! | `slots` | `slots.*`: free slots, and which CPU has them |
//! | `reclaim` | `reclaim.*`, `memory.*`: memory pressure, fragmented memory |
//! | `stress` | `stress.*`: objects come and go on all CPUs while the machine stops |
//! | `contexts`, `threads` | running code in interrupts, and in threads; `lockdep`, `provoke` |
//! | `pools` | `pool.*`, `foreign`: boxes, vectors, objects that C owns |
//! | `stats` | `stats`, `counts` |
//! | `corrupt`, `image` | `corrupt`: damages what the next kernel will find |

use kernel::{
    fs::{
        File,
        Kiocb, //
    },
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

mod areas;
mod atomic;
mod caches;
mod claims;
mod command;
mod contexts;
mod corrupt;
mod gate;
mod image;
mod interchange;
#[cfg(CONFIG_KPRESERVE_LUO)]
mod luo;
mod maps;
mod named;
mod objects;
mod opening;
mod pattern;
mod pools;
mod reclaim;
mod reply;
mod slots;
mod stats;
mod stress;
mod threads;
mod views;

use reply::Reply;

module! {
    type: Selftest,
    name: "kpreserve_selftest",
    authors: ["The kpreserve developers"],
    description: "Exercises kpreserve in a test machine; damages memory when told to",
    license: "GPL",
    params: {
        fail: u8 {
            default: 0,
            description: "Do not come up, after a handler was registered with LUO (1), which has found files of it (2)",
        },
    },
}

#[pin_data]
struct Selftest {
    #[pin]
    _device: MiscDeviceRegistration<Device>,
    #[cfg(CONFIG_KPRESERVE_LUO)]
    _handler: luo::Handler,
}

impl kernel::InPlaceModule for Selftest {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        #[cfg(CONFIG_KPRESERVE_LUO)]
        let handler = luo::Handler::new();
        try_pin_init!(Self {
            _: { come_up()? },
            #[cfg(CONFIG_KPRESERVE_LUO)]
            _handler: handler,
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"kpreserve-selftest",
            }),
        })
    }
}

/// EINVAL if that is asked for.
fn come_up() -> Result {
    let fail = module_parameters::fail.value();
    if fail == 0 {
        return Ok(());
    }
    #[cfg(CONFIG_KPRESERVE_LUO)]
    {
        luo::start()?;
        if fail == 2 {
            luo::look_at_sessions()?;
        }
    }
    Err(EINVAL)
}

/// The open device: the reply to the last command.
#[pin_data]
struct Device {
    #[pin]
    reply: Mutex<Reply>,
}

#[vtable]
impl MiscDevice for Device {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                reply <- new_mutex!(Reply::new()),
            }),
            GFP_KERNEL,
        )
    }

    fn read_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        let reply = kiocb.file();
        let reply = reply.reply.lock();
        iov.simple_read_from_buffer(kiocb.ki_pos_mut(), reply.bytes())
    }

    fn write_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterSource<'_>) -> Result<usize> {
        let mut text = KVVec::new();
        let len = iov.copy_from_iter_vec(&mut text, GFP_KERNEL)?;
        let device = kiocb.file();
        let mut reply = device.reply.lock();
        *reply = Reply::new();
        command::run(&text, &mut reply)?;
        *kiocb.ki_pos_mut() = 0;
        Ok(len)
    }
}
