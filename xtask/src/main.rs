// SPDX-License-Identifier: GPL-2.0

//! The driver behind `make demo`, `make test` and the rest: build root, kernel, virtual machine, reports.

mod agent;
mod buildroot;
mod builtin;
mod cache;
mod chain;
mod checkout;
mod config;
mod console;
mod data;
mod host;
mod initramfs;
mod jail;
mod kernel;
mod ktap;
mod modules;
mod outcome;
mod qemu;
mod run;
mod scenario;
mod series;
mod source;
mod sync;
mod ui;
mod vm;
mod workshop;

use clap::{Parser, Subcommand};

/// What the command line says.
#[derive(Parser)]
#[command(name = "xtask", about = "Builds, boots and measures kpreserve")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make the build root and the kernel.
    Setup,
    /// Build the modules.
    Modules {
        /// Check with clippy instead; warnings are errors.
        #[arg(long)]
        clippy: bool,
    },
    /// Build the kernel with kpreserve built in.
    Builtin,
    /// Run one scenario of selftests/scenarios in the virtual machine.
    Vm {
        /// Its name.
        scenario: String,
        /// Only on this kernel.
        #[arg(long)]
        kernel: Option<kernel::Variant>,
        /// Keep the initramfs images.
        #[arg(long)]
        keep: bool,
        /// Show what the machine says, as it says it.
        #[arg(short, long)]
        verbose: bool,
    },
}

fn main() -> std::process::ExitCode {
    match perform(Arguments::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace, whatever the environment says: these are errors about the machine, not about us.
            let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
            eprintln!("error: {}", causes.join("\n  because: "));
            std::process::ExitCode::FAILURE
        }
    }
}

fn perform(arguments: Arguments) -> anyhow::Result<()> {
    let shop = workshop::Workshop::open()?;
    match arguments.command {
        Task::Setup => {
            shop.kernel()?;
        }
        Task::Modules { clippy } => modules::command(
            &shop,
            if clippy {
                modules::Compiler::Clippy
            } else {
                modules::Compiler::Rustc
            },
        )?,
        Task::Builtin => {
            builtin::Builtin::make(&shop)?;
        }
        Task::Vm {
            scenario,
            kernel,
            keep,
            verbose,
        } => vm::command(&shop, &scenario, kernel, vm::Options { verbose, keep })?,
    }
    Ok(())
}
