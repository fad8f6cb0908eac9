// SPDX-License-Identifier: GPL-2.0

//! What a command has to say.

use core::fmt::Write;

use kernel::prelude::*;
use kernel::time::{
    Instant,
    Monotonic, //
};

/// Lines of `key=value`.
pub(crate) struct Reply {
    text: KVVec<u8>,
}

impl Reply {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        Self { text: KVVec::new() }
    }

    /// Adds a line.
    pub(crate) fn put(&mut self, key: &str, value: u64) {
        // A reply that is too long for the memory that is left lacks lines, and `expect` says so.
        let _ = writeln!(self, "{key}={value}");
    }

    /// Runs `f` and adds a line that says how long it took.
    pub(crate) fn timed<R>(&mut self, key: &str, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let start = Instant::<Monotonic>::now();
        let result = f()?;
        self.put(key, start.elapsed().as_nanos() as u64);
        Ok(result)
    }

    /// Returns the text.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.text
    }
}

impl Write for Reply {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.text
            .extend_from_slice(text.as_bytes(), GFP_KERNEL)
            .map_err(|_| core::fmt::Error)
    }
}
