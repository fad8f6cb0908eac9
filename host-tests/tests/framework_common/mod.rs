// SPDX-License-Identifier: GPL-2.0

//! What the tests of the framework share: a small world of everything that can be opened, which is
//! built once and found again bit for bit; and a reader of images, to damage what can be damaged.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod damaged;
pub mod flip;
pub mod household;
pub mod layout;
pub mod world;

use std::ffi::CString;
use std::sync::{
    Arc,
    Mutex, //
};
use std::time::Duration;

use kernel::print::take_log;
use kpreserve::{
    Framework,
    IfRefused, //
};
use kpreserve_sim::{
    Config,
    SimMachine, //
};

/// A machine that is quick to boot: 2 MiB, nothing poisoned.
pub fn small() -> Config {
    Config {
        nr_pages: 512,
        poisons: false,
        ..Config::default()
    }
}

/// Boots the framework.
///
/// # Panics
///
/// If it does not come up.
#[track_caller]
pub fn up(machine: &'static SimMachine) -> &'static Framework {
    match Framework::boot(machine, IfRefused::Fail) {
        Ok(framework) => framework,
        Err(error) => panic!("the framework does not come up: {error:?}"),
    }
}

/// Makes a name.
pub fn name(text: &str) -> CString {
    match CString::new(text) {
        Ok(name) => name,
        Err(_) => panic!("no name: {text:?}"),
    }
}

/// Returns, and forgets, the lines of this thread's log that contain `text`.
pub fn log_lines(text: &str) -> Vec<String> {
    let lines = take_log().into_iter().map(|line| line.text);
    lines.filter(|line| line.contains(text)).collect()
}

/// Ends the process if a test hangs, and says in which case: a hang is a failure like any other.
#[derive(Debug)]
pub struct Watchdog {
    case: Arc<Mutex<Option<(String, u64)>>>,
}

impl Watchdog {
    /// Starts watching: each case may take `limit`.
    pub fn new(limit: Duration) -> Self {
        let case: Arc<Mutex<Option<(String, u64)>>> = Arc::new(Mutex::new(None));
        let watched = Arc::clone(&case);
        std::thread::spawn(move || {
            let mut last = 0;
            while Arc::strong_count(&watched) > 1 {
                std::thread::sleep(limit);
                if let Some((name, number)) = &*watched.lock().unwrap() {
                    if *number == last {
                        std::eprintln!("hangs: {name}");
                        std::process::abort();
                    }
                    last = *number;
                }
            }
        });
        Self { case }
    }

    /// Says what begins now.
    pub fn case(&self, name: impl Into<String>) {
        let mut case = self.case.lock().unwrap();
        let number = case.as_ref().map_or(0, |(_, number)| *number) + 1;
        *case = Some((name.into(), number));
    }
}
