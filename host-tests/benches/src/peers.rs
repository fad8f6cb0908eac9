// SPDX-License-Identifier: GPL-2.0

//! The others, called by their `GlobalAlloc`, told the size when they free.

use core::alloc::{
    GlobalAlloc,
    Layout, //
};
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::heap::{
    Heap,
    Object, //
};

/// An allocator that has no state of its own: its crate has.
pub trait Peer: GlobalAlloc + Sync + 'static {
    /// What it is called in figures.
    const NAME: &'static str;
    /// The allocator.
    const IT: &'static Self;
}

macro_rules! peers {
    ($($it:path = $name:literal),* $(,)?) => {$(
        impl Peer for $it {
            const NAME: &'static str = $name;
            const IT: &'static Self = &$it;
        }
    )*};
}

peers! {
    tikv_jemallocator::Jemalloc = "jemalloc",
    mimalloc::MiMalloc = "mimalloc",
    snmalloc_rs::SnMalloc = "snmalloc",
    std::alloc::System = "glibc",
}

/// A peer as a heap of blocks of any size.
pub struct AnySize<P>(PhantomData<P>);

/// A peer as a heap of blocks of 64 bytes, as a `Box` of a type has them: the size is a constant, and
/// is not kept.
pub struct Lines<P>(PhantomData<P>);

macro_rules! new {
    ($($heap:ident),*) => {$(
        impl<P> $heap<P> {
            /// Makes one; all of a peer are the same.
            #[allow(clippy::new_without_default)]
            pub const fn new() -> Self {
                Self(PhantomData)
            }
        }
    )*};
}

new!(AnySize, Lines);

/// A block of a peer.
///
/// # Invariants
///
/// `start` is a block of `P` that was allocated for `size_bytes`, and is owned by this value.
pub struct Block<P: Peer> {
    start: NonNull<u8>,
    size_bytes: usize,
    _peer: PhantomData<P>,
}

// SAFETY: memory that this value owns; peers free what another thread allocated.
unsafe impl<P: Peer> Send for Block<P> {}

/// Of what is allocated here, all is aligned to 8, as slots are.
#[inline(always)]
fn layout(size_bytes: usize) -> Layout {
    // SAFETY: a power of two; and nobody comes near the end of the address space.
    unsafe { Layout::from_size_align_unchecked(size_bytes, 8) }
}

#[inline(always)]
fn alloc<P: Peer>(layout: Layout) -> NonNull<u8> {
    // SAFETY: no workload asks for 0 bytes.
    let start = unsafe { P::IT.alloc(layout) };
    match NonNull::new(start) {
        Some(start) => start,
        None => panic!("{} has no memory", P::NAME),
    }
}

impl<P: Peer> Heap for AnySize<P> {
    const NAME: &'static str = P::NAME;
    type Object = Block<P>;

    #[inline(always)]
    fn alloc(&self, size_bytes: usize) -> Block<P> {
        assert!(size_bytes > 0);
        // INVARIANT: just allocated.
        Block {
            start: alloc::<P>(layout(size_bytes)),
            size_bytes,
            _peer: PhantomData,
        }
    }
}

// SAFETY: by the type invariants.
unsafe impl<P: Peer> Object for Block<P> {
    #[inline(always)]
    fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl<P: Peer> Drop for Block<P> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: by the type invariants, and this value ends here.
        unsafe { P::IT.dealloc(self.start.as_ptr(), layout(self.size_bytes)) };
    }
}

/// A block of 64 bytes of a peer.
///
/// # Invariants
///
/// `start` is a block of `P` that was allocated for [`Line`], and is owned by this value.
pub struct LineBlock<P: Peer> {
    start: NonNull<u8>,
    _peer: PhantomData<P>,
}

type Line = [u64; 8];

// SAFETY: memory that this value owns; peers free what another thread allocated.
unsafe impl<P: Peer> Send for LineBlock<P> {}

impl<P: Peer> Heap for Lines<P> {
    const NAME: &'static str = P::NAME;
    type Object = LineBlock<P>;

    #[inline(always)]
    fn alloc(&self, size_bytes: usize) -> LineBlock<P> {
        assert!(size_bytes == size_of::<Line>());
        // INVARIANT: just allocated.
        LineBlock {
            start: alloc::<P>(Layout::new::<Line>()),
            _peer: PhantomData,
        }
    }
}

// SAFETY: by the type invariants.
unsafe impl<P: Peer> Object for LineBlock<P> {
    #[inline(always)]
    fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl<P: Peer> Drop for LineBlock<P> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: by the type invariants, and this value ends here.
        unsafe { P::IT.dealloc(self.start.as_ptr(), Layout::new::<Line>()) };
    }
}
