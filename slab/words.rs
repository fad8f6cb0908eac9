// SPDX-License-Identifier: GPL-2.0

//! Words of 64 bits, a bit for each slot, that many CPUs change at once.
//!
//! | operation | on the word | then |
//! | --- | --- | --- |
//! | [`take`] | `xchg(all ones)` | the bits that were 0 are the caller's |
//! | [`give_back`] | `cmpxchg`, demands that the bits are 1 | they are anybody's |
//! | [`clear`], [`set`] | `cmpxchg` of one bit | whoever changed it knows so |
//!
//! Bits beyond the last slot are 1 in a word that slots are taken from.

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Full, //
};

use kpreserve_kho::ordered::Loads as _;

/// A row of words. Laid over memory in the kernel, boxed in models.
pub trait Words {
    /// Returns a word; `None` if there is none.
    fn get(&self, word: u32) -> Option<&Atomic<u64>>;

    /// Returns how many words there are.
    fn len(&self) -> u32;

    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Free slots of one word that were taken, and are nobody else's.
///
/// Neither `Copy` nor `Clone`: only [`give_back`] ends it, or [`pop`](Self::pop) until it is empty.
#[derive(Debug)]
#[must_use = "slots that are not given back are lost"]
pub struct Taken {
    word: u32,
    free: u64,
}

impl Taken {
    /// Nothing.
    pub const fn nothing() -> Self {
        Taken { word: 0, free: 0 }
    }

    /// Makes one of the slots whose owner the caller is.
    pub(crate) const fn of_mask(word: u32, free: u64) -> Self {
        Taken { word, free }
    }

    /// Returns which word the slots are of.
    #[inline]
    pub const fn word(&self) -> u32 {
        self.word
    }

    /// Returns whether there is no slot left.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.free == 0
    }

    /// Returns the number of slots.
    pub const fn len(&self) -> u32 {
        self.free.count_ones()
    }

    /// Takes one slot out: its number in the slab.
    #[inline]
    pub fn pop(&mut self) -> Option<u32> {
        Some(self.word * 64 + self.pop_bit()?)
    }

    /// Takes one slot out: its number in the word.
    #[inline]
    pub(crate) fn pop_bit(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let bit = self.free.trailing_zeros();
        self.free &= self.free - 1;
        Some(bit)
    }

    /// Takes out the slots side by side that begin with the lowest one: its number in the word, and how
    /// many they are.
    #[inline]
    pub(crate) fn pop_row(&mut self) -> Option<(usize, usize)> {
        if self.free == 0 {
            return None;
        }
        let bit = self.free.trailing_zeros();
        let nr = (self.free >> bit).trailing_ones();
        // Carries through the row, and sets the bit behind it, if that is in the word.
        self.free &= self.free.wrapping_add(1 << bit);
        Some((bit as usize, nr as usize))
    }
}

/// Takes every free slot of a word. One atomic operation, none if there is nothing to take.
///
/// What was written to a slot before it was given back is visible to who takes it.
#[inline]
pub fn take<W: Words + ?Sized>(words: &W, word: u32) -> Option<Taken> {
    let bits = words.get(word)?;
    if bits.load_relaxed() == u64::MAX {
        return None;
    }
    let free = !bits.xchg(u64::MAX, Full);
    if free == 0 {
        return None;
    }
    Some(Taken { word, free })
}

/// Takes up to `nr_max` free slots of a word, the lowest ones.
///
/// What was written to a slot before it was given back is visible to who takes it.
pub fn take_some<W: Words + ?Sized>(words: &W, word: u32, nr_max: usize) -> Option<Taken> {
    if nr_max >= 64 {
        return take(words, word);
    }
    let bits = words.get(word)?;
    let mut seen = bits.load_relaxed();
    loop {
        let mut left = !seen;
        for _ in 0..nr_max {
            left &= left.wrapping_sub(1);
        }
        let free = !seen & !left;
        if free == 0 {
            return None;
        }
        match bits.cmpxchg(seen, seen | free, Full) {
            Ok(_) => return Some(Taken { word, free }),
            Err(other) => seen = other,
        }
    }
}

