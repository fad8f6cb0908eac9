// SPDX-License-Identifier: GPL-2.0

//! The judge of a run: reads what the machine says, line by line, and knows trouble when it sees it.

use crate::{
    ktap,
    outcome::{Kind, Outcome},
    scenario::Scenario,
};
use std::collections::BTreeMap;

/// Signs of trouble in the kernel's log.
const TROUBLE: &[(&str, Kind)] = &[
    ("Kernel panic", Kind::Panic),
    ("WARNING:", Kind::Warn),
    ("BUG:", Kind::Warn),
    ("kernel BUG at", Kind::Warn),
    ("Oops", Kind::Warn),
    ("general protection fault", Kind::Warn),
    (TRACE, Kind::Warn),
    ("UBSAN:", Kind::Warn),
    ("KASAN:", Kind::Warn),
    ("CFI failure at", Kind::Warn),
    ("new suspected memory leaks", Kind::Warn),
    // Whatever it says in the line, nobody watches any more.
    ("detector disabled", Kind::Warn),
    ("INFO: lockdep is turned off", Kind::Warn),
    ("turning off the locking correctness validator", Kind::Warn),
    ("detected stall", Kind::Hang),
    ("detected expedited stall", Kind::Hang),
    ("blocked for more than", Kind::Hang),
    ("soft lockup", Kind::Hang),
];

/// What a panic prints, too.
const TRACE: &str = "Call Trace:";

/// How the first line of a kernel begins.
const FIRST: &str = "Linux version ";

/// The line by which the last generation ends. The agent writes it.
const END: &str = "# end of scenario";

/// Which serial line a line came over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The kernel's console.
    Kernel,
    /// The agent's reports (and what QEMU itself complains about).
    Agent,
}

/// Reads the lines of one run.
pub(crate) struct Console {
    kernel: ktap::Parser,
    agent: ktap::Parser,
    trouble: BTreeMap<Kind, String>,
    allow: Vec<String>,
    skips: Vec<String>,
    /// What no kernel has said yet.
    unsaid: Vec<String>,
    suites: Vec<String>,
    generations: usize,
    ended: bool,
    /// What a kernel has to say, and whether one has.
    until: Option<String>,
    said: bool,
    /// What a kernel has to say when it panics, how often one has, and whether it is still at it.
    crash: Option<String>,
    crashes: usize,
    crashing: bool,
    complaints: Vec<String>,
    outcome: Outcome,
}

impl Console {
    /// Knows what the scenario promises.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            kernel: ktap::Parser::default(),
            agent: ktap::Parser::default(),
            trouble: BTreeMap::new(),
            allow: scenario.allow.clone(),
            skips: scenario.skips.clone(),
            unsaid: scenario.says.clone(),
            suites: scenario.kunit.clone(),
            generations: scenario.generations.len(),
            ended: false,
            until: scenario.until.clone(),
            said: false,
            crash: scenario.crash.clone(),
            crashes: 0,
            crashing: false,
            complaints: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Reads a line.
    pub(crate) fn feed(&mut self, channel: Channel, line: &str) {
        let line = match channel {
            Channel::Kernel => without_time(line),
            Channel::Agent => line,
        };
        if let Some(at) = line.find("@@json ") {
            self.row(&line[at..]);
            return;
        }
        // All is said, and what comes now is no trouble.
        if self.said {
            return;
        }
        match channel {
            Channel::Kernel => {
                self.said = self
                    .until
                    .as_ref()
                    .is_some_and(|end| line.contains(end.as_str()));
                if !self.is_expected(line) {
                    if let Some(kind) = trouble(line) {
                        self.trouble
                            .entry(kind)
                            .or_insert_with(|| line.trim().to_owned());
                    }
                }
                self.unsaid.retain(|text| !line.contains(text.as_str()));
                self.kernel.feed(line);
            }
            Channel::Agent => {
                self.ended |= line == END;
                if line.starts_with("qemu") {
                    self.complaints.push(line.to_owned());
                }
                self.agent.feed(line);
            }
        }
    }

    /// Whether a line of the kernel's is no trouble, whatever it says.
    fn is_expected(&mut self, line: &str) -> bool {
        self.crashing &= !line.starts_with(FIRST);
        if self.crash.as_ref().is_some_and(|text| line.contains(text)) {
            self.crashes += 1;
            self.crashing = true;
            return true;
        }
        self.crashing && line.contains(TRACE)
            || self.allow.iter().any(|allowed| line.contains(allowed))
    }

