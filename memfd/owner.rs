// SPDX-License-Identifier: GPL-2.0

//! What LUO holds of a memfd while it is preserved.
//!
//! Taking a file back cannot fail, so it must not have to open its list, which needs memory: a list in an area stays
//! open. The many files without one cost nothing beside their object.

use core::mem::MaybeUninit;

use kernel::prelude::*;
use kernel::types::ForeignOwnable;
use kpreserve::kho::Handle;
use kpreserve::luo::Owner;
use kpreserve::prelude::*;

use crate::abi::{
    FolioRunSer,
    MemfdSer, //
};
use crate::list::RunList;

/// The object of a file, and the area of its list if there is one.
pub struct PreservedMemfd(Kind);

enum Kind {
    Short(Preserved<MemfdSer>),
    Long(KBox<Long>),
}

struct Long {
    object: Preserved<MemfdSer>,
    runs: PVec<FolioRunSer>,
}

/// Memory for a [`PreservedMemfd`], so that making it cannot fail.
pub(crate) struct Room(Option<KBox<MaybeUninit<Long>>>);

impl Room {
    /// Allocates it.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Some(KBox::new_uninit(GFP_KERNEL)?)))
    }

    /// None is needed for a list in the object.
    pub(crate) const NONE: Self = Self(None);
}

impl PreservedMemfd {
    /// Writes into the object where the runs are. An area that there is no room for is closed.
    pub(crate) fn new(mut object: Preserved<MemfdSer>, list: RunList, room: Room) -> Self {
        match (list.store(&mut object), room.0) {
            (Some(runs), Some(room)) => Self(Kind::Long(room.write(Long { object, runs }))),
            _ => Self(Kind::Short(object)),
        }
    }

    /// Returns the object and its list.
    pub(crate) fn into_parts(self) -> (Preserved<MemfdSer>, RunList) {
        let (object, runs) = match self.0 {
            Kind::Short(object) => (object, None),
            Kind::Long(long) => {
                let Long { object, runs } = KBox::into_inner(long);
                (object, Some(runs))
            }
        };
        let list = RunList::of(&object, runs);
        (object, list)
    }
}

impl Owner<MemfdSer> for PreservedMemfd {
    fn state_handle(&self) -> Handle<MemfdSer> {
        match &self.0 {
            Kind::Short(object) => object.handle(),
            Kind::Long(long) => long.object.handle(),
        }
    }
}

/// Marks a pointer to a [`Long`].
const LONG: usize = 1;

// SAFETY: neither pointer is null, and the marked bit is 0 in both: the assertions below.
unsafe impl ForeignOwnable for PreservedMemfd {
    const FOREIGN_ALIGN: usize = 1;

    type Borrowed<'a> = &'a MemfdSer;
    type BorrowedMut<'a> = &'a mut MemfdSer;

    fn into_foreign(self) -> *mut c_void {
        match self.0 {
            Kind::Short(object) => object.into_foreign(),
            Kind::Long(long) => long.into_foreign().map_addr(|address| address | LONG),
        }
    }

    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        match long_of(ptr) {
            // SAFETY: as `into_foreign` got it, and taken back once, says the caller.
            None => Self(Kind::Short(unsafe { Preserved::from_foreign(ptr) })),
            // SAFETY: as above.
            Some(long) => Self(Kind::Long(unsafe { KBox::from_foreign(long) })),
        }
    }

    unsafe fn borrow<'a>(ptr: *mut c_void) -> &'a MemfdSer {
        match long_of(ptr) {
            // SAFETY: as `into_foreign` got it, and not taken back during `'a`, says the caller.
            None => unsafe { Preserved::<MemfdSer>::borrow(ptr) },
            // SAFETY: as above.
            Some(long) => &unsafe { KBox::<Long>::borrow(long) }.object,
        }
    }

    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> &'a mut MemfdSer {
        match long_of(ptr) {
            // SAFETY: as `into_foreign` got it, not taken back during `'a`, and borrowed once, says the caller.
            None => unsafe { Preserved::<MemfdSer>::borrow_mut(ptr) },
            // SAFETY: as above.
            Some(long) => &mut unsafe { KBox::<Long>::borrow_mut(long) }.object,
        }
    }
}

const _: () = assert!(<Preserved<MemfdSer> as ForeignOwnable>::FOREIGN_ALIGN > LONG);
const _: () = assert!(<KBox<Long> as ForeignOwnable>::FOREIGN_ALIGN > LONG);

/// Returns the pointer to a [`Long`], if that is what was marked.
fn long_of(ptr: *mut c_void) -> Option<*mut c_void> {
    (ptr.addr() & LONG != 0).then(|| ptr.map_addr(|address| address & !LONG))
}
