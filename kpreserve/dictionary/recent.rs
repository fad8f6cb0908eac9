// SPDX-License-Identifier: GPL-2.0

//! The last few of something.

/// So many are remembered: of things that take turns, there are seldom more.
const NR_RECENT: usize = 8;

/// What was used last, the last one first.
#[derive(Clone, Copy)]
pub(super) struct Recent<T> {
    items: [T; NR_RECENT],
}

impl<T: Copy> Recent<T> {
    /// Remembers nothing, which `none` stands for.
    pub(super) const fn new(none: T) -> Self {
        Self {
            items: [none; NR_RECENT],
        }
    }

    /// Finds one, which is the last that was used from then on.
    pub(super) fn find(&mut self, mut is_it: impl FnMut(T) -> bool) -> Option<T> {
        let at = self.items.iter().position(|&item| is_it(item))?;
        self.items.get_mut(..=at)?.rotate_right(1);
        self.items.first().copied()
    }

    /// Remembers another one, and forgets the first that was used.
    pub(super) fn push(&mut self, item: T) {
        self.items.rotate_right(1);
        if let Some(first) = self.items.first_mut() {
            *first = item;
        }
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_dictionary_recent)
)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_remembered() {
        let mut recent = Recent::new(0);
        for item in 1..=NR_RECENT {
            recent.push(item);
        }
        // The oldest one is used again, so the next is forgotten.
        assert_eq!(recent.find(|item| item == 1), Some(1));
        recent.push(100);
        assert_eq!(recent.find(|item| item == 2), None);
        assert_eq!(recent.find(|item| item == 1), Some(1));
        assert_eq!(recent.find(|item| item == 100), Some(100));
        assert_eq!(recent.items, [100, 1, 8, 7, 6, 5, 4, 3]);
    }
}
