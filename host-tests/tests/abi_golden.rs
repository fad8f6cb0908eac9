// SPDX-License-Identifier: GPL-2.0

//! The formats, byte by byte.
//!
//! `golden/abi.txt` holds the layout of each structure that crosses a kexec, the bytes of an
//! example, and constants; Documentation/abi.rst shows the same lines. A change of one of them is a
//! change of the contract: COMPATIBLE, CHANGELOG, the golden file and the document move together.
//! `KPRESERVE_BLESS=1 cargo test -p host-tests --test abi_golden` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;
use std::string::String;

use kpreserve::abi::{
    pool_fingerprint,
    EntrySer,
    NameKind,
    PendingSer,
    RootHeadSer,
    RootSer,
    Step,
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_FIRST,
    ARENA_STRINGS,
    ARENA_TABLE,
    BYTE_ORDER,
    COMPATIBLE,
    NR_TABLES,
    OWNER_TABLE,
    POOL_COMPATIBLE,
    POOL_VERSION,
    ROOT_MAGIC,
    ROOT_VERSION, //
};
use kpreserve::{
    BoxHandle,
    BoxLink, //
};
use kpreserve_kho::hash::fnv1a_u64;
use kpreserve_kho::{
    ArenaHandle,
    ArenaKind,
    ArenaSer,
    Handle,
    Phys,
    Preservable,
    RunSer,
    SharedU64, //
};
use kpreserve_memfd::abi::{
    FolioRunSer,
    MemfdSer, //
};
use kpreserve_slab::abi::SlabSer;
use kpreserve_vmalloc::abi::{
    MapSer,
    RedoSer, //
};
use kpreserve_vmalloc::{
    KhoVmallocSer,
    StrSer, //
};
use zerocopy::IntoBytes;

/// The layout of a structure.
#[derive(Debug, Eq, PartialEq)]
struct Layout {
    name: String,
    size_bytes: usize,
    fields: Vec<Field>,
}

#[derive(Debug, Eq, PartialEq)]
struct Field {
    offset: usize,
    size_bytes: usize,
    name: String,
    ty: String,
}

/// Takes the layout of a structure down; fails to compile, or panics, if a field is missing or has
/// another type.
macro_rules! layout {
    ($name:ident { $($field:ident: $ty:ty),* $(,)? }) => {{
        let mut end = 0;
        let mut fields = Vec::new();
        $(
            let _: fn(&$name) -> &$ty = |ser| &ser.$field;
            let offset = core::mem::offset_of!($name, $field);
            assert_eq!(offset, end, "a field before {} is missing", stringify!($field));
            end = offset + size_of::<$ty>();
            fields.push(Field {
                offset,
                size_bytes: size_of::<$ty>(),
                name: stringify!($field).to_owned(),
                ty: c_like(stringify!($ty)),
            });
        )*
        assert_eq!(end, size_of::<$name>(), "a field at the end is missing");
        Layout {
            name: stringify!($name).to_owned(),
            size_bytes: size_of::<$name>(),
            fields,
        }
    }};
}

/// Turns `[T; n]` into `T[n]`.
fn c_like(ty: &str) -> String {
    let inner = ty.strip_prefix('[').and_then(|ty| ty.strip_suffix(']'));
    match inner.and_then(|inner| inner.split_once("; ")) {
        Some((element, n)) => {
            let n = n.replace("NR_TABLES", &NR_TABLES.to_string());
            format!("{element}[{n}]")
        }
        None => ty.to_owned(),
    }
}

fn bytes(out: &mut String, what: &str, value: &(impl IntoBytes + zerocopy::Immutable)) {
    hex(out, what, value.as_bytes());
}

fn hex(out: &mut String, what: &str, bytes: &[u8]) {
    let _ = writeln!(out, "{what}");
    for chunk in bytes.chunks(16) {
        out.push_str("   ");
        for byte in chunk {
            let _ = write!(out, " {byte:02x}");
        }
        out.push('\n');
    }
}

/// Bytes of a structure that holds counters: they are read as they are, nobody changes them.
fn shared_bytes<T: IntoBytes + zerocopy::FromBytes>(value: &mut T) -> Vec<u8> {
    value.as_mut_bytes().to_vec()
}

const ROOT_ID: u64 = 0x0807_0605_0403_0201;

