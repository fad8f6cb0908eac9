// SPDX-License-Identifier: GPL-2.0

//! From the index of an element to its run. Volatile: made anew at each open.
//!
//! Runs have mixed orders, by the growth rule and by fragmentation. The elements are therefore cut
//! into granules of `2^shift`, and for each granule the run of its first element is noted: a
//! shift and a load lead to the runs of the granule, a binary search to the one among them. The
//! granules are sized so that there are between one and four for a run on the average:
//!
//! - memory, and the time to build the directory, go with the number of runs, not of pages;
//! - a lookup takes one or two steps on the average over all elements, and never more than 11,
//!   the binary logarithm of the number of smallest runs in a largest one, plus one, once an area
//!   is larger than that.
//!
//! The payload is whatever the user keeps with a run, in our case its address in this boot.

use kernel::prelude::*;

/// More elements than any machine has bytes: sums and shifts below it do not overflow.
const CAPACITY_MAX: usize = 1 << 60;

#[derive(Clone, Copy, Debug)]
struct Entry<P> {
    first: usize,
    payload: P,
}

/// The elements that one run holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span<P> {
    /// Index of the first element.
    pub(crate) first: usize,
    /// Index of the last element, plus one; above `first`.
    pub(crate) end: usize,
    /// What was given to [`Directory::push`] for the run.
    pub(crate) payload: P,
}

/// Where the elements of each run begin.
///
/// # Invariants
///
/// - `runs` is sorted by `first`, strictly; the first entry's is 0, all are below `capacity`.
/// - `granules[g]` is the number of the run that holds element `g << shift`, for each `g` for which
///   that is below `capacity`, and there are no others.
pub(crate) struct Directory<P> {
    runs: KVVec<Entry<P>>,
    granules: KVVec<u32>,
    shift: u32,
    capacity: usize,
}

impl<P: Copy> Directory<P> {
    /// Makes an empty directory.
    pub(crate) const fn new() -> Self {
        // INVARIANT: nothing of nothing.
        Self {
            runs: KVVec::new(),
            granules: KVVec::new(),
            shift: 0,
            capacity: 0,
        }
    }

    /// Returns how many elements the runs hold together.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the run that holds element `index`, `None` if there is none.
    #[inline]
    pub(crate) fn find(&self, index: usize) -> Option<Span<P>> {
        self.span(self.number_of(index)?)
    }

    /// Returns the payload of the run that holds element `index`, and the index of the run's first
    /// element.
    #[inline]
    pub(crate) fn locate(&self, index: usize) -> Option<(usize, P)> {
        let run = self.runs.get(self.number_of(index)?)?;
        Some((run.first, run.payload))
    }

    /// Returns the last run, `None` if there is none.
    pub(crate) fn last(&self) -> Option<Span<P>> {
        self.span(self.runs.len().checked_sub(1)?)
    }

    /// Adds a run of `nr_elements` at the end.
    ///
    /// # Errors
    ///
    /// EINVAL if there are no elements, ENOMEM if there is no memory, or no number, for them. The
    /// directory is as it was then.
    pub(crate) fn push(&mut self, nr_elements: usize, payload: P) -> Result {
        if nr_elements == 0 {
            return Err(EINVAL);
        }
        let first = self.capacity;
        let end = first
            .checked_add(nr_elements)
            .filter(|&end| end <= CAPACITY_MAX)
            .ok_or(ENOMEM)?;
        u32::try_from(self.runs.len()).map_err(|_| ENOMEM)?;
        self.runs.push(Entry { first, payload }, GFP_KERNEL)?;
        self.capacity = end;
        if let Err(error) = self.note_last() {
            self.pop();
            return Err(error);
        }
        Ok(())
    }

    /// Takes the last run away.
    pub(crate) fn pop(&mut self) {
        let Some(run) = self.runs.pop() else {
            return;
        };
        self.capacity = run.first;
        self.granules
            .truncate(nr_granules(self.capacity, self.shift));
    }

    /// Makes the second invariant true after a run was added: adds its granules, or chooses another
    /// size for all of them when this one has become unsuitable by a factor of four, which the next
    /// such occasion pays for: O(1) a run, amortised.
    fn note_last(&mut self) -> Result {
        let shift = suitable_shift(self.capacity, self.runs.len());
        if shift.abs_diff(self.shift) <= 1 {
            let nr = nr_granules(self.capacity, self.shift);
            let missing = nr.saturating_sub(self.granules.len());
            self.granules.reserve(missing, GFP_KERNEL)?;
            let number = self.runs.len().saturating_sub(1);
            return note(&mut self.granules, self.shift, number, self.capacity);
        }
        let nr = nr_granules(self.capacity, shift);
        let mut granules = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for number in 0..self.runs.len() {
            note(&mut granules, shift, number, self.end_of(number))?;
        }
        self.granules = granules;
        self.shift = shift;
        Ok(())
    }