    /// `@@json CHANNEL {...}`.
    fn row(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ').skip(1);
        let (Some(channel), Some(text)) = (words.next(), words.next()) else {
            self.outcome.fail(Kind::Json, line);
            return;
        };
        match serde_json::from_str(text) {
            Ok(value) => self
                .outcome
                .rows
                .entry(channel.to_owned())
                .or_default()
                .push(value),
            Err(error) => self.outcome.fail(Kind::Json, format!("{error} in: {line}")),
        }
    }

    /// The machine went quiet, or took too long.
    pub(crate) fn hung(&mut self, what: String) {
        self.outcome.fail(Kind::Hang, what);
    }

    /// The machine is gone: judges all.
    pub(crate) fn finish(mut self, qemu_succeeded: bool) -> Outcome {
        for (kind, line) in std::mem::take(&mut self.trouble) {
            self.outcome.fail(kind, line);
        }
        self.agent.finish();
        self.kernel.finish();
        for parser in [&mut self.agent, &mut self.kernel] {
            self.outcome.passed += parser.passed.len();
            for name in parser.failed.drain(..) {
                self.outcome.fail(Kind::Test, name);
            }
            for name in parser.skipped.drain(..) {
                if !self.skips.iter().any(|allowed| name.contains(allowed)) {
                    self.outcome.fail(Kind::Skip, name);
                }
            }
            for problem in parser.problems.drain(..) {
                self.outcome.fail(Kind::Plan, problem);
            }
        }
        for suite in &self.suites {
            if !self.kernel.suites.contains(suite) {
                self.outcome
                    .fail(Kind::Plan, format!("the KUnit suite {suite} did not run"));
            }
        }
        if let Some(crash) = self.crash.as_ref().filter(|_| self.crashes != 1) {
            let what = format!("{} times, not once: {crash:?}", self.crashes);
            self.outcome.fail(Kind::Plan, what);
        }
        if let Some(until) = &self.until {
            if self.said {
                self.outcome.passed += 1;
            } else {
                let what = format!("no kernel has said {until:?}");
                self.outcome.fail(Kind::Plan, what);
            }
            return self.outcome;
        }
        // What stopped the chain was said already, if anything was.
        let explained = !self.outcome.failures.is_empty();
        if self.agent.documents != self.generations && !explained {
            self.outcome.fail(
                Kind::Plan,
                format!(
                    "{} of {} generations reported",
                    self.agent.documents, self.generations
                ),
            );
        }
        if !self.ended && !explained {
            self.outcome
                .fail(Kind::Plan, "the last generation never reached its end");
        }
        if !qemu_succeeded && !explained {
            let what = if self.complaints.is_empty() {
                "it ended with an error".to_owned()
            } else {
                self.complaints.join("; ")
            };
            self.outcome.fail(Kind::Qemu, what);
        }
        if !explained {
            for text in &self.unsaid {
                let what = format!("no kernel has said {text:?}");
                self.outcome.fail(Kind::Plan, what);
            }
        }
        self.outcome
    }
}

/// What kind of trouble a kernel message tells of.
fn trouble(line: &str) -> Option<Kind> {
    // SLUB: "BUG kmalloc-64 (Not tainted): Redzone overwritten"
    if line.starts_with("BUG ") {
        return Some(Kind::Warn);
    }
    let found = TROUBLE.iter().find(|(sign, _)| line.contains(sign));
    found.map(|(_, kind)| *kind)
}