fn arena() -> ArenaSer {
    let mut ser = ArenaSer {
        kind: ArenaKind::Cache as u32,
        id: 0x11,
        fingerprint: 0x2827_2625_2423_2221,
        version: 3,
        stride_bytes: 64,
        slab_order: 1,
        reserved0: 0,
        first_slot: 192,
        nr_slots: 125,
        len: SharedU64::new(0x3837_3635_3433_3231),
        generation: 5,
        reserved1: 0,
        pending: SharedU64::new(0x4847_4645_4443_4241),
        check: 0,
    };
    ser.check = ser.checksum(ROOT_ID);
    ser
}

fn head() -> RootHeadSer {
    let mut head = RootHeadSer {
        magic: ROOT_MAGIC,
        version: ROOT_VERSION,
        byte_order: BYTE_ORDER,
        page_size_bytes: 4096,
        reserved0: 0,
        root_id: ROOT_ID,
        self_phys: 0x1234_5000,
        check: 0,
        generation: SharedU64::new(2),
        boot: SharedU64::new(0x4847_4645_4443_4241),
        active_buckets: SharedU64::new(1),
        free_entry: SharedU64::new(7),
        nr_names: SharedU64::new(9),
        first_name: SharedU64::new(5),
        active_entries: SharedU64::new(0),
        waste_bytes: SharedU64::new(0x51),
        reserved1: [0; 2],
        arenas: arena(),
        pending: PendingSer {
            step: SharedU64::new(0),
            link: SharedU64::new(0x0000_0006_0000_0004),
            unlink: SharedU64::new(0x0000_0003_0000_0003),
            free_entry: SharedU64::new(7),
            nr_names: SharedU64::new(9),
        },
        reserved2: [0; 3],
    };
    let step = head.pending.seal(ROOT_ID, Step::Unlink);
    head.pending.step.store(step);
    head.check = head.checksum();
    head
}

fn redo() -> RedoSer {
    let mut redo = RedoSer {
        dst: 40,
        src: 101,
        nr: 61,
        len: 101,
        check: 0,
    };
    redo.check = redo.checksum(ROOT_ID, 0x11, 5, 162);
    redo
}

fn map() -> MapSer {
    let mut map = MapSer {
        magic: MapSer::MAGIC,
        seed: 0x0123_4567_89ab_cdef,
        state: SharedU64::new(1),
        keys: 0x0000_0001_0000_0012,
        values: 0x0000_0001_0000_0013,
        free: 0x0000_0001_0000_0014,
        buckets: [0x0000_0001_0000_0015, 0x0000_0001_0000_0016],
        reserved: 0,
        check: 0,
    };
    map.check = map.checksum();
    map
}

fn entry() -> EntrySer {
    let mut entry = EntrySer {
        hash: kpreserve_kho::hash::fnv1a(0, b"kvm/vcpu"),
        name_offset: 0x100,
        name_len: 8,
        kind: NameKind::Cache as u16,
        compatible_offset: 0x108,
        compatible_len: 8,
        reserved0: 0,
        version: 2,
        next_free: 0,
        fingerprint: 0x5857_5655_5453_5251,
        value: 0x0000_0005_0000_0011,
        parent: 6,
        first_child: 0,
        next_sibling: 2,
        prev_sibling: 9,
        reserved1: 0,
        check: 0,
    };
    entry.check = entry.checksum(ROOT_ID, 3);
    entry
}

fn slab() -> SlabSer {
    let mut slab = SlabSer {
        magic: kpreserve_slab::abi::MAGIC,
        phys: 0x2345_6000,
        root_id: ROOT_ID,
        check: 0,
        owner: 0x11,
        stride_bytes: 64,
        nr_slots: 125,
        first_slot: 192,
        slab_order: 1,
        reserved0: 0,
        place: 0,
        reserved1: 0,
    };
    slab.check = slab.checksum();
    slab
}

kpreserve::preservable! {
    /// A structure whose fingerprint is part of the contract.
    pub struct SampleSer {
        /// A number.
        pub id: u32,
        /// Bytes.
        pub bytes: [u8; 4],
        /// A handle to the like.
        pub next: Handle<SampleSer>,
        /// An area.
        pub area: ArenaHandle<u16>,
    }
    compatible = "golden-sample", version = 1
}

