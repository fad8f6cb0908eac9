// SPDX-License-Identifier: GPL-2.0

//! Runs, arenas, the gate, and what is refused of the previous kernel's bytes.

use std::vec::Vec;

use kernel::error::code::{
    EBUSY,
    EINVAL,
    EOPNOTSUPP, //
};
use kernel::error::Result;
use kernel::fault::fail_nth_allocation;
use kernel::prelude::{
    InPlaceInit,
    KBox,
    ENOMEM,
    GFP_KERNEL, //
};
use kpreserve_kho::hash::{
    fnv1a,
    mix, //
};
use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER, //
};
use kpreserve_kho::refusal::Relation;
use kpreserve_kho::run::Owned;
use kpreserve_kho::{
    Arena,
    ArenaHandle,
    ArenaKind,
    ArenaSer,
    Effort,
    Gate,
    Handle,
    Ledger,
    Node,
    PageRun,
    Phys,
    Refusal,
    RunSer,
    Seen,
    SharedU64, //
};
use kpreserve_sim::{
    Call,
    Config,
    Counters,
    Faults,
    Random,
    Recorder,
    SimLedger,
    SimMachine, //
};
use proptest::prelude::{
    any,
    prop_assert_eq,
    proptest,
    ProptestConfig, //
};

fn alloc(machine: &'static SimMachine, order: u8) -> PageRun<Owned> {
    PageRun::alloc(machine, order, Node::ANY, Effort::Full).unwrap()
}

fn held(machine: &SimMachine) -> (u64, u64, u64) {
    Counters::held(&machine.counters())
}

#[test]
fn a_run_goes_back_as_it_came() {
    let machine = SimMachine::boot(Config::default());
    for order in 0..=MAX_ORDER {
        let run = alloc(machine, order);
        assert_eq!(run.size_bytes(), 4096 << order);
        let phys = run.phys();
        assert!(phys.is_aligned_to(order));
        let run = run.preserve().unwrap();
        assert_eq!(held(machine), (1 << order, 1, 0));
        let run = run.unpreserve();
        assert_eq!((run.phys(), run.order()), (phys, order));
        drop(run);
        assert_eq!(held(machine), (0, 0, 0));
    }
    assert_eq!(
        PageRun::alloc(machine, 11, Node::ANY, Effort::Full).err(),
        Some(EINVAL)
    );
    machine.assert_sound();
}

#[test]
fn a_run_whose_preserve_fails_is_freed() {
    let machine = SimMachine::boot(Config::default());
    let run = alloc(machine, 3);
    machine.set_faults(Faults::nth_of(Call::Preserve, 1));
    assert_eq!(run.preserve().err(), Some(ENOMEM));
    assert_eq!(held(machine), (0, 0, 0));
    machine.assert_sound();
}

#[test]
fn dropping_a_preserved_run_gives_nothing_up() {
    let machine = SimMachine::boot(Config::default());
    drop(alloc(machine, 1).preserve().unwrap());
    assert_eq!(held(machine), (2, 1, 0));
}

#[test]
fn a_run_is_taken_over_once_and_by_its_order_only() {
    let first = SimMachine::boot(Config::default());
    let run = alloc(first, 2).preserve().unwrap();
    let phys = run.phys();
    first.write_phys(phys, b"crossed");

    let second = first.reboot();
    // SAFETY: each is dropped, or the only one, before it is used.
    let incoming = |order| unsafe { PageRun::incoming(second, phys, order, "RunSer", 5) };
    for order in [0, 1, 3, 10, 11, 63, 255] {
        let refusal = incoming(order).unwrap_err();
        assert_eq!(
            (refusal.field, refusal.at, refusal.relation),
            ("phys", 5, Relation::PreservedOrder)
        );
        assert_eq!(refusal.errno(), EINVAL);
    }
    let run = incoming(2).unwrap();
    // Handing it on fails: it may be tried again.
    second.set_faults(Faults::nth_of(Call::Preserve, 1));
    assert_eq!(run.preserve().err(), Some(ENOMEM));
    let run = incoming(2).unwrap().preserve().unwrap();
    // And it may be undone.
    let run = run.unpreserve().preserve().unwrap();
    // SAFETY: the only run there is.
    let run = unsafe { run.restore() }.unwrap();
    assert_eq!(held(second), (4, 1, 0));
    // SAFETY: the run has 16 KiB.
    let bytes = unsafe { run.memory().cast::<[u8; 8]>().read() };
    assert_eq!(&bytes, b"crossed\0");
    assert_eq!(incoming(2).unwrap_err().found, Seen::NotPreserved.code());
    drop(run.unpreserve());
    assert_eq!(held(second), (0, 0, 0));
    second.assert_sound();
}

