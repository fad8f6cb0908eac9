// SPDX-License-Identifier: GPL-2.0

//! A workload that touches everything the framework has, with a model of what the next kernel has
//! to find after each operation.

use std::collections::{
    BTreeMap,
    BTreeSet, //
};
use std::ffi::CString;
use std::vec::Vec;

use kernel::prelude::{
    Error,
    Init,
    Result,
    EINVAL,
    GFP_KERNEL, //
};
use kpreserve::{
    Anonymous as _,
    Area,
    ArenaHandle,
    Cache,
    Handle,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_testing::Kernel;
use pin_init::init_from_closure;

kpreserve::preservable! {
    /// An object of the workload.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct RecordSer {
        /// What the rest is computed from.
        pub id: u64,
        /// Filled with numbers that follow from `id`.
        pub words: [u64; 7],
    }
    compatible = "workload-record", version = 1

    /// A named object of the workload.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct StateSer {
        /// A number.
        pub value: u64,
        /// An area without a name.
        pub area: ArenaHandle<u32>,
    }
    compatible = "workload-state", version = 1
}

impl RecordSer {
    /// Makes the record that `id` stands for.
    pub fn of(id: u64) -> Self {
        let mut words = [0; 7];
        for (i, word) in words.iter_mut().enumerate() {
            *word = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i as u32) | 1;
        }
        Self { id, words }
    }
}

/// Returns an initialiser that fails with EINVAL unless it finds zeros.
pub fn expecting_zeros(record: RecordSer) -> impl Init<RecordSer, Error> {
    let init = move |slot: *mut RecordSer| {
        // SAFETY: the slot is valid for reads, and any bytes are a record.
        let found = unsafe { slot.read() };
        if found.id != 0 || found.words != [0; 7] {
            return Err(EINVAL);
        }
        // SAFETY: the slot is valid for writes.
        unsafe { slot.write(record) };
        Ok(())
    };
    // SAFETY: the slot is written if and only if the closure succeeds.
    unsafe { init_from_closure(init) }
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// Allocates an object and parks it.
    Alloc(u64),
    /// Frees the n-th object (modulo how many there are).
    Free(usize),
    /// Changes the n-th object to another id, as its owner.
    Change(usize, u64),
    /// Allocates an object and frees it at once.
    Churn(u64),
    /// Appends to the vector.
    Push(u64),
    /// Appends `n` numbers at once.
    Extend(usize),
    /// Takes the last off the vector.
    Pop,
    /// Shortens the vector to `n` elements.
    Truncate(usize),
    /// Gives back what the vector does not need.
    Shrink,
    /// Makes the named object of this number, with an area without a name.
    Name(u32),
    /// Ends the named object of this number, and its area.
    Unname(u32),
    /// Makes the named area of this number, with so many elements.
    Area(u32, usize),
    /// Ends the named area of this number.
    DiscardArea(u32),
    /// Closes the cache and opens it again.
    Reopen,
}

/// What the next kernel has to find.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Handles of objects, and their ids.
    pub objects: BTreeMap<u64, u64>,
    /// The vector.
    pub vec: Vec<u64>,
    /// Named objects.
    pub named: BTreeSet<u32>,
    /// Named areas, and their lengths.
    pub areas: BTreeMap<u32, usize>,
}

/// The vector's n-th element, when it was appended in bulk.
pub fn bulk(n: usize) -> u64 {
    n as u64 * 3 + 1
}

fn object_name(n: u32) -> CString {
    CString::new(format!("work/object-{n}")).unwrap_or_default()
}

fn area_name(n: u32) -> CString {
    CString::new(format!("work/area-{n}")).unwrap_or_default()
}

/// What a kernel has open while it works.
pub struct Worker {
    cache: Option<Cache<RecordSer>>,
    vec: PVec<u64>,
}

impl Worker {
    /// Opens cache and vector in the framework of this thread.
    ///
    /// # Errors
    ///
    /// What opening returns.
    pub fn open() -> Result<Self> {
        Ok(Self {
            cache: Some(Cache::open(c"work/cache", GFP_KERNEL)?),
            vec: PVec::open(c"work/vec", GFP_KERNEL)?,
        })
    }

    fn cache(&self) -> &Cache<RecordSer> {
        match &self.cache {
            Some(cache) => cache,
            None => panic!("the cache could not be opened again"),
        }
    }

