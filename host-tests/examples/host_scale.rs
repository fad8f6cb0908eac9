// SPDX-License-Identifier: GPL-2.0

//! As many objects as a large host has, over a reboot of the simulated machine.
//!
//! A hundred million objects of eight bytes are allocated in a cache, and their handles stored in a
//! preserved vector. The machine reboots. The next kernel adopts, which touches neither, and then
//! claims each object, compares it, and parks it again. Says how many bytes there were, and what
//! took how long; fails if an object is not what it was.
//!
//! ```text
//! cargo run --release -p host-tests --example host_scale [OBJECTS]
//! ```
//!
//! The times are those of the host, and of a simulated KHO; the kernel's are in
//! Documentation/scaling.rst.

use std::process::ExitCode;
use std::time::Instant;

use kernel::error::Result;
use kernel::prelude::{
    EBADMSG,
    GFP_KERNEL, //
};
use kpreserve::{
    Cache,
    Handle,
    Open as _,
    PVec, //
};
use kpreserve_testing::{
    Config,
    Kernel, //
};

const NR_OBJECTS: usize = 100_000_000;
const PAGE_BYTES: usize = 4096;

/// Every so many objects another kernel looks at a few of them before the rest.
const NR_SAMPLES: usize = 1000;

fn value(number: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6b70
}

/// Runs `f`, and says how long it took.
fn timed<R>(what: &str, nr: usize, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let elapsed = start.elapsed();
    let each = elapsed.as_nanos() as f64 / nr as f64;
    println!(
        "{what:<44} {:>8.3} s {each:>10.2} ns each",
        elapsed.as_secs_f64()
    );
    result
}

fn make(nr: usize) -> Result<usize> {
    let cache = Cache::<u64>::open(c"scale/objects", GFP_KERNEL)?;
    let mut handles = PVec::<u64>::open(c"scale/handles", GFP_KERNEL)?;
    handles.reserve(nr)?;
    timed("objects allocated, handles stored", nr, || {
        (0..nr).try_for_each(|number| -> Result {
            let object = cache.alloc(value(number), GFP_KERNEL)?;
            handles.push(object.park().into_raw())
        })
    })?;
    let counts = cache.raw().counts();
    println!(
        "objects: {nr} in {} bytes ({:.3} an object), {} runs; handles: {} bytes, {} runs",
        counts.bytes,
        counts.bytes as f64 / nr as f64,
        counts.nr_runs,
        handles.nr_pages() * PAGE_BYTES,
        handles.nr_runs(),
    );
    Ok(counts.nr_runs + handles.nr_runs())
}

fn look(cache: &Cache<u64>, handles: &PVec<u64>, numbers: impl Iterator<Item = usize>) -> Result {
    for number in numbers {
        let handle = handles.get(number).copied().unwrap_or(0);
        let object = cache.claim(Handle::from_raw(handle))?;
        let is_right = *object == value(number);
        let _ = object.park();
        if !is_right {
            eprintln!("object {number} is not what it was");
            return Err(EBADMSG);
        }
    }
    Ok(())
}

fn check(nr: usize, nr_runs: usize) -> Result {
    let (cache, handles) = timed(
        "cache and vector opened, by run",
        nr_runs,
        || -> Result<_> {
            let cache = Cache::<u64>::open(c"scale/objects", GFP_KERNEL)?;
            Ok((cache, PVec::<u64>::open(c"scale/handles", GFP_KERNEL)?))
        },
    )?;
    if handles.len() != nr {
        return Err(EBADMSG);
    }
    let step = (nr / NR_SAMPLES).max(1);
    timed("first objects claimed", nr.div_ceil(step), || {
        look(&cache, &handles, (0..nr).step_by(step))
    })?;
    timed("every object claimed, compared, parked", nr, || {
        look(&cache, &handles, 0..nr)
    })?;
    let nr_objects = timed("objects counted", nr, || cache.raw().counts().nr_objects);
    if nr_objects != nr {
        eprintln!("{nr_objects} objects, not {nr}");
        return Err(EBADMSG);
    }
    Ok(())
}

fn run(nr: usize) -> Result {
    // Nine bytes for an object and its tag, eight for its handle, and some.
    let nr_pages = (nr * 19 / PAGE_BYTES + 8192).next_multiple_of(1024);
    let first = Kernel::boot_with(Config {
        poisons: false,
        ..Config::with_pages(nr_pages)
    });
    let nr_runs = make(nr)?;
    first.framework().freeze();
    let keys = first.machine().counters().keys;
    println!("KHO keys: {keys}");
    let machine = timed("the simulated machine reboots", 1, || {
        first.machine().reboot()
    });
    let before = machine.counters().calls();
    let second = timed("image adopted, by run", nr_runs, || Kernel::on(machine))?;
    println!("calls to KHO: {}", machine.counters().calls() - before);
    check(nr, nr_runs)?;
    second.assert_sound();
    Ok(())
}

fn main() -> ExitCode {
    let nr = std::env::args().nth(1).map(|text| text.parse());
    let Ok(nr) = nr.unwrap_or(Ok(NR_OBJECTS)) else {
        eprintln!("usage: host_scale [OBJECTS]");
        return ExitCode::FAILURE;
    };
    match run(nr) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:?}");
            ExitCode::FAILURE
        }
    }
}
