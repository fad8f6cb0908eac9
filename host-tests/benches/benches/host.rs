// SPDX-License-Identifier: GPL-2.0

//! All workloads, for all allocators, in one process.

use criterion::{
    criterion_group,
    criterion_main,
    measurement::WallTime,
    BenchmarkGroup,
    BenchmarkId,
    Criterion, //
};
use host_benches::heap::Heap;
use host_benches::ours::{
    Classes,
    Lines, //
};
use host_benches::peers;
use host_benches::workloads::{
    batch,
    larson,
    pair,
    prodcon,
    threadtest,
    xmalloc, //
};
use host_benches::BenchMachine;
use std::time::{
    Duration,
    Instant, //
};

/// What a workload is for one allocator: a size, and how long so many rounds took.
type Run<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, n: usize, mut run: Run<'_>) {
    group.bench_function(BenchmarkId::new(name, n), |bencher| {
        bencher.iter_custom(&mut run);
    });
}

/// Runs a workload for ours and for each peer.
macro_rules! for_each_heap {
    ($group:expr, $heap:ident, $ours:expr, $n:expr, $run:expr) => {{
        one($group, $ours, $n, $run);
        one(
            $group,
            &peers::$heap::<tikv_jemallocator::Jemalloc>::new(),
            $n,
            $run,
        );
        one($group, &peers::$heap::<mimalloc::MiMalloc>::new(), $n, $run);
        one(
            $group,
            &peers::$heap::<snmalloc_rs::SnMalloc>::new(),
            $n,
            $run,
        );
        one($group, &peers::$heap::<std::alloc::System>::new(), $n, $run);
    }};
}

trait Workload: Copy {
    fn time<H: Heap>(self, heap: &H, n: usize, rounds: u64) -> Duration;
}

fn one<H: Heap>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    heap: &H,
    n: usize,
    workload: impl Workload,
) {
    let run = |rounds| workload.time(heap, n, rounds);
    bench(group, H::NAME, n, Box::new(run));
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

macro_rules! workloads {
    ($($name:ident: |$heap:ident, $n:ident, $rounds:ident| $time:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;

        impl Workload for $name {
            fn time<H: Heap>(self, $heap: &H, $n: usize, $rounds: u64) -> Duration {
                $time
            }
        }
    )*};
}

workloads! {
    Pair: |heap, _n, rounds| timed(|| pair::run(heap, rounds));
    Batch: |heap, n, rounds| {
        let mut objects = Vec::with_capacity(n);
        timed(|| batch::run(heap, &mut objects, rounds))
    };
    Threadtest: |heap, n, rounds| threadtest::run(heap, n, rounds);
    Larson: |heap, n, rounds| larson::run(heap, n, rounds);
    Xmalloc: |heap, n, rounds| xmalloc::run(heap, n, rounds);
    Prodcon: |heap, n, rounds| prodcon::run(heap, n, rounds);
}

fn all(criterion: &mut Criterion) {
    let (_, framework) = BenchMachine::boot();
    let lines = &Lines::open(framework);
    let classes = &Classes::open(framework);

    let mut group = criterion.benchmark_group("host.pair");
    for_each_heap!(&mut group, Lines, lines, 1, Pair);
    typed_pair(&mut group);
    group.finish();

    let mut group = criterion.benchmark_group("host.batch");
    for n in [16, 64, 256, 4096] {
        for_each_heap!(&mut group, Lines, lines, n, Batch);
        typed_batch(&mut group, n);
    }
    group.finish();

    let mut group = criterion.benchmark_group("host.threadtest");
    for n in [1, 2] {
        for_each_heap!(&mut group, Lines, lines, n, Threadtest);
    }
    group.finish();

    let mut group = criterion.benchmark_group("host.larson");
    for n in [1, 2] {
        for_each_heap!(&mut group, AnySize, classes, n, Larson);
    }
    group.finish();

    let mut group = criterion.benchmark_group("host.xmalloc");
    for_each_heap!(&mut group, AnySize, classes, 2, Xmalloc);
    group.finish();

    let mut group = criterion.benchmark_group("host.prodcon");
    for_each_heap!(&mut group, Lines, lines, 2, Prodcon);
    group.finish();
}

fn typed_pair(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut slab = slab::Slab::new();
    let run = |rounds| timed(|| pair::run_slab(&mut slab, rounds));
    bench(group, "slab", 1, Box::new(run));
    let sharded = sharded_slab::Slab::new();
    let run = |rounds| timed(|| pair::run_sharded_slab(&sharded, rounds));
    bench(group, "sharded-slab", 1, Box::new(run));
}

fn typed_batch(group: &mut BenchmarkGroup<'_, WallTime>, n: usize) {
    let mut keys = Vec::with_capacity(n);
    let mut slab = slab::Slab::new();
    let run = |rounds| timed(|| batch::run_slab(&mut slab, &mut keys, rounds));
    bench(group, "slab", n, Box::new(run));
    let mut keys = Vec::with_capacity(n);
    let sharded = sharded_slab::Slab::new();
    let run = |rounds| timed(|| batch::run_sharded_slab(&sharded, &mut keys, rounds));
    bench(group, "sharded-slab", n, Box::new(run));
}

/// Set by `make test`, which wants to know whether all of it runs, and takes no figure from it.
const SMALLEST: &str = "KPRESERVE_BENCH_SMALLEST";

fn short() -> Criterion {
    if std::env::var_os(SMALLEST).is_some() {
        return Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(1))
            .nresamples(10)
            .without_plots();
    }
    Criterion::default()
        .sample_size(60)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .without_plots()
}

criterion_group! {
    name = benches;
    config = short();
    targets = all
}
criterion_main!(benches);
