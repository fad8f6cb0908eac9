// SPDX-License-Identifier: GPL-2.0

//! A failure of each call of a workload, one at a time: the operation reports ENOMEM, nothing is
//! left behind, all others succeed, and the next kernel finds what the model says.

use host_tests::workload::{
    check,
    standard,
    Model,
    Worker, //
};
use kernel::error::code::ENOMEM;
use kernel::fault::{
    fail_nth_allocation,
    nr_allocations, //
};
use kpreserve_sim::{
    Call,
    Config,
    Faults,
    Image,
    SimMachine, //
};
use kpreserve_testing::Kernel;

/// Every page that is out belongs to a key, and every key to the run table.
#[track_caller]
fn assert_nothing_leaked(kernel: &Kernel) {
    let held = kernel.machine().counters();
    let nr_keys = kernel.framework().stats().nr_keys as u64;
    assert_eq!(held.keys, nr_keys, "keys that no table names");
    let nr_pages: u64 = kernel
        .machine()
        .image()
        .keys()
        .map(|(_, order)| 1 << order)
        .sum();
    assert_eq!(held.pages_out, nr_pages, "pages that no key covers");
    assert_eq!(held.mappings, 0);
}

/// Boots the framework, a second time if the first fails.
fn boot(machine: &'static SimMachine, nr_failed: &mut usize) -> Kernel {
    let before = machine.counters().held();
    match Kernel::on(machine) {
        Ok(kernel) => kernel,
        Err(error) => {
            assert_eq!(error, ENOMEM);
            *nr_failed += 1;
            assert_eq!(machine.counters().held(), before);
            Kernel::on(machine).expect("the second time it boots")
        }
    }
}

/// Runs the workload while something fails; returns what it has to have left, and how many
/// operations failed.
fn run(machine: &'static SimMachine) -> (Kernel, Model, usize) {
    let mut nr_failed = 0;
    let kernel = boot(machine, &mut nr_failed);
    let mut worker = Worker::open().or_else(|error| {
        assert_eq!(error, ENOMEM);
        nr_failed += 1;
        Worker::open()
    });
    let worker = worker.as_mut().expect("the second time it opens");
    let mut model = Model::default();
    for op in standard() {
        if let Err(error) = worker.apply(op, &mut model) {
            assert_eq!(error, ENOMEM, "{op:?}");
            nr_failed += 1;
            assert_nothing_leaked(&kernel);
            worker
                .apply(op, &mut model)
                .expect("the second time it succeeds");
        }
    }
    assert_nothing_leaked(&kernel);
    (kernel, model, nr_failed)
}

fn finish(kernel: Kernel, model: &Model) {
    let next = kernel.kexec();
    check(&next, model, model, false);
    assert_nothing_leaked(&next);
    next.machine().power_off();
}

fn fail_calls(call: Call) {
    for n in 1.. {
        let machine = SimMachine::boot(Config::with_pages(512));
        machine.set_faults(Faults::nth_of(call, n));
        let (kernel, model, nr_failed) = run(machine);
        let count = machine.set_faults(Faults::none()).count();
        finish(kernel, &model);
        if count < n {
            assert_eq!(nr_failed, 0);
            assert!(n > 1, "nothing was made to fail");
            break;
        }
        // None: a smaller run stood in, or what failed at boot was done by the first open.
        assert!(nr_failed <= 1, "call {n}: {nr_failed}");
    }
}

#[test]
fn each_run_that_cannot_be_had() {
    fail_calls(Call::Alloc);
}

#[test]
fn each_preserve_that_fails() {
    fail_calls(Call::Preserve);
}

#[test]
fn a_subtree_that_cannot_be_added() {
    fail_calls(Call::AddSubtree);
}

#[test]
fn each_small_allocation_that_fails() {
    for n in 1.. {
        let machine = SimMachine::boot(Config::with_pages(512));
        fail_nth_allocation(Some(n));
        let (kernel, model, nr_failed) = run(machine);
        let count = nr_allocations();
        fail_nth_allocation(None);
        finish(kernel, &model);
        if count < n {
            assert_eq!(nr_failed, 0);
            break;
        }
    }
}

/// What a whole workload leaves.
fn image() -> (Image, Model) {
    let (kernel, model, _) = run(SimMachine::boot(Config::with_pages(512)));
    kernel.assert_sound();
    (kernel.machine().image(), model)
}

#[test]
fn an_adoption_fails_at_each_call_and_is_done_again() {
    let (image, model) = image();
    for call in [Call::Alloc, Call::Preserve, Call::AddSubtree] {
        for n in 1.. {
            let machine = image.boot();
            machine.set_faults(Faults::nth_of(call, n));
            let mut nr_failed = 0;
            let kernel = boot(machine, &mut nr_failed);
            let count = machine.set_faults(Faults::none()).count();
            check(&kernel, &model, &model, false);
            finish(kernel, &model);
            if count < n {
                break;
            }
        }
    }
}

#[test]
fn an_adoption_fails_at_each_small_allocation_and_is_done_again() {
    let (image, model) = image();
    for n in 1.. {
        let machine = image.boot();
        fail_nth_allocation(Some(n));
        let mut nr_failed = 0;
        let kernel = boot(machine, &mut nr_failed);
        let count = nr_allocations();
        fail_nth_allocation(None);
        check(&kernel, &model, &model, false);
        finish(kernel, &model);
        if count < n {
            break;
        }
    }
}
