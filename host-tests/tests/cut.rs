// SPDX-License-Identifier: GPL-2.0

//! A stop at each step of a workload: at each seam call and atomic store, and in between with a
//! part of the plain stores missing. The next kernel finds each operation done or not done, goes
//! on working, and hands everything on to a third.

use host_tests::workload::{
    check,
    standard,
    Model,
    Op,
    Worker, //
};
use kpreserve_sim::{
    Config,
    Cut,
    Recorder,
    SimMachine, //
};
use kpreserve_testing::Kernel;

/// Which of the plain stores before a cut have arrived.
#[derive(Clone, Copy, Debug)]
enum Stores {
    /// All.
    Whole,
    /// Some of those since the last atomic store; and a compiler has moved some before that store,
    /// where the language lets it.
    Reordered,
}

/// Runs the operations; returns the cuts, and what has to be found before and after each phase.
fn record(config: Config, ops: &[Op], stores: Stores) -> (Vec<Cut>, Vec<Model>) {
    let machine = SimMachine::boot(config);
    let recorder = match stores {
        Stores::Whole => Recorder::start(machine),
        Stores::Reordered => Recorder::start(machine).torn(1).overtaking(),
    };
    let kernel = Kernel::on(machine).unwrap();
    let mut worker = Worker::open().unwrap();
    let mut models = vec![Model::default(), Model::default()];
    for (i, &op) in ops.iter().enumerate() {
        recorder.phase(i + 1);
        let mut model = models[i + 1].clone();
        worker.apply(op, &mut model).unwrap();
        models.push(model);
    }
    recorder.phase(ops.len() + 1);
    models.push(models[ops.len() + 1].clone());
    drop(worker);
    let cuts = recorder.finish();
    kernel.assert_sound();
    (cuts, models)
}

fn survive(cut: &Cut, before: &Model, after: &Model) {
    let second = Kernel::on(cut.image.boot()).expect("the next kernel boots");
    check(&second, before, after, true);
    // It goes on working, and the kernel after it finds the same.
    let mut worker = Worker::open().unwrap();
    let mut scratch = Model::default();
    worker.apply(Op::Push(77), &mut Model::default()).unwrap();
    worker
        .apply(
            Op::Pop,
            &mut Model {
                vec: vec![77],
                ..Model::default()
            },
        )
        .unwrap();
    worker.apply(Op::Name(999), &mut scratch).unwrap();
    worker.apply(Op::Unname(999), &mut scratch).unwrap();
    drop(worker);
    let mut complaints = kernel::print::take_complaints();
    // What a reordered store leaves of the free list is noticed, and mended.
    complaints.retain(|line| !line.contains("list dropped"));
    // A cut before the first image was announced: there is none, and that is said.
    if second.framework().stats().generation == 1 {
        complaints.retain(|line| !line.contains("kpreserve was not loaded there"));
    }
    assert!(complaints.is_empty(), "complaints: {complaints:#?}");
    let third = second.kexec();
    check(&third, before, after, true);
    third.machine().power_off();
}

fn survive_all(config: Config, ops: &[Op], stores: Stores) {
    let (cuts, models) = record(config, ops, stores);
    std::println!("{} cuts", cuts.len());
    std::thread::scope(|scope| {
        let half = scope.spawn(|| survive_each(&cuts, &models, ops, 0));
        survive_each(&cuts, &models, ops, 1);
        half.join().unwrap();
    });
}

/// Survives each second cut.
fn survive_each(cuts: &[Cut], models: &[Model], ops: &[Op], from: usize) {
    for (i, cut) in cuts.iter().enumerate().skip(from).step_by(2) {
        let result = std::panic::catch_unwind(|| {
            survive(cut, &models[cut.phase], &models[cut.phase + 1]);
        });
        if let Err(panic) = result {
            let op = cut.phase.checked_sub(1).and_then(|op| ops.get(op));
            std::eprintln!("cut {i} of {}, in {op:?}: {}", cuts.len(), cut.step);
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_cut_at_each_step() {
    survive_all(Config::with_pages(512), &standard(), Stores::Whole);
}

#[test]
fn a_cut_at_each_step_in_fragmented_memory() {
    let config = Config {
        order_max: 0,
        percent_taken: 20,
        ..Config::with_pages(512)
    };
    survive_all(config, &standard()[..40], Stores::Whole);
}

#[test]
fn a_cut_at_each_step_with_stores_reordered() {
    survive_all(Config::with_pages(512), &standard(), Stores::Reordered);
}
