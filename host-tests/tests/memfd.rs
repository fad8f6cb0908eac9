// SPDX-License-Identifier: GPL-2.0

//! What a memfd leaves for the next kernel: the list of its runs, across a reboot, damaged, and when
//! memory is short. Pages and files themselves are for the virtual machine (selftests/scenarios/memfd.toml).

use kernel::alloc::flags::GFP_KERNEL;
use kernel::error::code::{
    EINVAL,
    ENOENT,
    ENOMEM, //
};
use kernel::fault::{
    fail_nth_allocation,
    nr_allocations, //
};
use kpreserve::kho::refusal::Refusal;
use kpreserve::{
    Anonymous as _,
    ArenaHandle,
    PVec, //
};
use kpreserve_memfd::abi::{
    FolioRunSer,
    MemfdSer,
    CHECK_OF_NONE, //
};
use kpreserve_memfd::list::RunList;
use kpreserve_testing::Kernel;

/// The `nth` of runs of four pages with holes of three between.
fn run(nth: u32) -> FolioRunSer {
    FolioRunSer::new(1000 + 64 * u64::from(nth), 0, 7 * nth, 4)
}

fn object(nr_pages: u64) -> MemfdSer {
    MemfdSer {
        size_bytes: nr_pages * 4096,
        pos: 0,
        mtime_ns: 0,
        seals: 0,
        flags: 2,
        uid: 0,
        gid: 0,
        mode: 0o777,
        here: 0,
        nr_runs: 0,
        inline: [FolioRunSer::NONE; 2],
        runs: ArenaHandle::NULL,
        check: CHECK_OF_NONE,
    }
}

/// An object with `nr` runs.
fn made(nr: u32) -> MemfdSer {
    let mut list = RunList::new();
    for nth in 0..nr {
        list.push(run(nth)).unwrap();
    }
    let mut object = object(u64::from(7 * nr));
    list.store(&mut object);
    object
}

#[test]
fn lists_cross() {
    for nr in [0, 1, 2, 3, 4, 1000] {
        let kernel = Kernel::boot();
        let object = made(nr);
        assert_eq!((object.nr_runs, object.runs.is_null()), (nr, nr <= 2));
        let kernel = kernel.kexec();
        let list = RunList::open(&object).unwrap();
        assert!(list.iter().copied().eq((0..nr).map(run)), "{nr}");
        let nr_pages = object.nr_pages().unwrap();
        assert_eq!(list.validate(nr_pages).unwrap(), u64::from(4 * nr));
        list.discard().unwrap();
        // Nothing is left of it, and it cannot be opened a second time.
        if nr > 2 {
            assert_eq!(RunList::open(&object).err(), Some(ENOENT));
        }
        kernel.assert_sound();
        kernel.stop();
    }
}

#[test]
fn a_list_whose_area_is_kept_is_the_same() {
    let _kernel = Kernel::boot();
    for nr in [0, 1, 2, 3, 1000] {
        let mut list = RunList::new();
        for nth in 0..nr {
            list.push(run(nth)).unwrap();
        }
        assert_eq!(list.is_long(), nr > 2);
        let mut object = object(u64::from(7 * nr));
        let area = list.store(&mut object);
        assert_eq!(area.is_some(), nr > 2);
        fail_nth_allocation(Some(0));
        let list = RunList::of(&object, area);
        assert!(list.iter().copied().eq((0..nr).map(run)), "{nr}");
        let nr_pages = object.nr_pages().unwrap();
        assert_eq!(list.validate(nr_pages).unwrap(), u64::from(4 * nr));
        list.discard().unwrap();
        assert_eq!(nr_allocations(), 0, "{nr}");
        fail_nth_allocation(None);
    }
}

#[test]
fn a_push_that_fails_changes_nothing() {
    let _kernel = Kernel::boot();
    let mut nr_failed = 0;
    for nth in 0.. {
        let mut list = RunList::new();
        list.push(run(0)).unwrap();
        list.push(run(1)).unwrap();
        fail_nth_allocation(Some(nth));
        let pushed = list.push(run(2));
        let nr_used = nr_allocations();
        fail_nth_allocation(None);
        if let Err(error) = pushed {
            assert_eq!(error, ENOMEM);
            nr_failed += 1;
            assert!(list.iter().copied().eq((0..2).map(run)));
            list.push(run(2)).unwrap();
        }
        assert!(list.iter().copied().eq((0..3).map(run)));
        list.discard().unwrap();
        if nth > nr_used {
            break;
        }
    }
    assert!(nr_failed > 0);
}

