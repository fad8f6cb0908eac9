// SPDX-License-Identifier: GPL-2.0

//! A stop at each step of a kernel that inherited: while it adopts, and while it works in the slabs,
//! areas and names of the one before. (`cut.rs` stops a first kernel.)
//!
//! Until the image is announced the next kernel finds nothing, afterwards all of it; each operation
//! was done or not; free slots are zeros when they are given out; and a further kernel finds the
//! same.
//!
//! Tried against code that was broken on purpose, which all tests noticed: a bucket refers to its
//! entry before that is written; the image is announced before its runs are preserved; a run is
//! unpreserved before its entry is erased; old bytes of free slots stay.

mod framework_common;

use std::collections::{
    BTreeMap,
    BTreeSet, //
};

use framework_common::world::{
    area_element,
    expecting_zeros,
    vec_element,
    NodeSer,
    StateSer,
    World,
    UNSET, //
};
use framework_common::{
    name,
    small,
    up, //
};
use kernel::prelude::GFP_KERNEL;
use kernel::print::take_complaints;
use kpreserve::abi::COMPATIBLE;
use kpreserve::{
    Anonymous as _,
    Area,
    Cache,
    Framework,
    Handle,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_sim::{
    Config,
    Cut,
    Recorder,
    SimMachine, //
};

/// The number of a node that was made in the second kernel.
const NEW: u64 = 1 << 40;

/// What has to be found.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    /// Handles of nodes: number and next.
    nodes: BTreeMap<u64, (u64, u64)>,
    vec: Vec<u64>,
    /// `None` once it has been discarded.
    area_len: Option<usize>,
    names: BTreeSet<u64>,
    has_log: bool,
}

impl Model {
    fn of(world: &World) -> Self {
        let mut next = 0;
        let mut nodes = BTreeMap::new();
        for &(handle, id) in &world.nodes {
            nodes.insert(handle.into_raw(), (id, next));
            next = handle.into_raw();
        }
        Self {
            nodes,
            vec: (0..world.vec_len).map(vec_element).collect(),
            area_len: Some(world.area_len),
            names: BTreeSet::new(),
            has_log: true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Frees the n-th node.
    Free(usize),
    /// Makes a node in what is free, or in a new run.
    Alloc(u64),
    /// Finishes with all nodes that nobody claimed.
    Finish,
    /// Closes the cache, lets the worker work.
    Work,
    Push(usize),
    Pop(usize),
    Insert(usize),
    Drain(usize, usize),
    Sort,
    Shrink,
    Resize(usize),
    Discard,
    DiscardLog,
    Name(u64),
    Unname(u64),
}

fn node_name(i: u64) -> std::ffi::CString {
    name(&format!("cut/{i}"))
}

fn apply(framework: &'static Framework, world: &World, op: Op, model: &mut Model) {
    let cache = || Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL).unwrap();
    let vec = || PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL).unwrap();
    let area = || Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL).unwrap();
    match op {
        Op::Free(n) => {
            let handle = *model.nodes.keys().nth(n).unwrap();
            cache().discard(Handle::from_raw(handle)).unwrap();
            model.nodes.remove(&handle);
        }
        Op::Alloc(i) => {
            let init = expecting_zeros(NodeSer::of(NEW + i, Handle::NULL));
            let node = cache().alloc(init, GFP_KERNEL).unwrap();
            model.nodes.insert(node.park().into_raw(), (NEW + i, 0));
        }
        Op::Finish => {
            assert_eq!(cache().finish(), model.nodes.len());
            model.nodes.clear();
        }
        Op::Work => {
            framework.work();
        }
        Op::Push(n) => {
            let mut vec = vec();
            for _ in 0..n {
                let element = vec_element(model.vec.len());
                vec.push(element).unwrap();
                model.vec.push(element);
            }
        }
        Op::Pop(n) => {
            let len = model.vec.len() - n;
            vec().truncate(len).unwrap();
            model.vec.truncate(len);
        }
        Op::Insert(at) => {
            vec().insert(at, NEW).unwrap();
            model.vec.insert(at, NEW);
        }
        Op::Drain(from, nr) => {
            vec().drain(from..from + nr, |_| Ok(())).unwrap();
            model.vec.drain(from..from + nr);
        }
        Op::Sort => {
            vec().sort_by_key(|element| !element).unwrap();
            model.vec.sort_by_key(|element| !element);
        }
        Op::Shrink => vec().shrink_to_fit().unwrap(),
        Op::Resize(len) => {
            let mut area = area();
            let before = area.len();
            area.resize(len).unwrap();
            assert!(area
                .chunks_from(before)
                .flatten()
                .all(|&element| element == 0));
            model.area_len = Some(len);
        }
        Op::Discard => {
            area().discard().unwrap();
            model.area_len = None;
        }
        Op::DiscardLog => {
            let log = PVec::adopt_in(framework, world.state.log, GFP_KERNEL).unwrap();
            log.discard().unwrap();
            model.has_log = false;
        }
        Op::Name(i) => {
            let init = StateSer { number: i, ..UNSET };
            Named::<StateSer>::open_in(framework, &node_name(i), init, GFP_KERNEL).unwrap();
            model.names.insert(i);
        }
        Op::Unname(i) => {
            let named = Named::<StateSer>::open_in(framework, &node_name(i), UNSET, GFP_KERNEL);
            named.unwrap().discard(&node_name(i)).unwrap();
            model.names.remove(&i);
        }
    }
}

