// SPDX-License-Identifier: GPL-2.0

//! Our caches as heaps: each object is published, so preserved, when it is allocated; retracted and
//! zeroed when it is freed.

use core::convert::Infallible;
use core::ptr::NonNull;
use std::ffi::CString;

use kernel::alloc::flags::GFP_KERNEL;
use kpreserve::{
    Cache,
    Framework,
    Open as _,
    Preserved, //
};
use kpreserve_slab::{
    RawCache,
    Slot, //
};
use pin_init::init_from_closure;

use crate::heap::{
    Heap,
    Object, //
};

kpreserve::preservable! {
    /// 64 bytes, the size that most is measured with.
    pub struct LineSer {
        /// Bytes.
        pub words: [u64; 8],
    }
    compatible = "bench-line", version = 1
}

/// Objects of 64 bytes, in a cache that knows so.
pub struct Lines(Cache<LineSer>);

impl Lines {
    /// Opens it.
    ///
    /// # Panics
    ///
    /// If it is open, or there is no memory.
    pub fn open(framework: &'static Framework) -> Self {
        match Cache::open_in(framework, c"lines", GFP_KERNEL) {
            Ok(cache) => Self(cache),
            Err(error) => panic!("cannot open the cache: {error:?}"),
        }
    }
}

impl Heap for Lines {
    const NAME: &'static str = "kpreserve";
    type Object = Preserved<LineSer>;

    #[inline(always)]
    fn alloc(&self, size_bytes: usize) -> Preserved<LineSer> {
        assert!(size_bytes == size_of::<LineSer>());
        // The peers leave what they find; so does this, and finds zeros.
        // SAFETY: zeros are a value, and there is nothing to drop.
        let nothing = unsafe { init_from_closure(|_| Ok::<_, Infallible>(())) };
        match self.0.alloc(nothing, GFP_KERNEL) {
            Ok(line) => line,
            Err(error) => panic!("no 64 bytes: {error:?}"),
        }
    }
}

// SAFETY: the value owns the object.
unsafe impl Object for Preserved<LineSer> {
    #[inline(always)]
    fn start(&self) -> NonNull<u8> {
        NonNull::from(&**self).cast()
    }
}

/// Up to here, and in steps of 8 bytes, a class is found by one look-up.
const SMALL_MAX_BYTES: usize = 2048;

/// Objects of any size: a cache for each class of sizes.
pub struct Classes {
    small: [&'static RawCache; SMALL_MAX_BYTES / 8 + 1],
    /// By size, ascending.
    all: Vec<(usize, &'static RawCache)>,
}

macro_rules! open_classes {
    ($framework:expr, $($words:literal)*) => {
        vec![$(open::<{ $words }>($framework)),*]
    };
}

fn open<const WORDS: usize>(framework: &'static Framework) -> (usize, &'static RawCache) {
    let name = CString::new(format!("class-{}", WORDS * 8)).unwrap_or_default();
    match Cache::<[u64; WORDS]>::open_in(framework, &name, GFP_KERNEL) {
        Ok(cache) => {
            let raw = cache.raw();
            // It stays open.
            core::mem::forget(cache);
            (WORDS * 8, raw)
        }
        Err(error) => panic!("cannot open the cache {name:?}: {error:?}"),
    }
}

impl Classes {
    /// Opens the caches.
    ///
    /// # Panics
    ///
    /// If they are open, or there is no memory.
    pub fn open(framework: &'static Framework) -> Self {
        // Four classes for each power of two: at most a fifth is wasted.
        let all = open_classes!(framework,
            1 2 3 4 5 6 7 8 10 12 14 16 20 24 28 32 40 48 56 64 80 96 112 128 160 192 224 256
            320 384 448 512 1024 2048 4096 8192 16384 32768 65536 131072 262144);
        let class = |size_bytes: usize| {
            let fits = |class: &&(usize, _)| class.0 >= size_bytes;
            all.iter().find(fits).expect("small").1
        };
        Self {
            small: core::array::from_fn(|words| class(words * 8)),
            all,
        }
    }

    #[inline(always)]
    fn class(&self, size_bytes: usize) -> &'static RawCache {
        match self.small.get(size_bytes.div_ceil(8)) {
            Some(raw) => raw,
            None => self.large(size_bytes),
        }
    }

    #[cold]
    fn large(&self, size_bytes: usize) -> &'static RawCache {
        match self.all.iter().find(|class| class.0 >= size_bytes) {
            Some(class) => class.1,
            None => panic!("no class for {size_bytes} bytes"),
        }
    }
}

impl Heap for Classes {
    const NAME: &'static str = "kpreserve";
    type Object = Owned;

    #[inline(always)]
    fn alloc(&self, size_bytes: usize) -> Owned {
        match self.class(size_bytes).alloc_slot(GFP_KERNEL) {
            Ok(vacant) => Owned(vacant.publish()),
            Err(error) => panic!("no {size_bytes} bytes: {error:?}"),
        }
    }
}

/// A slot of one of the caches.
pub struct Owned(Slot);

// SAFETY: the value owns the slot, which has as many bytes as its class, or more.
unsafe impl Object for Owned {
    #[inline(always)]
    fn start(&self) -> NonNull<u8> {
        // SAFETY: where a slot is, is not null.
        unsafe { NonNull::new_unchecked(self.0.as_ptr()) }
    }
}
