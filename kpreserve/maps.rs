// SPDX-License-Identifier: GPL-2.0

//! Opening maps and heaps of strings: what stands for several areas is found by one of them.

use core::ffi::CStr;

use kernel::alloc::Flags;
use kernel::prelude::*;
use kpreserve_kho::{
    refusal::Relation,
    validate::{
        expect,
        expect_equal, //
    },
    ArenaHandle,
    GatePass,
    Ledger,
    Preservable,
    Refusal,
    SharedU64, //
};
use kpreserve_vmalloc::abi::MapSer;
use kpreserve_vmalloc::buckets::NR_BUCKETS_MIN;
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
        let pass = framework.gate().enter()?;
        let head = PVec::open_in(framework, name, flags)?;
        open_or_make(framework, &pass, head, flags)
    }
}

impl<K: Preservable + Copy, V: Preservable> Anonymous<MapHeadSer<K, V>> for PMap<K, V> {
    fn create_in(framework: &'static Framework, flags: Flags) -> Result<Self> {
        // Held all along: what does not come about is freed, also if somebody begins to freeze.
        let pass = framework.gate().enter()?;
        let areas = NewAreas::new(framework, &pass, flags)?;
        let head = Unfinished::new(framework, &pass, 1, flags)?;
        areas.finish(head.finish()?)
    }

    fn adopt_in(
        framework: &'static Framework,
        handle: ArenaHandle<MapHeadSer<K, V>>,
        flags: Flags,
    ) -> Result<Self> {
        let pass = framework.gate().enter()?;
        let head = PVec::adopt_in(framework, handle, flags)?;
        open_or_make(framework, &pass, head, flags)
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
    pass: &GatePass<'_>,
    mut head: PVec<MapHeadSer<K, V>>,
    flags: Flags,
) -> Result<PMap<K, V>> {
    let id = head.raw().id();
    let Some(ser) = head.get(0).map(MapHeadSer::ser) else {
        expect_none_behind(framework, &head, flags)?;
        head.reserve_with(pass, 1)?;
        return NewAreas::new(framework, pass, flags)?.finish(head);
    };
    // Before anything that it names is opened, or freed.
    ser.validate(id).map_err(Refusal::report)?;
    let children = Children::of(id, ser);
    if children.is_over(framework, ser.state.load(), flags)? {
        // It was being discarded when a kexec came.
        children.end::<K, V>(framework, pass, flags)?;
        head.truncate_with(pass, 0);
        return NewAreas::new(framework, pass, flags)?.finish(head);
    }
    let [first, second] = children.buckets;
    let areas = MapAreas {
        head,
        keys: children.open(framework, "keys", children.keys, flags)?,
        values: children.open(framework, "values", children.values, flags)?,
        free: children.open(framework, "free", children.free, flags)?,
        buckets: [
            children.open(framework, "buckets[0]", first, flags)?,
            children.open(framework, "buckets[1]", second, flags)?,
        ],
    };
    PMap::from_areas_with(pass, areas)
}

/// Checks that a head without an element is one: that none stands behind its length which names
/// keys. The head of a map that was being made may stand there, or of one that has ended.
///
/// # Errors
///
/// EINVAL if the length is damaged (logged).
fn expect_none_behind<K: Preservable + Copy, V: Preservable>(
    framework: &'static Framework,
    head: &PVec<MapHeadSer<K, V>>,
    flags: Flags,
) -> Result {
    let id = head.raw().id();
    let Some(ser) = head.behind().map(MapHeadSer::ser) else {
        return Ok(());
    };
    if ser.validate(id).is_err() || ser.state.load() == MapSer::ENDING {
        return Ok(());
    }
    let nr_keys = match PVec::<K>::adopt_in(framework, ArenaHandle::from_raw(ser.keys), flags) {
        Ok(keys) => keys.len() as u64,
        Err(error) if error == ENOENT || error == ESTALE => 0,
        Err(error) => return Err(error),
    };
    expect(
        "ArenaSer",
        "len",
        id.into(),
        0,
        1,
        Relation::AtLeast,
        nr_keys == 0,
    )
    .map_err(Refusal::report)
}

/// The handles of what a map consists of, beside its head.
struct Children {
    /// The id of the head's arena.
    head: u32,
    keys: u64,
    values: u64,
    free: u64,
    buckets: [u64; 2],
}

impl Children {
    fn of(head: u32, ser: &MapSer) -> Self {
        Self {
            head,
            keys: ser.keys,
            values: ser.values,
            free: ser.free,
            buckets: ser.buckets,
        }
    }