    /// Does an operation, in the framework and in the model. On an error the model is unchanged,
    /// and so must be what the next kernel finds.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn apply(&mut self, op: Op, model: &mut Model) -> Result {
        match op {
            Op::Alloc(id) => {
                let object = self
                    .cache()
                    .alloc(expecting_zeros(RecordSer::of(id)), GFP_KERNEL)?;
                model.objects.insert(object.park().into_raw(), id);
            }
            Op::Free(n) => {
                if let Some(handle) = nth(model, n) {
                    self.cache().discard(Handle::from_raw(handle))?;
                    model.objects.remove(&handle);
                }
            }
            Op::Change(n, id) => {
                if let Some(handle) = nth(model, n) {
                    let mut object = self.cache().claim(Handle::from_raw(handle))?;
                    // As one word, which is all that an owner can change at once.
                    object.words = RecordSer::of(object.id).words;
                    object.park();
                    let _ = id;
                }
            }
            Op::Churn(id) => {
                drop(self.cache().alloc(RecordSer::of(id), GFP_KERNEL)?);
            }
            Op::Push(value) => {
                self.vec.push(value)?;
                model.vec.push(value);
            }
            Op::Extend(n) => {
                let from = model.vec.len();
                let more: Vec<u64> = (from..from + n).map(bulk).collect();
                self.vec.extend_from_slice(&more)?;
                model.vec.extend(more);
            }
            Op::Pop => {
                let popped = self.vec.pop()?;
                assert_eq!(popped, model.vec.pop());
            }
            Op::Truncate(n) => {
                self.vec.truncate(n)?;
                model.vec.truncate(n);
            }
            Op::Shrink => self.vec.shrink_to_fit()?,
            Op::Name(n) => {
                let mut area = PVec::<u32>::create(GFP_KERNEL)?;
                let name = object_name(n);
                let value = u64::from(n);
                let init = StateSer {
                    value,
                    area: area.handle(),
                };
                let named = area
                    .push(n)
                    .and_then(|()| Named::<StateSer>::open(&name, init, GFP_KERNEL));
                match named {
                    Ok(_named) => drop(area),
                    Err(error) => {
                        area.discard()?;
                        return Err(error);
                    }
                }
                model.named.insert(n);
            }
            Op::Unname(n) => {
                if model.named.contains(&n) {
                    let init = StateSer {
                        value: 0,
                        area: ArenaHandle::NULL,
                    };
                    let name = object_name(n);
                    let named = Named::<StateSer>::open(&name, init, GFP_KERNEL)?;
                    let handle = named.area;
                    let area = PVec::<u32>::adopt(handle, GFP_KERNEL)?;
                    named.discard(&name)?;
                    model.named.remove(&n);
                    area.discard()?;
                }
            }
            Op::Area(n, len) => {
                let mut area = Area::<u64>::open(&area_name(n), GFP_KERNEL)?;
                model.areas.entry(n).or_insert(0);
                area.resize(len)?;
                model.areas.insert(n, len);
            }
            Op::DiscardArea(n) => {
                if model.areas.contains_key(&n) {
                    Area::<u64>::open(&area_name(n), GFP_KERNEL)?.discard()?;
                    model.areas.remove(&n);
                }
            }
            Op::Reopen => {
                self.cache = None;
                self.cache = Some(Cache::open(c"work/cache", GFP_KERNEL)?);
            }
        }
        Ok(())
    }
}

fn nth(model: &Model, n: usize) -> Option<u64> {
    let len = model.objects.len().max(1);
    model.objects.keys().nth(n % len).copied()
}

/// A workload of some fifty operations that meets every kind of structural change: growth of caches
/// and areas, a second hash table, emptied runs.
pub fn standard() -> Vec<Op> {
    let mut ops = vec![
        Op::Alloc(1),
        Op::Alloc(2),
        Op::Push(10),
        Op::Free(0),
        Op::Churn(3),
        Op::Alloc(4),
        Op::Name(1),
        Op::Name(2),
        Op::Change(0, 0),
        Op::Unname(1),
        Op::Name(1),
        Op::Area(1, 3),
        Op::Extend(600),
        Op::Pop,
        Op::Area(1, 2000),
        Op::Truncate(100),
        Op::Shrink,
        Op::Extend(5),
        Op::DiscardArea(1),
        Op::Area(2, 1),
        Op::Reopen,
    ];
    // More than a slab.
    ops.extend((100..170).map(Op::Alloc));
    ops.extend([Op::Free(7), Op::Free(30), Op::Free(1), Op::Alloc(200)]);
    // More names than the first hash table takes.
    ops.extend((10..42).map(Op::Name));
    ops.extend([Op::Unname(11), Op::Name(50), Op::Alloc(201), Op::Push(11)]);
    ops
}