#[test]
fn a_run_that_kho_refuses_stays_pledged() {
    let first = SimMachine::boot(Config::default());
    let phys = alloc(first, 1).preserve().unwrap().phys();
    first.write_phys(phys, b"kept");
    let second = first.reboot();
    // SAFETY: the only one.
    let run = unsafe { PageRun::incoming(second, phys, 1, "RunSer", 0) }.unwrap();
    let run = run.preserve().unwrap();
    second.set_faults(Faults::nth_of(Call::Restore, 1));
    // SAFETY: the only run there is.
    assert_eq!(unsafe { run.restore() }.err(), Some(EINVAL));
    let third = second.reboot();
    let mut bytes = [0; 4];
    third.read_phys(phys, &mut bytes);
    assert_eq!(&bytes, b"kept");
    assert_eq!(third.nr_incoming_pages(), 2);
}

#[test]
fn hostile_addresses_are_refused_unread() {
    let first = SimMachine::boot(Config {
        nr_scratch_pages: 8,
        absent: vec![100..150, 150..200],
        ..Config::default()
    });
    let known = alloc(first, 3).preserve().unwrap().phys().get();
    let second = first.reboot();
    let base = second.config().phys_base;
    let end = base + (1024 << 12);
    let mut addresses = vec![
        0,
        1,
        4095,
        4096,
        base - 4096,
        base,
        base + (150 << 12),
        end - 4096,
    ];
    addresses.extend([
        end,
        end + 4096,
        1 << 40,
        1 << 56,
        1 << 63,
        u64::MAX - 4095,
        u64::MAX,
    ]);
    addresses.extend([
        known + 1,
        known + 4096,
        known + 0x3000,
        known - 4096,
        known ^ (1 << 62),
    ]);
    let mut random = Random::new(3);
    addresses.extend((0..1000).map(|_| random.next_u64() >> random.below(64)));
    for address in addresses {
        for order in [0, 1, 3, 10, 11, 64, 255] {
            let phys = Phys::new(address);
            // SAFETY: the only one.
            let run = unsafe { PageRun::incoming(second, phys, order, "RunSer", 0) };
            assert_eq!(run.is_ok(), address == known && order == 3, "{address:#x}");
        }
    }
    second.assert_sound();
}

/// The order that the growth rule asks for.
fn expected_order(nr_pages: usize, order_min: u8, nr_pages_wanted: usize) -> u8 {
    let mut order = order_min;
    while order < MAX_ORDER {
        let next = 1usize << (order + 1);
        if next > nr_pages / 16 && next > nr_pages_wanted {
            break;
        }
        order += 1;
    }
    order
}

#[test]
fn an_arena_grows_by_a_sixteenth() {
    let machine = SimMachine::boot(Config {
        poisons: false,
        ..Config::with_pages(16 << 10)
    });
    let ledger = SimLedger::create(machine).unwrap();
    let mut arena = ledger.open(1).unwrap();
    let pass = ledger.gate().enter().unwrap();
    while arena.nr_pages() < 8 << 10 {
        let before = arena.nr_pages();
        let expected = expected_order(before, 0, 0);
        let run = arena.grow(&pass, 0, 0).unwrap();
        assert_eq!(run.pages.order(), expected);
        // An owner wastes at most a sixteenth, once it has 16 pages.
        assert!(run.pages.nr_pages() <= (before / 16).max(1));
    }
    // 8192 pages in so many keys: logarithmically few.
    assert!(arena.runs().len() < 200, "{} runs", arena.runs().len());
    let indices: Vec<u32> = arena.runs().iter().map(|run| run.index).collect();
    assert!((0..arena.runs().len() as u32).eq(indices));
    assert_eq!(ledger.nr_records(), arena.runs().len());
    machine.assert_sound();
}

#[test]
fn an_arena_grows_by_what_is_wanted() {
    let machine = SimMachine::boot(Config::default());
    let ledger = SimLedger::create(machine).unwrap();
    let pass = ledger.gate().enter().unwrap();
    for (order_min, wanted) in [(0, 1), (0, 7), (0, 8), (2, 3), (2, 200), (5, 0)] {
        let mut arena = ledger.open(1).unwrap();
        let order = arena.grow(&pass, order_min, wanted).unwrap().pages.order();
        assert_eq!(order, expected_order(0, order_min, wanted));
        // SAFETY: nobody uses the memory.
        assert_eq!(unsafe { arena.release_last(&pass) }, 1 << order);
        // SAFETY: the test's own arena, which it does not use any more.
        unsafe { ledger.close(1, arena.into_runs()) };
    }
    let mut arena = ledger.open(2).unwrap();
    assert_eq!(arena.grow(&pass, 11, 1).err(), Some(EINVAL));
    // A block of 4 MiB is not to be had on a machine of 4 MiB: less will do, down to the minimum.
    assert_eq!(arena.grow(&pass, 0, 1 << 20).unwrap().pages.order(), 9);
    assert_eq!(arena.grow(&pass, 10, 0).err(), Some(ENOMEM));
}