fn workload() -> Vec<Op> {
    let mut ops = vec![
        Op::Free(3),
        Op::Free(40),
        Op::Alloc(0),
        Op::Alloc(1),
        Op::Free(0),
    ];
    // Through all holes of what was inherited, and into a new run.
    ops.extend((2..120).map(Op::Alloc));
    ops.extend([
        Op::Push(1),
        Op::Push(5),
        Op::Pop(400),
        Op::Shrink,
        Op::Push(40),
        Op::Insert(3),
        Op::Drain(2, 30),
        Op::Drain(20, 200),
        Op::Sort,
        Op::Insert(0),
    ]);
    ops.extend([
        Op::Resize(1510),
        Op::Resize(4000),
        Op::Resize(100),
        Op::DiscardLog,
    ]);
    // The hash table is rebuilt in the middle.
    ops.extend((0..40).map(Op::Name));
    ops.extend([Op::Unname(3), Op::Name(3), Op::Unname(39), Op::Discard]);
    ops.extend([Op::Finish, Op::Work, Op::Alloc(500)]);
    ops
}

/// Looks at everything, component by component: the state before the operation, or the one after.
fn check(framework: &'static Framework, world: &World, before: &Model, after: &Model) {
    let cache = Cache::<NodeSer>::open_in(framework, c"fw/nodes", GFP_KERNEL).unwrap();
    let mut found = BTreeSet::new();
    for node in cache.unclaimed() {
        let handle = node.handle().into_raw();
        match before.nodes.get(&handle).or(after.nodes.get(&handle)) {
            Some(&(id, next)) => assert_eq!(*node, NodeSer::of(id, Handle::from_raw(next))),
            // Published, and cut before its handle was noted.
            None => {
                assert!(before != after, "{:?} should not be there", *node);
                assert_eq!(*node, NodeSer::of(node.id, Handle::NULL));
                assert!(node.id >= NEW);
            }
        }
        found.insert(node.park().into_raw());
    }
    for handle in before.nodes.keys() {
        if after.nodes.contains_key(handle) {
            assert!(found.contains(handle), "a node is lost");
        }
    }
    let mut fresh = Vec::new();
    for _ in 0..90 {
        let init = expecting_zeros(NodeSer::of(1, Handle::NULL));
        let node = cache.alloc(init, GFP_KERNEL).expect("a free slot is zero");
        let phys = node.handle().phys();
        assert!(!found
            .iter()
            .any(|raw| Handle::<()>::from_raw(*raw).phys() == phys));
        fresh.push(node);
    }
    drop(fresh);

    let vec = PVec::<u64>::open_in(framework, c"fw/vec", GFP_KERNEL).unwrap();
    let found: Vec<u64> = vec.iter().copied().collect();
    // Elements were pushed one by one; all else is one step.
    let is_between = found.starts_with(&before.vec) && after.vec.starts_with(&found);
    assert!(
        found == before.vec || found == after.vec || is_between,
        "{} elements",
        found.len()
    );

    let area = Area::<u32>::open_in(framework, c"fw/area", GFP_KERNEL).unwrap();
    let lens = [before.area_len.unwrap_or(0), after.area_len.unwrap_or(0)];
    assert!(lens.contains(&area.len()), "{} elements", area.len());
    for (i, &element) in area.iter().enumerate() {
        // What was there when it was made, or has been added since.
        assert!(element == area_element(i) || (i >= 100 && element == 0));
    }
    if area.is_empty() {
        area.discard().unwrap();
    }

    for i in before.names.union(&after.names) {
        let named =
            Named::<StateSer>::open_in(framework, &node_name(*i), UNSET, GFP_KERNEL).unwrap();
        if named.number == UNSET.number {
            let must = before.names.contains(i) && after.names.contains(i);
            assert!(!must, "name {i} is lost");
            named.discard(&node_name(*i)).unwrap();
        } else {
            assert_eq!(named.number, *i);
        }
    }
    let state = Named::<StateSer>::open_in(framework, c"fw/state", UNSET, GFP_KERNEL).unwrap();
    assert_eq!(*state, world.state);
    if before.has_log && after.has_log {
        world.try_part(framework, "log").unwrap();
    }
}

