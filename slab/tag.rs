// SPDX-License-Identifier: GPL-2.0

//! What a slot's tag says.

use core::ptr::NonNull;

use kpreserve_kho::ordered;

/// The tag of a slot: odd while the slot holds a live object.
///
/// It goes up by one at each publish and at each free, and wraps around from 254 to 1: a handle of an
/// earlier object in the same slot is told from one of this, until 127 objects have come and gone. A
/// slab that is formatted anew, where another one stood, begins elsewhere: there the chance that an
/// old handle is taken for a new one is 1 in 128.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag(pub u8);

impl Tag {
    /// Never given to an object: kept for a slot whose object moved to another one, which this
    /// version knows only to leave alone. Odd, so the slot is not free.
    pub const FORWARD: Tag = Tag(255);

    /// Reads a tag; what was written before it was stored is visible.
    ///
    /// # Safety
    ///
    /// `at` is where the tag of a slot stands, in a slab whose run stays meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn load(at: NonNull<u8>) -> Tag {
        // SAFETY: valid, and accessed here and in `store` only, says the caller.
        Tag(unsafe { ordered::load_acquire(at.as_ptr()) })
    }

    /// Writes a tag, after all that was written before.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load); and the caller owns the slot.
    #[inline(always)]
    pub(crate) unsafe fn store(self, at: NonNull<u8>) {
        // SAFETY: valid, and accessed here and in `load` only, says the caller.
        unsafe { ordered::store_release(at.as_ptr(), self.0) };
    }

    /// Returns whether the slot is in use.
    #[inline]
    pub const fn is_live(self) -> bool {
        self.0 & 1 == 1
    }

    /// Returns the tag after this one, [`FORWARD`](Self::FORWARD) left out.
    #[inline]
    pub const fn next(self) -> Tag {
        match self.0 {
            254 => Tag(1),
            tag => Tag(tag.wrapping_add(1)),
        }
    }

    /// Returns the tag after this one, of a slot that is free from now on: an even one, whatever this
    /// is.
    #[inline(always)]
    pub(crate) const fn retracted(self) -> Tag {
        Tag((self.0 | 1).wrapping_add(1))
    }
}

/// Eight tags side by side, as one number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct EightTags(u64);

impl EightTags {
    pub(crate) const NR: usize = 8;

    const LOWEST: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x8080_8080_8080_8080;

    /// Reads eight tags; what was written before they were stored is visible.
    ///
    /// # Safety
    ///
    /// As for [`Tag::load`], for each; `at` is a multiple of 8.
    #[inline(always)]
    pub(crate) unsafe fn load(at: NonNull<u8>) -> Self {
        // SAFETY: valid and aligned, says the caller.
        Self(unsafe { ordered::load_acquire_u64(at.as_ptr().cast()) })
    }

    /// Writes eight tags, after all that was written before.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load); and the caller owns the slots.
    #[inline(always)]
    pub(crate) unsafe fn store(self, at: NonNull<u8>) {
        // SAFETY: valid and aligned, says the caller.
        unsafe { ordered::store_release_u64(at.as_ptr().cast(), self.0) };
    }

    /// Returns the [`next`](Tag::next) of even tags; `None` if one of them is odd, or wraps around.
    #[inline(always)]
    pub(crate) const fn published(self) -> Option<Self> {
        if self.0 & Self::LOWEST != 0 {
            return None;
        }
        // Even numbers: none carries.
        let next = Self(self.0.wrapping_add(Self::LOWEST));
        if next.has_forward() {
            return None;
        }
        Some(next)
    }

    /// Returns the [`retracted`](Tag::retracted) of tags; `None` if one of them wraps around.
    #[inline(always)]
    pub(crate) const fn retracted(self) -> Option<Self> {
        let odd = Self(self.0 | Self::LOWEST);
        if odd.has_forward() {
            return None;
        }
        // None is 255: none carries.
        Some(Self(odd.0.wrapping_add(Self::LOWEST)))
    }

    /// Returns whether one of the tags is 255.
    #[inline(always)]
    const fn has_forward(self) -> bool {
        // Whether a byte of the complement is 0.
        let zero = !self.0;
        zero.wrapping_sub(Self::LOWEST) & !zero & Self::HIGHEST != 0
    }
}

/// Gathers the lowest bit of each of eight tags (of a little-endian number, the first tag lowest)
/// into eight bits.
#[inline]
pub(crate) const fn live_bits(eight_tags: u64) -> u64 {
    // Each tag's bit, at 8i, is multiplied to 56 + i; no two products meet in a bit.
    ((eight_tags & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_slab_tag)
)]
mod tests {
    use super::*;

    #[test]
    fn parity_survives_the_wrap() {
        let mut tag = Tag(0);
        for _ in 0..3 * 128 {
            assert!(!tag.is_live());
            tag = tag.next();
            assert!(tag.is_live());
            tag = tag.next();
        }
        assert_eq!(Tag(255).next(), Tag(0));
    }

    #[test]
    fn eight_tags_are_as_one() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut tags = [first; 8];
                tags[3] = second;
                let eight = EightTags(u64::from_le_bytes(tags));
                if let Some(next) = eight.published() {
                    assert_eq!(next.0.to_le_bytes(), tags.map(|tag| Tag(tag).next().0));
                } else {
                    assert!(tags.iter().any(|&tag| tag & 1 == 1 || tag == 254));
                }
                if let Some(next) = eight.retracted() {
                    assert_eq!(next.0.to_le_bytes(), tags.map(|tag| Tag(tag).retracted().0));
                } else {
                    assert!(tags.iter().any(|&tag| tag >= 254));
                }
            }
        }
    }

    #[test]
    fn live_bits_are_the_lowest_of_each_tag() {
        for pattern in 0..256u64 {
            let mut tags = 0;
            for i in 0..8 {
                let tag = (0xa4 + 2 * i) | ((pattern >> i) & 1);
                tags |= tag << (8 * i);
            }
            assert_eq!(live_bits(tags), pattern);
        }
    }
}
