// SPDX-License-Identifier: GPL-2.0

//! Time limits on a busy host: a second counts for as much as the emulator could have of it.
//!
//! By the clock alone a machine that gets a tenth of a CPU is ten times as slow, and no limit fits both it and an idle host. The host's
//! scheduler knows how long each thread ran and how long it was ready to run, but waited for a CPU (`/proc/PID/task/TID/schedstat`),
//! and what its own host took away (`steal` of `/proc/stat`). Of a second in which the emulator's threads ran 0.2 s and waited 0.8 s,
//! 0.2 s count. While none of them wants to run the whole second counts: a machine that sleeps for ever is found as soon as ever.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

/// How long an interval is at least: a thread that waits is only accounted when it runs again.
const INTERVAL: Duration = Duration::from_secs(2);

/// By the clock a limit lasts so many times as long at most.
pub(crate) const MOST: u32 = 20;

/// Threads that want less than this part of an interval are idle.
const IDLE: f64 = 0.02;

/// The time that counts, of one child process and of its first child, which takes its place in a jail.
pub(crate) struct Pace {
    parent: u32,
    threads: BTreeMap<u32, Work>,
    steal: Option<Steal>,
    counted: Duration,
    last: Instant,
    started: Instant,
}

/// What a thread did, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    ran: u64,
    waited: u64,
}

/// What CPUs did, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steal {
    stolen: u64,
    total: u64,
}

impl Pace {
    /// Starts to count for the child `parent`.
    pub(crate) fn start(parent: u32) -> Self {
        let now = Instant::now();
        Self {
            parent,
            threads: BTreeMap::new(),
            steal: steal(),
            counted: Duration::ZERO,
            last: now,
            started: now,
        }
    }

    /// Returns the time that counts. It grows by whole intervals, and never shrinks.
    pub(crate) fn elapsed(&mut self) -> Duration {
        let interval = self.last.elapsed();
        if interval < INTERVAL {
            return self.counted;
        }
        self.last += interval;
        let threads = threads(self.parent);
        let work = worked(&self.threads, &threads);
        self.threads = threads;
        let before = std::mem::replace(&mut self.steal, steal());
        let left = match (before, self.steal) {
            (Some(before), Some(now)) => left_by_host(before, now),
            _ => 1.0,
        };
        self.counted += interval.mul_f64(share(work, interval) * left);
        self.counted
    }

    /// Returns the time by the clock.
    pub(crate) fn by_the_clock(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Which part of what they wanted the threads got.
fn share(work: Work, interval: Duration) -> f64 {
    let (ran, waited) = (work.ran as f64, work.waited as f64);
    if ran + waited < IDLE * interval.as_nanos() as f64 {
        return 1.0;
    }
    ran / (ran + waited)
}

/// Which part of the CPUs the host's own host left to it.
fn left_by_host(before: Steal, now: Steal) -> f64 {
    let total = now.total.saturating_sub(before.total);
    let stolen = now.stolen.saturating_sub(before.stolen).min(total);
    if total == 0 {
        return 1.0;
    }
    1.0 - stolen as f64 / total as f64
}

/// What threads did between two looks at them; one that was not there before counts from its start.
fn worked(before: &BTreeMap<u32, Work>, now: &BTreeMap<u32, Work>) -> Work {
    let mut sum = Work::default();
    for (thread, now) in now {
        let before = before.get(thread).copied().unwrap_or_default();
        sum.ran += now.ran.saturating_sub(before.ran);
        sum.waited += now.waited.saturating_sub(before.waited);
    }
    sum
}

/// All threads of a process and of its children.
fn threads(parent: u32) -> BTreeMap<u32, Work> {
    let numbers = |folder: &str| -> Vec<u32> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    };
    let mut threads = BTreeMap::new();
    for process in numbers("/proc") {
        if process != parent && parent_of(process) != Some(parent) {
            continue;
        }
        for thread in numbers(&format!("/proc/{process}/task")) {
            let path = format!("/proc/{process}/task/{thread}/schedstat");
            if let Some(work) = fs::read_to_string(path).ok().as_deref().and_then(schedstat) {
                threads.insert(thread, work);
            }
        }
    }
    threads
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// `RAN WAITED SLICES`.
fn schedstat(text: &str) -> Option<Work> {
    let mut words = text.split_whitespace().map(str::parse);
    Some(Work {
        ran: words.next()?.ok()?,
        waited: words.next()?.ok()?,
    })
}

fn steal() -> Option<Steal> {
    stolen(fs::read_to_string("/proc/stat").ok()?.lines().next()?)
}

/// `cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL GUEST GUEST_NICE`; the last two are parts of the first two.
fn stolen(line: &str) -> Option<Steal> {
    let numbers = line.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks: Vec<u64> = numbers
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    Some(Steal {
        stolen: *ticks.get(7)?,
        total: ticks.iter().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::{left_by_host, schedstat, share, stolen, threads, worked, Pace, Work};
    use std::{
        collections::BTreeMap,
        process::{self, Command},
        time::Duration,
    };

    const SECOND: u64 = 1_000_000_000;

    fn work(ran: u64, waited: u64) -> Work {
        Work { ran, waited }
    }

    #[test]
    fn a_second_of_waiting_does_not_count() {
        let second = Duration::from_secs(1);
        assert_eq!(share(work(SECOND / 5, 4 * SECOND / 5), second), 0.2);
        assert_eq!(share(work(2 * SECOND, 0), second), 1.0);
        // It does nothing, and does not want to: it may hang.
        assert_eq!(share(work(0, 0), second), 1.0);
        assert_eq!(share(work(SECOND / 1000, SECOND / 1000), second), 1.0);
        // It wants to, and was not let.
        assert_eq!(share(work(0, SECOND), second), 0.0);
    }

    #[test]
    fn threads_come_and_go() {
        let before = BTreeMap::from([(1, work(10, 20)), (2, work(5, 5))]);
        let now = BTreeMap::from([(1, work(11, 22)), (3, work(100, 200))]);
        assert_eq!(worked(&before, &now), work(101, 202));
    }

    #[test]
    fn what_proc_says() {
        assert_eq!(schedstat("123 456 7\n"), Some(work(123, 456)));
        assert_eq!(schedstat(""), None);
        let before = stolen("cpu  100 0 100 700 0 0 0 100 50 0").unwrap();
        let now = stolen("cpu  150 0 150 750 0 0 0 150 50 0").unwrap();
        assert_eq!(before.total, 1000);
        assert_eq!(left_by_host(before, now), 0.75);
        assert_eq!(left_by_host(now, now), 1.0);
        assert!(stolen("cpu0 1 2").is_none());
    }

    #[test]
    fn it_never_shrinks() {
        let mut pace = Pace::start(process::id());
        let mut before = Duration::ZERO;
        // As if it had waited for most of them.
        pace.threads.insert(process::id(), work(0, 0));
        for back in [0, 1, 3, 0, 5] {
            pace.last -= Duration::from_secs(back);
            let now = pace.elapsed();
            assert!(now >= before);
            before = now;
        }
        assert!(before > Duration::ZERO && before < Duration::from_secs(10));
    }

    #[test]
    fn children_are_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let seen = threads(process::id());
        let id = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.contains_key(&process::id()), "{seen:?}");
        assert!(seen.contains_key(&id), "{seen:?}");
    }
}
