// SPDX-License-Identifier: GPL-2.0

//! /dev/kpreserve-bench: measures kpreserve against what mainline has, inside the test machine.
//!
//! One write(2) is one command, and its errno is that of the operation. What can be read back
//! afterwards are rows of figures and lines of `key=value`. Built in only: the peers need functions
//! that modules cannot call, and the boot is measured, too.
//!
//! Figures of different kernels of a chain meet in the notes (peers.c), which each kernel hands to
//! the next; the last one makes the rows.
//!
//! | file | |
//! | --- | --- |
//! | `peers.c`, `peers` | the clock, the notes, what is measured against |
//! | `objects` | `object.preserve`, `handover.*` |
//! | `areas` | `area.*` |
//! | `vectors`, `maps` | `vec.*`, `map.*`, against the kernel crate's |
//! | `names`, `fdt` | `dict.*`, against libfdt |
//! | `slabs`, `kmem` | `slab.*`, against `kmem_cache` |
//! | `freeze` | `handover.freeze.2cpus` |
//! | `boot` | added boot time |

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
mod boot;
mod fdt;
mod freeze;
mod kmem;
mod maps;
mod names;
mod objects;
mod peers;
mod reply;
mod slabs;
mod vectors;

use reply::Reply;

type Command = fn(&mut Words<'_>, &mut Reply) -> Result;

const COMMANDS: &[(&str, Command)] = &[
    // boot SIDE: notes the time of this boot
    ("boot", boot::note),
    // objects.preserve N
    ("objects.preserve", objects::preserve),
    // SIDE.make N in one kernel, SIDE.adopt N in the next
    ("ours.make", objects::make),
    ("ours.adopt", objects::adopt),
    ("blocks.make", objects::blocks_make),
    ("blocks.adopt", objects::blocks_adopt),
    ("records.make", objects::records_make),
    ("records.adopt", objects::records_adopt),
    ("naive.make", objects::naive_make),
    ("naive.adopt", objects::naive_adopt),
    ("scattered.make", objects::scattered_make),
    ("scattered.adopt", objects::scattered_adopt),
    // objects.rows N
    ("objects.rows", objects::rows),
    // slab.*: one kernel, no kexec
    ("slab.pair", slabs::pair),
    ("slab.size", slabs::size),
    // slab.rows N
    ("slab.rows", slabs::rows),
    ("slab.bulk", slabs::bulk),
    // slab.memory N
    ("slab.memory", slabs::memory),
    ("slab.two", slabs::two),
    // vec.push N, map.rows N, dict.rows N: one kernel, no kexec
    ("vec.push", vectors::push),
    ("map.rows", maps::rows),
    ("dict.rows", names::rows),
    // freeze.two N
    ("freeze.two", freeze::two),
    // area.preserve BYTES [fragmented], area.map BYTES [fragmented]: one kernel, no kexec
    ("area.preserve", areas::preserve),
    ("area.map", areas::map),
    // memory.fragment ORDER, memory.give
    ("memory.fragment", areas::fragment),
    ("memory.give", areas::give),
    // area.SIDE.make BYTES in one kernel, area.SIDE.adopt BYTES in the next
    ("area.ours.make", areas::make),
    ("area.ours.adopt", areas::adopt),
    ("area.small.make", areas::small_make),
    ("area.small.adopt", areas::small_adopt),
    ("area.huge.make", areas::huge_make),
    ("area.huge.adopt", areas::huge_adopt),
    // area.rows BYTES [fragmented]
    ("area.rows", areas::rows),
    // memfd.rows BYTES
    ("memfd.rows", boot::memfd_rows),
];

module! {
    type: Bench,
    name: "kpreserve_bench",
    authors: ["The kpreserve developers"],
    description: "Measures kpreserve in a test machine",
    license: "GPL",
}

#[pin_data]
struct Bench {
    #[pin]
    _device: MiscDeviceRegistration<Device>,
}

impl kernel::InPlaceModule for Bench {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        peers::kpreserve_is_up();
        // SAFETY: called once.
        unsafe { ONE_AT_A_TIME.init() };
        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"kpreserve-bench",
            }),
        })
    }
}

/// What follows the first word.
pub(crate) struct Words<'a> {
    words: core::str::SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    /// Returns the next word; EPROTO if there is none.
    pub(crate) fn word(&mut self) -> Result<&'a str> {
        self.words.next().ok_or(EPROTO)
    }

    /// Returns the next word as a number; `K` and `M` multiply.
    pub(crate) fn number(&mut self) -> Result<usize> {
        let word = self.word()?;
        let (digits, shift) = match (word.strip_suffix('M'), word.strip_suffix('K')) {
            (Some(digits), _) => (digits, 20),
            (_, Some(digits)) => (digits, 10),
            _ => (word, 0),
        };
        let number: usize = digits.parse().map_err(|_| EPROTO)?;
        Ok(number << shift)
    }
}

/// Runs a command.
///
/// # Errors
///
/// Those of the command. EPROTO if it makes no sense, EDEADLK if a measured section slept: its
/// figure would be the time of others.
fn run(text: &[u8]) -> Result<Reply> {
    let text = core::str::from_utf8(text).map_err(|_| EPROTO)?;
    let mut words = Words {
        words: text.split_ascii_whitespace(),
    };
    let name = words.word()?;
    let Some((_, command)) = COMMANDS.iter().find(|(word, _)| *word == name) else {
        pr_err!("there is no command {}\n", name);
        return Err(EPROTO);
    };
    let unit = if peers::is_exact() {
        "instructions"
    } else {
        "ns"
    };
    let _ = peers::disturbances();
    let mut reply = Reply::new(unit);
    command(&mut words, &mut reply)?;
    let (nr_sleeps, nr_preemptions) = peers::disturbances();
    reply.put("preempted", nr_preemptions);
    if nr_sleeps > 0 {
        pr_err!("{}: slept {} times while it measured\n", name, nr_sleeps);
        return Err(EDEADLK);
    }
    Ok(reply)
}

/// The open device: the reply to the last command.
#[pin_data]
struct Device {
    #[pin]
    reply: Mutex<Reply>,
}

kernel::sync::global_lock! {
    // SAFETY: initialized by the module's init, before the device is there.
    unsafe(uninit) static ONE_AT_A_TIME: Mutex<()> = ();
}

#[vtable]
impl MiscDevice for Device {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                reply <- new_mutex!(Reply::new("")),
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
        let _one = ONE_AT_A_TIME.lock();
        *reply = run(&text)?;
        *kiocb.ki_pos_mut() = 0;
        Ok(len)
    }
}
