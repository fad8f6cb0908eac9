// SPDX-License-Identifier: GPL-2.0

//! A world: one of everything that can be opened.

use kernel::prelude::{
    Error,
    Result,
    EINVAL,
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
    PVec, //
};

kpreserve::preservable! {
    /// An object that fills an odd number of bytes.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct NodeSer {
        pub id: u64,
        pub next: Handle<NodeSer>,
        pub words: [u64; 3],
    }
    compatible = "framework-node", version = 1

    /// An object of which only few fit into a slab.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct BigSer {
        pub words: [u64; 200],
    }
    compatible = "framework-big", version = 1

    /// How the rest is found.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct StateSer {
        pub number: u64,
        pub first: Handle<NodeSer>,
        pub log: ArenaHandle<u16>,
    }
    compatible = "framework-state", version = 1
}

impl NodeSer {
    /// Returns the object of a number.
    pub fn of(id: u64, next: Handle<NodeSer>) -> Self {
        let word = |i: u64| {
            id.wrapping_add(1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(i as u32)
        };
        Self {
            id,
            next,
            words: [word(1), word(2), word(3)],
        }
    }
}

impl BigSer {
    /// Returns the object of a number.
    pub fn of(id: u64) -> Self {
        let mut words = [0; 200];
        for (i, word) in words.iter_mut().enumerate() {
            *word = (id << 32) | (i as u64) | (1 << 63);
        }
        Self { words }
    }
}

/// What a state is found as that was never there.
pub const UNSET: StateSer = StateSer {
    number: u64::MAX,
    first: Handle::NULL,
    log: ArenaHandle::NULL,
};

/// The parts of a world.
pub const PARTS: [&str; 6] = ["nodes", "big", "area", "vec", "state", "log"];

/// What is in a world.
#[derive(Clone, Debug)]
pub struct World {
    /// Handles of objects, and their numbers; a list through `next`, the last first.
    pub nodes: Vec<(Handle<NodeSer>, u64)>,
    pub big: Vec<Handle<BigSer>>,
    pub area_len: usize,
    pub vec_len: usize,
    pub state: StateSer,
}

pub fn area_element(i: usize) -> u32 {
    (i as u32).wrapping_mul(0x9e37_79b1) | 1
}

pub fn vec_element(i: usize) -> u64 {
    (i as u64 + 7).wrapping_mul(0x0123_4567_89ab_cdef)
}

const LOG: [u16; 5] = [3, 1, 4, 1, 5];

impl World {
    /// Makes a world.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn build(framework: &'static Framework) -> Result<World> {
        Self::build_sized(framework, 150, 1500, 700)
    }

