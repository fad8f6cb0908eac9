// SPDX-License-Identifier: GPL-2.0

//! What callgrind counts, run once without it: valgrind is not everywhere.

use host_benches::count;

#[test]
fn each_workload_runs_for_each_heap() {
    for (name, n, _) in count::WORKLOADS {
        for heap in count::HEAPS {
            count::run(name, heap, n, 1).unwrap();
        }
    }
    assert!(count::run("host.pear", "kpreserve", 1, 1).is_err());
    assert!(count::run("host.pair", "nobody's", 1, 1).is_err());
}
