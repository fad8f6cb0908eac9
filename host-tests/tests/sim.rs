// SPDX-License-Identifier: GPL-2.0

//! The simulated machine notices what it should.

use std::vec::Vec;

use kernel::prelude::{
    Result,
    EINVAL,
    ENOMEM, //
};
use kpreserve_kho::{
    CpuLocal,
    Effort,
    Handover,
    Node,
    PageSource,
    Phys,
    Seen, //
};
use kpreserve_sim::{
    Config,
    Faults,
    Recorder,
    SimMachine, //
};

fn alloc(machine: &SimMachine, order: u8) -> Phys {
    machine.alloc_run(order, Node::ANY, Effort::Full).unwrap()
}

fn bytes(machine: &SimMachine, phys: Phys) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    machine.read_phys(phys, &mut bytes);
    bytes
}

fn preserve(machine: &SimMachine, phys: Phys, order: u8) {
    // SAFETY: the machine reports misuse as a violation, which is what is tested here.
    unsafe { machine.preserve(phys, order) }.unwrap();
}

fn unpreserve(machine: &SimMachine, phys: Phys, order: u8) {
    // SAFETY: as above.
    unsafe { machine.unpreserve(phys, order) };
}

fn restore(machine: &SimMachine, phys: Phys, order: u8) -> Result {
    // SAFETY: as above.
    unsafe { machine.restore(phys, order) }
}

fn free(machine: &SimMachine, phys: Phys, order: u8) {
    // SAFETY: as above; no pointer to the memory is kept.
    unsafe { machine.free_run(phys, order) };
}

#[track_caller]
fn expect_violation(machine: &SimMachine, text: &str) {
    let violations = machine.take_violations();
    assert!(
        violations.len() == 1 && violations[0].contains(text),
        "expected \"{text}\", found {violations:?}"
    );
}

#[test]
fn what_was_preserved_crosses_and_nothing_else() {
    let first = SimMachine::boot(Config::default());
    let kept = alloc(first, 2);
    let lost = alloc(first, 2);
    let virt = first.window().virt(kept).unwrap();
    first.write_phys(kept, b"hello");
    first.write_phys(lost, b"hello");
    preserve(first, kept, 2);
    first.assert_sound();

    let second = first.reboot();
    assert_ne!(second.window().virt(kept).unwrap(), virt);
    assert_eq!(second.probe(kept), Seen::Preserved { order: 2 });
    assert_eq!(second.probe(lost), Seen::NotPreserved);
    assert!(bytes(second, kept).starts_with(b"hello\0"));
    assert!(!bytes(second, lost).starts_with(b"hello"));
    // Not restored: it is given to nobody.
    assert_eq!(second.nr_incoming_pages(), 4);
    assert_eq!(second.nr_free_pages(), 1020);
    restore(second, kept, 2).unwrap();
    assert_eq!(second.probe(kept), Seen::NotPreserved);
    free(second, kept, 2);
    assert_eq!(second.nr_free_pages(), 1024);
    second.assert_sound();
    // Nothing was preserved in this boot.
    assert_eq!(second.reboot().nr_incoming_pages(), 0);
}

#[test]
fn memory_crosses_unrestored() {
    let first = SimMachine::boot(Config::default());
    let phys = alloc(first, 0);
    first.write_phys(phys, b"carried");
    preserve(first, phys, 0);
    let second = first.reboot();
    preserve(second, phys, 0);
    second.assert_sound();
    let third = second.reboot();
    assert!(bytes(third, phys).starts_with(b"carried"));
}

#[test]
fn misuse_is_a_violation() {
    let machine = SimMachine::boot(Config {
        nr_scratch_pages: 4,
        absent: vec![8..16, 1000..1024],
        ..Config::default()
    });
    let base = machine.config().phys_base;
    let phys = alloc(machine, 1);
    unpreserve(machine, phys, 1);
    expect_violation(machine, "no such key");
    preserve(machine, phys, 1);
    free(machine, phys, 1);
    expect_violation(machine, "is preserved");
    unpreserve(machine, phys, 1);
    free(machine, phys, 1);
    expect_violation(machine, "it is Free");

    let phys = alloc(machine, 2);
    preserve(machine, phys, 2);
    preserve(machine, phys, 2);
    expect_violation(machine, "is there");
    // One unpreserve clears it, as in mainline.
    unpreserve(machine, phys, 2);
    assert_eq!(machine.counters().keys, 0);
    // A part of a run may be preserved beside the whole, but not beside a part that overlaps.
    preserve(machine, phys, 1);
    machine.assert_sound();
    preserve(machine, phys, 0);
    expect_violation(machine, "is there");
    unpreserve(machine, phys, 0);
    unpreserve(machine, phys, 1);
    free(machine, phys, 1);
    expect_violation(machine, "it is Head(2)");
    free(machine, phys, 2);
    machine.assert_sound();

    let scratch = Phys::new(base);
    // SAFETY: reported as a violation.
    assert_eq!(unsafe { machine.preserve(scratch, 0) }, Err(EINVAL));
    expect_violation(machine, "scratch");
    assert_eq!(restore(machine, phys, 2), Err(EINVAL));
    expect_violation(machine, "not preserved");
    assert_eq!(machine.probe(Phys::new(base + (9 << 12))), Seen::NotMemory);
    assert_eq!(machine.probe(Phys::new(base + (1 << 30))), Seen::NotMemory);
    assert_eq!(machine.probe(Phys::new(u64::MAX)), Seen::NotMemory);
    assert_eq!(machine.probe(Phys::NULL), Seen::NotMemory);
}

