// SPDX-License-Identifier: GPL-2.0

//! The machine, from one boot to the next.

use core::sync::atomic::{
    AtomicBool,
    Ordering, //
};
use std::collections::{
    BTreeMap,
    BTreeSet, //
};
use std::ffi::CString;
use std::fs::File;
use std::sync::{
    Arc,
    Mutex,
    MutexGuard,
    PoisonError, //
};

use kpreserve_kho::phys::PAGE_SIZE_BYTES;
use kpreserve_kho::{
    Machine,
    Phys, //
};

use crate::buddy::Buddy;
use crate::config::Config;
use crate::counters::Counters;
use crate::cpu::Cpus;
use crate::faults::Faults;
use crate::image::Image;
use crate::memory::{
    Bytes,
    Memory, //
};
use crate::random::Random;
use crate::region::Place;

/// Whose a page is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Page {
    /// No memory.
    Absent,
    /// KHO scratch.
    Scratch,
    /// Somebody else's.
    Taken,
    /// The page allocator's.
    Free,
    /// The framework's: first page of a folio.
    Head(u8),
    /// The framework's: a further page of the folio that begins there. Half a word, as large machines
    /// have many.
    Tail(u32),
    /// Preserved by the previous kernel, not restored.
    Incoming,
}

/// Names and what they stand for.
pub(crate) type Subtrees = BTreeMap<CString, (u64, usize)>;

/// What changes while the machine runs.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) pages: Vec<Page>,
    pub(crate) buddy: Buddy,
    /// The outgoing tree of KHO: address and order.
    pub(crate) keys: BTreeSet<(u64, u8)>,
    /// What page->private of incoming head pages holds: page number to order.
    pub(crate) magic: BTreeMap<usize, u8>,
    pub(crate) subtrees_out: Subtrees,
    pub(crate) subtrees_in: Subtrees,
    pub(crate) mappings: BTreeMap<usize, (Place, usize)>,
    pub(crate) counters: Counters,
    pub(crate) faults: Faults,
    pub(crate) violations: Vec<String>,
    pub(crate) random: Random,
}

impl State {
    /// Notes what a kernel would have complained about.
    pub(crate) fn violate(&mut self, text: String) {
        std::eprintln!("kpreserve_sim: violation: {text}");
        self.violations.push(text);
    }
}

/// A machine, for one boot.
///
/// Machines are leaked: the framework wants `'static` ones. Their memory goes away when they are
/// stopped.
pub struct SimMachine {
    pub(crate) config: Config,
    pub(crate) generation: u64,
    pub(crate) memory: Memory,
    pub(crate) cpus: Cpus,
    /// What free pages are filled with in this boot.
    pub(crate) garbage: Bytes,
    stopped: AtomicBool,
    state: Mutex<State>,
}

