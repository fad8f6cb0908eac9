// SPDX-License-Identifier: GPL-2.0

//! Boxes and vectors of the kernel crate in preserved memory.

use core::alloc::Layout;
use core::ffi::CStr;
use core::ptr::NonNull;

use kernel::alloc::{
    AllocError,
    Allocator,
    Flags, //
};
use kernel::prelude::*;
#[cfg(CONFIG_RUST)]
use kernel::sync::SetOnce;
use kpreserve_kho::{
    preservable::assert_preservable,
    Node,
    Preservable, //
};
use kpreserve_slab::{
    Counts,
    Owner, //
};

use crate::box_handle::BoxHandle;
use crate::classes::Classes;
pub use crate::classes::{
    MIN_ALIGN_BYTES,
    SIZE_MAX_BYTES, //
};
use crate::dictionary::check_name;
use crate::framework::Framework;
use crate::global::framework;

/// An allocator of preserved memory, declared by [`preserved_pool!`](crate::preserved_pool!).
///
/// What it gives out is *anonymous*: the next kernel does not know of it, and finds the memory free, and
/// zeroes it before anybody gets it. So boxes and vectors may hold anything, pointers and locks too. A box
/// of plain data can be [kept](Self::keep): from then on it is an object, as those of a cache are.
///
/// Allocations have at most [`SIZE_MAX_BYTES`] and a page of alignment; what asks for more gets
/// `AllocError`, as does everything before the pool is open. With GFP_KERNEL they may sleep; with other
/// flags they come from what is there and from the reserve. Freeing is fine in any context but NMI. The
/// NUMA node of an allocation is not looked at, since a slot comes from whatever run has a free one; see
/// [`set_node`](Self::set_node).
///
/// # Safety
///
/// `realloc` and `place` are those that [`preserved_pool!`](crate::preserved_pool!) writes.
pub unsafe trait PreservedPool: Allocator + Sized + 'static {
    /// The name of the pool.
    const NAME: &'static CStr;

    /// Returns where this boot keeps what it knows of the pool.
    #[doc(hidden)]
    fn place() -> &'static Place;

    /// Opens the pool: adopts what the previous kernel left under the name, or makes it. `flags` must
    /// allow sleeping.
    ///
    /// It stays open for the rest of the boot. Opening it again changes nothing; all who open a pool of
    /// that name share it.
    ///
    /// Cost: a look-up and, the first time in a boot, a few instructions a run, for each of 22 classes.
    ///
    /// # Errors
    ///
    /// - EPROBE_DEFER before the framework is up ([`open`](Self::open) only).
    /// - EINVAL if the name is empty or begins with a dot, or what is there was refused; ENAMETOOLONG
    ///   beyond 243 bytes.
    /// - EBUSY if the framework is frozen.
    /// - EOPNOTSUPP if what is there has another version. It is carried on.
    /// - ENOMEM; classes that were made stay, and are found by the next open.
    fn open(flags: Flags) -> Result {
        Self::open_in(framework()?, flags)
    }

    /// The same, in a framework that is named.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn open_in(framework: &'static Framework, flags: Flags) -> Result {
        let name = check_name(Self::NAME)?;
        let classes = Classes::open(framework, name, flags)?;
        Self::place().set(framework, classes)
    }

    /// Gives up a box without freeing it: from here on the next kernel finds it by its handle, once that
    /// is stored where it will be looked for. For tasks.
    ///
    /// The object stays where it is; nothing is copied or allocated.
    fn keep<T: Preservable>(object: Box<T, Self>) -> BoxHandle<T> {
        const { assert_preservable::<T>() };
        let start: *mut T = Box::into_raw(object);
        let classes = Self::place().get();
        let cache = classes.and_then(|classes| classes.of(size_of::<T>(), align_of::<T>()));
        let (Some(cache), Some(start)) = (cache, NonNull::new(start)) else {
            // Only where the pool of another (simulated) kernel is meant: the box came from this one.
            return BoxHandle::NULL;
        };
        // SAFETY: a box of this pool, so a slot of the class of its layout, which is given up here.
        let slot = match unsafe { Owner::from_raw(start.cast(), cache) } {
            Owner::Vacant(vacant) => vacant.publish(),
            // It was taken, and has been an object all along.
            Owner::Live(slot) => slot,
        };
        BoxHandle::seal(slot.park())
    }

    /// Takes the box of a handle, of this kernel or the one before. For tasks.
    ///
    /// The object goes on being preserved, under the same handle, until the box is dropped: a kexec in
    /// between finds it as if it had not been taken.
    ///
    /// # Errors
    ///
    /// - EINVAL if the handle is null, of another type (or another layout or version of `T`), or not of a
    ///   slot of this pool of the size of a `T`; if the slab is quarantined; if the pool is not open;
    /// - ENOENT if the slot is free;
    /// - ESTALE if another object has the slot now;
    /// - EBUSY if the object has an owner.
    fn take<T: Preservable>(handle: BoxHandle<T>) -> Result<Box<T, Self>> {
        const { assert_preservable::<T>() };
        let object = handle.open()?;
        let classes = Self::place().get().ok_or(EINVAL)?;
        let cache = classes.of(size_of::<T>(), align_of::<T>()).ok_or(EINVAL)?;
        let start = cache.claim(object)?.into_raw();
        // SAFETY: a slot of the class of the layout of a `T`, which the claim made ours; any bytes are a
        // `T`.
        Ok(unsafe { Box::from_raw(start.as_ptr().cast()) })
    }

    /// Frees the boxes that were kept when the pool was first opened in this boot and that nobody has
    /// taken since; returns how many. Memory that the last kernel used, and this one does not, can go
    /// back to the page allocator afterwards. May sleep.
    ///
    /// Cost: goes with the slabs, and what is freed.
    ///
    /// # Errors
    ///
    /// EINVAL if the pool is not open.
    fn finish() -> Result<usize> {
        let classes = Self::place().get().ok_or(EINVAL)?;
        Ok(classes.iter().map(|cache| cache.finish()).sum())
    }

    /// Prefers a NUMA node for memory to come, in this boot. May sleep.
    ///
    /// # Errors
    ///
    /// EINVAL if the pool is not open.
    fn set_node(node: Node) -> Result {
        let classes = Self::place().get().ok_or(EINVAL)?;
        classes.iter().for_each(|cache| cache.set_node(node));
        Ok(())
    }

    /// Counts what the pool holds: `nr_objects` are the boxes that were kept. For tasks.
    ///
    /// Cost: a byte is read for each slot.
    ///
    /// # Errors
    ///
    /// EINVAL if the pool is not open.
    fn counts() -> Result<Counts> {
        let classes = Self::place().get().ok_or(EINVAL)?;
        Ok(classes.iter().fold(Counts::default(), |mut sum, cache| {
            let counts = cache.counts();
            sum.nr_objects += counts.nr_objects;
            sum.nr_slabs += counts.nr_slabs;
            sum.nr_quarantined += counts.nr_quarantined;
            sum.nr_runs += counts.nr_runs;
            sum.bytes += counts.bytes;
            sum
        }))
    }
}

