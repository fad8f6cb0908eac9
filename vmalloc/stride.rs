// SPDX-License-Identifier: GPL-2.0

//! The size of an element, and what it makes of a run.

use core::num::NonZeroUsize;

use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER,
    PAGE_SIZE_BYTES, //
};

use crate::abi::STRIDE_BYTES_MAX;

/// At most this part of a run may be left over behind its last element, if there is an order that
/// manages.
const SLACK_DIVISOR: usize = 8;

/// Bytes from one element to the next, which is also the size of an element.
///
/// # Invariants
///
/// At least 1, at most [`STRIDE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stride(NonZeroUsize);

impl Stride {
    /// Makes a stride; `None` if `bytes` is 0 or above [`STRIDE_BYTES_MAX`].
    pub const fn new(bytes: usize) -> Option<Self> {
        if bytes > STRIDE_BYTES_MAX {
            return None;
        }
        match NonZeroUsize::new(bytes) {
            // INVARIANT: not 0, and just compared.
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// Returns the stride in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        self.0.get()
    }

    /// Returns how many elements a run of `order` holds; 0 if it is too small, or if there is no
    /// such order.
    pub fn nr_elements(self, order: u8) -> usize {
        run_size_bytes(order).unwrap_or(0) / self.0
    }

    /// Returns how many bytes of a run of `order` are left over behind its last element.
    pub fn slack_bytes(self, order: u8) -> usize {
        run_size_bytes(order).unwrap_or(0) % self.0
    }

    /// Returns the smallest order that holds an element.
    pub fn order_min(self) -> u8 {
        // By the type invariant the largest order does.
        (0..MAX_ORDER)
            .find(|&order| self.nr_elements(order) > 0)
            .unwrap_or(MAX_ORDER)
    }

    /// Returns the smallest order of which at most 1/8 is left over; if there is none, the largest:
    /// twice the run leaves over twice as much, or less, so no other does better.
    pub fn order_snug(self) -> u8 {
        let part = |order: u8| self.slack_bytes(order) << (MAX_ORDER - order);
        (self.order_min()..MAX_ORDER)
            .find(|&order| part(order) <= STRIDE_BYTES_MAX / SLACK_DIVISOR)
            .unwrap_or(MAX_ORDER)
    }

    /// Returns how many pages `nr_elements` elements fill; `None` if that is no number.
    pub fn nr_pages(self, nr_elements: usize) -> Option<usize> {
        let size_bytes = nr_elements.checked_mul(self.bytes())?;
        Some(size_bytes.div_ceil(PAGE_SIZE_BYTES))
    }
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_vmalloc_stride)
)]
mod tests {
    use super::*;

    use kernel::prelude::*;

    #[test]
    fn none_and_too_much_are_no_strides() {
        assert!(Stride::new(0).is_none());
        assert!(Stride::new(STRIDE_BYTES_MAX).is_some());
        assert!(Stride::new(STRIDE_BYTES_MAX + 1).is_none());
        assert!(Stride::new(usize::MAX).is_none());
    }

    #[test]
    fn a_run_holds_whole_elements_only() -> Result {
        let stride = Stride::new(40).ok_or(EINVAL)?;
        assert_eq!(stride.nr_elements(0), 102);
        assert_eq!(stride.slack_bytes(0), 16);
        assert_eq!(stride.nr_elements(1), 204);
        assert_eq!(stride.nr_elements(MAX_ORDER + 1), 0);
        assert_eq!(Stride::new(5000).ok_or(EINVAL)?.nr_elements(0), 0);
        assert_eq!(Stride::new(4096).ok_or(EINVAL)?.slack_bytes(3), 0);
        Ok(())
    }

    #[test]
    fn orders_fit_and_are_snug() -> Result {
        // 2049 bytes waste half a page, and less than an eighth of four.
        let odd = Stride::new(2049).ok_or(EINVAL)?;
        assert_eq!(odd.order_min(), 0);
        assert_eq!(odd.order_snug(), 2);
        let page = Stride::new(4096).ok_or(EINVAL)?;
        assert_eq!(page.order_snug(), 0);
        let largest = Stride::new(STRIDE_BYTES_MAX).ok_or(EINVAL)?;
        assert_eq!(largest.order_min(), MAX_ORDER);
        assert_eq!(largest.order_snug(), MAX_ORDER);
        // No order is good enough here, and the last is the best: three elements, not one of two.
        let awkward = Stride::new((1 << 20) + 4096).ok_or(EINVAL)?;
        assert_eq!(awkward.order_min(), 9);
        assert_eq!(awkward.order_snug(), MAX_ORDER);
        for bytes in 1..20_000 {
            let stride = Stride::new(bytes).ok_or(EINVAL)?;
            assert!(stride.nr_elements(stride.order_min()) > 0);
            assert!(stride.order_snug() >= stride.order_min());
        }
        Ok(())
    }

    #[test]
    fn pages_are_counted_without_overflow() -> Result {
        let stride = Stride::new(48).ok_or(EINVAL)?;
        assert_eq!(stride.nr_pages(0), Some(0));
        assert_eq!(stride.nr_pages(1), Some(1));
        assert_eq!(stride.nr_pages(86), Some(2));
        assert_eq!(stride.nr_pages(usize::MAX / 4), None);
        Ok(())
    }
}
