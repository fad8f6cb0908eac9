// SPDX-License-Identifier: GPL-2.0

//! Named objects of types that are not what they seem: two modules with one compatible string, and
//! an object that seems to be gone.
//!
//! Both fail at 110fb01.

mod framework_common;

use framework_common::layout::Layout;
use framework_common::small;
use kernel::prelude::{
    EINVAL,
    EOPNOTSUPP,
    GFP_KERNEL, //
};
use kernel::print::take_complaints;
use kpreserve::kho::Phys;
use kpreserve::{
    namespace,
    Named, //
};
use kpreserve_sim::SimMachine;
use kpreserve_slab::abi::SlabSer;
use kpreserve_testing::Kernel;

mod mine {
    kpreserve::preservable! {
        #[derive(Debug)]
        pub(crate) struct CountSer { pub(crate) count: u64 }
        compatible = "types-count", version = 1
    }
}

mod theirs {
    kpreserve::preservable! {
        #[derive(Debug)]
        pub(crate) struct CountSer { pub(crate) words: [u64; 3] }
        compatible = "types-count", version = 1
    }
}

mod newer {
    kpreserve::preservable! {
        #[derive(Debug)]
        pub(crate) struct CountSer { pub(crate) count: u64 }
        compatible = "types-count", version = 2
    }
}

#[test]
fn two_modules_with_one_compatible_string() {
    let mut kernel = Kernel::boot();
    for _ in 0..2 {
        let open_mine =
            || Named::<mine::CountSer>::open(c"mine/a", mine::CountSer { count: 7 }, GFP_KERNEL);
        assert_eq!(open_mine().unwrap().count, 7);
        take_complaints();
        let new = theirs::CountSer { words: [1; 3] };
        let theirs = Named::open(c"theirs/b", new, GFP_KERNEL);
        assert_eq!(theirs.err(), Some(EINVAL));
        let said = take_complaints();
        // One line: what was opened, what it is, and whose the string is.
        assert_eq!(said.len(), 1, "{said:?}");
        for words in [
            "\"theirs/b\" was to be opened as an object of \"types-count\", version 1, layout 0x",
            "such as \"mine/a\", are of another type, version 1, layout 0x",
            "of another module, give one of them another string",
        ] {
            assert!(said[0].contains(words), "{said:?}");
        }
        let newer = Named::open(c"theirs/b", newer::CountSer { count: 1 }, GFP_KERNEL);
        assert_eq!(newer.err(), Some(EOPNOTSUPP));
        let said = take_complaints();
        assert!(said[0].contains("version 2, layout 0x"), "{said:?}");
        // Nothing has got a name.
        namespace::list(c"theirs/", |name, _| panic!("{name:?}")).unwrap();
        assert_eq!(open_mine().unwrap().count, 7);
        kernel = kernel.kexec();
    }
    // Nobody is there whom it could name.
    let mine = Named::<mine::CountSer>::open(c"mine/a", mine::CountSer { count: 0 }, GFP_KERNEL);
    mine.unwrap().discard(c"mine/a").unwrap();
    let theirs = Named::open(c"theirs/b", theirs::CountSer { words: [1; 3] }, GFP_KERNEL);
    assert_eq!(theirs.err(), Some(EINVAL));
    let said = take_complaints();
    let says = |line: &String| line.contains("of that compatible string are of another type");
    assert!(said.iter().any(says), "{said:?}");
    kernel.assert_sound();
}

/// A name goes before its object: so one whose object is gone is damaged, and gets no other.
#[test]
fn an_object_that_is_not_there() {
    let kernel = Kernel::on(SimMachine::boot(small())).unwrap();
    let open = || Named::<mine::CountSer>::open(c"a", mine::CountSer { count: 1 }, GFP_KERNEL);
    open().unwrap().count = 7;
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let slab = Layout::of(&image).slabs(&image, ".object/types-count")[0];
    let at = (0..64).map(|slot| Phys::new(slab + size_of::<SlabSer>() as u64 + slot));
    let tag_of = |at: Phys| {
        let mut tag = [0];
        image.read(at, &mut tag);
        tag[0]
    };
    let at = at.into_iter().find(|&at| tag_of(at) & 1 == 1).unwrap();
    for bit in 0..8 {
        let mut damaged = image.clone();
        damaged.write(at, &[tag_of(at) ^ (1 << bit)]);
        let kernel = Kernel::on(damaged.boot()).unwrap();
        take_complaints();
        assert_eq!(open().err(), Some(EINVAL), "bit {bit}");
        let said = take_complaints();
        assert!(said[0].contains("expected a handle of an object in the cache of"));
        let mut left = kernel.machine().image();
        kernel.assert_sound();
        kernel.machine().power_off();
        left.write(at, &[tag_of(at)]);
        let kernel = Kernel::on(left.boot()).unwrap();
        assert_eq!(open().unwrap().count, 7, "bit {bit}");
        kernel.machine().power_off();
    }
}
