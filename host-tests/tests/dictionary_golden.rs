// SPDX-License-Identifier: GPL-2.0

//! A dictionary laid out by hand, as Documentation/abi.rst has it: what the code writes is the same,
//! byte by byte, and what is written by hand is read. No structure, hash or checksum of the code is
//! used, so that a kernel that agrees with this file agrees with any other that does.
//!
//! Tried against code that was broken on purpose, and noticed: a tag that is the lower half of the hash,
//! links inside the checksum, a directory without its slash, another order of the halves of a bucket.

mod framework_common;

use framework_common::layout::Layout;
use kernel::prelude::GFP_KERNEL;
use kernel::print::take_complaints;
use kpreserve::namespace::list;
use kpreserve::{
    Open as _,
    PVec, //
};
use kpreserve_sim::Image;
use kpreserve_testing::Kernel;

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |hash, word| {
        let hash = hash ^ word;
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    })
}

/// An entry: its name, kind, where name and compatible string stand, version, fingerprint, value, and
/// links.
struct Hand {
    name: &'static str,
    name_offset: u32,
    compatible: (u32, u16),
    kind: u16,
    version: u32,
    fingerprint: u64,
    value: u64,
    links: [u32; 4],
}

impl Hand {
    fn bytes(&self, root_id: u64, index: u64) -> [u8; 80] {
        let (hash, len) = (fnv(self.name.as_bytes()), self.name.len() as u16);
        let (compatible_offset, compatible_len) = self.compatible;
        let check = mix(&[
            root_id,
            index,
            hash,
            (u64::from(self.name_offset) << 32) | (u64::from(len) << 16) | u64::from(self.kind),
            (u64::from(compatible_offset) << 32) | (u64::from(compatible_len) << 16),
            u64::from(self.version) << 32,
            self.fingerprint,
            self.value,
            0,
        ]);
        let mut bytes = [0; 80];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&hash.to_le_bytes());
        put(&self.name_offset.to_le_bytes());
        put(&len.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&compatible_offset.to_le_bytes());
        put(&compatible_len.to_le_bytes());
        put(&[0; 2]);
        put(&self.version.to_le_bytes());
        put(&[0; 4]);
        put(&self.fingerprint.to_le_bytes());
        put(&self.value.to_le_bytes());
        for link in self.links {
            put(&link.to_le_bytes());
        }
        put(&[0; 8]);
        put(&check.to_le_bytes());
        assert_eq!(at, 80);
        bytes
    }

    /// Returns the bucket that a table of 64 has it in, and the word.
    fn bucket(&self, index: u64) -> (u64, u64) {
        let hash = fnv(self.name.as_bytes());
        let tag = (hash ^ (hash >> 32)) & 0xffff_ffff;
        (tag % 64, (tag << 32) | (index + 1))
    }
}

/// Fingerprint and version of an area of u64, from golden/abi.txt.
const FINGERPRINT_OF_U64: u64 = 0x4d35_d319_3e8d_66f2;

/// Areas of the kernel below, in the order in which they are made: arena, its generation.
fn handle(n: u64) -> u64 {
    (1 << 32) | (16 + n)
}

/// `kvm/vm`, then `top`, then `kvm/x`, where `strings` are those two functions below say.
fn entries(offsets: [u32; 3]) -> [Hand; 4] {
    let area = |name, name_offset, value, links| Hand {
        name,
        name_offset,
        compatible: (0, 3),
        kind: 2,
        version: 1,
        fingerprint: FINGERPRINT_OF_U64,
        value,
        links,
    };
    // Links: parent, first child, next, previous; by number, which is one more than the index. The
    // last one's next is the complement of its parent.
    [
        area("kvm/vm", offsets[0], handle(0), [2, 0, !2, 4]),
        Hand {
            name: "kvm/",
            name_offset: offsets[0],
            compatible: (0, 0),
            kind: 4,
            version: 0,
            fingerprint: 0,
            value: 0,
            links: [0, 4, !0, 3],
        },
        area("top", offsets[1], handle(1), [0, 0, 2, 0]),
        area("kvm/x", offsets[2], handle(2), [2, 0, 1, 0]),
    ]
}

