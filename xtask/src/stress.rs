// SPDX-License-Identifier: GPL-2.0

//! Boots beside busy loops: what on a loaded host keeps a kernel from coming up, before any code of
//! ours runs?

use crate::{
    chain::Parts, kernel::Variant, outcome::Outcome, scenario::Scenario, tally::Tally, ui, vm,
    workshop::Workshop,
};
use anyhow::{ensure, Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread,
};

/// Two kernels: one that the firmware starts, one that a kernel does.
const CHAIN: &str = "
summary = 'does the machine come up, twice, beside busy loops?'
[[generation]]
modules = ['kpreserve']
steps = ['insmod kpreserve', 'kexec']
[[generation]]
modules = ['kpreserve']
steps = ['insmod kpreserve', 'poweroff']
";
const NR_KERNELS: usize = 2;

/// What to do.
#[derive(Clone, Copy)]
pub(crate) struct Stress {
    /// How many kernels to boot.
    pub(crate) boots: usize,
    /// How many loops there are for each CPU of the host.
    pub(crate) busy: usize,
    pub(crate) kernel: Variant,
}

/// `xtask stress-boots`.
pub(crate) fn command(shop: &Workshop, stress: Stress) -> Result<()> {
    ensure!(stress.boots > 0, "--boots 0 would prove nothing");
    let parts = Parts::new(shop)?;
    let scenario = Scenario::parse("stress-boots", CHAIN)?;
    // What has to be built is built in peace.
    parts.kernel(stress.kernel)?;
    parts.modules()?;
    let nr_cpus = thread::available_parallelism().map_or(1, usize::from);
    let loops = Loops::start(stress.busy * nr_cpus);
    ui::say(format!(
        "{} busy loops on {nr_cpus} CPUs, as nice as this process and its QEMU",
        loops.threads.len()
    ));
    let mut tally = Tally::default();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    while tally.passed + tally.failed < stress.boots {
        let outcome = vm::boot(shop, &parts, &scenario, stress.kernel)?;
        tally += count(&outcome);
        for failure in &outcome.failures {
            *kinds.entry(failure.to_string()).or_default() += 1;
        }
        if !outcome.is_good() {
            keep(shop, &scenario, stress.kernel, tally.failed)?;
        }
        ui::say(format!(
            "{} of {} boots, {} failed",
            tally.passed + tally.failed,
            stress.boots,
            tally.failed
        ));
    }
    for (what, times) in &kinds {
        ui::say(format!("{times} times: {what}"));
    }
    tally.close()
}

/// A chain that is good has booted all its kernels. One that is not has at least one that failed,
/// and nothing is said for the others.
fn count(outcome: &Outcome) -> Tally {
    match outcome.is_good() {
        true => Tally {
            passed: NR_KERNELS,
            failed: 0,
        },
        false => Tally::one(false),
    }
}

/// Keeps the log of a run that failed from the next one.
fn keep(shop: &Workshop, scenario: &Scenario, variant: Variant, number: usize) -> Result<()> {
    let log = vm::log(shop, scenario, variant);
    let kept = log.with_extension(format!("failed-{number}.log"));
    fs::copy(&log, &kept).with_context(|| format!("cannot keep {}", log.display()))?;
    ui::say(format!("its log: {}", kept.display()));
    Ok(())
}

/// Threads that do nothing, as fast as they can, until this is dropped.
struct Loops {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Loops {
    fn start(number: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..number)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{count, CHAIN, NR_KERNELS};
    use crate::{
        outcome::{Kind, Outcome},
        scenario::Scenario,
        tally::Tally,
    };

    #[test]
    fn a_chain_counts_its_kernels() {
        let chain = Scenario::parse("stress-boots", CHAIN).unwrap();
        assert_eq!(chain.generations.len(), NR_KERNELS);
    }

    #[test]
    fn nothing_reported_is_a_failure() {
        let mut outcome = Outcome::default();
        assert_eq!(count(&outcome), Tally::one(false));
        outcome.passed = 4;
        assert_eq!(count(&outcome).passed, NR_KERNELS);
        outcome.fail(Kind::Panic, "x");
        assert_eq!(count(&outcome), Tally::one(false));
    }
}
