// SPDX-License-Identifier: GPL-2.0

//! What is said when bytes of the previous kernel cannot be understood.

use kernel::prelude::*;

/// Bytes that were not accepted: where they stand, what was found, what would have been right.
///
/// A refusal is turned into an errno by [`report`](Self::report), which logs it once; nothing that
/// was refused is freed, changed or read any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The ABI structure, as Documentation/abi.rst names it.
    pub structure: &'static str,
    /// Its field.
    pub field: &'static str,
    /// Which one: a physical address, an id or an index.
    pub at: u64,
    /// The value that was found.
    pub found: u64,
    /// The value, or the bound, that was expected.
    pub expected: u64,
    /// How `expected` is meant.
    pub relation: Relation,
}

/// How the expected value of a [`Refusal`] relates to the one that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// They had to be equal.
    Equal,
    /// At most the expected value.
    AtMost,
    /// At least the expected value.
    AtLeast,
    /// A multiple of the expected value.
    MultipleOf,
    /// Preserved memory of the order that is named; what was found is the reason code of
    /// [`Seen`](crate::Seen).
    PreservedOrder,
    /// A version that this kernel has no path from; what is expected is the one it knows.
    Version,
    /// Apart from the run at the address that is named.
    ApartFrom,
}

impl Relation {
    fn phrase(self) -> &'static str {
        match self {
            Relation::Equal => "exactly",
            Relation::AtMost => "at most",
            Relation::AtLeast => "at least",
            Relation::MultipleOf => "a multiple of",
            Relation::PreservedOrder => "preserved memory of order",
            Relation::Version => "version",
            Relation::ApartFrom => "no overlap with",
        }
    }
}

impl Refusal {
    /// Returns the errno: EOPNOTSUPP for a version, EINVAL for anything else.
    pub fn errno(&self) -> Error {
        match self.relation {
            Relation::Version => EOPNOTSUPP,
            _ => EINVAL,
        }
    }

    /// Logs the refusal and returns its errno.
    pub fn report(self) -> Error {
        pr_err!(
            "{} at {:#x}: {} is {:#x}, expected {} {:#x}; left as it is, not used\n",
            self.structure,
            self.at,
            self.field,
            self.found,
            self.relation.phrase(),
            self.expected
        );
        self.errno()
    }
}