/// Gives slots back.
///
/// # Errors
///
/// EINVAL if one of them was not taken: somebody gave back what was not theirs, and the word is
/// left as it is.
#[inline]
pub fn give_back<W: Words + ?Sized>(words: &W, taken: Taken) -> Result {
    let bits = words.get(taken.word).ok_or(EINVAL)?;
    let mut seen = bits.load_relaxed();
    loop {
        if seen & taken.free != taken.free {
            return Err(EINVAL);
        }
        match bits.cmpxchg(seen, seen & !taken.free, Full) {
            Ok(_) => return Ok(()),
            Err(other) => seen = other,
        }
    }
}

/// Returns the bit of a slot.
pub fn test<W: Words + ?Sized>(words: &W, slot: u32) -> bool {
    match words.get(slot / 64) {
        Some(bits) => bits.load_relaxed() & (1 << (slot % 64)) != 0,
        None => false,
    }
}

/// Sets the bit of a slot; returns whether it was 0 before.
pub fn set<W: Words + ?Sized>(words: &W, slot: u32) -> bool {
    change(words, slot, true)
}

/// Clears the bit of a slot; returns whether it was 1 before. Of many who try at once, one gets
/// `true`.
pub fn clear<W: Words + ?Sized>(words: &W, slot: u32) -> bool {
    change(words, slot, false)
}

/// Claims a slot: clears its bit in `unclaimed`, if `check` finds that it holds what is wanted.
///
/// `check` is asked twice: before, as a slot that holds something else is not to be touched, and
/// after the bit has been cleared. Whoever had the slot in between may have freed it, and then it may
/// hold something else that nobody has claimed.
///
/// # Errors
///
/// EBUSY if the bit was 0; what `check` says. The bit is as it was then.
pub fn claim<W: Words + ?Sized>(unclaimed: &W, slot: u32, check: impl Fn() -> Result) -> Result {
    check()?;
    if !clear(unclaimed, slot) {
        return Err(EBUSY);
    }
    if let Err(error) = check() {
        set(unclaimed, slot);
        return Err(error);
    }
    Ok(())
}

/// Notes in `full`, at `index`, that a slab has no free slot, unless one has been given back
/// meanwhile; returns whether it has none.
///
/// First the bit, then a look at the words, with a full barrier in between; who gives back
/// ([`give_back`], then [`note_free`]) does the reverse. One of the two sees the other, so no slab
/// with a free slot stays noted.
///
/// If it returns `false`, others may have passed by the slab while it was noted.
#[must_use]
pub fn note_full<F: Words + ?Sized, W: Words + ?Sized>(
    full: &F,
    index: u32,
    occupancy: &W,
) -> bool {
    set(full, index);
    if is_full(occupancy) {
        return true;
    }
    clear(full, index);
    false
}

/// Returns whether no bit is 0.
pub fn is_full<W: Words + ?Sized>(words: &W) -> bool {
    (0..words.len()).all(|word| {
        let bits = words.get(word);
        bits.is_none_or(|bits| bits.load_relaxed() == u64::MAX)
    })
}

/// Notes that a slab has a free slot, after it has been given back; returns whether it was noted as
/// full. The other half of [`note_full`].
pub fn note_free<F: Words + ?Sized>(full: &F, index: u32) -> bool {
    test(full, index) && clear(full, index)
}

fn change<W: Words + ?Sized>(words: &W, slot: u32, on: bool) -> bool {
    let Some(bits) = words.get(slot / 64) else {
        return false;
    };
    let bit = 1u64 << (slot % 64);
    let mut seen = bits.load_relaxed();
    loop {
        if (seen & bit != 0) == on {
            return false;
        }
        match bits.cmpxchg(seen, seen ^ bit, Full) {
            Ok(_) => return true,
            Err(other) => seen = other,
        }
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_slab_words)
)]
mod tests {
    use super::*;