fn layouts() -> Vec<Layout> {
    vec![
        layout!(RootHeadSer {
            magic: u64,
            version: u32,
            byte_order: u32,
            page_size_bytes: u32,
            reserved0: u32,
            root_id: u64,
            self_phys: u64,
            check: u64,
            generation: SharedU64,
            boot: SharedU64,
            active_buckets: SharedU64,
            free_entry: SharedU64,
            nr_names: SharedU64,
            first_name: SharedU64,
            active_entries: SharedU64,
            waste_bytes: SharedU64,
            reserved1: [u64; 2],
            arenas: ArenaSer,
            pending: PendingSer,
            reserved2: [u64; 3],
        }),
        layout!(PendingSer {
            step: SharedU64,
            link: SharedU64,
            unlink: SharedU64,
            free_entry: SharedU64,
            nr_names: SharedU64,
        }),
        layout!(RootSer {
            head: RootHeadSer,
            tables: [RunSer; NR_TABLES]
        }),
        layout!(RunSer {
            phys_order: u64,
            owner: u32,
            index: u32,
            reserved: u64,
            check: u64,
        }),
        layout!(ArenaSer {
            kind: u32,
            id: u32,
            fingerprint: u64,
            version: u32,
            stride_bytes: u32,
            slab_order: u8,
            reserved0: u8,
            first_slot: u16,
            nr_slots: u32,
            len: SharedU64,
            generation: u32,
            reserved1: u32,
            pending: SharedU64,
            check: u64,
        }),
        layout!(RedoSer {
            dst: u64,
            src: u64,
            nr: u64,
            len: u64,
            check: u64,
        }),
        layout!(MapSer {
            magic: u64,
            seed: u64,
            state: SharedU64,
            keys: u64,
            values: u64,
            free: u64,
            buckets: [u64; 2],
            reserved: u64,
            check: u64,
        }),
        layout!(StrSer {
            offset: u64,
            len: u32,
            reserved: u32,
        }),
        layout!(KhoVmallocSer {
            first: u64,
            total_pages: u32,
            flags: u16,
            order: u16,
        }),
        layout!(MemfdSer {
            size_bytes: u64,
            pos: u64,
            mtime_ns: i64,
            seals: u32,
            flags: u32,
            uid: u32,
            gid: u32,
            mode: u16,
            here: u16,
            nr_runs: u32,
            inline: [FolioRunSer; 2],
            runs: ArenaHandle<FolioRunSer>,
            check: u64,
        }),
        layout!(FolioRunSer {
            phys_order: u64,
            index: u32,
            nr_pages: u32,
        }),
        layout!(SlabSer {
            magic: u64,
            phys: u64,
            root_id: u64,
            check: u64,
            owner: u32,
            stride_bytes: u32,
            nr_slots: u32,
            first_slot: u16,
            slab_order: u8,
            reserved0: u8,
            place: u32,
            reserved1: u32,
        }),
        layout!(EntrySer {
            hash: u64,
            name_offset: u32,
            name_len: u16,
            kind: u16,
            compatible_offset: u32,
            compatible_len: u16,
            reserved0: u16,
            version: u32,
            next_free: u32,
            fingerprint: u64,
            value: u64,
            parent: u32,
            first_child: u32,
            next_sibling: u32,
            prev_sibling: u32,
            reserved1: u64,
            check: u64,
        }),
    ]
}

fn examples(out: &mut String) {
    hex(out, "RootHeadSer:", &shared_bytes(&mut head()));
    let run = RunSer::new(ROOT_ID, 9, Phys::new(0x40_0000), 3, 0x11, 2);
    hex(out, "RunSer, place 9:", &shared_bytes(&mut { run }));
    hex(out, "ArenaSer:", &shared_bytes(&mut arena()));
    let redo = shared_bytes(&mut redo());
    hex(
        out,
        "RedoSer, element 162 of arena 0x11, generation 5:",
        &redo,
    );
    hex(out, "MapSer:", &shared_bytes(&mut map()));
    hex(out, "EntrySer, index 3:", &shared_bytes(&mut entry()));
    hex(out, "SlabSer:", &shared_bytes(&mut slab()));
    let handle = Handle::<u64>::new(Phys::new(0x2345_60c0), 7);
    bytes(out, "Handle, slot 0x234560c0, tag 7:", &handle.into_raw());
    let handle = ArenaHandle::<u64>::new(0x11, 5);
    bytes(
        out,
        "ArenaHandle, arena 0x11, generation 5:",
        &handle.into_raw(),
    );
    let seal = fnv1a_u64(u64::FINGERPRINT, u64::VERSION.into());
    let handle = BoxHandle::<u64>::from_raw([0x0700_0000_2345_60c0, seal]);
    bytes(
        out,
        "BoxHandle of a u64, slot 0x234560c0, tag 7:",
        &handle.into_raw(),
    );
    let link = shared_bytes(&mut BoxLink::new(handle));
    hex(out, "BoxLink of the same:", &link);
}