#[test]
fn fragmented_memory_gives_smaller_runs() {
    for order_max in 0..4 {
        let machine = SimMachine::boot(Config {
            order_max,
            percent_taken: 30,
            ..Config::default()
        });
        machine.set_faults(Faults::none());
        let Ok(ledger) = SimLedger::create(machine) else {
            // The table itself takes a run of order 2.
            continue;
        };
        let mut arena = ledger.open(1).unwrap();
        let pass = ledger.gate().enter().unwrap();
        while arena.nr_pages() < 200 {
            let run = arena.grow(&pass, 0, 64).unwrap();
            assert!(run.pages.order() <= order_max);
        }
    }
}

/// All that an arena is.
fn state(arena: &Arena) -> Vec<(Phys, u8, u32)> {
    let runs = arena.runs().iter();
    runs.map(|run| (run.pages.phys(), run.pages.order(), run.index))
        .collect()
}

#[test]
fn growth_that_fails_leaves_nothing_behind() {
    let machine = SimMachine::boot(Config::default());
    let ledger = SimLedger::create(machine).unwrap();
    let mut arena = ledger.open(1).unwrap();
    let pass = ledger.gate().enter().unwrap();
    for _ in 0..8 {
        arena.grow(&pass, 0, 0).unwrap();
    }
    type Fail = fn(&SimMachine, &SimLedger);
    let fail: [(&str, Fail); 4] = [
        // The list of runs is full, with 8: only the first growth needs more room.
        ("allocation", |_, _| fail_nth_allocation(Some(1))),
        ("alloc_run", |m, _| {
            m.set_faults(Faults::nth_of(Call::Alloc, 1).and_after());
        }),
        ("preserve", |m, _| {
            m.set_faults(Faults::nth_of(Call::Preserve, 1));
        }),
        ("record", |_, ledger| ledger.fail_record_after(Some(0))),
    ];
    for (what, fail) in fail {
        let before = (
            state(&arena),
            held(machine),
            ledger.nr_records(),
            arena.nr_pages(),
        );
        fail(machine, ledger);
        let result = arena.grow(&pass, 0, 4).map(|_| ());
        fail_nth_allocation(None);
        ledger.fail_record_after(None);
        machine.set_faults(Faults::none());
        assert_eq!(result, Err(ENOMEM), "{what}");
        let after = (
            state(&arena),
            held(machine),
            ledger.nr_records(),
            arena.nr_pages(),
        );
        assert_eq!(after, before, "{what}");
        // Each key that is left is one that the table names: a table of order 2, and the runs.
        assert_eq!(held(machine).1, 1 + ledger.nr_records() as u64);
    }
    arena.grow(&pass, 0, 4).unwrap();
    machine.assert_sound();
}

#[test]
fn a_cut_of_growth_and_release_leaves_no_entry_without_memory() {
    let machine = SimMachine::boot(Config::with_pages(64));
    let ledger = SimLedger::create(machine).unwrap();
    let mut arena = ledger.open(7).unwrap();
    let pass = ledger.gate().enter().unwrap();
    let recorder = Recorder::start(machine).torn(4);
    for _ in 0..3 {
        arena.grow(&pass, 0, 2).unwrap();
    }
    // SAFETY: nobody uses the memory.
    unsafe { arena.release_swap(&pass, 0) };
    arena.grow(&pass, 0, 0).unwrap();
    // SAFETY: as above.
    let mut release = || unsafe { arena.release_last(&pass) };
    while release() > 0 {}
    // SAFETY: as above.
    assert_eq!(unsafe { arena.release_swap(&pass, 0) }, 0);
    let cuts = recorder.finish();
    assert_eq!(held(machine), (4, 1, 0));
    machine.assert_sound();

    let mut most = 0;
    for cut in cuts {
        let next = cut.image.boot();
        // Restores what the table names, and panics where that is not preserved.
        let ledger = SimLedger::adopt(next).unwrap();
        most = most.max(ledger.open(7).unwrap().runs().len());
        next.assert_sound();
        next.power_off();
    }
    assert_eq!(most, 3);
}

