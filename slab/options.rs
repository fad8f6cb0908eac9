// SPDX-License-Identifier: GPL-2.0

//! What may be asked of a cache, beside the type of its objects.

use kernel::prelude::*;

use kpreserve_kho::Node;

use crate::geometry::Geometry;

/// The bytes of a cache line.
pub const CACHE_LINE_BYTES: usize = 64;

/// What may be asked of a cache; the counterpart of `struct kmem_cache_args`.
///
/// ```
/// # use kpreserve_slab::CacheOptions;
/// let options = CacheOptions { cache_line: true, ..CacheOptions::NONE };
/// ```
///
/// `align_bytes` and `cache_line` decide about the layout of slabs, which is part of the image: they
/// count when a cache is made. One that is there, from this kernel or an earlier one, keeps the layout
/// that it has, as long as that holds the type; what has to be aligned for the code to be right says
/// so in its type, by `repr(align)`. `node` and `reserve` are of this boot only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheOptions {
    /// Where new runs come from, if possible. Slots are taken from whatever run has free ones, so
    /// this is for caches all of whose users are on one node.
    pub node: Node,
    /// Alignment of objects in bytes, a power of two up to a page; 0 for that of the type, which is
    /// the least there is.
    pub align_bytes: usize,
    /// Keeps objects that different CPUs use apart (`SLAB_HWCACHE_ALIGN`): each begins on a cache
    /// line, or, where several fit into one, none lies across two.
    pub cache_line: bool,
    /// Runs that are kept for those who cannot sleep, filled as far as there is memory when the cache
    /// is opened, and later on by the worker.
    pub reserve: u32,
}

impl CacheOptions {
    /// What a cache is that nothing was asked of.
    pub const NONE: Self = Self {
        node: Node::ANY,
        align_bytes: 0,
        cache_line: false,
        reserve: 0,
    };

    /// Chooses the layout of a new cache of `T`.
    ///
    /// # Errors
    ///
    /// EINVAL if the alignment is not a power of two, or more than
    /// [`ALIGN_MAX_BYTES`](crate::geometry::ALIGN_MAX_BYTES); or if a `T` fits into no slab.
    pub fn geometry<T>(&self) -> Result<Geometry> {
        if self.align_bytes != 0 && !self.align_bytes.is_power_of_two() {
            return Err(EINVAL);
        }
        let mut align = self.align_bytes.max(align_of::<T>());
        if self.cache_line {
            align = align.max(line_align(size_of::<T>()));
        }
        Geometry::of_object(size_of::<T>(), align)
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self::NONE
    }
}

/// Returns the alignment that keeps objects of a size from lying across cache lines needlessly.
const fn line_align(size_bytes: usize) -> usize {
    let mut align = CACHE_LINE_BYTES;
    while size_bytes <= align / 2 && align > 1 {
        align /= 2;
    }
    align
}
