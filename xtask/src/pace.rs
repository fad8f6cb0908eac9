// SPDX-License-Identifier: GPL-2.0

//! Time limits on a busy host: a second counts for as much as the emulator could have of it.
//!
//! By the clock alone a machine that gets a tenth of a CPU is ten times as slow, and no limit fits
//! both it and an idle host. The host's scheduler knows how long each thread was ready to run, but
//! waited for a CPU (`/proc/PID/task/TID/schedstat`), and what its own host took away (`steal` of
//! `/proc/stat`). Of a second in which a thread of the emulator ran 0.2 s and waited 0.8 s, 0.2 s
//! count; where several wait, the one that waits longest. A machine that sleeps for ever waits for
//! little, and is found about as soon as ever.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

/// How long an interval is at least: a thread that waits is only accounted when it runs again.
const INTERVAL: Duration = Duration::from_secs(2);

/// By the clock a limit lasts so many times as long at most.
pub(crate) const MOST: u32 = 20;

/// The time that counts, of one child process and of its first child, which takes its place in a
/// jail.
pub(crate) struct Pace {
    parent: u32,
    /// How long each thread has waited so far.
    waited: BTreeMap<u32, Duration>,
    /// What was waited for and not yet taken off: a thread is told of its waiting when that ends.
    owed: Duration,
    steal: Option<Steal>,
    counted: Duration,
    last: Instant,
    started: Instant,
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
            waited: waits(parent),
            owed: Duration::ZERO,
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
        let now = waits(self.parent);
        self.owed += longest(&self.waited, &now);
        self.waited = now;
        let lost = self.owed.min(interval);
        self.owed -= lost;
        let before = std::mem::replace(&mut self.steal, steal());
        let left = match (before, self.steal) {
            (Some(before), Some(now)) => left_by_host(before, now),
            _ => 1.0,
        };
        self.counted += (interval - lost).mul_f64(left);
        self.counted
    }

    /// Returns the time by the clock.
    pub(crate) fn by_the_clock(&self) -> Duration {
        self.started.elapsed()
    }
}

/// How long the thread waited that waited longest between two looks at them; one that was not there
/// before counts from its start.
fn longest(before: &BTreeMap<u32, Duration>, now: &BTreeMap<u32, Duration>) -> Duration {
    let waited = now.iter().map(|(thread, now)| {
        let before = before.get(thread).copied().unwrap_or_default();
        now.saturating_sub(before)
    });
    waited.max().unwrap_or_default()
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

/// How long all threads of a process and of its children have waited.
fn waits(parent: u32) -> BTreeMap<u32, Duration> {
    let numbers = |folder: &str| -> Vec<u32> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    };
    let mut waits = BTreeMap::new();
    for process in numbers("/proc") {
        if process != parent && parent_of(process) != Some(parent) {
            continue;
        }
        for thread in numbers(&format!("/proc/{process}/task")) {
            let path = format!("/proc/{process}/task/{thread}/schedstat");
            if let Some(waited) = fs::read_to_string(path).ok().as_deref().and_then(schedstat) {
                waits.insert(thread, waited);
            }
        }
    }
    waits
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// `RAN WAITED SLICES`, in nanoseconds.
fn schedstat(text: &str) -> Option<Duration> {
    let waited = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
}

fn steal() -> Option<Steal> {
    stolen(fs::read_to_string("/proc/stat").ok()?.lines().next()?)
}

/// `cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL GUEST GUEST_NICE`; the last two are parts of
/// the first two.
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
    use super::{left_by_host, longest, schedstat, stolen, waits, Pace};
    use std::{
        collections::BTreeMap,
        process::{self, Command},
        thread,
        time::Duration,
    };

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_longest_wait_counts() {
        let before = BTreeMap::from([(1, seconds(10)), (2, seconds(5))]);
        let now = BTreeMap::from([(1, seconds(11)), (3, seconds(4)), (4, seconds(0))]);
        assert_eq!(longest(&before, &now), seconds(4));
        assert_eq!(longest(&before, &before), seconds(0));
        assert_eq!(longest(&before, &BTreeMap::new()), seconds(0));
    }

    /// As if `back` had gone by since the last look, and a thread had waited for `waited` of it.
    fn goes_by(pace: &mut Pace, back: Duration, waited: Duration) -> Duration {
        pace.last -= back;
        pace.owed += waited;
        let before = pace.counted;
        let now = pace.elapsed();
        assert!(now >= before);
        now - before
    }

    #[test]
    fn waiting_is_taken_off() {
        let mut pace = Pace::start(process::id());
        pace.steal = None;
        let about = |found: Duration, expected: f64| {
            assert!(
                (found.as_secs_f64() - expected).abs() < 0.9,
                "{found:?}, not {expected}"
            );
        };
        about(goes_by(&mut pace, seconds(1), seconds(0)), 0.0);
        about(goes_by(&mut pace, seconds(9), seconds(0)), 10.0);
        pace.steal = None;
        about(goes_by(&mut pace, seconds(10), seconds(8)), 2.0);
        // It is told late, and then of more than there was.
        pace.steal = None;
        about(goes_by(&mut pace, seconds(10), seconds(15)), 0.0);
        pace.steal = None;
        about(goes_by(&mut pace, seconds(10), seconds(0)), 5.0);
    }

    #[test]
    fn what_proc_says() {
        assert_eq!(schedstat("123 456 7\n"), Some(Duration::from_nanos(456)));
        assert_eq!(schedstat(""), None);
        let before = stolen("cpu  100 0 100 700 0 0 0 100 50 0").unwrap();
        let now = stolen("cpu  150 0 150 750 0 0 0 150 50 0").unwrap();
        assert_eq!(before.total, 1000);
        assert_eq!(left_by_host(before, now), 0.75);
        assert_eq!(left_by_host(now, now), 1.0);
        assert!(stolen("cpu0 1 2").is_none());
    }

    #[test]
    fn children_are_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id();
        let mut seen = BTreeMap::new();
        // A new process has a schedstat at once, but this may be run on any host.
        for _ in 0..50 {
            seen = waits(process::id());
            if seen.contains_key(&id) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.contains_key(&process::id()), "{seen:?}");
        assert!(seen.contains_key(&id), "{seen:?}");
    }
}
