// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/time.rs and rust/kernel/time/delay.rs.

use core::time::Duration;

/// A span of time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Delta {
    nanos: i64,
}

impl Delta {
    /// Makes a span of milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis.saturating_mul(1_000_000),
        }
    }
}

/// Sleeping.
pub mod delay {
    use super::{
        Delta,
        Duration, //
    };

    /// Sleeps for a given duration at least.
    pub fn fsleep(delta: Delta) {
        crate::context::might_sleep("fsleep");
        std::thread::sleep(Duration::from_nanos(delta.nanos.max(0) as u64));
    }
}
