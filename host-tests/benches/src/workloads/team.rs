// SPDX-License-Identifier: GPL-2.0

//! Threads that begin at once.

use std::sync::Barrier;
use std::thread;
use std::time::{
    Duration,
    Instant, //
};

/// Runs each worker in a thread of its own; returns the time from where all have been set up to the
/// end of the last. A worker is called to set itself up, and returns what is measured.
pub(super) fn run<'a, W, B>(workers: Vec<W>) -> Duration
where
    W: FnOnce() -> B + Send + 'a,
    B: FnOnce() + 'a,
{
    let ready = Barrier::new(workers.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                scope.spawn(|| {
                    let work = worker();
                    ready.wait();
                    let start = Instant::now();
                    work();
                    (start, Instant::now())
                })
            })
            .collect();
        ready.wait();
        // The clock of a thread that starts it is not late, whoever else has the CPUs.
        let times = threads.into_iter().map(|thread| thread.join());
        let times: Vec<_> = times
            .map(|times| times.expect("a worker panicked"))
            .collect();
        let first = times.iter().map(|times| times.0).min();
        let last = times.iter().map(|times| times.1).max();
        match (first, last) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    })
}
