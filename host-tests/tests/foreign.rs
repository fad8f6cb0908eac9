// SPDX-License-Identifier: GPL-2.0

//! An object that C owns: its address is all that is left, and leads back to its cache.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | runs that were there are not noted when a cache is opened (raw.rs) | abort: null reference |
//! | a new run is not noted (grow.rs) | abort: null reference |
//! | the note is on the first page only (note.rs) | abort: null reference |
//! | a run that is given back keeps its note (run.rs) | `memory_that_is_given_back_...` |
//! | an old note is not replaced (note.rs) | `memory_that_changes_caches_...` |
//! | giving the value away frees it (preserved.rs) | 4 tests |

use core::ptr::NonNull;

use kernel::ffi::c_void;
use kernel::prelude::GFP_KERNEL;
use kernel::types::ForeignOwnable;
use kpreserve::{
    Cache,
    CacheOptions,
    Handle,
    Open as _,
    OpenWith as _,
    Preserved, //
};
use kpreserve_kho::note;
use kpreserve_testing::Kernel;

kpreserve::preservable! {
    /// What a file has as private data.
    pub struct FileSer {
        /// Anything.
        pub words: [u64; 4],
    }
    compatible = "foreign-file", version = 1
}

fn file(word: u64) -> FileSer {
    FileSer { words: [word; 4] }
}

/// What C has: nothing but an address.
struct Private(*mut c_void);

// SAFETY: an address.
unsafe impl Send for Private {}

impl Private {
    fn new(object: Preserved<FileSer>) -> Self {
        let private = Self(object.into_foreign());
        assert!(!private.0.is_null());
        let align = <Preserved<FileSer> as ForeignOwnable>::FOREIGN_ALIGN;
        assert!(align >= 8 && private.0.addr() % align == 0);
        private
    }

    fn get(&self) -> &FileSer {
        // SAFETY: taken back at the end of `self` only.
        unsafe { Preserved::<FileSer>::borrow(self.0) }
    }

    fn get_mut(&mut self) -> &mut FileSer {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { Preserved::<FileSer>::borrow_mut(self.0) }
    }

    fn take(self) -> Preserved<FileSer> {
        // SAFETY: `self` ends here.
        unsafe { Preserved::try_from_foreign(self.0) }.unwrap()
    }
}

fn nr_objects(cache: &Cache<FileSer>) -> usize {
    cache.raw().counts().nr_objects
}

#[test]
fn an_object_comes_back_as_it_went() {
    let kernel = Kernel::boot();
    let cache = Cache::<FileSer>::open(c"files", GFP_KERNEL).unwrap();
    let object = cache.alloc(file(1), GFP_KERNEL).unwrap();
    let (handle, address) = (object.handle(), core::ptr::from_ref::<FileSer>(&object));
    let mut private = Private::new(object);
    assert_eq!(private.get().words, [1; 4]);
    private.get_mut().words[2] = 5;
    // C owns it, so nobody else gets it.
    assert_eq!(cache.claim(handle).err(), Some(kernel::prelude::EBUSY));
    let object = private.take();
    assert_eq!(core::ptr::from_ref::<FileSer>(&object), address);
    assert_eq!((object.handle(), object.words), (handle, [1, 1, 5, 1]));
    drop(object);
    assert_eq!(nr_objects(&cache), 0);
    // SAFETY: null stands for nothing.
    assert!(unsafe { Preserved::<FileSer>::try_from_foreign(core::ptr::null_mut()) }.is_none());
    kernel.assert_sound();
}

