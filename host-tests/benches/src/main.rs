// SPDX-License-Identifier: GPL-2.0

//! What `xtask bench` calls when criterion is done; and one workload alone, for profilers.

use std::fs;
use std::path::PathBuf;

use anyhow::{
    Context,
    Result, //
};
use clap::Parser;
use host_benches::{
    count,
    rows, //
};

/// Figures of the host benches.
#[derive(Parser)]
enum Arguments {
    /// Count instructions, read what criterion has left, and write both as JSON.
    Rows {
        /// Criterion's folder.
        #[arg(long)]
        criterion: PathBuf,
        /// Where the figures go.
        #[arg(long)]
        out: PathBuf,
        /// Without counting instructions, which takes valgrind.
        #[arg(long)]
        no_count: bool,
    },
    /// Run a number of rounds of host.pair, host.batch, host.larson or host.xmalloc, alone.
    Run {
        /// The workload.
        name: String,
        /// The allocator.
        heap: String,
        /// Objects of a batch, or threads.
        n: usize,
        /// Rounds.
        rounds: u64,
    },
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Rows {
            criterion,
            out,
            no_count,
        } => {
            let mut all = rows::of_criterion(&criterion)?.rows("ns")?;
            if !no_count {
                let say = |text| eprintln!("{text}");
                all.extend(count::all(say)?.rows("instructions")?);
            }
            fs::write(&out, serde_json::to_string_pretty(&all)? + "\n")
                .with_context(|| format!("cannot write {}", out.display()))
        }
        Arguments::Run {
            name,
            heap,
            n,
            rounds,
        } => count::run(&name, &heap, n, rounds),
    }
}