const STRINGS: &str = "u64kvm/vmtopkvm/x";

fn bytes_at(image: &Image, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    image.read(kpreserve::kho::Phys::new(at), &mut bytes);
    bytes
}

fn word_at(image: &Image, at: u64) -> u64 {
    image.read_u64(kpreserve::kho::Phys::new(at))
}

fn image() -> (Image, Layout) {
    let kernel = Kernel::boot();
    for (i, name) in [c"kvm/vm", c"top", c"kvm/x"].into_iter().enumerate() {
        let mut vec = PVec::<u64>::open(name, GFP_KERNEL).unwrap();
        vec.push(i as u64).unwrap();
    }
    kernel.framework().freeze();
    let image = kernel.machine().image();
    kernel.machine().power_off();
    let layout = Layout::of(&image);
    (image, layout)
}

#[test]
fn what_is_written() {
    let (image, layout) = image();
    let root_id = word_at(&image, layout.root + 24);
    for (index, hand) in entries([3, 9, 12]).iter().enumerate() {
        let index = index as u64;
        let found = bytes_at(&image, layout.element(2, 80, index), 80);
        assert_eq!(found, hand.bytes(root_id, index), "{}", hand.name);
        let (bucket, word) = hand.bucket(index);
        let found = word_at(&image, layout.element(4, 8, bucket));
        assert_eq!(found, word, "{}", hand.name);
    }
    let strings = bytes_at(&image, layout.element(3, 1, 0), STRINGS.len());
    assert_eq!(strings, STRINGS.as_bytes());
    // active_buckets, free_entry, nr_names, first_name; no change under way.
    for (offset, value) in [(64, 0), (72, 0), (80, 3), (88, 3), (192, 0)] {
        assert_eq!(word_at(&image, layout.root + offset), value, "at {offset}");
    }
    // The lengths in the descriptors: entries, strings, buckets.
    for (arena, len) in [
        (2, 4),
        (3, STRINGS.len() as u64),
        (4, 64),
        (5, 0),
        (6, 0),
        (7, 0),
    ] {
        assert_eq!(word_at(&image, layout.arena(arena) + 32), len, "{arena}");
    }
}

#[test]
fn what_is_read() {
    let (mut image, layout) = image();
    let root_id = word_at(&image, layout.root + 24);
    let at = |at| kpreserve::kho::Phys::new(at);
    // Other strings, in another order; the names turned round: `x` has the vector of `vm`.
    let strings = "u64kvm/xtopkvm/vm";
    let mut hands = entries([11, 8, 3]);
    (hands[0].value, hands[3].value) = (hands[3].value, hands[0].value);
    image.write(at(layout.element(3, 1, 0)), strings.as_bytes());
    for bucket in 0..64 {
        image.write_u64(at(layout.element(4, 8, bucket)), 0);
    }
    for (index, hand) in hands.iter().enumerate() {
        let index = index as u64;
        let entry = layout.element(2, 80, index);
        image.write(at(entry), &hand.bytes(root_id, index));
        let (bucket, word) = hand.bucket(index);
        image.write_u64(at(layout.element(4, 8, bucket)), word);
    }
    let kernel = Kernel::on(image.boot()).unwrap();
    take_complaints();
    let mut names = Vec::new();
    list(c"kvm/", |name, _| {
        names.push(name.to_str().unwrap().to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["kvm/x", "kvm/vm"]);
    for (name, number) in [(c"kvm/vm", 2), (c"top", 1), (c"kvm/x", 0)] {
        let vec = PVec::<u64>::open(name, GFP_KERNEL).unwrap();
        assert_eq!(vec.get(0), Some(&number), "{name:?}");
    }
    assert!(take_complaints().is_empty());
    kernel.assert_sound();
}
