// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, in bounded time, without a panic path.
//!
//! `core`'s sort may panic when it meets an inconsistent order, which objtool does not know how to
//! follow; the kernel's own lib/sort.c is a heap sort too, for the same reasons.

/// Sorts `items` so that none is less than the one before it. Not stable. O(n log n), no recursion.
pub fn heap_sort<T>(items: &mut [T], is_less: impl Fn(&T, &T) -> bool) {
    for root in (0..items.len() / 2).rev() {
        sift_down(items, root, &is_less);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        if let Some(heap) = items.get_mut(..end) {
            sift_down(heap, 0, &is_less);
        }
    }
}

fn sift_down<T>(heap: &mut [T], mut root: usize, is_less: &impl Fn(&T, &T) -> bool) {
    loop {
        let left = 2 * root + 1;
        let right = left + 1;
        let mut largest = root;
        for child in [left, right] {
            if let (Some(a), Some(b)) = (heap.get(largest), heap.get(child)) {
                if is_less(a, b) {
                    largest = child;
                }
            }
        }
        if largest == root {
            return;
        }
        heap.swap(root, largest);
        root = largest;
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_sort)
)]
mod tests {
    use super::*;

    #[test]
    fn sorts_every_order_of_six() {
        for seed in 0u32..720 {
            // The factorial number system counts through all permutations.
            let mut items = [0u8, 1, 2, 3, 4, 5];
            let mut rest = seed;
            for i in (1..6usize).rev() {
                let j = (rest % (i as u32 + 1)) as usize;
                rest /= i as u32 + 1;
                items.swap(i, j);
            }
            heap_sort(&mut items, |a, b| a < b);
            assert_eq!(items, [0u8, 1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn keeps_equal_items() {
        let mut items = [3u8, 1, 3, 1, 2];
        heap_sort(&mut items, |a, b| a < b);
        assert_eq!(items, [1u8, 1, 2, 3, 3]);
    }
}
