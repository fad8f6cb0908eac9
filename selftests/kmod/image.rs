// SPDX-License-Identifier: GPL-2.0

//! The image as the next kernel will find it, to be damaged: the one file here with unsafe code.
//!
//! It knows the formats (the `abi` modules), and nothing of how kpreserve keeps them.

use core::mem::size_of;
use core::ptr::NonNull;

use kpreserve::abi::{
    EntrySer,
    RootHeadSer,
    RootSer,
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_STRINGS,
    ARENA_TABLE,
    NR_TABLES, //
};
use kpreserve::global::framework;
use kpreserve::kho::{
    hash::fnv1a,
    kho::KHO,
    ArenaSer,
    PageSource,
    RunSer, //
};
use kpreserve::prelude::*;
use kpreserve::Phys;

/// A place in preserved memory that holds a `T` (any bytes are one).
pub(crate) struct At<T> {
    start: NonNull<T>,
}

impl<T: FromBytes + IntoBytes> At<T> {
    fn new(phys: Phys) -> Result<Self> {
        let start = KHO.window().virt(phys).ok_or(EPROTO)?;
        Ok(Self {
            start: start.cast(),
        })
    }

    /// Returns a copy.
    pub(crate) fn read(&self) -> T {
        // SAFETY: preserved memory of this image, mapped as long as the kernel runs, aligned as
        // the formats say, and any bytes are a `T`. That somebody else writes to it meanwhile is a
        // risk which a module that damages memory takes: scenarios do nothing else at that time.
        unsafe { self.start.as_ptr().read_volatile() }
    }

    /// Overwrites it.
    pub(crate) fn write(&self, value: T) {
        // SAFETY: as for `read`.
        unsafe { self.start.as_ptr().write_volatile(value) }
    }

    /// Changes it.
    pub(crate) fn change(&self, f: impl FnOnce(&mut T)) {
        let mut value = self.read();
        f(&mut value);
        self.write(value);
    }
}

/// Returns the root page.
pub(crate) fn root() -> Result<At<RootHeadSer>> {
    At::new(framework()?.root_phys())
}

/// Returns the id of the image.
pub(crate) fn root_id() -> Result<u64> {
    Ok(root()?.read().root_id)
}

/// Returns the entry of block `index` of the run table, in the root page.
pub(crate) fn table_entry(index: usize) -> Result<At<RunSer>> {
    let offset = core::mem::offset_of!(RootSer, tables) + index * size_of::<RunSer>();
    At::new(add(framework()?.root_phys(), offset)?)
}

/// Finds an entry of the run table: its place, and where it stands.
pub(crate) fn run_entry(mut is_it: impl FnMut(&RunSer) -> bool) -> Result<(u64, At<RunSer>)> {
    let mut place = NR_TABLES as u64;
    for index in 0..NR_TABLES {
        let block = table_entry(index)?.read();
        if block.is_free() {
            break;
        }
        let nr_entries = (4096usize << block.order()) / size_of::<RunSer>();
        for i in 0..nr_entries {
            let at = At::<RunSer>::new(add(block.phys(), i * size_of::<RunSer>())?)?;
            if is_it(&at.read()) {
                return Ok((place, at));
            }
            place += 1;
        }
    }
    pr_err!("no such entry in the run table\n");
    Err(EPROTO)
}

/// Returns the first run of an arena: its place in the run table, and its entry.
pub(crate) fn first_run(owner: u32) -> Result<(u64, At<RunSer>)> {
    run_entry(|entry| !entry.is_free() && entry.owner == owner && entry.index == 0)
}

/// Returns element `index` of one of the framework's own areas.
fn element<T: FromBytes + IntoBytes>(owner: u32, index: usize) -> Result<At<T>> {
    let mut first = 0;
    for run in 0.. {
        let (_, entry) =
            run_entry(|entry| !entry.is_free() && entry.owner == owner && entry.index == run)?;
        let entry = entry.read();
        let nr_elements = (4096usize << entry.order()) / size_of::<T>();
        if index < first + nr_elements {
            return At::new(add(entry.phys(), (index - first) * size_of::<T>())?);
        }
        first += nr_elements;
    }
    Err(EPROTO)
}

/// Finds the dictionary entry of a name: its index, and where it stands.
pub(crate) fn name_entry(name: &CStr) -> Result<(u32, At<EntrySer>)> {
    let hash = fnv1a(0, name.to_bytes());
    let active = root()?.read().active_entries.load() as usize;
    let entries = *ARENA_ENTRIES.get(active).ok_or(EPROTO)?;
    for index in 0..root()?.read().nr_names.load() as usize + 64 {
        let Ok(at) = element::<EntrySer>(entries, index) else {
            break;
        };
        let entry = at.read();
        if entry.hash == hash && entry.kind != 0 {
            return Ok((index as u32, at));
        }
    }
    pr_err!("no such name in the dictionary\n");
    Err(EPROTO)
}

/// Returns a byte of the dictionary's strings.
pub(crate) fn string(offset: u32) -> Result<At<u8>> {
    let active = root()?.read().active_entries.load() as usize;
    element(*ARENA_STRINGS.get(active).ok_or(EPROTO)?, offset as usize)
}

/// Returns the bucket that refers to a dictionary entry.
pub(crate) fn bucket_of(index: u32) -> Result<At<u64>> {
    let active = root()?.read().active_buckets.load() as usize;
    let owner = *ARENA_BUCKETS.get(active).ok_or(EPROTO)?;
    for bucket in 0..1 << 20 {
        let at = element::<u64>(owner, bucket)?;
        // The upper half is the tag of the name.
        let word = at.read();
        if word != u64::MAX && word as u32 == index + 1 {
            return Ok(at);
        }
    }
    Err(EPROTO)
}

/// Returns the id of the arena that a name stands for; `#2` is arena 2, whatever it is called.
pub(crate) fn arena_of(name: &CStr) -> Result<u32> {
    if let Some(id) = name.to_str().ok().and_then(|name| name.strip_prefix('#')) {
        return id.parse().map_err(|_| EPROTO);
    }
    let (_, entry) = name_entry(name)?;
    Ok(ArenaHandle::<u8>::from_raw(entry.read().value).id())
}

/// Returns the descriptor of an arena.
pub(crate) fn arena(id: u32) -> Result<At<ArenaSer>> {
    element(ARENA_TABLE, id as usize)
}

/// Returns what lies `offset` bytes into the first run of an arena.
pub(crate) fn in_first_run<T: FromBytes + IntoBytes>(owner: u32, offset: usize) -> Result<At<T>> {
    let (_, entry) = first_run(owner)?;
    At::new(add(entry.read().phys(), offset)?)
}

fn add(phys: Phys, bytes: usize) -> Result<Phys> {
    phys.checked_add(bytes as u64).ok_or(EPROTO)
}