#[test]
fn a_restore_of_the_wrong_order_is_refused() {
    let first = SimMachine::boot(Config::default());
    let phys = alloc(first, 3);
    preserve(first, phys, 3);
    let second = first.reboot();
    assert_eq!(restore(second, phys, 2), Err(EINVAL));
    expect_violation(second, "it is 3");
}

#[test]
fn a_store_to_free_memory_is_a_violation() {
    let machine = SimMachine::boot(Config::with_pages(16));
    let phys = alloc(machine, 0);
    free(machine, phys, 0);
    machine.write_phys(phys, b"stale pointer");
    for _ in 0..16 {
        alloc(machine, 0);
    }
    expect_violation(machine, "while it was free");
    assert_eq!(
        machine.alloc_run(0, Node::ANY, Effort::Full),
        Err(ENOMEM),
        "all 16 are out"
    );
}

#[test]
fn fragmentation_limits_the_order() {
    let machine = SimMachine::boot(Config {
        order_max: 3,
        percent_taken: 10,
        ..Config::default()
    });
    assert_eq!(machine.alloc_run(4, Node::ANY, Effort::Light), Err(ENOMEM));
    assert!(machine.alloc_run(3, Node::ANY, Effort::Light).is_ok());
    assert_eq!(machine.alloc_run(11, Node::ANY, Effort::Light), Err(EINVAL));
}

#[test]
fn runs_are_mapped_one_after_the_other() {
    let machine = SimMachine::boot(Config::default());
    let runs = [
        (alloc(machine, 0), 0),
        (alloc(machine, 3), 3),
        (alloc(machine, 1), 1),
    ];
    for (i, &(phys, _)) in runs.iter().enumerate() {
        machine.write_phys(phys, &[i as u8 + 1; 4096]);
    }
    // SAFETY: the runs are in use, and stay.
    let start = unsafe { machine.map_runs(&runs) }.unwrap();
    for (page, byte) in [(0, 1u8), (1, 2), (9, 3)] {
        // SAFETY: the mapping has 11 pages.
        let at = unsafe { start.add(page * 4096) };
        // SAFETY: it is mapped.
        assert_eq!(unsafe { at.read_volatile() }, byte);
    }
    // SAFETY: mapped above, and not used any more.
    unsafe { machine.unmap_runs(start, 11 * 4096) };
    machine.assert_sound();
    assert_eq!(machine.counters().mappings, 0);
}

#[test]
fn calls_fail_when_told_to() {
    let machine = SimMachine::boot(Config::default());
    machine.set_faults(Faults::nth(2));
    let phys = alloc(machine, 0);
    // SAFETY: allocated above.
    assert_eq!(unsafe { machine.preserve(phys, 0) }, Err(ENOMEM));
    preserve(machine, phys, 0);
    assert_eq!(machine.set_faults(Faults::none()).count(), 3);
}

#[test]
fn a_recorder_sees_each_step() {
    use kernel::sync::atomic::{
        Atomic,
        Release, //
    };

    let machine = SimMachine::boot(Config::with_pages(16));
    let recorder = Recorder::start(machine).torn(8);
    let phys = alloc(machine, 0);
    preserve(machine, phys, 0);
    let at = machine.window().virt(phys).unwrap().cast::<u64>();
    for i in 1..5 {
        // SAFETY: inside the page, which is ours.
        let word = unsafe { at.add(i) };
        // SAFETY: as above.
        unsafe { word.write_volatile(i as u64) };
    }
    // SAFETY: as above, and aligned.
    unsafe { Atomic::from_ptr(at.as_ptr()) }.store(9u64, Release);
    unpreserve(machine, phys, 0);
    free(machine, phys, 0);
    let cuts = recorder.finish();
    machine.assert_sound();

    let state = |cut: &kpreserve_sim::Cut| {
        let mut image = cut.image.clone();
        image.keys().next()?;
        image.insert_key(phys, 0);
        Some(
            (0..5)
                .map(|i| image.read_u64(Phys::new(phys.get() + 8 * i)))
                .collect::<Vec<_>>(),
        )
    };
    let states: Vec<_> = cuts.iter().map(state).collect();
    assert_eq!(states.first(), Some(&None));
    assert_eq!(states.last(), Some(&None));
    assert!(states.contains(&Some(vec![0, 0, 0, 0, 0])));
    assert!(states.contains(&Some(vec![0, 1, 2, 3, 4])));
    assert!(states.contains(&Some(vec![9, 1, 2, 3, 4])));
    // Some in which a part of the plain stores is missing, but none that has the release store
    // without them.
    assert!(states.len() > 5);
    for state in states.iter().flatten() {
        assert!(state[0] == 0 || *state == [9, 1, 2, 3, 4]);
    }
    // Each can be booted.
    for cut in &cuts {
        let next = cut.image.boot();
        assert_eq!(next.nr_incoming_pages(), cut.image.keys().count());
        next.power_off();
    }
}

#[test]
fn a_pinned_thread_has_its_cpu_for_itself() {
    let machine = SimMachine::boot(Config::default());
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let cpu = machine.pin();
                    assert_eq!(machine.pin(), cpu);
                    let bit = 1 << cpu;
                    let before = inside.fetch_or(bit, std::sync::atomic::Ordering::SeqCst);
                    assert_eq!(before & bit, 0);
                    inside.fetch_and(!bit, std::sync::atomic::Ordering::SeqCst);
                    for _ in 0..2 {
                        // SAFETY: pinned twice.
                        unsafe { machine.unpin() };
                    }
                }
            });
        }
    });
    machine.assert_sound();
}

#[test]
#[should_panic(expected = "may sleep")]
fn a_pinned_thread_does_not_sleep() {
    let machine = SimMachine::boot(Config::default());
    machine.pin();
    alloc(machine, 0);
}
