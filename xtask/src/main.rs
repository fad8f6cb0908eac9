// SPDX-License-Identifier: GPL-2.0

//! The driver behind `make demo`, `make test` and the rest.
//!
//! From the ground up: the host ([`host`]), the cache and its locks ([`cache`]), the build root ([`buildroot`]) and the way into it
//! ([`jail`]); the kernel's source, configuration and build ([`series`], [`source`], [`config`], [`kernel`]); our own code in it as modules
//! or built in ([`sync`], [`modules`], [`builtin`]); the test machine ([`scenario`], [`agent`],
//! [`initramfs`], [`chain`], [`qemu`], [`vm`], [`pace`]) and what it says ([`ktap`], [`console`],
//! [`outcome`]); the commands ([`hosttest`], [`vmtest`] with [`without`], [`hotpath`], [`check`],
//! [`demo`], [`mod@bench`] with [`hostbench`]).

mod agent;
mod bench;
mod buildroot;
mod builtin;
mod cache;
mod chain;
mod check;
mod checkout;
mod clean;
mod config;
mod console;
mod consumers;
mod data;
mod demo;
mod draw;
mod figures;
mod host;
mod hostbench;
mod hosttest;
mod hotpath;
mod initramfs;
mod interrupt;
mod jail;
mod kernel;
mod ktap;
mod modules;
mod outcome;
mod pace;
mod preflight;
mod programs;
mod qemu;
mod run;
mod scenario;
mod series;
mod source;
mod stress;
mod sync;
mod tally;
mod ui;
mod vm;
mod vmtest;
mod without;
mod workshop;

// The agent's own, so that both take steps for the same.
#[path = "../../selftests/agent/src/grammar.rs"]
mod grammar;
#[path = "../../selftests/agent/src/words.rs"]
#[allow(dead_code)] // what the agent alone needs
mod words;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tally::Tally;
use without::Without;

/// Builds, boots, tests and measures kpreserve.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The main job: hand real data over two kexecs, and show what it took.
    Demo,
    /// All tests.
    Test,
    /// The tests that need no virtual machine.
    TestHost,
    /// Threads over our caches on the host under the thread sanitizer; takes a nightly compiler.
    Tsan,
    /// The scenarios in the virtual machine.
    TestVm,
    /// Only the scenarios that must fail: does the runner notice?
    Selfcheck,
    /// Look for locked instructions where allocating and freeing is fast; test-vm and bench do that, too.
    Hotpath,
    /// Measure, on the host and in the virtual machine; results in target/bench/.
    Bench {
        /// Only on the host.
        #[arg(long)]
        host: bool,
        /// Only in the virtual machine.
        #[arg(long)]
        vm: bool,
        /// Everything once at its smallest size: does it run, and is each row there? Keeps no
        /// figures. `test` does that, too.
        #[arg(long)]
        smallest: bool,
    },
    /// rustfmt, clippy and rustdoc, on the host and with the kernel's own settings.
    Check,
    /// Run one scenario.
    Vm {
        /// Its name, if it is one of selftests/scenarios; or the path of a file of that kind, FILE.toml.
        scenario: String,
        /// Only on this kernel.
        #[arg(long)]
        kernel: Option<kernel::Variant>,
        /// One that measures, at its smallest size.
        #[arg(long)]
        smallest: bool,
        /// Keep the initramfs images.
        #[arg(long)]
        keep: bool,
        /// Show what the machine says, as it says it.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Boot chains of two kernels beside busy loops: does a loaded host keep the machine from
    /// coming up?
    StressBoots {
        /// How many kernels to boot.
        #[arg(long, default_value_t = 60)]
        boots: usize,
        /// How many busy loops to run for each CPU of the host.
        #[arg(long, default_value_t = 4)]
        busy: usize,
        /// On this kernel.
        #[arg(long, value_enum, default_value = "plain")]
        kernel: kernel::Variant,
    },
    /// Build the modules and show what the compilers say.
    Modules {
        /// Check with clippy instead; warnings are errors.
        #[arg(long)]
        clippy: bool,
    },
    /// Build the kernel with kpreserve built in.
    Builtin {
        /// The one that watches itself.
        #[arg(long)]
        debug: bool,
        /// The one that checks indirect calls.
        #[arg(long, conflicts_with = "debug")]
        cfi: bool,
    },
    /// Make the build root and the kernel, as the other commands do when they need them.
    Setup,
    /// Remove what was built in this checkout.
    Clean {
        /// The cache that all checkouts share, too.
        #[arg(long)]
        cache: bool,
    },
}

fn main() -> ExitCode {
    interrupt::watch();
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<tally::Closed>() => ExitCode::FAILURE,
        Err(error) => {
            ui::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    let shop = workshop::Workshop::open()?;
    match task {
        Task::Demo => demo::command(&shop),
        Task::Test => {
            // What can fail at once, then what fails in minutes; the kernel and what boots it last.
            scenario::Scenario::all(shop.checkout().folder())?;
            host::prepare()?;
            let without = Without::read()?;
            let mut tally = hosttest::all(shop.checkout())?;
            tally += Tally::of("the test machine", vmtest::all(&shop, &without));
            tally.close()
        }
        Task::TestHost => hosttest::all(shop.checkout())?.close(),
        Task::Tsan => hosttest::tsan(shop.checkout())?.close(),
        Task::TestVm => {
            let without = Without::read()?;
            Tally::of("the test machine", vmtest::all(&shop, &without)).close()
        }
        Task::Selfcheck => vmtest::selfcheck(&shop, &chain::Parts::new(&shop)?)?.close(),
        Task::Hotpath => hotpath::command(&shop),
        Task::Bench { host, vm, smallest } => {
            bench::command(&shop, bench::Where { host, vm }, smallest)
        }
        Task::Check => check::command(&shop),
        Task::Vm {
            scenario,
            kernel,
            smallest,
            keep,
            verbose,
        } => {
            let options = vm::Options {
                verbose,
                keep,
                programs: true,
            };
            vm::command(&shop, &scenario, kernel, smallest, options)
        }
        Task::StressBoots {
            boots,
            busy,
            kernel,
        } => stress::command(
            &shop,
            stress::Stress {
                boots,
                busy,
                kernel,
            },
        ),
        Task::Modules { clippy: true } => modules::command(&shop, modules::Purpose::Clippy),
        Task::Modules { clippy: false } => modules::command(&shop, modules::Purpose::Use),
        Task::Builtin { debug, cfi } => {
            let flavour = match (debug, cfi) {
                (true, _) => kernel::Flavour::Debug,
                (_, true) => kernel::Flavour::Cfi,
                _ => kernel::Flavour::Plain,
            };
            builtin::Builtin::make(&shop, flavour).map(drop)
        }
        Task::Setup => shop.kernel().map(drop),
        Task::Clean { cache } => clean::command(&shop, cache),
    }
}
