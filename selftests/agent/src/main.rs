// SPDX-License-Identifier: GPL-2.0

//! PID 1 of the test machine.
//!
//! Each kernel of a chain starts this program as `/init`, with a `/scenario.json` that holds the steps of this
//! generation. It runs them one by one, reports each as one line of KTAP, and kexecs or powers off when a
//! step says so. It keeps no state: what reaches the next generation, kpreserve carried.

mod bench;
mod charge;
mod child;
mod crash;
mod dev;
mod device;
mod errno;
mod faults;
mod figures;
mod file;
mod grammar;
mod klog;
mod kv;
mod luo;
mod memfd;
mod memory;
mod module;
mod mounts;
mod plan;
mod power;
mod probe;
mod program;
mod report;
mod scm;
mod verbs;
mod words;
mod xattr;

use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs::File, time::Instant};

/// What the steps work with.
pub(crate) struct Machine {
    pub(crate) plan: plan::Plan,
    pub(crate) report: report::Report,
    /// `key=value` pairs of the last command's reply.
    pub(crate) reply: Vec<(String, String)>,
    pub(crate) luo: luo::Luo,
    /// Figures that `keep` has kept, by name.
    pub(crate) kept: BTreeMap<String, u64>,
    /// Files that steps keep open, by name.
    pub(crate) files: BTreeMap<String, File>,
}

fn main() {
    let mounted = mounts::all();
    let mut report = report::Report::open();
    let outcome = mounted.and_then(|()| plan::Plan::read()).map(|plan| {
        let mut machine = Machine {
            plan,
            report,
            reply: Vec::new(),
            luo: luo::Luo::default(),
            kept: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        run(&mut machine);
        machine.report
    });
    report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let mut report = report::Report::open();
            report.line(&format!("Bail out! {error:#}"));
            report
        }
    };
    // Only reached when a step failed or the steps do not end in kexec or poweroff. The runner knows by the report.
    report.drain();
    power::off();
}

/// Runs the steps up to the first that fails: what follows would only report consequences.
fn run(machine: &mut Machine) {
    let steps = machine.plan.steps.clone();
    machine.report.line("KTAP version 1");
    machine.report.line(&format!(
        "# {} generation {} of {}",
        machine.plan.scenario, machine.plan.generation, machine.plan.generations
    ));
    if machine.plan.sabotage.as_deref() != Some("no-plan") {
        machine.report.line(&format!("1..{}", steps.len()));
    }
    for (index, step) in steps.iter().enumerate() {
        let number = index + 1;
        machine.report.step = (number, step.clone());
        let started = Instant::now();
        let outcome = one(machine, step);
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        machine.report.json(
            "time",
            &serde_json::json!({
                "generation": machine.plan.generation,
                "step": step,
                "ns": nanoseconds,
            }),
        );
        match outcome {
            Ok(()) => machine.report.passed(),
            Err(error) => {
                machine.report.failed(&format!("{error:#}"));
                machine
                    .report
                    .line(&format!("Bail out! step {number} failed"));
                return;
            }
        }
    }
}

/// Runs one step.
fn one(machine: &mut Machine, step: &str) -> Result<()> {
    let words = words::split(step)?;
    grammar::check(&words)?;
    let (name, arguments) = words.split_first().context("an empty step")?;
    let verb = verbs::find(name)?;
    verb(machine, arguments)
}
