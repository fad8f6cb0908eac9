// SPDX-License-Identifier: GPL-2.0

//! mstress over our caches, and over an allocator that is broken on purpose.

use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicUsize,
    Ordering, //
};
use std::sync::Mutex;

use host_benches::heap::{
    Heap,
    Object, //
};
use host_benches::ours::Classes;
use host_benches::workloads::mstress::{
    self,
    Scale, //
};
use host_benches::BenchMachine;

const SCALE: Scale = Scale {
    nr_threads: 4,
    hundreds: 20,
    nr_rounds: 100,
};

#[test]
fn our_objects_stay_as_they_are() {
    let (machine, framework) = BenchMachine::boot();
    let found = mstress::run(&Classes::open(framework), SCALE);
    assert!(found.nr_freed > 100_000, "{found:?}");
    assert_eq!(found.nr_damaged, 0, "{found:?}");
    assert!(machine.nr_keys() > 0, "nothing was preserved");
}

/// Memory that is never freed, of which each so many-th object is handed out twice.
struct Twice {
    one_in: usize,
    nr: AtomicUsize,
    last: Mutex<Option<(Leaked, usize)>>,
}

#[derive(Clone, Copy)]
struct Leaked(NonNull<u8>);

// SAFETY: memory that stays, used by one thread here.
unsafe impl Send for Leaked {}

// SAFETY: memory that stays. That it is the holder's alone is what is broken.
unsafe impl Object for Leaked {
    fn start(&self) -> NonNull<u8> {
        self.0
    }
}

impl Heap for Twice {
    const NAME: &'static str = "twice";
    type Object = Leaked;

    fn alloc(&self, size_bytes: usize) -> Leaked {
        let mut last = self.last.lock().unwrap();
        let is_broken = (self.nr.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.one_in);
        match *last {
            Some((object, last_bytes)) if is_broken && last_bytes >= size_bytes => object,
            _ => {
                let words: &mut [u64] = Vec::leak(vec![0; size_bytes.div_ceil(8)]);
                let object = Leaked(NonNull::from(words).cast());
                *last = Some((object, size_bytes));
                object
            }
        }
    }
}

#[test]
fn an_object_that_is_handed_out_twice_is_noticed() {
    let run = |one_in| {
        let heap = Twice {
            one_in,
            nr: AtomicUsize::new(0),
            last: Mutex::new(None),
        };
        let scale = Scale {
            nr_threads: 1,
            hundreds: 50,
            nr_rounds: 1,
        };
        mstress::run(&heap, scale)
    };
    assert_eq!(run(usize::MAX).nr_damaged, 0);
    let found = run(500);
    assert!(found.nr_damaged > 0, "{found:?}");
}