/// Records the cuts of a second kernel; phase 0 is its boot.
fn record(config: Config, ops: &[Op], nr_torn: usize) -> (World, Vec<Cut>, Vec<Model>) {
    let machine = SimMachine::boot(config);
    let world = World::build_sized(up(machine), 60, 1500, 700).unwrap();
    let machine = machine.reboot();
    let recorder = Recorder::start(machine).torn(nr_torn);
    let framework = up(machine);
    let mut models = vec![Model::of(&world), Model::of(&world)];
    for (i, &op) in ops.iter().enumerate() {
        recorder.phase(i + 1);
        let mut model = models[i + 1].clone();
        apply(framework, &world, op, &mut model);
        models.push(model);
    }
    recorder.phase(ops.len() + 1);
    models.push(models[ops.len() + 1].clone());
    let cuts = recorder.finish();
    machine.assert_sound();
    machine.power_off();
    (world, cuts, models)
}

fn survive_all(config: Config, ops: &[Op], nr_torn: usize) {
    let (world, cuts, models) = record(config, ops, nr_torn);
    let (mut nr_adopted, mut nr_lost) = (0, 0);
    for (i, cut) in cuts.iter().enumerate() {
        let result = std::panic::catch_unwind(|| {
            let machine = cut.image.boot();
            let framework = up(machine);
            if cut.image.subtree(COMPATIBLE).is_none() {
                // Not announced yet: this kernel begins anew.
                assert_eq!(cut.phase, 0);
                assert_eq!(framework.stats().generation, 1);
                machine.power_off();
                return false;
            }
            let (before, after) = (&models[cut.phase], &models[cut.phase + 1]);
            take_complaints();
            check(framework, &world, before, after);
            let complaints = take_complaints();
            assert!(complaints.is_empty(), "{complaints:#?}");
            machine.assert_sound();
            let machine = machine.reboot();
            check(up(machine), &world, before, after);
            machine.assert_sound();
            assert_eq!(machine.nr_incoming_pages(), 0);
            machine.power_off();
            true
        });
        match result {
            Ok(true) => nr_adopted += 1,
            Ok(false) => nr_lost += 1,
            Err(panic) => {
                let op = cut.phase.checked_sub(1).and_then(|op| ops.get(op));
                std::eprintln!("cut {i} of {}, in {op:?}: {}", cuts.len(), cut.step);
                std::panic::resume_unwind(panic);
            }
        }
    }
    std::println!(
        "{} cuts: {nr_adopted} adopted, {nr_lost} not announced yet",
        cuts.len()
    );
    assert!(nr_adopted > 300 && nr_lost > 5);
}

#[test]
fn a_cut_at_each_step_of_a_second_kernel() {
    survive_all(small(), &workload(), 0);
}

#[test]
fn a_cut_at_each_step_of_a_second_kernel_with_stores_missing() {
    survive_all(small(), &workload(), 1);
}

#[test]
fn a_cut_at_each_step_of_a_second_kernel_in_fragmented_memory() {
    let config = Config {
        order_max: 3,
        percent_taken: 20,
        ..small()
    };
    survive_all(config, &workload()[125..], 0);
}
