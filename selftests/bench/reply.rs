// SPDX-License-Identifier: GPL-2.0

//! What a command has to say: rows of figures, and `key=value` for people.

use core::fmt::Write;

use kernel::prelude::*;

/// A figure, in hundredths: the kernel has no floating point.
#[derive(Clone, Copy)]
pub(crate) struct Figure(i64);

impl Figure {
    /// A total.
    pub(crate) fn of(value: i64) -> Self {
        Self(value.saturating_mul(100))
    }

    /// A total, for each of `n`.
    pub(crate) fn per(value: u64, n: usize) -> Self {
        Self((value as i64).saturating_mul(100) / n.max(1) as i64)
    }
}

impl core::fmt::Display for Figure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let value = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", value / 100, value % 100)
    }
}

/// Lines.
pub(crate) struct Reply {
    text: KVVec<u8>,
    unit: &'static str,
}

impl Reply {
    /// Makes an empty one; figures are in `unit`.
    pub(crate) fn new(unit: &'static str) -> Self {
        Self {
            text: KVVec::new(),
            unit,
        }
    }

    /// Adds `key=value`.
    pub(crate) fn put(&mut self, key: &str, value: u64) {
        // A reply that is too long for the memory that is left lacks lines, and the rows are missed.
        let _ = writeln!(self, "{key}={value}");
    }

    /// Adds a row.
    pub(crate) fn row(
        &mut self,
        name: &str,
        n: usize,
        ours: Figure,
        peer_name: &str,
        peer: Figure,
    ) {
        self.row_in(self.unit, name, n, ours, peer_name, peer);
    }

    /// Adds a row whose figures are bytes.
    pub(crate) fn bytes_row(
        &mut self,
        name: &str,
        n: usize,
        ours: Figure,
        peer_name: &str,
        peer: Figure,
    ) {
        self.row_in("bytes", name, n, ours, peer_name, peer);
    }

    fn row_in(
        &mut self,
        unit: &str,
        name: &str,
        n: usize,
        ours: Figure,
        peer_name: &str,
        peer: Figure,
    ) {
        let _ = write!(
            self,
            "@@json bench {{\"name\":\"{name}\",\"n\":{n},\"ours\":{ours},\"peer\":{peer},\
             \"peer_name\":\"{peer_name}\",\"unit\":\"{unit}\""
        );
        if ours.0 >= 0 && peer.0 > 0 {
            let ratio = (ours.0 as u64).saturating_mul(1_000_000) / peer.0 as u64;
            let _ = write!(
                self,
                ",\"ratio\":{}.{:06}",
                ratio / 1_000_000,
                ratio % 1_000_000
            );
        }
        let _ = writeln!(self, "}}");
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
