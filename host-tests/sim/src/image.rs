// SPDX-License-Identifier: GPL-2.0

//! What the next kernel finds.

use std::collections::{
    BTreeMap,
    BTreeSet, //
};
use std::ffi::CStr;
use std::sync::Arc;

use kpreserve_kho::phys::PAGE_SIZE_BYTES;
use kpreserve_kho::Phys;

use crate::config::Config;
use crate::machine::{
    SimMachine,
    Subtrees, //
};
use crate::memory::{
    Bytes,
    Memory, //
};

/// All that one kernel leaves for the next: keys, subtrees, and the pages that the keys cover.
///
/// Images share pages that are equal; each can be damaged and booted on its own.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) config: Config,
    pub(crate) generation: u64,
    pub(crate) keys: BTreeSet<(u64, u8)>,
    pub(crate) subtrees: Subtrees,
    pub(crate) pages: BTreeMap<u64, Arc<Bytes>>,
}

impl Image {
    /// Takes an image of a machine; pages that `before` has with the same bytes are shared.
    pub(crate) fn take(machine: &SimMachine, before: Option<&Image>) -> Image {
        let (keys, subtrees) = {
            let state = machine.state();
            (state.keys.clone(), state.subtrees_out.clone())
        };
        let mut pages = BTreeMap::new();
        let mut bytes = Vec::new();
        for &(phys, order) in &keys {
            let Some(number) = machine.memory.page_number(Phys::new(phys)) else {
                continue;
            };
            bytes.resize(PAGE_SIZE_BYTES << order, 0);
            machine.memory.read(number, &mut bytes);
            for (i, chunk) in bytes.chunks_exact(PAGE_SIZE_BYTES).enumerate() {
                let at = phys + (i * PAGE_SIZE_BYTES) as u64;
                let known = before.and_then(|before| before.pages.get(&at));
                let page = match known {
                    Some(page) if page[..] == *chunk => Arc::clone(page),
                    _ => {
                        let mut page = Arc::new([0; PAGE_SIZE_BYTES]);
                        if let Some(page) = Arc::get_mut(&mut page) {
                            page.copy_from_slice(chunk);
                        }
                        page
                    }
                };
                pages.insert(at, page);
            }
        }
        Image {
            config: machine.config.clone(),
            generation: machine.generation,
            keys,
            subtrees,
            pages,
        }
    }

    /// Returns whether the next kernel would see the same.
    pub(crate) fn same_as(&self, other: &Image) -> bool {
        self.keys == other.keys
            && self.subtrees == other.subtrees
            && self.pages.len() == other.pages.len()
            && self
                .pages
                .iter()
                .zip(&other.pages)
                .all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
    }

    /// Boots the next kernel on a copy of the image.
    pub fn boot(&self) -> &'static SimMachine {
        let file = match Memory::create(&self.config) {
            Ok(file) => file,
            Err(error) => panic!("cannot make a memfd: {error}"),
        };
        let machine = SimMachine::start(
            file,
            self.config.clone(),
            self.generation + 1,
            self.keys.clone(),
            self.subtrees.clone(),
        );
        for (&phys, page) in &self.pages {
            if let Some(number) = machine.memory.page_number(Phys::new(phys)) {
                machine.memory.write(number, &page[..]);
            }
        }
        machine
    }

    /// Returns address and order of each key.
    pub fn keys(&self) -> impl Iterator<Item = (Phys, u8)> + '_ {
        self.keys
            .iter()
            .map(|&(phys, order)| (Phys::new(phys), order))
    }

    /// Makes a key be missing; returns whether it was there.
    pub fn remove_key(&mut self, phys: Phys, order: u8) -> bool {
        self.keys.remove(&(phys.get(), order))
    }

    /// Adds a key.
    pub fn insert_key(&mut self, phys: Phys, order: u8) {
        self.keys.insert((phys.get(), order));
    }

    /// Returns what a name stands for.
    pub fn subtree(&self, name: &CStr) -> Option<(Phys, usize)> {
        let &(phys, size_bytes) = self.subtrees.get(name)?;
        Some((Phys::new(phys), size_bytes))
    }

    /// Makes a name stand for something else.
    pub fn set_subtree(&mut self, name: &CStr, phys: Phys, size_bytes: usize) {
        self.subtrees
            .insert(name.to_owned(), (phys.get(), size_bytes));
    }

    /// Copies bytes out of a preserved page.
    ///
    /// # Panics
    ///
    /// If a page is not in the image.
    pub fn read(&self, phys: Phys, bytes: &mut [u8]) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (page, offset) = split(phys.get() + i as u64);
            match self.pages.get(&page) {
                Some(page) => *byte = page[offset],
                None => panic!("no page at {page:#x} in the image"),
            }
        }
    }

    /// Changes bytes of a preserved page.
    ///
    /// # Panics
    ///
    /// If a page is not in the image.
    pub fn write(&mut self, phys: Phys, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate() {
            let (page, offset) = split(phys.get() + i as u64);
            match self.pages.get_mut(&page) {
                Some(page) => Arc::make_mut(page)[offset] = byte,
                None => panic!("no page at {page:#x} in the image"),
            }
        }
    }

    /// Returns a word of a preserved page.
    pub fn read_u64(&self, phys: Phys) -> u64 {
        let mut bytes = [0; 8];
        self.read(phys, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Changes a word of a preserved page.
    pub fn write_u64(&mut self, phys: Phys, value: u64) {
        self.write(phys, &value.to_le_bytes());
    }
}

fn split(phys: u64) -> (u64, usize) {
    let offset = phys % PAGE_SIZE_BYTES as u64;
    (phys - offset, offset as usize)
}