/// Where a boot keeps what it knows of a pool: the functions of an allocator have no `self`.
///
/// On a host, where machines reboot inside one process, it is that of the framework that the thread
/// runs on.
#[doc(hidden)]
pub struct Place {
    #[cfg(CONFIG_RUST)]
    classes: SetOnce<Classes>,
    #[cfg(not(CONFIG_RUST))]
    classes: std::sync::Mutex<std::vec::Vec<(usize, &'static Classes)>>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(CONFIG_RUST)]
impl Place {
    /// Makes a place of nothing.
    pub const fn new() -> Self {
        Self {
            classes: SetOnce::new(),
        }
    }

    #[inline]
    fn get(&self) -> Option<&Classes> {
        self.classes.as_ref()
    }

    fn set(&self, _framework: &'static Framework, classes: Classes) -> Result {
        // Somebody who was faster has set the same.
        self.classes.populate(classes);
        Ok(())
    }
}

#[cfg(not(CONFIG_RUST))]
impl Place {
    /// Makes a place of nothing.
    pub const fn new() -> Self {
        Self {
            classes: std::sync::Mutex::new(std::vec::Vec::new()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, std::vec::Vec<(usize, &'static Classes)>> {
        let classes = self.classes.lock();
        classes.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn get(&self) -> Option<&'static Classes> {
        let framework = core::ptr::from_ref(framework().ok()?).addr();
        let classes = self.lock();
        let found = classes.iter().find(|(of, _)| *of == framework);
        found.map(|(_, classes)| *classes)
    }

    fn set(&self, framework: &'static Framework, classes: Classes) -> Result {
        let framework = core::ptr::from_ref(framework).addr();
        let classes = std::boxed::Box::leak(std::boxed::Box::new(classes));
        self.lock().push((framework, classes));
        Ok(())
    }
}

/// [`Allocator::realloc`] of each pool.
///
/// # Errors
///
/// [`AllocError`] if there is no memory, no class for the layout, or the pool is not open; `ptr` is as it
/// was.
///
/// # Safety
///
/// As [`Allocator::realloc`], with `place` standing for the allocator.
#[doc(hidden)]
pub unsafe fn realloc(
    place: &'static Place,
    ptr: Option<NonNull<u8>>,
    layout: Layout,
    old_layout: Layout,
    flags: Flags,
) -> Result<NonNull<[u8]>, AllocError> {
    let old = ptr.filter(|_| old_layout.size() > 0);
    let start = if layout.size() == 0 {
        if let (Some(old), Some(classes)) = (old, place.get()) {
            // SAFETY: says the caller.
            unsafe { classes.free(old, old_layout) };
        }
        // What has no size is nowhere.
        NonNull::new(core::ptr::without_provenance_mut(layout.align())).ok_or(AllocError)?
    } else {
        let classes = place.get().ok_or(AllocError)?;
        match old {
            None => classes.alloc(layout, flags)?,
            // SAFETY: says the caller.
            Some(old) => unsafe { classes.resize(old, layout, old_layout, flags) }?,
        }
    };
    Ok(NonNull::slice_from_raw_parts(start, layout.size()))
}

/// Declares allocators of preserved memory, for `Box` and `Vec` of the kernel crate.
///
/// ```
/// # extern crate kernel;
/// use kpreserve::prelude::*;
///
/// kpreserve::preserved_pool! {
///     /// What the key-value store keeps in boxes and vectors.
///     pub struct KvPool = c"kv/pool"
/// }
///
/// # fn run() -> Result {
/// KvPool::open(GFP_KERNEL)?;
/// let mut names = Vec::<u32, KvPool>::new();
/// names.push(1, GFP_KERNEL)?; // gone after a kexec, the memory free and zeroed
/// let count = Box::<u64, KvPool>::new(2, GFP_KERNEL)?;
/// let handle = KvPool::keep(count); // to be stored in a preserved object
/// assert_eq!(*KvPool::take(handle)?, 2); // here, or in the next kernel
/// # Ok(())
/// # }
/// ```
///
/// Only plain data can be kept:
///
/// ```compile_fail
/// # extern crate kernel;
/// # use kpreserve::prelude::*;
/// # kpreserve::preserved_pool! { struct KvPool = c"kv/pool" }
/// fn keep(pointer: Box<&'static u64, KvPool>) {
///     KvPool::keep(pointer);
/// }
/// ```
///
/// And only boxes of the pool:
///
/// ```compile_fail
/// # extern crate kernel;
/// # use kpreserve::prelude::*;
/// # kpreserve::preserved_pool! { struct KvPool = c"kv/pool" }
/// fn keep(other: KBox<u64>) {
///     KvPool::keep(other);
/// }
/// ```
///
/// ```
/// # extern crate kernel;
/// # use kpreserve::prelude::*;
/// # kpreserve::preserved_pool! { struct KvPool = c"kv/pool" }
/// fn keep(own: Box<u64, KvPool>) {
///     KvPool::keep(own);
/// }
/// ```
#[macro_export]
macro_rules! preserved_pool {
    ($( $(#[$meta:meta])* $vis:vis struct $pool:ident = $name:literal $(;)? )*) => {$(
        $(#[$meta])*
        $vis struct $pool;

        // SAFETY: an allocation is a slot that nobody else gets before it is freed; the guarantees are
        // those of `realloc`.
        unsafe impl $crate::__private::Allocator for $pool {
            const MIN_ALIGN: usize = $crate::allocator::MIN_ALIGN_BYTES;

            #[inline]
            unsafe fn realloc(
                ptr: Option<::core::ptr::NonNull<u8>>,
                layout: ::core::alloc::Layout,
                old_layout: ::core::alloc::Layout,
                flags: $crate::__private::Flags,
                _nid: $crate::__private::NumaNode,
            ) -> ::core::result::Result<::core::ptr::NonNull<[u8]>, $crate::__private::AllocError> {
                let place = <Self as $crate::PreservedPool>::place();
                // SAFETY: by the caller's promise.
                unsafe { $crate::allocator::realloc(place, ptr, layout, old_layout, flags) }
            }
        }

        // SAFETY: `realloc` and `place` are these.
        unsafe impl $crate::PreservedPool for $pool {
            const NAME: &'static ::core::ffi::CStr = $name;

            fn place() -> &'static $crate::allocator::Place {
                static PLACE: $crate::allocator::Place = $crate::allocator::Place::new();
                &PLACE
            }
        }
    )*};
}
