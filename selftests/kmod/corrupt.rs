// SPDX-License-Identifier: GPL-2.0

//! Damages what the next kernel will find: each way is one field of one structure.
//!
//! Where a checksum would give the damage away at once, ways that end in `-sealed` make it right
//! again, so that the checks behind it have to do their work: that is what a faulty kernel, rather
//! than a faulty memory, would leave. Ways that end in `-bit` flip a single bit, and mend it if
//! they are gone a second time.

use kernel::str::CString;
use kpreserve::kho::RunSer;
use kpreserve::prelude::*;

use crate::command::Words;
use crate::image;
use crate::reply::Reply;

/// `corrupt WAY [NAME]`; `corrupt object-OFFSET NAME BITS`.
pub(crate) fn run(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let way = words.word()?;
    if let Some(field) = way.strip_prefix("root-") {
        return root(field);
    }
    if let Some(field) = way.strip_prefix("block-") {
        return block(field);
    }
    let name = words.name()?;
    match way.split_once('-') {
        Some(("run", field)) => run_entry(field, &name, words),
        Some(("arena", field)) => arena(field, &name),
        Some(("entry", field)) => name_entry(field, &name),
        Some(("slab", field)) => slab(field, &name),
        Some(("map", field)) => map(field, &name),
        Some(("object", offset)) => object(offset, &name, words.number()? as u64),
        _ => Err(EPROTO),
    }
}

/// The root page.
fn root(field: &str) -> Result {
    let at = image::root()?;
    let mut head = at.read();
    match field {
        "magic" => head.magic ^= 1,
        "byte-order" => head.byte_order = head.byte_order.swap_bytes(),
        "page-size" => head.page_size_bytes = 65536,
        "version" => head.version += 1,
        "self-phys" => head.self_phys += 4096,
        "check" => head.check ^= 1 << 40,
        "active-entries" => head.active_entries = SharedU64::new(2),
        _ => return Err(EPROTO),
    }
    at.write(head);
    Ok(())
}

/// The first block of the run table, as the root page names it.
fn block(field: &str) -> Result {
    let entry = image::table_entry(0)?;
    let root_id = image::root_id()?;
    change_run(field, &entry, root_id, 0)
}

/// The first run of what a name stands for, in the run table.
fn run_entry(field: &str, name: &CString, words: &mut Words<'_>) -> Result {
    let root_id = image::root_id()?;
    let (place, entry) = image::first_run(image::arena_of(name)?)?;
    match field {
        // Two arenas claim the same pages.
        "overlap-sealed" => {
            let other = words.name()?;
            let (_, theirs) = image::first_run(image::arena_of(&other)?)?;
            let theirs = theirs.read();
            entry.change(|entry| {
                entry.phys_order = theirs.phys_order;
                entry.check = entry.checksum(root_id, place);
            });
            Ok(())
        }
        _ => change_run(field, &entry, root_id, place),
    }
}

fn change_run(field: &str, entry: &image::At<RunSer>, root_id: u64, place: u64) -> Result {
    let mut ser = entry.read();
    match field.trim_end_matches("-sealed") {
        "order" => ser.phys_order ^= 1,
        // Twice as large as any run.
        "order-huge" => ser.phys_order |= 0x3f,
        // The page after the first: preserved, but not the beginning of a run.
        "phys" => ser.phys_order += 4096,
        // An address that is no memory.
        "phys-nowhere" => ser.phys_order = (1 << 51) | (ser.phys_order & 0x3f),
        // Memory of the running kernel.
        "phys-foreign" => ser.phys_order = 0x10_0000 | (ser.phys_order & 0x3f),
        "owner" => ser.owner = 0,
        // 16 to 23 become the framework's own.
        "owner-flip" => ser.owner ^= 0x10,
        "owner-unknown" => ser.owner = 0x7fff_fff0,
        "index" => ser.index += 7,
        "reserved" => ser.reserved = 1,
        "check" => ser.check ^= 1,
        _ => return Err(EPROTO),
    }
    if field.ends_with("-sealed") {
        ser.check = ser.checksum(root_id, place);
    }
    entry.write(ser);
    Ok(())
}