    /// Returns whether the map is over.
    ///
    /// # Errors
    ///
    /// EINVAL if it might be, or a bit of its state flipped: a kernel of before
    /// [`MapSer::ENDING_BARE`] was given up did not get far enough to tell (logged).
    fn is_over(&self, framework: &'static Framework, state: u64, flags: Flags) -> Result<bool> {
        if state != MapSer::ENDING_BARE {
            return Ok(state == MapSer::ENDING);
        }
        let free = ArenaHandle::from_raw(self.free);
        match PVec::<SharedU64>::adopt_in(framework, free, flags) {
            Err(error) if error == ENOENT || error == ESTALE => Ok(true),
            Err(error) => Err(error),
            Ok(_) => {
                let at = self.head.into();
                expect_equal("MapSer", "state", at, state, MapSer::ENDING)
                    .map(|()| true)
                    .map_err(Refusal::report)
            }
        }
    }

    /// Opens one of the areas.
    ///
    /// # Errors
    ///
    /// EINVAL if it has ended: a map that is not over has all of them.
    fn open<T: Preservable>(
        &self,
        framework: &'static Framework,
        field: &'static str,
        handle: u64,
        flags: Flags,
    ) -> Result<PVec<T>> {
        let opened = PVec::adopt_in(framework, ArenaHandle::from_raw(handle), flags);
        opened.map_err(|error| {
            if error != ENOENT && error != ESTALE {
                return error;
            }
            pr_err!(
                "MapSer at {:#x}: {} is {:#x}, expected the handle of an area that has not ended; \
                 left as it is, carried on, not used\n",
                self.head,
                field,
                handle
            );
            EINVAL
        })
    }

    /// Discards what is left.
    fn end<K: Preservable, V: Preservable>(
        self,
        framework: &'static Framework,
        pass: &GatePass<'_>,
        flags: Flags,
    ) -> Result {
        for words in [self.free, self.buckets[0], self.buckets[1]] {
            end::<SharedU64>(framework, pass, words, flags)?;
        }
        end::<K>(framework, pass, self.keys, flags)?;
        end::<V>(framework, pass, self.values, flags)
    }
}

/// Discards an area, unless that has been done.
fn end<T: Preservable>(
    framework: &'static Framework,
    pass: &GatePass<'_>,
    handle: u64,
    flags: Flags,
) -> Result {
    match PVec::<T>::adopt_in(framework, ArenaHandle::from_raw(handle), flags) {
        Ok(vector) => {
            vector.discard_with(pass);
            Ok(())
        }
        Err(error) if error == ENOENT || error == ESTALE => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a new map consists of, beside its head.
struct NewAreas<'a, K: Preservable, V: Preservable> {
    pass: &'a GatePass<'a>,
    keys: Unfinished<'a, K>,
    values: Unfinished<'a, V>,
    free: Unfinished<'a, SharedU64>,
    buckets: [Unfinished<'a, SharedU64>; 2],
}

impl<'a, K: Preservable + Copy, V: Preservable> NewAreas<'a, K, V> {
    fn new(framework: &'static Framework, pass: &'a GatePass<'a>, flags: Flags) -> Result<Self> {
        Ok(Self {
            pass,
            keys: Unfinished::new(framework, pass, 0, flags)?,
            values: Unfinished::new(framework, pass, 0, flags)?,
            free: Unfinished::new(framework, pass, 0, flags)?,
            buckets: [
                Unfinished::new(framework, pass, NR_BUCKETS_MIN, flags)?,
                Unfinished::new(framework, pass, 0, flags)?,
            ],
        })
    }

    /// Makes a map of them. `head` has room for its one element, and the first table for its buckets:
    /// nothing can fail from here on, nor is freed any more.
    fn finish(self, head: PVec<MapHeadSer<K, V>>) -> Result<PMap<K, V>> {
        let [first, second] = self.buckets;
        let areas = MapAreas {
            head,
            keys: self.keys.finish()?,
            values: self.values.finish()?,
            free: self.free.finish()?,
            buckets: [first.finish()?, second.finish()?],
        };
        PMap::from_new_areas_with(self.pass, areas)
    }
}

/// An area that is freed if what it is for does not come about.
struct Unfinished<'a, T: Preservable> {
    vector: Option<PVec<T>>,
    pass: &'a GatePass<'a>,
}

impl<'a, T: Preservable> Unfinished<'a, T> {
    /// Makes one, with room for `capacity` elements.
    fn new(
        framework: &'static Framework,
        pass: &'a GatePass<'a>,
        capacity: usize,
        flags: Flags,
    ) -> Result<Self> {
        let mut area = Self {
            vector: Some(PVec::create_in(framework, flags)?),
            pass,
        };
        if let Some(vector) = &mut area.vector {
            vector.reserve_with(pass, capacity)?;
        }
        Ok(area)
    }

    fn finish(mut self) -> Result<PVec<T>> {
        self.vector.take().ok_or(EINVAL)
    }
}

impl<T: Preservable> Drop for Unfinished<'_, T> {
    fn drop(&mut self) {
        if let Some(vector) = self.vector.take() {
            vector.discard_with(self.pass);
        }
    }
}