#[test]
fn each_object_comes_back_to_its_cache() {
    let kernel = Kernel::boot();
    // Of one type, in slabs of different sizes and layouts.
    let caches: Vec<_> = [0, 64, 512, 4096]
        .into_iter()
        .map(|align_bytes| {
            let options = CacheOptions {
                align_bytes,
                ..CacheOptions::NONE
            };
            let name = std::ffi::CString::new(format!("files/{align_bytes}")).unwrap();
            Cache::<FileSer>::open_with(&name, &options, GFP_KERNEL).unwrap()
        })
        .collect();
    let mut privates = Vec::new();
    for word in 0..200 {
        for cache in &caches {
            let object = cache.alloc(file(word), GFP_KERNEL).unwrap();
            privates.push((word, Private::new(object)));
        }
    }
    assert!(caches.iter().all(|cache| nr_objects(cache) == 200));
    // Freed by another CPU.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (word, private) in privates {
                let object = private.take();
                assert_eq!(object.words, [word; 4]);
                drop(object);
            }
        });
    });
    for cache in &caches {
        let counts = cache.raw().counts();
        assert_eq!((counts.nr_objects, counts.nr_quarantined), (0, 0));
    }
    kernel.assert_sound();
}

#[test]
fn an_object_of_the_kernel_before_can_be_given_away() {
    let kernel = Kernel::boot();
    let cache = Cache::<FileSer>::open(c"files", GFP_KERNEL).unwrap();
    let parked: Vec<Handle<FileSer>> = (0..300)
        .map(|word| cache.alloc(file(word), GFP_KERNEL).unwrap().park())
        .collect();
    // And what C owns when the kernel stops is there.
    let owned = cache.alloc(file(1000), GFP_KERNEL).unwrap();
    let handle = owned.handle();
    let _ = Private::new(owned);
    drop(cache);
    let next = kernel.kexec();
    let cache = Cache::<FileSer>::open(c"files", GFP_KERNEL).unwrap();
    assert_eq!(cache.claim(handle).unwrap().words, [1000; 4]);
    let privates: Vec<_> = parked
        .into_iter()
        .map(|handle| Private::new(cache.claim(handle).unwrap()))
        .collect();
    for (word, private) in (0..).zip(privates) {
        assert_eq!(private.get().words, [word; 4]);
        drop(private.take());
    }
    assert_eq!(nr_objects(&cache), 0);
    next.assert_sound();
}

#[test]
fn memory_that_changes_caches_leads_to_the_new_one() {
    let kernel = Kernel::boot_with(kpreserve_testing::Config::with_pages(256));
    let first = Cache::<FileSer>::open(c"first", GFP_KERNEL).unwrap();
    let second = Cache::<FileSer>::open(c"second", GFP_KERNEL).unwrap();
    let fill = |cache: &Cache<FileSer>| -> Vec<Private> {
        let objects = core::iter::from_fn(|| cache.alloc(file(2), GFP_KERNEL).ok());
        objects.map(Private::new).collect()
    };
    let empty = |cache: &Cache<FileSer>, privates: Vec<Private>| {
        assert!(privates.len() > 1000);
        privates
            .into_iter()
            .for_each(|private| drop(private.take()));
        assert_eq!(nr_objects(cache), 0);
        cache.raw().drain_here();
        let _ = cache.raw().work();
    };
    for _ in 0..3 {
        empty(&first, fill(&first));
        empty(&second, fill(&second));
    }
    kernel.assert_sound();
}

#[test]
fn memory_that_is_given_back_is_nobodys() {
    let kernel = Kernel::boot();
    let cache = Cache::<FileSer>::open(c"files", GFP_KERNEL).unwrap();
    let objects: Vec<_> = (0..20_000)
        .map_while(|word| cache.alloc(file(word), GFP_KERNEL).ok())
        .collect();
    let addresses: Vec<_> = objects
        .iter()
        .map(|object| NonNull::from(&**object).cast::<u8>())
        .collect();
    let is_noted = |address: NonNull<u8>| {
        // SAFETY: on a host one may ask about any address.
        unsafe { note::of(address) != 0 }
    };
    let nr_noted = || addresses.iter().filter(|&&at| is_noted(at)).count();
    assert_eq!(nr_noted(), addresses.len());
    drop(objects);
    cache.raw().drain_here();
    let _ = cache.raw().work();
    assert!(nr_noted() < addresses.len() / 4, "{}", nr_noted());
    kernel.assert_sound();
}