    /// Makes a world of a size.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn build_sized(
        framework: &'static Framework,
        nr_nodes: u64,
        area_len: usize,
        vec_len: usize,
    ) -> Result<World> {
        let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL)?;
        let mut nodes: Vec<(Handle<NodeSer>, u64)> = Vec::new();
        let mut others = Vec::new();
        for id in 0..nr_nodes {
            let next = nodes.last().map_or(Handle::NULL, |&(handle, _)| handle);
            let node = cache.alloc(NodeSer::of(id, next), GFP_KERNEL)?;
            nodes.push((node.park(), id));
            // So that there are holes, with tags that are not 0.
            if id % 3 == 0 {
                others.push(cache.alloc(NodeSer::of(!0, Handle::NULL), GFP_KERNEL)?);
            }
        }
        drop(others);
        let cache = Cache::<BigSer>::open_in(framework, c"fw/big", GFP_KERNEL)?;
        let mut big = Vec::new();
        for id in 0..5 {
            big.push(cache.alloc(BigSer::of(id), GFP_KERNEL)?.park());
        }
        let mut area = Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL)?;
        area.resize(area_len)?;
        for (i, element) in area.iter_mut().enumerate() {
            *element = area_element(i);
        }
        let mut vec = PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL)?;
        for i in 0..vec_len {
            vec.push(vec_element(i))?;
        }
        let mut log = PVec::<u16>::create_in(framework, GFP_KERNEL)?;
        log.extend_from_slice(&LOG)?;
        let state = StateSer {
            number: 42,
            first: nodes.last().map_or(Handle::NULL, |&(handle, _)| handle),
            log: log.handle(),
        };
        Named::open_in(framework, c"fw/state", state, GFP_KERNEL)?;
        Ok(World {
            nodes,
            big,
            area_len,
            vec_len,
            state,
        })
    }

    /// Opens a part and compares it; `Err` if it does not open, or if an object cannot be had.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    ///
    /// # Panics
    ///
    /// If the part opens and is not as it was.
    pub fn try_part(&self, framework: &'static Framework, part: &str) -> Result {
        match part {
            "nodes" => self.try_nodes(framework),
            "big" => {
                let cache = Cache::<BigSer>::open_in(framework, c"fw/big", GFP_KERNEL)?;
                for (id, &handle) in self.big.iter().enumerate() {
                    assert_eq!(cache.peek(handle)?, BigSer::of(id as u64));
                }
                assert_eq!(cache.raw().counts().nr_objects, self.big.len());
                Ok(())
            }
            "area" => {
                let area = Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL)?;
                assert_eq!(area.len(), self.area_len);
                for (i, &element) in area.iter().enumerate() {
                    assert_eq!(element, area_element(i), "element {i} of the area");
                }
                Ok(())
            }
            "vec" => {
                let vec = PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL)?;
                assert_eq!(vec.len(), self.vec_len);
                for i in 0..self.vec_len {
                    assert_eq!(
                        vec.get(i),
                        Some(&vec_element(i)),
                        "element {i} of the vector"
                    );
                }
                Ok(())
            }
            "state" => {
                let state = Named::open_in(framework, c"fw/state", UNSET, GFP_KERNEL)?;
                assert_eq!(*state, self.state);
                Ok(())
            }
            "log" => {
                let log = PVec::adopt_in(framework, self.state.log, GFP_KERNEL)?;
                assert_eq!(log.iter().copied().collect::<Vec<u16>>(), LOG);
                Ok(())
            }
            other => panic!("no part {other}"),
        }
    }

    fn try_nodes(&self, framework: &'static Framework) -> Result {
        let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL)?;
        let mut next = Handle::NULL;
        for &(handle, id) in &self.nodes {
            assert_eq!(cache.peek(handle)?, NodeSer::of(id, next), "node {id}");
            next = handle;
        }
        // All of them, and nothing else.
        let found = cache.unclaimed().map(|node| node.park().into_raw());
        let mut found: Vec<u64> = found.collect();
        let mut known: Vec<u64> = self.nodes.iter().map(|(h, _)| h.into_raw()).collect();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known);
        Ok(())
    }

    /// Opens a part, reads all of it, whatever it is now, and changes what one may.
    ///
    /// # Errors
    ///
    /// What the framework returns.
    pub fn touch_part(&self, framework: &'static Framework, part: &str) -> Result {
        match part {
            "nodes" => {
                let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL)?;
                for &(handle, _) in &self.nodes {
                    let _ = cache.peek(handle);
                }
                touch_cache(&cache, || NodeSer::of(1, Handle::NULL))
            }
            "big" => {
                let cache = Cache::<BigSer>::open_in(framework, c"fw/big", GFP_KERNEL)?;
                touch_cache(&cache, || BigSer::of(1))
            }
            "area" => {
                let mut area = Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL)?;
                let sum = area
                    .iter()
                    .fold(0u32, |sum, element| sum.wrapping_add(*element));
                let len = area.len();
                area.resize(len + 10)?;
                area.resize(len)?;
                std::hint::black_box(sum);
                area.map().map(|_| ())
            }
            "vec" => {
                let mut vec = PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL)?;
                std::hint::black_box(vec.iter().fold(0, |sum, element| sum ^ element));
                vec.push(1)?;
                vec.pop().map(|_| ())
            }
            "state" => Named::open_in(framework, c"fw/state", UNSET, GFP_KERNEL).map(|_| ()),
            "log" => {
                let log = PVec::adopt_in(framework, self.state.log, GFP_KERNEL)?;
                std::hint::black_box(log.iter().fold(0u16, |sum, element| sum ^ element));
                Ok(())
            }
            other => panic!("no part {other}"),
        }
    }

    /// Makes and ends all kinds of things; what fails, fails.
    pub fn touch_all(&self, framework: &'static Framework) {
        for i in 0..40 {
            let text = super::name(&format!("touch/{i}"));
            let init = StateSer { number: i, ..UNSET };
            if let Ok(named) = Named::<StateSer>::open_in(framework, &text, init, GFP_KERNEL) {
                assert_eq!(named.number, i, "a new object is new");
                if i % 2 == 0 {
                    let _ = named.discard(&text);
                }
            }
        }
        let area = Area::<u64>::open_in(framework, c"touch/area", GFP_KERNEL);
        let _ = area.and_then(|mut area| {
            area.resize(1000)?;
            area.discard()
        });
        let vec = PVec::<u16>::create_in(framework, GFP_KERNEL);
        let _ = vec.and_then(|mut vec| {
            vec.extend_zeroed(3000)?;
            vec.discard()
        });
        if let Ok(area) = Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL) {
            let _ = area.discard();
        }
        framework.work();
        framework.freeze();
    }

    /// Compares everything.
    ///
    /// # Panics
    ///
    /// If something is not as it was.
    #[track_caller]
    pub fn verify(&self, framework: &'static Framework) {
        for part in PARTS {
            if let Err(error) = self.try_part(framework, part) {
                panic!("{part} cannot be had: {error:?}");
            }
        }
    }

    /// Allocates in what is free, and checks that it was zero and nobody's; frees it again. Also
    /// makes the world's vector longer and shorter.
    ///
    /// # Panics
    ///
    /// If that does not work.
    #[track_caller]
    pub fn use_on(&self, framework: &'static Framework) {
        let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL).unwrap();
        let known: Vec<u64> = self.nodes.iter().map(|(h, _)| h.phys().get()).collect();
        let mut fresh = Vec::new();
        for _ in 0..100 {
            let node = cache
                .alloc(expecting_zeros(NodeSer::of(!1, Handle::NULL)), GFP_KERNEL)
                .expect("a free slot is zero, and there is one");
            assert!(
                !known.contains(&node.handle().phys().get()),
                "given out twice"
            );
            fresh.push(node);
        }
        drop(fresh);
        let mut vec = PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL).unwrap();
        vec.extend_zeroed(600).unwrap();
        assert!(vec
            .chunks_from(self.vec_len)
            .flatten()
            .all(|&word| word == 0));
        vec.truncate(self.vec_len).unwrap();
    }
}

/// Returns an initialiser that fails with EINVAL unless it finds zeros.
pub fn expecting_zeros(node: NodeSer) -> impl kernel::prelude::Init<NodeSer, Error> {
    let init = move |slot: *mut NodeSer| {
        // SAFETY: the slot is valid for reads, and any bytes are a node.
        let found = unsafe { slot.read() };
        if found.id != 0 || !found.next.is_null() || found.words != [0; 3] {
            return Err(EINVAL);
        }
        // SAFETY: the slot is valid for writes.
        unsafe { slot.write(node) };
        Ok(())
    };
    // SAFETY: the slot is written if and only if the closure succeeds.
    unsafe { pin_init::init_from_closure(init) }
}

fn touch_cache<T: kpreserve::Preservable>(cache: &Cache<T>, make: impl Fn() -> T) -> Result {
    let mut fresh = Vec::new();
    for _ in 0..20 {
        fresh.push(cache.alloc(make(), GFP_KERNEL)?);
    }
    drop(fresh);
    std::hint::black_box(cache.raw().counts());
    let found: Vec<Handle<T>> = cache.unclaimed().map(|object| object.park()).collect();
    for handle in found.into_iter().take(3) {
        cache.discard(handle)?;
    }
    Ok(())
}