#[test]
fn an_arena_is_found_again_as_it_was_closed() {
    let machine = SimMachine::boot(Config::default());
    let ledger = SimLedger::create(machine).unwrap();
    let mut arena = ledger.open(3).unwrap();
    let pass = ledger.gate().enter().unwrap();
    for order in [2, 0, 1, 5] {
        arena.grow(&pass, order, 0).unwrap();
    }
    let before = state(&arena);
    // SAFETY: the test's own arena, which it does not use any more.
    unsafe { ledger.close(3, arena.into_runs()) };
    assert_eq!(state(&ledger.open(3).unwrap()), before);

    let second = machine.reboot();
    let ledger = SimLedger::adopt(second).unwrap();
    let arena = ledger.open(3).unwrap();
    assert_eq!(state(&arena), before);
    assert_eq!(arena.nr_pages(), 4 + 1 + 2 + 32);
    second.assert_sound();
}

#[test]
fn a_frozen_gate_lets_nobody_in_and_waits_for_who_is_inside() {
    let gate = KBox::pin_init(Gate::new(), GFP_KERNEL).unwrap();
    let pass = gate.enter().unwrap();
    let second = gate.enter().unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.freeze();
            assert!(is_done.load(std::sync::atomic::Ordering::SeqCst));
        });
        while !gate.is_frozen() {
            std::thread::yield_now();
        }
        assert_eq!(gate.enter().err(), Some(EBUSY));
        drop(pass);
        is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(second);
    });
    gate.freeze();
    assert_eq!(gate.enter().err(), Some(EBUSY));
    gate.thaw();
    assert!(gate.enter().is_ok());
}

#[test]
fn handles_keep_their_parts() {
    let handle = Handle::<u64>::new(Phys::new(0x12_3456_7890), 0xa5);
    assert_eq!(handle.phys(), Phys::new(0x12_3456_7890));
    assert_eq!((handle.tag(), handle.is_null()), (0xa5, false));
    assert_eq!(Handle::<u64>::from_raw(handle.into_raw()), handle);
    assert!(Handle::<u64>::NULL.is_null());
    let area = ArenaHandle::<u64>::new(7, 9);
    assert_eq!((area.id(), area.generation()), (7, 9));
    assert_eq!(ArenaHandle::<u64>::from_raw(area.into_raw()), area);
}

const ROOT_ID: u64 = 0x1234_5678;

fn run_ser() -> RunSer {
    RunSer::new(ROOT_ID, 9, Phys::new(0x40_0000), 3, 17, 2)
}

#[track_caller]
fn refused<T>(result: Result<T, Refusal>, structure: &str, field: &str) {
    match result {
        Ok(_) => panic!("{structure}.{field} was accepted"),
        Err(refusal) => assert_eq!((refusal.structure, refusal.field), (structure, field)),
    }
}

#[test]
fn each_field_of_a_run_entry_is_checked() {
    assert!(run_ser().validate(ROOT_ID, 9).is_ok());
    // Damage: the checksum covers each field, the root and the place.
    let damage: [fn(&mut RunSer); 6] = [
        |run| run.phys_order ^= 1 << 30,
        |run| run.phys_order ^= 1,
        |run| run.owner ^= 1,
        |run| run.index ^= 1 << 31,
        |run| run.reserved ^= 1,
        |run| run.check ^= 1,
    ];
    for damage in damage {
        let mut run = run_ser();
        damage(&mut run);
        refused(run.validate(ROOT_ID, 9), "RunSer", "check");
    }
    refused(run_ser().validate(ROOT_ID + 1, 9), "RunSer", "check");
    refused(run_ser().validate(ROOT_ID, 10), "RunSer", "check");
    // Values that make no sense, with a checksum that is right.
    type Change = fn(&mut RunSer);
    let nonsense: [(Change, &str); 6] = [
        (|run| run.phys_order |= 0xb, "order"),
        (|run| run.phys_order |= 0x3f, "order"),
        (|run| run.phys_order = 0x40_1003, "phys"),
        (|run| run.phys_order = 3, "phys"),
        (|run| run.phys_order = !0x3f | 10, "phys"),
        (|run| run.phys_order = (u64::MAX << 15) | 3, "phys"),
    ];
    for (change, field) in nonsense {
        let mut run = run_ser();
        change(&mut run);
        run.check = run.checksum(ROOT_ID, 9);
        refused(run.validate(ROOT_ID, 9), "RunSer", field);
    }
}

