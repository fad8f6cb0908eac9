// SPDX-License-Identifier: GPL-2.0

//! What a slot's tag says.

/// The tag of a slot: odd while the slot holds a live object.
///
/// It goes up by one at each publish and at each free, and wraps around (256 is even, so the
/// parity survives): a handle of an earlier object in the same slot is told from one of this, until
/// 128 objects have come and gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag(pub u8);

impl Tag {
    /// Returns whether the slot holds a live object.
    #[inline]
    pub const fn is_live(self) -> bool {
        self.0 & 1 == 1
    }

    /// Returns the tag after this one.
    #[inline]
    pub const fn next(self) -> Tag {
        Tag(self.0.wrapping_add(1))
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