#[test]
fn a_number_that_is_not_the_areas_is_refused() {
    let _kernel = Kernel::boot();
    let mut object = made(5);
    for nr_runs in [3, 4, 6, u32::MAX] {
        object.nr_runs = nr_runs;
        assert_eq!(RunList::open(&object).err(), Some(EINVAL), "{nr_runs}");
    }
    object.nr_runs = 5;
    object.runs = ArenaHandle::new(4711, 1);
    assert_eq!(RunList::open(&object).err(), Some(EINVAL));
    object.runs = ArenaHandle::NULL;
    assert_eq!(RunList::open(&object).err(), Some(EINVAL));
}

fn refused(run: FolioRunSer, from: u64, nr_pages: u64) -> (&'static str, u64) {
    let Refusal {
        structure,
        field,
        found,
        ..
    } = run.validate(from, nr_pages).unwrap_err();
    assert_eq!(structure, "FolioRunSer");
    (field, found)
}

#[test]
fn runs_that_cannot_be_are_refused() {
    let run = FolioRunSer::new;
    assert_eq!(run(512, 9, 512, 1024).validate(512, 1536), Ok(1536));
    // The last folio is larger than the file.
    assert_eq!(run(512, 9, 512, 512).validate(0, 513), Ok(1024));
    assert_eq!(refused(run(512, 9, 512, 1024), 0, 1024), ("end", 1536));
    assert_eq!(refused(run(2048, 11, 0, 2048), 0, 4096), ("order", 11));
    assert_eq!(refused(run(0, 0xfff, 0, 1), 0, 4096), ("order", 0xfff));
    assert_eq!(refused(run(513, 9, 0, 512), 0, 4096), ("phys", 513));
    assert_eq!(refused(run(512, 9, 1, 512), 0, 4096), ("index", 1));
    assert_eq!(refused(run(512, 9, 0, 513), 0, 4096), ("nr_pages", 513));
    assert_eq!(refused(run(512, 0, 0, 0), 0, 4096), ("nr_pages", 0));
    assert_eq!(refused(run(512, 0, 7, 1), 8, 4096), ("index", 7));
    assert_eq!(refused(run(512, 0, 8, 2), 8, 9), ("end", 10));
    // What a u32 would wrap around.
    assert_eq!(refused(run(512, 0, u32::MAX, u32::MAX), 0, 9).0, "end");
}

#[test]
fn runs_that_overlap_are_refused_wherever_they_stand() {
    let _kernel = Kernel::boot();
    for nr in [2, 20] {
        let mut list = RunList::new();
        for nth in 0..nr {
            list.push(run(nth)).unwrap();
        }
        // Within the one before.
        list.push(FolioRunSer::new(9000, 0, 7 * (nr - 1) + 3, 1))
            .unwrap();
        let refusal = list.validate(1000).unwrap_err();
        assert_eq!((refusal.field, refusal.at), ("index", 9000 << 12));
        list.discard().unwrap();
    }
}

#[test]
fn a_run_that_is_not_the_one_is_refused() {
    let _kernel = Kernel::boot();
    for nr in [1, 2] {
        let mut object = made(nr);
        // A valid run, but not the file's.
        object.inline[0].phys_order += 64 << 12;
        let list = RunList::open(&object).unwrap();
        let refusal = list.validate(u64::from(7 * nr)).unwrap_err();
        assert_eq!((refusal.structure, refusal.field), ("MemfdSer", "check"));
        let mut object = made(nr);
        object.check ^= 1;
        let list = RunList::open(&object).unwrap();
        assert_eq!(list.validate(u64::from(7 * nr)).unwrap_err().field, "check");
        // A run less.
        let mut object = made(nr);
        object.nr_runs -= 1;
        let list = RunList::open(&object).unwrap();
        assert_eq!(list.validate(u64::from(7 * nr)).unwrap_err().field, "check");
    }
    // In an area.
    let object = made(20);
    let mut area = PVec::<FolioRunSer>::adopt(object.runs, GFP_KERNEL).unwrap();
    area.get_mut(13).unwrap().phys_order += 64 << 12;
    drop(area);
    let list = RunList::open(&object).unwrap();
    assert_eq!(list.validate(140).unwrap_err().field, "check");
}

#[test]
fn a_size_that_cannot_be_is_refused() {
    assert_eq!(
        object(u64::from(u32::MAX)).nr_pages(),
        Ok(u64::from(u32::MAX))
    );
    let mut object = object(u64::from(u32::MAX));
    object.size_bytes += 1;
    assert_eq!(object.nr_pages().unwrap_err().field, "size_bytes");
    object.size_bytes = u64::MAX;
    assert_eq!(object.nr_pages().unwrap_err().field, "size_bytes");
}
