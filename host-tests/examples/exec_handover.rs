// SPDX-License-Identifier: GPL-2.0

//! The idea in two seconds, without a virtual machine.
//!
//! A process plays a kernel: its memory is a memfd. It fills a cache through kpreserve and calls
//! execve(2) on itself; nothing is written out before. The new image maps the memfd at another
//! address, adopts what is there, verifies every object, and goes on in the same slabs; then once
//! more.
//!
//! ```text
//! cargo run -p host-tests --example exec_handover
//! ```

use std::fs::File;
use std::os::fd::{
    FromRawFd,
    RawFd, //
};
use std::os::unix::process::CommandExt;
use std::process::{
    Command,
    ExitCode, //
};
use std::time::Instant;

use host_tests::workload::RecordSer;
use kernel::error::Result;
use kernel::prelude::GFP_KERNEL;
use kpreserve::{
    Cache,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Config,
    SimMachine, //
};
use kpreserve_testing::Kernel;

const NR_GENERATIONS: u64 = 3;
const NR_OBJECTS: u64 = 100_000;

kpreserve::preservable! {
    /// How the next image finds the first things.
    pub struct TicketSer {
        /// Objects that are there.
        pub nr_objects: u64,
        /// What the next object is made of.
        pub next_id: u64,
    }
    compatible = "exec-handover-ticket", version = 1
}

/// What one image did; the times are in microseconds.
#[derive(Default)]
struct Row {
    nr_verified: u64,
    nr_freed: u64,
    nr_added: u64,
    adopt: u128,
    verify: u128,
    freeze: u128,
}

fn main() -> ExitCode {
    let fd = std::env::args().nth(1).and_then(|arg| arg.parse().ok());
    match image(fd) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            std::eprintln!("exec_handover: {text}");
            ExitCode::FAILURE
        }
    }
}

/// The life of one image of the process.
fn image(fd: Option<RawFd>) -> std::result::Result<(), String> {
    let machine = match fd {
        None => SimMachine::boot(Config {
            // Another address in each run.
            seed: u64::from(std::process::id()),
            ..Config::with_pages(16 << 10)
        }),
        Some(fd) => {
            // SAFETY: the image before left this descriptor open for us, and we are told of it
            // once.
            let file = unsafe { File::from_raw_fd(fd) };
            SimMachine::resume(file).map_err(|error| error.to_string())?
        }
    };
    let clock = Instant::now();
    let kernel = Kernel::on(machine).map_err(|error| format!("boot: {error:?}"))?;
    let mut row = Row {
        adopt: clock.elapsed().as_micros(),
        ..Row::default()
    };
    work(machine.generation(), &mut row).map_err(|error| format!("{error:?}"))?;
    let clock = Instant::now();
    kernel.framework().freeze();
    row.freeze = clock.elapsed().as_micros();
    print(&kernel, &row);
    if let Some(violation) = machine.take_violations().pop() {
        return Err(violation);
    }
    if machine.generation() < NR_GENERATIONS {
        let fd = machine.save().map_err(|error| error.to_string())?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        return Err(Command::new(program).arg(fd.to_string()).exec().to_string());
    }
    std::println!("\nthe same process throughout; no object was serialized, copied or parsed");
    Ok(())
}

/// Verifies what is there, frees a third of it, and adds as much; the last image frees all.
fn work(generation: u64, row: &mut Row) -> Result {
    let init = TicketSer {
        nr_objects: 0,
        next_id: 0,
    };
    let mut ticket = Named::<TicketSer>::open(c"demo/ticket", init, GFP_KERNEL)?;
    let cache = Cache::<RecordSer>::open(c"demo/objects", GFP_KERNEL)?;
    let mut history = PVec::<u64>::open(c"demo/history", GFP_KERNEL)?;
    assert!((1..generation).eq(history.iter().copied()));
    history.push(generation)?;

    let clock = Instant::now();
    for object in cache.unclaimed() {
        assert_eq!(*object, RecordSer::of(object.id), "an object is damaged");
        row.nr_verified += 1;
        if generation < NR_GENERATIONS && object.id % 3 == 0 {
            drop(object);
            row.nr_freed += 1;
        } else {
            object.park();
        }
    }
    row.verify = clock.elapsed().as_micros();
    assert_eq!(row.nr_verified, ticket.nr_objects, "objects are missing");
    let nr_wanted = if generation < NR_GENERATIONS {
        NR_OBJECTS
    } else {
        0
    };
    ticket.nr_objects -= row.nr_freed;
    while ticket.nr_objects < nr_wanted {
        cache
            .alloc(RecordSer::of(ticket.next_id), GFP_KERNEL)?
            .park();
        ticket.next_id += 1;
        ticket.nr_objects += 1;
        row.nr_added += 1;
    }
    if generation == NR_GENERATIONS {
        row.nr_freed = ticket.nr_objects;
        ticket.nr_objects = 0;
        // None was claimed by now: the rest is freed.
        let cache_again = {
            drop(cache);
            Cache::<RecordSer>::open(c"demo/objects", GFP_KERNEL)?
        };
        assert_eq!(cache_again.finish() as u64, row.nr_freed);
    }
    Ok(())
}

fn print(kernel: &Kernel, row: &Row) {
    let machine = kernel.machine();
    let stats = kernel.framework().stats();
    if machine.generation() == 1 {
        std::println!(
            "{:>5} {:>8} {:>16} {:>9} {:>7} {:>7} {:>6} {:>9} {:>10} {:>10}",
            "image",
            "pid",
            "memory at",
            "verified",
            "freed",
            "added",
            "keys",
            "boot us",
            "verify us",
            "freeze us"
        );
    }
    let base = machine
        .as_dyn()
        .window()
        .virt(kernel.framework().root_phys());
    std::println!(
        "{:>5} {:>8} {:>16x} {:>9} {:>7} {:>7} {:>6} {:>9} {:>10} {:>10}",
        machine.generation(),
        std::process::id(),
        base.map_or(0, |base| base.as_ptr().addr()) & !0xfff,
        row.nr_verified,
        row.nr_freed,
        row.nr_added,
        stats.nr_keys,
        row.adopt,
        row.verify,
        row.freeze
    );
}