fn arena_ser() -> ArenaSer {
    let mut ser = ArenaSer {
        kind: ArenaKind::Cache as u32,
        id: 17,
        fingerprint: 0xfeed,
        version: 2,
        stride_bytes: 64,
        slab_order: 0,
        reserved0: 0,
        first_slot: 128,
        nr_slots: 62,
        len: SharedU64::new(0),
        generation: 4,
        reserved1: 0,
        pending: SharedU64::new(0),
        check: 0,
    };
    ser.check = ser.checksum(ROOT_ID);
    ser
}

#[test]
fn each_field_of_an_arena_descriptor_is_checked() {
    assert!(arena_ser().validate(ROOT_ID, 17).is_ok());
    let damage: [fn(&mut ArenaSer); 12] = [
        |ser| ser.kind ^= 3,
        |ser| ser.id ^= 1,
        |ser| ser.fingerprint ^= 1 << 63,
        |ser| ser.version ^= 1,
        |ser| ser.stride_bytes ^= 1,
        |ser| ser.slab_order ^= 1,
        |ser| ser.reserved0 ^= 1,
        |ser| ser.first_slot ^= 1,
        |ser| ser.nr_slots ^= 1,
        |ser| ser.generation ^= 1,
        |ser| ser.reserved1 ^= 1,
        |ser| ser.check ^= 1,
    ];
    for damage in damage {
        let mut ser = arena_ser();
        damage(&mut ser);
        refused(ser.validate(ROOT_ID, 17), "ArenaSer", "check");
    }
    // The length, and what is pending, change while others read the descriptor: not covered.
    let ser = arena_ser();
    ser.len.store(99);
    ser.pending.store(7);
    assert!(ser.validate(ROOT_ID, 17).is_ok());
    refused(arena_ser().validate(ROOT_ID ^ 1, 17), "ArenaSer", "check");
    refused(arena_ser().validate(ROOT_ID, 18), "ArenaSer", "id");

    type Change = fn(&mut ArenaSer);
    let nonsense: [(Change, &str); 6] = [
        (|ser| ser.kind = 0, "kind"),
        (|ser| ser.kind = 3, "kind"),
        (|ser| ser.kind = u32::MAX, "kind"),
        (|ser| ser.stride_bytes = 0, "stride_bytes"),
        (|ser| ser.stride_bytes = (4 << 20) + 1, "stride_bytes"),
        (|ser| ser.slab_order = 11, "slab_order"),
    ];
    for (change, field) in nonsense {
        let mut ser = arena_ser();
        change(&mut ser);
        ser.check = ser.checksum(ROOT_ID);
        refused(ser.validate(ROOT_ID, 17), "ArenaSer", field);
    }
}

#[test]
fn a_refusal_says_what_was_found_and_is_logged_once() {
    let mut run = run_ser();
    run.phys_order |= 0xb;
    run.check = run.checksum(ROOT_ID, 9);
    let refusal = run.validate(ROOT_ID, 9).unwrap_err();
    kernel::print::take_log();
    assert_eq!(refusal.report(), EINVAL);
    let log = kernel::print::take_complaints();
    assert_eq!(log.len(), 1, "{log:?}");
    for word in ["RunSer", "0x9", "order", "0xb", "at most 0xa"] {
        assert!(
            log[0].contains(word),
            "\"{word}\" is missing in \"{}\"",
            log[0]
        );
    }
    let version = Refusal {
        relation: Relation::Version,
        ..refusal
    };
    assert_eq!(version.errno(), EOPNOTSUPP);
}

#[test]
fn the_hashes_are_the_published_ones() {
    // Test vectors of FNV-1a (64 bits): the empty string, "a", "foobar".
    assert_eq!(fnv1a(0, b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(0, b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv1a(0, b"foobar"), 0x8594_4171_f739_67e8);
    // Order matters, and so does a word of zero.
    assert_ne!(mix(&[1, 2]), mix(&[2, 1]));
    assert_ne!(mix(&[1]), mix(&[1, 0]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wild_entries_are_refused_without_a_panic(words in any::<[u64; 4]>(), fix in any::<bool>()) {
        let mut run = RunSer {
            phys_order: words[0],
            owner: words[1] as u32,
            index: (words[1] >> 32) as u32,
            reserved: words[2],
            check: words[3],
        };
        if fix {
            run.check = run.checksum(ROOT_ID, 9);
        }
        let size_bytes = run_size_bytes(run.order());
        let is_sound = fix && size_bytes.is_some_and(|size| {
            let phys = run.phys().get();
            phys != 0 && phys % size as u64 == 0 && phys.checked_add(size as u64).is_some()
        });
        prop_assert_eq!(run.validate(ROOT_ID, 9).is_ok(), is_sound);
    }
}
