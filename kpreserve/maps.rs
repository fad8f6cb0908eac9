// SPDX-License-Identifier: GPL-2.0

//! Opening maps and heaps of strings: what stands for several areas is found by one of them.

use core::ffi::CStr;

use kernel::alloc::Flags;
use kernel::prelude::*;
use kpreserve_kho::{
    ArenaHandle,
    Preservable,
    SharedU64, //
};
use kpreserve_vmalloc::abi::MapSer;
use kpreserve_vmalloc::pmap::{
    MapAreas,
    MapHeadSer, //
};
use kpreserve_vmalloc::{
    PMap,
    PStrings,
    PVec, //
};

use crate::framework::Framework;
use crate::open::{
    Anonymous,
    Open, //
};

impl<K: Preservable + Copy, V: Preservable> Open for PMap<K, V> {
    fn open_in(framework: &'static Framework, name: &CStr, flags: Flags) -> Result<Self> {
        let head = PVec::open_in(framework, name, flags)?;
        open_or_make(framework, head, flags)
    }
}

impl<K: Preservable + Copy, V: Preservable> Anonymous<MapHeadSer<K, V>> for PMap<K, V> {
    fn create_in(framework: &'static Framework, flags: Flags) -> Result<Self> {
        let areas = NewAreas::new(framework, flags)?;
        let mut head = Unfinished::new(framework, flags)?;
        if let Some(head) = &mut head.0 {
            head.reserve(1)?;
        }
        areas.finish(head.finish()?)
    }

    fn adopt_in(
        framework: &'static Framework,
        handle: ArenaHandle<MapHeadSer<K, V>>,
        flags: Flags,
    ) -> Result<Self> {
        let head = PVec::adopt_in(framework, handle, flags)?;
        open_or_make(framework, head, flags)
    }
}

impl Open for PStrings {
    fn open_in(framework: &'static Framework, name: &CStr, flags: Flags) -> Result<Self> {
        Ok(Self::from_vec(PVec::open_in(framework, name, flags)?))
    }
}

impl Anonymous<u8> for PStrings {
    fn create_in(framework: &'static Framework, flags: Flags) -> Result<Self> {
        Ok(Self::from_vec(PVec::create_in(framework, flags)?))
    }

    fn adopt_in(
        framework: &'static Framework,
        handle: ArenaHandle<u8>,
        flags: Flags,
    ) -> Result<Self> {
        Ok(Self::from_vec(PVec::adopt_in(framework, handle, flags)?))
    }
}

fn open_or_make<K: Preservable + Copy, V: Preservable>(
    framework: &'static Framework,
    mut head: PVec<MapHeadSer<K, V>>,
    flags: Flags,
) -> Result<PMap<K, V>> {
    let ser = head.get(0).map(MapHeadSer::ser);
    let children = ser.map(Children::of);
    let is_over = ser.is_some_and(|ser| ser.state.load() == MapSer::ENDING);
    let ser = match children {
        Some(ser) if !is_over => ser,
        children => {
            if let Some(ser) = children {
                // It was being discarded when a kexec came.
                ser.end::<K, V>(framework, flags)?;
                head.truncate(0)?;
            }
            head.reserve(1)?;
            return NewAreas::new(framework, flags)?.finish(head);
        }
    };
    PMap::from_areas(MapAreas {
        head,
        keys: PVec::adopt_in(framework, ArenaHandle::from_raw(ser.keys), flags)?,
        values: PVec::adopt_in(framework, ArenaHandle::from_raw(ser.values), flags)?,
        free: PVec::adopt_in(framework, ArenaHandle::from_raw(ser.free), flags)?,
        buckets: [
            PVec::adopt_in(framework, ArenaHandle::from_raw(ser.buckets[0]), flags)?,
            PVec::adopt_in(framework, ArenaHandle::from_raw(ser.buckets[1]), flags)?,
        ],
    })
}

/// The handles of what a map consists of, beside its head.
struct Children {
    keys: u64,
    values: u64,
    free: u64,
    buckets: [u64; 2],
}

impl Children {
    fn of(ser: &MapSer) -> Self {
        Self {
            keys: ser.keys,
            values: ser.values,
            free: ser.free,
            buckets: ser.buckets,
        }
    }

    /// Discards what is left.
    fn end<K: Preservable, V: Preservable>(
        self,
        framework: &'static Framework,
        flags: Flags,
    ) -> Result {
        for words in [self.free, self.buckets[0], self.buckets[1]] {
            end::<SharedU64>(framework, words, flags)?;
        }
        end::<K>(framework, self.keys, flags)?;
        end::<V>(framework, self.values, flags)
    }
}

/// Discards an area, unless that has been done.
fn end<T: Preservable>(framework: &'static Framework, handle: u64, flags: Flags) -> Result {
    match PVec::<T>::adopt_in(framework, ArenaHandle::from_raw(handle), flags) {
        Ok(vector) => vector.discard(),
        Err(error) if error == ENOENT || error == ESTALE => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a new map consists of, beside its head.
struct NewAreas<K: Preservable, V: Preservable> {
    keys: Unfinished<K>,
    values: Unfinished<V>,
    free: Unfinished<SharedU64>,
    buckets: [Unfinished<SharedU64>; 2],
}

impl<K: Preservable + Copy, V: Preservable> NewAreas<K, V> {
    fn new(framework: &'static Framework, flags: Flags) -> Result<Self> {
        Ok(Self {
            keys: Unfinished::new(framework, flags)?,
            values: Unfinished::new(framework, flags)?,
            free: Unfinished::new(framework, flags)?,
            buckets: [
                Unfinished::new(framework, flags)?,
                Unfinished::new(framework, flags)?,
            ],
        })
    }

    /// Makes a map of them. `head` has room for its one element: from there on nothing is freed any more.
    fn finish(self, head: PVec<MapHeadSer<K, V>>) -> Result<PMap<K, V>> {
        let [first, second] = self.buckets;
        PMap::from_new_areas(MapAreas {
            head,
            keys: self.keys.finish()?,
            values: self.values.finish()?,
            free: self.free.finish()?,
            buckets: [first.finish()?, second.finish()?],
        })
    }
}

/// An area that is freed if what it is for does not come about.
struct Unfinished<T: Preservable>(Option<PVec<T>>);

impl<T: Preservable> Unfinished<T> {
    fn new(framework: &'static Framework, flags: Flags) -> Result<Self> {
        Ok(Self(Some(PVec::create_in(framework, flags)?)))
    }

    fn finish(mut self) -> Result<PVec<T>> {
        self.0.take().ok_or(EINVAL)
    }
}

impl<T: Preservable> Drop for Unfinished<T> {
    fn drop(&mut self) {
        if let Some(vector) = self.0.take() {
            let _ = vector.discard();
        }
    }
}
