// SPDX-License-Identifier: GPL-2.0

//! What order is worth asking for where memory is fragmented.
//!
//! To find that there is no run of an order can take the page allocator long: it compacts before it
//! says so. Who needs thousands of runs must not ask for the largest in front of each.

use crate::phys::MAX_ORDER;

/// After at most so many runs one order more is tried.
const PATIENCE_MAX: u32 = 64;

/// The largest order that was to be had lately.
///
/// It falls to what was got at once. One order more is tried after 1, 2, 4, ... [`PATIENCE_MAX`] runs,
/// and as soon as that works, with each run.
///
/// # Invariants
///
/// `order` is at most [`MAX_ORDER`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ceiling {
    order: u8,
    /// Runs before one order more is tried.
    nr_left: u32,
    patience: u32,
}

impl Ceiling {
    /// Nothing is known to be missing.
    pub(crate) const NONE: Ceiling = Ceiling {
        order: MAX_ORDER,
        nr_left: 0,
        patience: 1,
    };

    /// Returns what to ask for first by who would like `wanted`: that, or less.
    pub(crate) fn first(&mut self, wanted: u8) -> u8 {
        if wanted <= self.order {
            return wanted;
        }
        match self.nr_left.checked_sub(1) {
            Some(nr_left) => {
                self.nr_left = nr_left;
                self.order
            }
            None => self.order.saturating_add(1).min(wanted),
        }
    }

    /// Notes what there was for who asked for `first`, and for less then.
    pub(crate) fn note(&mut self, first: u8, got: u8) {
        if got < first {
            // INVARIANT: `first` was no order above the largest.
            self.order = got.min(MAX_ORDER);
            self.nr_left = self.patience;
            self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
        } else if got > self.order {
            // INVARIANT: by the minimum.
            self.order = got.min(MAX_ORDER);
            self.nr_left = 0;
            self.patience = 1;
        }
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_ceiling)
)]
mod tests {
    use super::*;

    /// Gets `nr_runs` runs of a machine whose largest is `largest`; returns how many requests failed.
    fn get(ceiling: &mut Ceiling, nr_runs: u32, wanted: u8, largest: u8) -> u32 {
        let mut nr_failed = 0;
        for _ in 0..nr_runs {
            let first = ceiling.first(wanted);
            let got = first.min(largest);
            nr_failed += u32::from(first - got);
            ceiling.note(first, got);
        }
        nr_failed
    }

    #[test]
    fn asks_for_all_that_is_wanted_while_there_is_enough() {
        let mut ceiling = Ceiling::NONE;
        assert_eq!(get(&mut ceiling, 1000, MAX_ORDER, MAX_ORDER), 0);
        assert_eq!(ceiling, Ceiling::NONE);
        assert_eq!(ceiling.first(3), 3);
    }

    #[test]
    fn few_requests_fail_where_memory_is_fragmented() {
        let mut ceiling = Ceiling::NONE;
        // Down once, then some at ever longer distances, then one in 65.
        assert_eq!(get(&mut ceiling, 1, MAX_ORDER, 3), 7);
        assert!(get(&mut ceiling, 6500, MAX_ORDER, 3) <= 6 + 100);
        // Who wants no more than there is does not notice.
        assert_eq!(ceiling.first(2), 2);
        assert_eq!(ceiling.first(3), 3);
    }

    #[test]
    fn comes_up_again_soon_when_memory_heals() {
        let mut ceiling = Ceiling::NONE;
        let _ = get(&mut ceiling, 1000, MAX_ORDER, 0);
        let _ = get(&mut ceiling, PATIENCE_MAX + 11, MAX_ORDER, MAX_ORDER);
        assert_eq!(ceiling, Ceiling::NONE);
    }

    #[test]
    fn falls_further_when_it_gets_worse() {
        let mut ceiling = Ceiling::NONE;
        let _ = get(&mut ceiling, 100, MAX_ORDER, 5);
        let _ = get(&mut ceiling, 1, MAX_ORDER, 1);
        assert_eq!(ceiling.first(MAX_ORDER), 1);
        // A wish between: one more than there was is tried in time, and no more than is wished.
        assert_eq!(ceiling.first(1), 1);
        for _ in 0..PATIENCE_MAX {
            let _ = ceiling.first(MAX_ORDER);
        }
        assert_eq!(ceiling.first(MAX_ORDER), 2);
    }
}
