// SPDX-License-Identifier: GPL-2.0

//! A small world with one of each: names in two directories and in none, what was discarded, and
//! maps.

use kernel::prelude::{
    Result,
    GFP_KERNEL, //
};
use kpreserve::{
    Anonymous as _,
    Area,
    ArenaHandle,
    Cache,
    Framework,
    Handle,
    Named,
    Open as _,
    PMap,
    PStrings,
    PVec,
    StrSer, //
};

kpreserve::preservable! {
    /// An object of the cache.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct CupSer {
        pub number: u64,
        pub words: [u64; 4],
    }
    compatible = "household-cup", version = 1

    /// How an area without a name is found.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct StateSer {
        pub number: u64,
        pub log: ArenaHandle<u16>,
    }
    compatible = "household-state", version = 1
}

/// The names, but that of what was discarded.
pub const NAMES: [&str; 7] = [
    "s/cups",
    "s/area",
    "s/vec",
    "m/map",
    "m/strings",
    "m/old",
    "state",
];

/// The name of a vector that was discarded.
pub const GONE: &str = "s/gone";

const NR_KEYS: u64 = 20;

/// What is in it.
#[derive(Clone, Debug)]
pub struct Household {
    cups: Vec<Handle<CupSer>>,
    state: StateSer,
    strings: Vec<StrSer>,
}

fn cup(number: u64) -> CupSer {
    CupSer {
        number,
        words: [number, !number, number << 32, 7],
    }
}

fn value(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn has_key(key: u64) -> bool {
    key % 5 != 0
}

const WORDS: [&str; 3] = ["saucer", "spoon", "sugar"];

impl Household {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn build(framework: &'static Framework) -> Result<Household> {
        let cache = Cache::<CupSer>::open_in(framework, c"s/cups", GFP_KERNEL)?;
        let mut cups = Vec::new();
        for number in 0..5 {
            cups.push(cache.alloc(cup(number), GFP_KERNEL)?.park());
        }
        let mut area = Area::<u32>::open_in(framework, c"s/area", GFP_KERNEL)?;
        area.resize(10)?;
        area.iter_mut().for_each(|element| *element = 0x1234_5678);
        let mut vec = PVec::<u64>::open_in(framework, c"s/vec", GFP_KERNEL)?;
        vec.extend_from_slice(&[1, 2, 3])?;
        let gone = PVec::<u8>::open_in(framework, c"s/gone", GFP_KERNEL)?;
        // Of an arena that is there no more, and of an entry that is free.
        PVec::<u8>::open_in(framework, c"s/away", GFP_KERNEL)?.discard()?;
        framework.remove_name(c"s/away")?;
        let mut map = PMap::<u64, u64>::open_in(framework, c"m/map", GFP_KERNEL)?;
        for key in 0..NR_KEYS {
            map.insert(key, value(key))?;
        }
        for key in (0..NR_KEYS).filter(|&key| !has_key(key)) {
            map.remove(&key)?;
        }
        let mut heap = PStrings::open_in(framework, c"m/strings", GFP_KERNEL)?;
        let mut strings = Vec::new();
        for word in WORDS {
            strings.push(heap.push(word.as_bytes())?);
        }
        // One that takes an entry and a record that were used before.
        PVec::<u8>::open_in(framework, c"m/tmp", GFP_KERNEL)?.discard()?;
        PVec::<u64>::open_in(framework, c"m/new", GFP_KERNEL)?.push(9)?;
        framework.rename(c"m/new", c"m/old")?;
        framework.remove_name(c"m/tmp")?;
        let mut log = PVec::<u16>::create_in(framework, GFP_KERNEL)?;
        log.extend_from_slice(&[4, 5])?;
        let state = StateSer {
            number: 42,
            log: log.handle(),
        };
        Named::open_in(framework, c"state", state, GFP_KERNEL)?;
        gone.discard()?;
        Ok(Household {
            cups,
            state,
            strings,
        })
    }

    /// Opens what a name stands for; returns whether it is as it was.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn is_there(&self, framework: &'static Framework, name: &str) -> Result<bool> {
        Ok(match name {
            "s/cups" => {
                let cache = Cache::<CupSer>::open_in(framework, c"s/cups", GFP_KERNEL)?;
                let found = |(i, handle): (usize, &Handle<CupSer>)| {
                    cache
                        .peek(*handle)
                        .is_ok_and(|found| found == cup(i as u64))
                };
                self.cups.iter().enumerate().all(found)
            }
            "s/area" => {
                let area = Area::<u32>::open_in(framework, c"s/area", GFP_KERNEL)?;
                area.iter().copied().eq([0x1234_5678; 10])
            }
            "s/vec" => {
                let vec = PVec::<u64>::open_in(framework, c"s/vec", GFP_KERNEL)?;
                vec.iter().copied().eq([1, 2, 3])
            }
            "m/map" => {
                let map = PMap::<u64, u64>::open_in(framework, c"m/map", GFP_KERNEL)?;
                let mut found: Vec<(u64, u64)> = map.iter().map(|(k, v)| (*k, *v)).collect();
                found.sort_unstable();
                let keys = (0..NR_KEYS).filter(|&key| has_key(key));
                found.iter().copied().eq(keys.map(|key| (key, value(key))))
            }
            "m/strings" => {
                let heap = PStrings::open_in(framework, c"m/strings", GFP_KERNEL)?;
                let mut pairs = self.strings.iter().zip(WORDS);
                pairs.all(|(ser, word)| heap.get(*ser) == Ok(word.as_bytes()))
            }
            "m/old" => {
                let vec = PVec::<u64>::open_in(framework, c"m/old", GFP_KERNEL)?;
                vec.iter().copied().eq([9])
            }
            "state" => {
                let unset = StateSer {
                    number: 0,
                    log: ArenaHandle::NULL,
                };
                let state = Named::open_in(framework, c"state", unset, GFP_KERNEL)?;
                *state == self.state
            }
            other => panic!("no name {other}"),
        })
    }

    /// Opens the area without a name; returns whether it is as it was.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn has_log(&self, framework: &'static Framework) -> Result<bool> {
        let log = PVec::adopt_in(framework, self.state.log, GFP_KERNEL)?;
        Ok(log.iter().copied().eq([4, 5]))
    }

    /// Changes the map in each way that there is: keys that are there, were there, and never were.
    ///
    /// # Errors
    ///
    /// What the framework returns. What was done before stays so.
    pub fn change_map(framework: &'static Framework) -> Result<bool> {
        let mut map = PMap::<u64, u64>::open_in(framework, c"m/map", GFP_KERNEL)?;
        let mut is_right = true;
        for key in 0..NR_KEYS {
            // A key that cannot be said to be there or not is said nothing of.
            let had = map.insert(key, value(key))?;
            is_right &= had == has_key(key);
            if !has_key(key) {
                is_right &= map.remove(&key)? == Some(value(key));
            }
        }
        Ok(is_right)
    }
}
