// SPDX-License-Identifier: GPL-2.0

//! The root page.

use core::ptr::NonNull;

use kernel::prelude::*;
use kpreserve_kho::{
    phys::PAGE_SIZE_BYTES,
    refusal::{
        Refusal,
        Relation, //
    },
    run::{
        Incoming,
        Preserved, //
    },
    validate::{
        expect,
        expect_equal, //
    },
    ArenaKind,
    ArenaSer,
    Effort,
    Machine,
    Node,
    PageRun,
    Phys,
    Preservable,
    RunSer,
    SharedU64, //
};

use crate::abi::{
    end_of,
    PendingSer,
    RootHeadSer,
    RootSer,
    ARENA_TABLE,
    BYTE_ORDER,
    NR_TABLES,
    ROOT_MAGIC,
    ROOT_VERSION, //
};

/// The root page of an image that this boot owns.
///
/// # Invariants
///
/// `page` points to a whole page that is preserved and never freed, and holds a root page that was
/// made here or validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    page: NonNull<RootSer>,
    id: u64,
}

// SAFETY: the page is never freed, and it is only changed through `SharedU64` and through
// `table_entry`, whose one caller holds the run table's lock.
unsafe impl Send for Root {}
// SAFETY: as above.
unsafe impl Sync for Root {}

impl Root {
    /// Begins an image: a page, allocated and preserved, not announced yet.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn create(machine: &'static dyn Machine) -> Result<(Self, PageRun<Preserved>)> {
        let pages = PageRun::alloc(machine, 0, Node::ANY, Effort::Full)?.preserve()?;
        let id = machine.random_u64();
        let self_phys = pages.phys().get();
        let mut arenas = ArenaSer {
            kind: ArenaKind::Area as u32,
            id: ARENA_TABLE,
            fingerprint: ArenaSer::FINGERPRINT,
            version: ArenaSer::VERSION,
            stride_bytes: size_of::<ArenaSer>() as u32,
            slab_order: 0,
            reserved0: 0,
            first_slot: 0,
            nr_slots: 0,
            len: SharedU64::new(0),
            generation: 1,
            reserved1: 0,
            pending: SharedU64::new(0),
            check: 0,
        };
        arenas.check = arenas.checksum(id);
        let mut head = RootHeadSer {
            magic: ROOT_MAGIC,
            version: ROOT_VERSION,
            byte_order: BYTE_ORDER,
            page_size_bytes: PAGE_SIZE_BYTES as u32,
            reserved0: 0,
            root_id: id,
            self_phys,
            check: 0,
            generation: SharedU64::new(0),
            boot: SharedU64::new(0),
            active_buckets: SharedU64::new(0),
            free_entry: SharedU64::new(0),
            nr_names: SharedU64::new(0),
            first_name: SharedU64::new(u64::from(end_of(0))),
            active_entries: SharedU64::new(0),
            waste_bytes: SharedU64::new(0),
            reserved1: [0; 2],
            arenas,
            pending: PendingSer::none(),
            reserved2: [0; 3],
        };
        head.check = head.checksum();
        let page = pages.memory().cast::<RootSer>();
        // The entries of the run table are free: the page came zeroed.
        // SAFETY: a page of our own, aligned, and larger than the head, which comes first.
        unsafe { page.cast::<RootHeadSer>().write(head) };
        // INVARIANT: just made.
        Ok((Self { page, id }, pages))
    }

    /// Checks the root page of the previous kernel.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]: magic, byte order, page size, version, own address, checksum, in this order.
    pub(crate) fn validate(pages: &PageRun<Incoming>) -> Result<Self, Refusal> {
        const S: &str = "RootSer";
        let page = pages.memory().cast::<RootSer>();
        // SAFETY: probed: a page of preserved memory, which the previous kernel wrote and nobody
        // writes now; any bytes are a valid `RootSer`.
        let ser = unsafe { page.cast::<RootHeadSer>().as_ref() };
        let at = pages.phys().get();
        expect_equal(S, "magic", at, ser.magic, ROOT_MAGIC)?;
        expect_equal(
            S,
            "byte_order",
            at,
            ser.byte_order.into(),
            BYTE_ORDER.into(),
        )?;
        expect_equal(
            S,
            "page_size_bytes",
            at,
            ser.page_size_bytes.into(),
            PAGE_SIZE_BYTES as u64,
        )?;
        let version = u64::from(ser.version);
        expect(
            S,
            "version",
            at,
            version,
            ROOT_VERSION.into(),
            Relation::Version,
            version == u64::from(ROOT_VERSION),
        )?;
        expect_equal(S, "self_phys", at, ser.self_phys, at)?;
        expect_equal(S, "check", at, ser.check, ser.checksum())?;
        // INVARIANT: validated. The page is preserved, and whoever calls restores it before the
        // root is used.
        Ok(Self {
            page,
            id: ser.root_id,
        })
    }

    /// Returns the id of the image.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns where the page stands.
    pub(crate) fn phys(&self) -> Phys {
        Phys::new(self.head().self_phys)
    }

    /// Returns the head of the page: all of it but the run table's entries.
    pub(crate) fn head(&self) -> &'static RootHeadSer {
        // SAFETY: by the type invariants the page lives for ever and begins with a head, of which
        // only `SharedU64`s change.
        unsafe { self.page.cast::<RootHeadSer>().as_ref() }
    }

    /// Returns where the entry of the run table's block `index` stands; `None` beyond the last.
    pub(crate) fn table_entry(&self, index: usize) -> Option<NonNull<RunSer>> {
        if index >= NR_TABLES {
            return None;
        }
        // SAFETY: the field lies inside the page.
        let tables = unsafe { &raw mut (*self.page.as_ptr()).tables };
        let first = NonNull::new(tables.cast::<RunSer>())?;
        // SAFETY: `index` is below the length of the array.
        Some(unsafe { first.add(index) })
    }

    /// Returns a copy of the entry of block `index`, before the run table is made.
    pub(crate) fn table_at(&self, index: usize) -> RunSer {
        match self.table_entry(index) {
            // SAFETY: the pointer is to an entry of the page; any bytes are a valid one.
            Some(entry) => unsafe { entry.read() },
            None => RunSer::FREE,
        }
    }
}