/// A kernel message without its `[    1.234567] `.
fn without_time(line: &str) -> &str {
    let Some(rest) = line.strip_prefix('[') else {
        return line;
    };
    match rest.split_once("] ") {
        Some((time, text)) if time.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::{without_time, Channel, Console};
    use crate::{
        outcome::{Kind, Outcome},
        scenario::Scenario,
    };

    const PLAN: &str = "KTAP version 1\n1..1\nok 1 - poweroff\n# end of scenario";

    fn judge(kernel: &str, agent: &str) -> Outcome {
        let text = "summary='x'\nallow=['WARNING: mine']\n[[generation]]\nsteps=['poweroff']";
        let mut console = Console::new(&Scenario::parse("x", text).unwrap());
        kernel
            .lines()
            .for_each(|l| console.feed(Channel::Kernel, l));
        agent.lines().for_each(|l| console.feed(Channel::Agent, l));
        console.finish(true)
    }

    fn kinds(outcome: &Outcome) -> Vec<Kind> {
        outcome.failures.iter().map(|f| f.kind).collect()
    }

    #[test]
    fn good() {
        assert!(judge("[    0.000000] Linux version", PLAN).is_good());
        assert!(judge("[    0.000000] WARNING: mine", PLAN).is_good());
    }

    #[test]
    fn what_kernels_must_say() {
        let judge = |log: &str, agent: &str| {
            let text = "summary='x'\nsays=['one: 1', 'two']\n[[generation]]\nsteps=['poweroff']";
            let mut console = Console::new(&Scenario::parse("x", text).unwrap());
            log.lines().for_each(|l| console.feed(Channel::Kernel, l));
            agent.lines().for_each(|l| console.feed(Channel::Agent, l));
            console.finish(true)
        };
        assert!(judge("[    1.000000] a two\n[    2.000000] one: 1 x", PLAN).is_good());
        assert_eq!(kinds(&judge("[    1.000000] two", PLAN)), [Kind::Plan]);
        // Who only reports it has not said it.
        let agent = format!("one: 1\n{PLAN}");
        assert_eq!(kinds(&judge("two", &agent)), [Kind::Plan]);
    }

    #[test]
    fn trouble_is_reported_once_a_kind() {
        let log = "[    1.000000] WARNING: CPU: 0\n[    1.1] Call Trace:\n[    2.000000] Kernel panic - not syncing";
        assert_eq!(kinds(&judge(log, PLAN)), [Kind::Panic, Kind::Warn]);
    }

    #[test]
    fn what_debug_kernels_say_is_trouble() {
        for line in [
            "[    1.0] WARNING: possible circular locking dependency detected",
            "[    1.0] BUG: sleeping function called from invalid context at x.c:1",
            "[    1.0] BUG kmalloc-64 (Not tainted): Right Redzone overwritten",
            "[    1.0] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "[    1.0] BUG: MAX_LOCKDEP_CHAINS too low!",
        ] {
            assert_eq!(kinds(&judge(line, PLAN)), [Kind::Warn], "{line}");
        }
        assert!(judge("[    1.0] CONFIG_DEBUG is on", PLAN).is_good());
    }

    #[test]
    fn a_word_of_the_kernel_is_the_end() {
        let text = "summary='x'\ninit='kho'\nuntil='all is well'\n[[generation]]\nsteps=[]";
        let judge = |log: &[&str]| {
            let mut console = Console::new(&Scenario::parse("x", text).unwrap());
            for line in log {
                console.feed(Channel::Kernel, line);
            }
            console.finish(true)
        };
        let (well, panic) = ("[    1.0] x: all is well", "[    2.0] Kernel panic");
        assert!(judge(&[well, panic]).is_good());
        assert_eq!(kinds(&judge(&[panic, well])), [Kind::Panic]);
        assert_eq!(kinds(&judge(&[panic])), [Kind::Panic, Kind::Plan]);
        assert_eq!(kinds(&judge(&[])), [Kind::Plan]);
    }

    #[test]
    fn a_crash_comes_once_and_alone() {
        let text =
            "summary='x'\ncrash='panic - y'\n[[generation]]\nsteps=['crash']\n[[generation]]\nsteps=['poweroff']";
        let judge = |log: &[&str]| {
            let mut console = Console::new(&Scenario::parse("x", text).unwrap());
            for line in log {
                console.feed(Channel::Kernel, line);
            }
            for line in ["KTAP version 1", "1..1", "ok 1 - crash"]
                .into_iter()
                .chain(PLAN.lines())
            {
                console.feed(Channel::Agent, line);
            }
            kinds(&console.finish(true))
        };
        let (panic, trace) = ("[    1.0] Kernel panic - y", "[    1.0] Call Trace:");
        let next = "[    0.0] Linux version 7";
        assert_eq!(judge(&[panic, trace, next]), []);
        assert_eq!(judge(&[next]), [Kind::Plan]);
        assert_eq!(judge(&[trace, panic, next]), [Kind::Warn]);
        assert_eq!(judge(&[panic, trace, next, trace]), [Kind::Warn]);
        assert_eq!(judge(&[panic, panic, next]), [Kind::Plan]);
        assert_eq!(
            judge(&[panic, "[    1.0] Kernel panic - z", next]),
            [Kind::Panic]
        );
        assert_eq!(judge(&[panic, "[    1.0] BUG: z", next]), [Kind::Warn]);
    }

    #[test]
    fn silence_is_no_success() {
        assert_eq!(kinds(&judge("", "")), [Kind::Plan, Kind::Plan]);
        assert_eq!(
            kinds(&judge("", "KTAP version 1\n1..1\nok 1 - poweroff")),
            [Kind::Plan]
        );
    }

    #[test]
    fn rows() {
        let outcome = judge("[    1.000000] @@json a {\"x\":1}\n@@json a {\"x\"", PLAN);
        assert_eq!(outcome.rows("a").len(), 1);
        assert_eq!(kinds(&outcome), [Kind::Json]);
    }

    #[test]
    fn times() {
        assert_eq!(without_time("[    1.234567]     ok 1 a"), "    ok 1 a");
        assert_eq!(without_time("[abc] x"), "[abc] x");
    }
}
