// SPDX-License-Identifier: GPL-2.0

//! Files that the previous kernel preserved and nobody has retrieved in this one: counted, so that
//! the log says how much is lost.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

use super::raw::may_log;

/// What was given up of one handler's files in this boot.
pub(super) struct GivenUp {
    nr_files: Atomic<u64>,
    nr_bytes: Atomic<u64>,
}

impl GivenUp {
    /// Nothing, so far.
    pub(super) fn new() -> Self {
        Self {
            nr_files: Atomic::new(0),
            nr_bytes: Atomic::new(0),
        }
    }

    /// Counts a file that is discarded with its session. The numbers go up, so the last line has
    /// them all, as far as lines are not held back.
    pub(super) fn discarded(&self, compatible: &str, nr_bytes: u64) {
        let nr_files = self.nr_files.fetch_add(1, Relaxed).wrapping_add(1);
        let nr_bytes = self
            .nr_bytes
            .fetch_add(nr_bytes, Relaxed)
            .wrapping_add(nr_bytes);
        if may_log() {
            pr_warn!(
                "\"{}\": {} file(s), {} bytes, were given up in this boot: sessions were finished or closed \
                 before anybody had retrieved them\n",
                compatible,
                nr_files,
                nr_bytes
            );
        }
    }

    /// Says at the end of this kernel what has become of all that was never retrieved. `nr_files`
    /// are given up now.
    pub(super) fn report(&self, compatible: &str, nr_files: u64, nr_bytes: u64) {
        let (discarded, discarded_bytes) =
            (self.nr_files.load(Relaxed), self.nr_bytes.load(Relaxed));
        if nr_files == 0 && discarded == 0 {
            return;
        }
        pr_warn!(
            "\"{}\": of the previous kernel's files {} ({} bytes) were never retrieved, nor their sessions finished, and \
             are given up now; {} ({} bytes) were when theirs was\n",
            compatible,
            nr_files,
            nr_bytes,
            discarded,
            discarded_bytes
        );
    }
}
