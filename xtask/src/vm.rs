// SPDX-License-Identifier: GPL-2.0

//! Runs a scenario in the test machine and watches it.

use crate::{
    cache::{self, Lock},
    chain::Parts,
    console::{Channel, Console},
    kernel::Variant,
    outcome::Outcome,
    pace::{self, Pace},
    qemu::{self, Accel},
    run,
    scenario::Scenario,
    ui::{self, Stage},
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use std::{
    collections::VecDeque,
    env, fs,
    io::{BufWriter, Write},
    path::PathBuf,
    process::Stdio,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// How many lines of the log a failure shows.
const TAIL: usize = 30;

/// How a scenario is run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// Print everything that the machine says, as it says it.
    pub(crate) verbose: bool,
    /// Keep the initramfs images.
    pub(crate) keep: bool,
    /// Print what the programs of `run` steps say.
    pub(crate) programs: bool,
}

/// What the agent puts before a program's line.
const PROGRAM: &str = "#| ";

/// Runs a scenario and tells people how it went.
pub(crate) fn scenario(
    shop: &Workshop,
    parts: &Parts<'_>,
    scenario: &Scenario,
    variant: Variant,
    options: Options,
) -> Result<Outcome> {
    let accel = Accel::choose(shop, parts, scenario.mode)?;
    let outcome = boot_with(shop, parts, scenario, variant, accel, options)?;
    if outcome.is_good() {
        return Ok(outcome);
    }
    let log = log(shop, scenario, variant);
    ui::say(format!("    the end of {}:", log.display()));
    for line in tail(&log)? {
        ui::say(format!("    | {line}"));
    }
    for failure in &outcome.failures {
        ui::say(format!("    {failure}"));
    }
    if outcome.failures.is_empty() {
        ui::say("    it reported nothing at all");
    }
    Ok(outcome)
}

/// `xtask vm`.
pub(crate) fn command(
    shop: &Workshop,
    name: &str,
    kernel: Option<Variant>,
    smallest: bool,
    options: Options,
) -> Result<()> {
    let mut wanted = Scenario::read(shop.checkout().folder(), name)?;
    if smallest {
        wanted = wanted.reduced()?;
    }
    let parts = Parts::new(shop)?;
    let kernels = kernel.map_or_else(|| wanted.kernels.clone(), |kernel| vec![kernel]);
    let mut failed = 0;
    for variant in kernels {
        failed += scenario(shop, &parts, &wanted, variant, options)?
            .failures
            .len();
    }
    if failed > 0 {
        bail!("the scenario {name} failed");
    }
    Ok(())
}

/// Boots without telling people the details of a failure.
pub(crate) fn boot(
    shop: &Workshop,
    parts: &Parts<'_>,
    scenario: &Scenario,
    variant: Variant,
) -> Result<Outcome> {
    let accel = Accel::choose(shop, parts, scenario.mode)?;
    boot_with(shop, parts, scenario, variant, accel, Options::default())
}

/// Boots a scenario that asks whether KVM works.
pub(crate) fn trial(shop: &Workshop, parts: &Parts<'_>, scenario: &Scenario) -> Result<Outcome> {
    let (variant, accel) = (Variant::Plain, Accel::Kvm);
    boot_with(shop, parts, scenario, variant, accel, Options::default())
}

fn label(scenario: &Scenario, variant: Variant) -> String {
    match variant {
        Variant::Plain => scenario.name.clone(),
        _ => format!("{}-{}", scenario.name, variant.name()),
    }
}

/// The log of a scenario's last run.
pub(crate) fn log(shop: &Workshop, scenario: &Scenario, variant: Variant) -> PathBuf {
    let name = label(scenario, variant);
    shop.checkout().target(format!("vm/{name}.log"))
}

fn boot_with(
    shop: &Workshop,
    parts: &Parts<'_>,
    scenario: &Scenario,
    variant: Variant,
    accel: Accel,
    options: Options,
) -> Result<Outcome> {
    let label = label(scenario, variant);
    let folder = shop.checkout().corner(format!("vm/{label}"));
    let _lock = Lock::take(
        &folder.with_extension("lock"),
        &format!("another run has the scenario {label}"),
    )?;
    let chain = parts.chain(scenario, variant, &folder)?;
    let mut stage = Stage::start(format!("vm: {label} ({})", accel.name()));
    let jail = shop
        .root()?
        .jail()
        .show(&folder, "/vm")
        .show(&chain.image, "/vm-kernel/bzImage");
    let log = log(shop, scenario, variant);
    let _ = fs::remove_file(&log);
    let log_name = run::for_people(&log);
    let mut log = BufWriter::new(run::open_log(&log)?);
    let arguments = qemu::arguments(scenario, &chain, accel);
    let mut child = jail
        .command("qemu-system-x86_64", &arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start QEMU in the build root")?;
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take().context("no stdout of QEMU")?;
    let stderr = child.stderr.take().context("no stderr of QEMU")?;
    run::pump(stdout, sender.clone(), |line| (Channel::Kernel, line));
    run::pump(stderr, sender, |line| (Channel::Agent, line));

    let mut console = Console::new(scenario);
    let (limit, silence) = (scaled(scenario.timeout), scaled(scenario.silence));
    let mut pace = Pace::start(child.id());
    let mut last_line = Duration::ZERO;
    loop {
        match receiver.recv_timeout(Duration::from_millis(500)) {
            Ok((channel, line)) => {
                last_line = pace.elapsed();
                writeln!(log, "{line}")?;
                if options.verbose {
                    stage.print(&line);
                } else {
                    match line.strip_prefix(PROGRAM) {
                        Some(text) if options.programs && channel == Channel::Agent => {
                            stage.print(format!("    {text}"));
                        }
                        _ => stage.note(&line),
                    }
                }
                console.feed(channel, &line);
            }
            Err(RecvTimeoutError::Timeout) => {
                log.flush()?;
                stage.tick();
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let elapsed = pace.elapsed();
        let stuck = if elapsed > limit || pace.by_the_clock() > limit * pace::MOST {
            format!("not done after {} s", limit.as_secs())
        } else if elapsed.saturating_sub(last_line) > silence {
            format!("no word for {} s", silence.as_secs())
        } else {
            continue;
        };
        console.hung(format!(
            "{stuck} (of {} s that it ran, {} s by the clock)",
            elapsed.as_secs(),
            pace.by_the_clock().as_secs()
        ));
        // The signal takes everything in the jail with it.
        child.kill().context("cannot end QEMU")?;
        break;
    }
    let status = child.wait().context("waiting for QEMU")?;
    log.flush()?;
    if !options.keep {
        cache::remove_folder(&folder)?;
    } else {
        ui::say(format!("kept: {}", folder.display()));
    }
    let outcome = console.finish(status.success());
    stage.done(match scenario.broken {
        None => format!(
            "{} passed, {} failed (log: {log_name})",
            outcome.passed,
            outcome.failures.len()
        ),
        // Broken on purpose: the failure is what everybody is waiting for.
        Some(_) => {
            let all: Vec<_> = outcome.failures.iter().map(ToString::to_string).collect();
            format!("must fail: {}", all.join("; "))
        }
    });
    Ok(outcome)
}

/// A time limit, longer on machines that say so.
fn scaled(seconds: u64) -> Duration {
    let scale = env::var("KPRESERVE_TIMEOUT_SCALE")
        .ok()
        .and_then(|scale| scale.parse().ok())
        .unwrap_or(1.0f64);
    Duration::from_secs_f64(seconds as f64 * scale.clamp(0.1, 100.0))
}

/// The end of a log.
fn tail(log: &std::path::Path) -> Result<VecDeque<String>> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let mut tail = VecDeque::new();
    for line in text.lines() {
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    }
    Ok(tail)
}