/// The descriptor of what a name stands for.
fn arena(field: &str, name: &CString) -> Result {
    let root_id = image::root_id()?;
    let at = image::arena(image::arena_of(name)?)?;
    let mut ser = at.read();
    match field.trim_end_matches("-sealed") {
        "kind" => ser.kind = 77,
        // Of an area: 0, as if the record were free.
        "kind-bit" => ser.kind ^= 2,
        "generation-bit" => ser.generation ^= 1 << 9,
        "stride" => ser.stride_bytes += 3,
        "first-slot" => ser.first_slot = 8,
        "slots" => ser.nr_slots = u32::MAX,
        "slab-order" => ser.slab_order = 63,
        "len" => ser.len = SharedU64::new(u64::MAX / 2),
        "fingerprint" => ser.fingerprint ^= 1,
        "check" => ser.check ^= 1,
        _ => return Err(EPROTO),
    }
    if field.ends_with("-sealed") {
        ser.check = ser.checksum(root_id);
    }
    at.write(ser);
    Ok(())
}

/// The dictionary entry of a name, and the bucket that refers to it.
fn name_entry(field: &str, name: &CString) -> Result {
    let root_id = image::root_id()?;
    let (index, at) = image::name_entry(name)?;
    if field == "bucket" {
        image::bucket_of(index)?.write(0x00ff_ffff);
        return Ok(());
    }
    if field == "tag-bit" {
        image::bucket_of(index)?.change(|word| *word ^= 1 << 40);
        return Ok(());
    }
    if field == "name-bit" {
        image::string(at.read().name_offset)?.change(|byte| *byte ^= 1);
        return Ok(());
    }
    let mut ser = at.read();
    match field.trim_end_matches("-sealed") {
        "name-offset" => ser.name_offset = u32::MAX,
        "value" => ser.value = u64::MAX,
        "check" => ser.check ^= 1,
        _ => return Err(EPROTO),
    }
    if field.ends_with("-sealed") {
        ser.check = ser.checksum(root_id, index);
    }
    at.write(ser);
    Ok(())
}

/// The head of a map (`MapSer` in vmalloc/abi.rs).
fn map(field: &str, name: &CString) -> Result {
    const STATE_BYTES: usize = 16;
    match field {
        // It says that the map is over, in the words of an earlier kernel.
        "state-bit" => {
            let head = image::arena_of(name)?;
            image::in_first_run::<u64>(head, STATE_BYTES)?.change(|state| *state ^= 4);
            Ok(())
        }
        _ => Err(EPROTO),
    }
}

/// The first slab of a cache: its header (`SlabSer` in slab/abi.rs), as words, or its first tag.
fn slab(field: &str, name: &CString) -> Result {
    const HEADER_WORDS: usize = 7;
    let owner = image::arena_of(name)?;
    if field == "tag" {
        // What is live seems to be free.
        image::in_first_run::<u64>(owner, HEADER_WORDS * 8)?.change(|tags| *tags ^= 1);
        return Ok(());
    }
    let at = image::in_first_run::<[u64; HEADER_WORDS]>(owner, 0)?;
    let mut words = at.read();
    let [magic, phys, root_id, check, owner_stride, slots, place_reserved] = &mut words;
    match field.trim_end_matches("-sealed") {
        "magic" => *magic ^= 1,
        "phys" => *phys ^= 4096,
        "root-id" => *root_id ^= 1,
        "stride" => *owner_stride ^= 8 << 32,
        "check" => *check ^= 1,
        _ => return Err(EPROTO),
    }
    if field.ends_with("-sealed") {
        let (nr_slots, first_slot, order, reserved) = (
            *slots as u32,
            (*slots >> 32) as u16,
            (*slots >> 48) as u8,
            (*slots >> 56) as u8,
        );
        *check = kpreserve::kho::hash::mix(&[
            *magic,
            *phys,
            *root_id,
            owner_stride.rotate_left(32),
            (u64::from(nr_slots) << 32)
                | (u64::from(first_slot) << 16)
                | (u64::from(order) << 8)
                | u64::from(reserved),
            *place_reserved >> 32,
        ]);
    }
    at.write(words);
    Ok(())
}

/// A word, `offset` bytes into each object of the first slab of a cache: the bits that are named change.
fn object(offset: &str, name: &CString, bits: u64) -> Result {
    const HEADER_BYTES: usize = 56;
    let offset: usize = offset.parse().map_err(|_| EPROTO)?;
    let owner = image::arena_of(name)?;
    let arena = image::arena(owner)?.read();
    let (stride, first) = (arena.stride_bytes as usize, arena.first_slot as usize);
    for slot in 0..arena.nr_slots as usize {
        let tag = image::in_first_run::<u8>(owner, HEADER_BYTES + slot)?.read();
        if tag & 1 == 1 {
            let word = image::in_first_run::<u64>(owner, first + slot * stride + offset)?;
            word.change(|word| *word ^= bits);
        }
    }
    Ok(())
}