    struct Boxed([Atomic<u64>; 2]);

    impl Words for Boxed {
        fn get(&self, word: u32) -> Option<&Atomic<u64>> {
            self.0.get(word as usize)
        }

        fn len(&self) -> u32 {
            2
        }
    }

    fn words(first: u64, second: u64) -> Boxed {
        Boxed([Atomic::new(first), Atomic::new(second)])
    }

    fn value(words: &Boxed, word: usize) -> u64 {
        words.0.get(word).map_or(0, |bits| bits.load_relaxed())
    }

    #[test]
    fn taking_takes_what_is_free() -> Result {
        let words = words(u64::MAX, !0b1010);
        assert!(take(&words, 0).is_none());
        assert!(take(&words, 2).is_none());
        let mut taken = take(&words, 1).ok_or(EINVAL)?;
        assert_eq!(value(&words, 1), u64::MAX);
        assert!(take(&words, 1).is_none());
        assert_eq!(taken.len(), 2);
        assert_eq!(taken.pop(), Some(65));
        assert_eq!(taken.pop(), Some(67));
        assert_eq!(taken.pop(), None);
        assert!(taken.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_left_goes_back() -> Result {
        let words = words(0, u64::MAX);
        let mut taken = take(&words, 0).ok_or(EINVAL)?;
        assert_eq!(taken.pop(), Some(0));
        assert_eq!(taken.pop(), Some(1));
        assert_eq!(give_back(&words, taken), Ok(()));
        assert_eq!(value(&words, 0), 0b11);
        Ok(())
    }

    #[test]
    fn some_are_the_lowest() -> Result {
        let words = words(0b0101, u64::MAX);
        let taken = take_some(&words, 0, 3).ok_or(EINVAL)?;
        assert_eq!(value(&words, 0), 0b1_1111);
        assert_eq!(taken.len(), 3);
        assert!(take_some(&words, 1, 3).is_none());
        assert_eq!(take_some(&words, 0, 63).ok_or(EINVAL)?.len(), 59);
        assert_eq!(value(&words, 0), u64::MAX);
        Ok(())
    }

    #[test]
    fn neighbours_come_together() -> Result {
        let words = words(0x00ff_0000_0000_0810, 0);
        let mut taken = take(&words, 0).ok_or(EINVAL)?;
        for row in [(0, 4), (5, 6), (12, 36), (56, 8)] {
            assert_eq!(taken.pop_row(), Some(row));
        }
        assert_eq!(taken.pop_row(), None);
        let mut taken = take(&words, 1).ok_or(EINVAL)?;
        assert_eq!(taken.pop_row(), Some((0, 64)));
        assert_eq!(taken.pop_row(), None);
        Ok(())
    }

    #[test]
    fn giving_back_what_was_not_taken_is_refused() {
        let words = words(0b0100, 0);
        assert_eq!(give_back(&words, Taken::of_mask(0, 1 << 3)), Err(EINVAL));
        assert_eq!(give_back(&words, Taken::of_mask(2, 1)), Err(EINVAL));
        assert_eq!(value(&words, 0), 0b0100);
        assert_eq!(give_back(&words, Taken::of_mask(0, 1 << 2)), Ok(()));
        assert_eq!(give_back(&words, Taken::of_mask(0, 1 << 2)), Err(EINVAL));
        assert_eq!(value(&words, 0), 0);
    }

    #[test]
    fn a_bit_changes_once() {
        let words = words(0, 0);
        assert!(set(&words, 70));
        assert!(!set(&words, 70));
        assert!(test(&words, 70));
        assert!(!test(&words, 69));
        assert_eq!(value(&words, 1), 1 << 6);
        assert!(clear(&words, 70));
        assert!(!clear(&words, 70));
        assert!(!set(&words, 128));
        assert!(!test(&words, 128));
    }
}