fn constants(out: &mut String) {
    let name = COMPATIBLE.to_str().unwrap_or_default();
    let _ = writeln!(
        out,
        "root: {name}, slab: {}",
        kpreserve_slab::abi::COMPATIBLE
    );
    let _ = writeln!(out, "arenas: table {ARENA_TABLE}, entries {ARENA_ENTRIES:?}, strings {ARENA_STRINGS:?}, buckets {ARENA_BUCKETS:?}, users from {ARENA_FIRST}");
    let _ = writeln!(out, "pools: {POOL_COMPATIBLE}, version {POOL_VERSION}");
    let _ = writeln!(out, "owner of the run table: {OWNER_TABLE:#x}");
    let _ = writeln!(
        out,
        "kinds of arenas: cache {}, area {}",
        ArenaKind::Cache as u32,
        ArenaKind::Area as u32
    );
    let _ = writeln!(
        out,
        "kinds of names: cache {}, area {}, object {}, directory {}",
        NameKind::Cache as u16,
        NameKind::Area as u16,
        NameKind::Object as u16,
        NameKind::Directory as u16
    );
    for (name, fingerprint) in [
        ("u8", u8::FINGERPRINT),
        ("u64", u64::FINGERPRINT),
        ("SharedU64", SharedU64::FINGERPRINT),
        ("[u32; 3]", <[u32; 3]>::FINGERPRINT),
        ("Handle<u64>", Handle::<u64>::FINGERPRINT),
        ("ArenaHandle<u64>", ArenaHandle::<u64>::FINGERPRINT),
        ("BoxHandle<u64>", BoxHandle::<u64>::FINGERPRINT),
        ("slots of 8 bytes of a pool", pool_fingerprint(8)),
        ("slots of 64 bytes of a pool", pool_fingerprint(64)),
        ("ArenaSer", ArenaSer::FINGERPRINT),
        ("EntrySer", EntrySer::FINGERPRINT),
        ("SampleSer", SampleSer::FINGERPRINT),
    ] {
        let _ = writeln!(out, "fingerprint of {name}: {fingerprint:#018x}");
    }
}

fn text() -> String {
    let mut out = String::new();
    for layout in layouts() {
        let _ = writeln!(out, "{} ({} bytes)", layout.name, layout.size_bytes);
        for field in layout.fields {
            let (offset, size_bytes) = (field.offset, field.size_bytes);
            let (name, ty) = (field.name, field.ty);
            let _ = writeln!(out, "    {offset:>4} {size_bytes:>4} {name:<18} {ty}");
        }
    }
    out.push('\n');
    examples(&mut out);
    out.push('\n');
    constants(&mut out);
    out
}

#[test]
fn the_formats_are_what_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/abi.txt");
    let text = text();
    if std::env::var_os("KPRESERVE_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", line + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

/// Reads the layouts of a document: a title `Name (n bytes)`, and below it lines that begin with
/// offset, size, name, type.
fn layouts_of(document: &str) -> Vec<Layout> {
    let mut layouts: Vec<Layout> = Vec::new();
    for line in document.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [name, size, "bytes)"] if size.starts_with('(') => {
                if let Ok(size_bytes) = size[1..].parse() {
                    layouts.push(Layout {
                        name: name.to_owned(),
                        size_bytes,
                        fields: Vec::new(),
                    });
                }
            }
            [offset, size, name, ty, ..] if !line.starts_with(' ') => {
                if let (Ok(offset), Ok(size_bytes), Some(layout)) =
                    (offset.parse(), size.parse(), layouts.last_mut())
                {
                    layout.fields.push(Field {
                        offset,
                        size_bytes,
                        name: name.to_owned(),
                        ty: ty.to_owned(),
                    });
                }
            }
            _ => {}
        }
    }
    layouts
}

#[test]
fn the_document_shows_the_same_layouts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Documentation/abi.rst");
    let document = std::fs::read_to_string(path).expect("Documentation/abi.rst can be read");
    let shown = layouts_of(&document);
    for layout in layouts() {
        let found = shown.iter().find(|other| other.name == layout.name);
        assert_eq!(
            found,
            Some(&layout),
            "{} in Documentation/abi.rst",
            layout.name
        );
    }
}
