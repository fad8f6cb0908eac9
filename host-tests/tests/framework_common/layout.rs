// SPDX-License-Identifier: GPL-2.0

//! Where things stand in an image: read from its bytes, by the formats alone.

use core::mem::offset_of;

use kernel::prelude::FromBytes;
use kpreserve::abi::{
    EntrySer,
    RootHeadSer,
    RootSer,
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_FIRST,
    ARENA_STRINGS,
    ARENA_TABLE,
    COMPATIBLE,
    NR_TABLES, //
};
use kpreserve::kho::{
    ArenaSer,
    Phys,
    RunSer, //
};
use kpreserve_sim::Image;
use kpreserve_slab::abi::SlabSer;

/// Reads a structure out of an image.
pub fn read<T: FromBytes>(image: &Image, at: u64) -> T {
    let mut bytes = vec![0; size_of::<T>()];
    image.read(Phys::new(at), &mut bytes);
    match T::read_from_bytes(&bytes) {
        Ok(value) => value,
        Err(_) => panic!("{} bytes make no structure", bytes.len()),
    }
}

/// An entry of the run table, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct RunAt {
    pub place: u64,
    pub at: u64,
    pub run: RunSer,
}

/// Where things stand in an image.
#[derive(Clone, Debug)]
pub struct Layout {
    pub root: u64,
    pub root_id: u64,
    /// Entries of the root page that are in use.
    pub tables: Vec<RunAt>,
    /// Entries of the run table that are in use.
    pub runs: Vec<RunAt>,
    /// The first entry of the run table that is free.
    pub free: RunAt,
}

impl Layout {
    /// Reads an image that is sound.
    pub fn of(image: &Image) -> Layout {
        let root = match image.subtree(COMPATIBLE) {
            Some((phys, _)) => phys.get(),
            None => panic!("no subtree"),
        };
        let head: RootHeadSer = read(image, root);
        let mut tables = Vec::new();
        let mut runs = Vec::new();
        let mut free = None;
        let mut place = NR_TABLES as u64;
        for index in 0..NR_TABLES {
            let at = root + (offset_of!(RootSer, tables) + index * size_of::<RunSer>()) as u64;
            let block: RunSer = read(image, at);
            if block.is_free() {
                break;
            }
            tables.push(RunAt {
                place: index as u64,
                at,
                run: block,
            });
            for i in 0..(4096u64 << block.order()) / size_of::<RunSer>() as u64 {
                let at = block.phys().get() + i * size_of::<RunSer>() as u64;
                let run: RunSer = read(image, at);
                let entry = RunAt { place, at, run };
                if run.is_free() {
                    free.get_or_insert(entry);
                } else {
                    runs.push(entry);
                }
                place += 1;
            }
        }
        Layout {
            root,
            root_id: head.root_id,
            tables,
            runs,
            free: free.expect("the run table is not full"),
        }
    }

    /// Returns the runs of an arena in their order.
    pub fn runs_of(&self, owner: u32) -> Vec<RunAt> {
        let mut runs: Vec<RunAt> = self
            .runs
            .iter()
            .filter(|entry| entry.run.owner == owner)
            .copied()
            .collect();
        runs.sort_by_key(|entry| entry.run.index);
        runs
    }

    /// Returns where element `index` of an area stands.
    pub fn element(&self, owner: u32, stride: u64, index: u64) -> u64 {
        let mut index = index;
        for entry in self.runs_of(owner) {
            let nr = (4096u64 << entry.run.order()) / stride;
            if index < nr {
                return entry.run.phys().get() + index * stride;
            }
            index -= nr;
        }
        panic!("arena {owner} has no such element");
    }

    /// Returns where the descriptor of an arena stands.
    pub fn arena(&self, id: u32) -> u64 {
        if id == ARENA_TABLE {
            return self.root + offset_of!(RootHeadSer, arenas) as u64;
        }
        self.element(ARENA_TABLE, size_of::<ArenaSer>() as u64, u64::from(id))
    }

    /// Returns where the dictionary's entry `index` stands, as long as it was not compacted.
    pub fn entry(&self, index: u64) -> u64 {
        self.element(ARENA_ENTRIES[0], size_of::<EntrySer>() as u64, index)
    }

    /// Returns where the bucket `index` of the table in use stands.
    pub fn bucket(&self, image: &Image, index: u64) -> u64 {
        let head: RootHeadSer = read(image, self.root);
        let active = usize::from(head.active_buckets.load() == 1);
        self.element(ARENA_BUCKETS[active], 8, index)
    }

    /// Returns the index of the dictionary's entry of a name, and the entry.
    pub fn find(&self, image: &Image, name: &str) -> (u64, EntrySer) {
        let entries: ArenaSer = read(image, self.arena(ARENA_ENTRIES[0]));
        for index in 0..entries.len.load() {
            let entry: EntrySer = read(image, self.entry(index));
            if entry.kind == 0 || usize::from(entry.name_len) != name.len() {
                continue;
            }
            let same = name.bytes().enumerate().all(|(i, byte)| {
                let at = u64::from(entry.name_offset) + i as u64;
                read::<u8>(image, self.element(ARENA_STRINGS[0], 1, at)) == byte
            });
            if same {
                return (index, entry);
            }
        }
        panic!("no name {name}");
    }

    /// Returns the id of the arena that a name stands for.
    pub fn arena_of(&self, image: &Image, name: &str) -> u32 {
        let id = self.find(image, name).1.value as u32;
        assert!(id >= ARENA_FIRST, "{name} is no arena");
        id
    }

    /// Returns where the slabs of a cache begin that hold something.
    pub fn slabs(&self, image: &Image, name: &str) -> Vec<u64> {
        let id = self.arena_of(image, name);
        let ser: ArenaSer = read(image, self.arena(id));
        let slab_bytes = 4096u64 << ser.slab_order;
        let mut slabs = Vec::new();
        for entry in self.runs_of(id) {
            for i in 0..(4096u64 << entry.run.order()) / slab_bytes {
                let at = entry.run.phys().get() + i * slab_bytes;
                if read::<SlabSer>(image, at).magic != 0 {
                    slabs.push(at);
                }
            }
        }
        slabs
    }
}