    /// Returns which run holds element `index`, `None` if none does.
    #[inline]
    pub(crate) fn number_of(&self, index: usize) -> Option<usize> {
        if index >= self.capacity {
            return None;
        }
        let granule = index >> self.shift;
        let mut low = *self.granules.get(granule)? as usize;
        // The run of the next granule's first element may hold this one, too; no later one does.
        let mut high = match self.granules.get(granule + 1) {
            Some(&number) => number as usize,
            None => self.runs.len().checked_sub(1)?,
        };
        while low < high {
            let middle = high - (high - low) / 2;
            if self.runs.get(middle)?.first <= index {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Some(low)
    }

    fn span(&self, number: usize) -> Option<Span<P>> {
        let run = self.runs.get(number)?;
        Some(Span {
            first: run.first,
            end: self.end_of(number),
            payload: run.payload,
        })
    }

    fn end_of(&self, number: usize) -> usize {
        self.runs
            .get(number + 1)
            .map_or(self.capacity, |next| next.first)
    }
}

/// Returns how many granules begin below `capacity`.
fn nr_granules(capacity: usize, shift: u32) -> usize {
    capacity.div_ceil(1 << shift)
}

/// Returns the shift that makes two to four granules for each of `nr_runs`.
fn suitable_shift(capacity: usize, nr_runs: usize) -> u32 {
    capacity
        .checked_div(nr_runs.saturating_mul(2))
        .and_then(usize::checked_ilog2)
        .unwrap_or(0)
}

/// Notes run `number`, which ends at `end`, for all granules that begin in it.
fn note(granules: &mut KVVec<u32>, shift: u32, number: usize, end: usize) -> Result {
    while (granules.len() << shift) < end {
        granules.push(number as u32, GFP_KERNEL)?;
    }
    Ok(())
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_vmalloc_directory)
)]
mod tests {
    use super::*;

    /// The model: a list that is searched from its beginning.
    fn naive(sizes: &[usize], index: usize) -> Option<Span<usize>> {
        let mut first = 0;
        for (number, &size) in sizes.iter().enumerate() {
            if index < first + size {
                return Some(Span {
                    first,
                    end: first + size,
                    payload: number,
                });
            }
            first += size;
        }
        None
    }

    /// Compares each `step`th element with the model. (KUnit maps `assert!` only in tests
    /// themselves, hence a bool.)
    fn agrees(directory: &Directory<usize>, sizes: &[usize], step: usize) -> bool {
        let total = sizes.iter().sum::<usize>();
        directory.capacity() == total
            && directory.find(usize::MAX).is_none()
            && directory.granules.len() <= 17 * sizes.len() + 1
            && (0..=total + step).step_by(step).all(|index| {
                let expected = naive(sizes, index);
                directory.find(index) == expected
                    && directory.locate(index) == expected.map(|span| (span.first, span.payload))
            })
    }

    /// A number out of `0..below`, from a generator that needs no crate (xorshift64).
    fn random(state: &mut u64, below: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state % below as u64) as usize
    }

    #[test]
    fn empty_holds_nothing() {
        let directory = Directory::<usize>::new();
        assert!(agrees(&directory, &[], 1));
        assert!(directory.last().is_none());
    }

    #[test]
    fn a_run_of_nothing_is_refused() {
        let mut directory = Directory::new();
        assert_eq!(directory.push(0, 0usize), Err(EINVAL));
        assert_eq!(directory.push(usize::MAX, 0usize), Err(ENOMEM));
        assert!(agrees(&directory, &[], 1));
    }

    #[test]
    fn agrees_with_naive_search_over_mixed_runs() -> Result {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for elements_of_a_page in [1, 3, 7, 64, 102] {
            let mut directory = Directory::new();
            let mut sizes = KVec::<usize>::new();
            for _ in 0..120 {
                let size = elements_of_a_page << random(&mut state, 7);
                directory.push(size, sizes.len())?;
                sizes.push(size, GFP_KERNEL)?;
                // Some are given back again, as shrinking does.
                if random(&mut state, 4) == 0 {
                    directory.pop();
                    sizes.pop();
                }
            }
            assert!(agrees(&directory, &sizes, 5));
            while sizes.len() > 1 {
                directory.pop();
                sizes.pop();
                assert!(agrees(&directory, &sizes, 101));
            }
        }
        Ok(())
    }

    #[test]
    fn stays_small_and_quick_when_runs_grow_by_a_sixteenth() -> Result {
        // 64 elements to a page; 4 MiB at most.
        let mut directory = Directory::new();
        let mut sizes = KVec::<usize>::new();
        let mut nr_pages = 0usize;
        while nr_pages < 1 << 16 {
            let order = (nr_pages / 16).checked_ilog2().unwrap_or(0).min(10);
            directory.push(64 << order, sizes.len())?;
            sizes.push(64 << order, GFP_KERNEL)?;
            nr_pages += 1 << order;
        }
        assert!(agrees(&directory, &sizes, 997));
        assert!(directory.granules.len() < 9 * sizes.len());
        Ok(())
    }

    #[test]
    fn a_thousand_small_runs_behind_large_ones() -> Result {
        let mut directory = Directory::new();
        let mut sizes = KVec::<usize>::new();
        for number in 0..1100 {
            let size = if number < 60 { 4096 } else { 3 };
            directory.push(size, number)?;
            sizes.push(size, GFP_KERNEL)?;
        }
        assert!(agrees(&directory, &sizes, 13));
        Ok(())
    }
}
