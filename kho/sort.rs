// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, in bounded time, without a panic path.
//!
//! `core`'s sort may panic when it meets an inconsistent order, which objtool does not know how to
//! follow; the kernel's own lib/sort.c is a heap sort too, for the same reasons.

/// Sorts `items` so that none is less than the one before it. Not stable. O(n log n), no recursion;
/// one pass if they are in order, or in reverse order, already.
pub fn heap_sort<T>(items: &mut [T], is_less: impl Fn(&T, &T) -> bool) {
    if is_chain(items, |a, b| !is_less(b, a)) {
        return;
    }
    if is_chain(items, |a, b| is_less(b, a)) {
        items.reverse();
        return;
    }
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

/// Sorts `items` so that none is less than the one before it. Stable, no recursion. O(n log n); what is
/// nearly in order costs little more than a pass. `scratch` has room for half of the items, rounded
/// up to a power of two, or else this is [`heap_sort`], which takes several times as long.
pub fn merge_sort<T: Copy>(items: &mut [T], scratch: &mut [T], is_less: impl Fn(&T, &T) -> bool) {
    if scratch.len() < scratch_len(items.len()) {
        return heap_sort(items, is_less);
    }
    let mut width = 1;
    while width < items.len() {
        for pair in items.chunks_mut(2 * width) {
            merge(pair, width, scratch, &is_less);
        }
        width *= 2;
    }
}

/// Returns how much room [`merge_sort`] needs for so many items.
pub fn scratch_len(nr_items: usize) -> usize {
    nr_items
        .div_ceil(2)
        .checked_next_power_of_two()
        .unwrap_or(usize::MAX)
}

/// Merges the items below `mid` with those from there on, both sorted.
fn merge<T: Copy>(
    items: &mut [T],
    mid: usize,
    scratch: &mut [T],
    is_less: &impl Fn(&T, &T) -> bool,
) {
    let (Some(left), Some(right)) = (items.get(..mid), items.get(mid..)) else {
        return;
    };
    match (left.last(), right.first()) {
        (Some(last), Some(first)) if is_less(first, last) => {}
        // One is empty, or they are in order.
        _ => return,
    }
    for (copy, item) in scratch.iter_mut().zip(left) {
        *copy = *item;
    }
    let mut next = mid;
    let mut lefts = scratch.iter().take(mid).peekable();
    for place in 0..items.len() {
        // The rest is where it belongs.
        let Some(left) = lefts.peek() else {
            return;
        };
        let item = match items.get(next) {
            Some(right) if is_less(right, left) => {
                next += 1;
                *right
            }
            _ => match lefts.next() {
                Some(left) => *left,
                None => return,
            },
        };
        if let Some(place) = items.get_mut(place) {
            *place = item;
        }
    }
}

/// Returns whether each item and the next one are so.
fn is_chain<T>(items: &[T], are_so: impl Fn(&T, &T) -> bool) -> bool {
    let next = items.iter().skip(1);
    items.iter().zip(next).all(|(a, b)| are_so(a, b))
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
    fn merges_as_the_heap_sorts() {
        let mut state = 1u32;
        for nr in 0..200usize {
            let mut items = [(0u32, 0usize); 200];
            for (place, item) in items.iter_mut().enumerate() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *item = (state >> 28, place);
            }
            let items = &mut items[..nr];
            let mut scratch = [(0, 0); 128];
            merge_sort(items, &mut scratch, |a, b| a.0 < b.0);
            // Stable, so the places of equal items ascend.
            assert!(items.iter().zip(items.iter().skip(1)).all(|(a, b)| a < b));
            let mut sum: usize = items.iter().map(|(_, place)| place).sum();
            merge_sort(items, &mut [], |a, b| a.1 < b.1);
            for (place, item) in items.iter().enumerate() {
                assert_eq!(item.1, place);
                sum -= place;
            }
            assert_eq!(sum, 0);
        }
    }

    #[test]
    fn order_and_reverse_order_cost_a_pass() {
        let nr_compared = core::cell::Cell::new(0);
        let is_less = |a: &u8, b: &u8| {
            nr_compared.set(nr_compared.get() + 1);
            a < b
        };
        let mut items = [1u8, 2, 2, 3, 4, 5, 6, 7];
        heap_sort(&mut items, is_less);
        assert_eq!(items, [1u8, 2, 2, 3, 4, 5, 6, 7]);
        let mut items = [7u8, 6, 5, 4, 3, 2, 1];
        heap_sort(&mut items, is_less);
        assert_eq!(items, [1u8, 2, 3, 4, 5, 6, 7]);
        assert!(nr_compared.get() <= 7 + 7);
    }

    #[test]
    fn keeps_equal_items() {
        let mut items = [3u8, 1, 3, 1, 2];
        heap_sort(&mut items, |a, b| a < b);
        assert_eq!(items, [1u8, 1, 2, 3, 3]);
    }
}