/// Checks that a kernel finds what one of two models says, component by component: a cut in the
/// middle of an operation leaves the state before or the one after it, and perhaps (`is_cut`) an
/// object that nobody knows the handle of.
///
/// # Panics
///
/// If it does not.
pub fn check(kernel: &Kernel, before: &Model, after: &Model, is_cut: bool) {
    check_objects(before, after, is_cut);
    check_vec(before, after);
    for n in before.named.union(&after.named) {
        let must = before.named.contains(n) && after.named.contains(n);
        check_named(*n, must);
    }
    for (n, len) in &before.areas {
        if let Some(other) = after.areas.get(n) {
            check_area(*n, *len, *other);
        }
    }
    kernel.assert_sound();
}

fn check_objects(before: &Model, after: &Model, is_cut: bool) {
    let cache = Cache::<RecordSer>::open(c"work/cache", GFP_KERNEL).expect("the cache opens");
    let mut found = BTreeMap::new();
    for object in cache.unclaimed() {
        assert_eq!(*object, RecordSer::of(object.id), "an object is damaged");
        let id = object.id;
        found.insert(object.park().into_raw(), id);
    }
    for (handle, id) in &found {
        let known = before.objects.get(handle).or(after.objects.get(handle));
        assert!(
            known == Some(id) || (is_cut && known.is_none()),
            "object {id} at {handle:#x} should not be there"
        );
    }
    for (handle, id) in &before.objects {
        if after.objects.get(handle) == Some(id) {
            assert_eq!(
                found.get(handle),
                Some(id),
                "object {id} at {handle:#x} is lost"
            );
        }
    }
    // What is free is zero, and can be used.
    let mut fresh = Vec::new();
    for id in 0..70 {
        let init = expecting_zeros(RecordSer::of(id));
        fresh.push(cache.alloc(init, GFP_KERNEL).expect("a free slot is zero"));
    }
    for object in &fresh {
        let handle = object.handle().into_raw();
        let reused = found.keys().any(|other| (other ^ handle) << 8 == 0);
        assert!(!reused, "a slot with an object was given out");
    }
}

fn check_vec(before: &Model, after: &Model) {
    let vec = PVec::<u64>::open(c"work/vec", GFP_KERNEL).expect("the vector opens");
    let (short, long) = if before.vec.len() <= after.vec.len() {
        (&before.vec, &after.vec)
    } else {
        (&after.vec, &before.vec)
    };
    let len = vec.len();
    assert!((short.len()..=long.len()).contains(&len), "{len} elements");
    for (i, element) in long.iter().enumerate().take(len) {
        assert_eq!(vec.get(i), Some(element), "element {i}");
    }
}

fn check_named(n: u32, must: bool) {
    const NEW: u64 = u64::MAX;
    let init = StateSer {
        value: NEW,
        area: ArenaHandle::NULL,
    };
    let name = object_name(n);
    let named = Named::<StateSer>::open(&name, init, GFP_KERNEL).expect("a named object opens");
    if named.value == NEW {
        assert!(!must, "named object {n} is lost");
        named.discard(&name).expect("it was just made");
        return;
    }
    assert_eq!(named.value, u64::from(n));
    if !must && PVec::<u32>::adopt(named.area, GFP_KERNEL).is_err() {
        return;
    }
    let area = PVec::<u32>::adopt(named.area, GFP_KERNEL).expect("its area opens");
    assert_eq!((area.len(), area.get(0)), (1, Some(&n)));
}

fn check_area(n: u32, before: usize, after: usize) {
    let area = Area::<u64>::open(&area_name(n), GFP_KERNEL).expect("a named area opens");
    let (short, long) = (before.min(after), before.max(after));
    assert!(
        (short..=long).contains(&area.len()),
        "{} elements",
        area.len()
    );
    assert!(area.iter().all(|&element| element == 0));
}