impl core::fmt::Debug for SimMachine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SimMachine")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl SimMachine {
    /// Boots a machine whose memory holds nothing of a previous kernel.
    pub fn boot(config: Config) -> &'static SimMachine {
        let file = match Memory::create(&config) {
            Ok(file) => file,
            Err(error) => panic!("cannot make a memfd: {error}"),
        };
        Self::start(file, config, 1, BTreeSet::new(), Subtrees::new())
    }

    /// Stops the machine, wherever it is, and boots the next kernel.
    ///
    /// What the first kernel still has of objects must not touch their memory any more: forget
    /// them.
    pub fn reboot(&'static self) -> &'static SimMachine {
        let file = self.memory.file();
        let (keys, subtrees) = {
            let state = self.state();
            (state.keys.clone(), state.subtrees_out.clone())
        };
        self.power_off();
        Self::start(
            file,
            self.config.clone(),
            self.generation + 1,
            keys,
            subtrees,
        )
    }

    /// Stops the machine for good.
    pub fn power_off(&'static self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.memory.retire();
        let mappings = core::mem::take(&mut self.lock().mappings);
        for (place, _) in mappings.values() {
            place.retire();
        }
    }

    /// Starts a kernel on memory of which `keys` were preserved.
    pub(crate) fn start(
        file: Arc<File>,
        config: Config,
        generation: u64,
        keys: BTreeSet<(u64, u8)>,
        subtrees_in: Subtrees,
    ) -> &'static SimMachine {
        let mut random = Random::new(config.seed ^ generation.wrapping_mul(0x00a0_761d_6478_bd64));
        let memory = Memory::map(file, &config, (random.below(64) << 22) as usize);
        let mut state = State {
            pages: vec![Page::Free; config.nr_pages],
            buddy: Buddy::new(config.order_max),
            keys: BTreeSet::new(),
            magic: BTreeMap::new(),
            subtrees_out: Subtrees::new(),
            subtrees_in,
            mappings: BTreeMap::new(),
            counters: Counters::default(),
            faults: Faults::none(),
            violations: Vec::new(),
            random,
        };
        state.hand_out_memory(&config, &memory, &keys);
        let mut garbage = [0; PAGE_SIZE_BYTES];
        state.random.fill(&mut garbage);
        let machine = SimMachine {
            garbage,
            cpus: Cpus::new(config.nr_cpus),
            config,
            generation,
            memory,
            stopped: AtomicBool::new(false),
            state: Mutex::new(state),
        };
        machine.scramble();
        Box::leak(Box::new(machine))
    }

    /// Returns the machine as the framework sees it.
    pub fn as_dyn(&'static self) -> &'static dyn Machine {
        self
    }

    /// Returns what it was configured as.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how many kernels have run, this one included.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns what the machine was asked for in this boot.
    pub fn counters(&self) -> Counters {
        let state = self.lock();
        Counters {
            keys: state.keys.len() as u64,
            mappings: state.mappings.len() as u64,
            ..state.counters
        }
    }

    /// Returns how many pages the page allocator has.
    pub fn nr_free_pages(&self) -> usize {
        self.lock().buddy.nr_pages()
    }

    /// Returns how many pages of the previous kernel have not been restored.
    pub fn nr_incoming_pages(&self) -> usize {
        let state = self.lock();
        state
            .pages
            .iter()
            .filter(|&&page| page == Page::Incoming)
            .count()
    }

    /// Lets calls fail from here on; returns what was in force before, with its count.
    pub fn set_faults(&self, faults: Faults) -> Faults {
        core::mem::replace(&mut self.lock().faults, faults)
    }

    /// Returns, and forgets, what a kernel would have complained about.
    pub fn take_violations(&self) -> Vec<String> {
        core::mem::take(&mut self.lock().violations)
    }

    /// Checks that there was nothing that a kernel would have complained about.
    ///
    /// # Panics
    ///
    /// If there was.
    #[track_caller]
    pub fn assert_sound(&self) {
        let violations = self.take_violations();
        assert!(violations.is_empty(), "violations: {violations:#?}");
    }

    /// Returns what the next kernel would find, if this one stopped now.
    pub fn image(&self) -> Image {
        Image::take(self, None)
    }

    /// Copies bytes out of physical memory, whoever else uses it.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    pub fn read_phys(&self, phys: Phys, bytes: &mut [u8]) {
        let (number, offset) = self.locate(phys);
        let mut pages = vec![0; (offset + bytes.len()).next_multiple_of(PAGE_SIZE_BYTES)];
        self.memory.read(number, &mut pages);
        bytes.copy_from_slice(&pages[offset..offset + bytes.len()]);
    }

    /// Writes bytes into physical memory, as a wild store would.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    pub fn write_phys(&self, phys: Phys, bytes: &[u8]) {
        let (number, offset) = self.locate(phys);
        let mut pages = vec![0; (offset + bytes.len()).next_multiple_of(PAGE_SIZE_BYTES)];
        self.memory.read(number, &mut pages);
        pages[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.memory.write(number, &pages);
    }

    fn locate(&self, phys: Phys) -> (usize, usize) {
        match self.memory.page_number(phys) {
            Some(number) => (number, (phys.get() % PAGE_SIZE_BYTES as u64) as usize),
            None => panic!("no memory at {:#x}", phys.get()),
        }
    }

    /// Returns the state of a machine that runs.
    #[track_caller]
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        assert!(
            !self.stopped.load(Ordering::SeqCst),
            "a machine that was stopped was asked for something"
        );
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills all pages that hold nothing of the previous kernel with garbage.
    fn scramble(&self) {
        if !self.config.poisons {
            return;
        }
        let state = self.lock();
        for (number, &page) in state.pages.iter().enumerate() {
            if page != Page::Incoming && page != Page::Absent {
                self.memory.write(number, &self.garbage);
            }
        }
    }
}

impl State {
    /// Says whose each page is when a kernel starts.
    fn hand_out_memory(&mut self, config: &Config, memory: &Memory, keys: &BTreeSet<(u64, u8)>) {
        for range in &config.absent {
            self.pages[range.clone()].fill(Page::Absent);
        }
        self.pages[..config.nr_scratch_pages].fill(Page::Scratch);
        for &(phys, order) in keys {
            let Some(first) = memory.page_number(Phys::new(phys)) else {
                continue;
            };
            if config.added.contains(&first) {
                self.violate(format!(
                    "{phys:#x} was preserved: KHO writes to struct pages that are not there"
                ));
                continue;
            }
            self.pages[first..first + (1 << order)].fill(Page::Incoming);
            self.magic.insert(first, order);
        }
        let mut number = 0;
        while number < self.pages.len() {
            if self.pages[number] != Page::Free {
                number += 1;
            } else if config.percent_taken == 0 {
                let free = self.pages[number..].iter();
                let nr = free.take_while(|&&page| page == Page::Free).count();
                self.buddy.give_range(number..number + nr);
                number += nr;
            } else {
                if self.random.percent(config.percent_taken) {
                    self.pages[number] = Page::Taken;
                } else {
                    self.buddy.give(number, 0);
                }
                number += 1;
            }
        }
    }
}
