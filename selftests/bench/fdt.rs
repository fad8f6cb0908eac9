// SPDX-License-Identifier: GPL-2.0

//! A flattened device tree as a dictionary: what mainline's subsystems name their state by.
//!
//! C header: `include/linux/libfdt.h`.

use core::ffi::CStr;

use kpreserve::prelude::*;

extern "C" {
    fn fdt_create_empty_tree(buf: *mut c_void, bufsize: c_int) -> c_int;
    fn fdt_add_subnode(fdt: *mut c_void, parent: c_int, name: *const c_char) -> c_int;
    fn fdt_setprop_namelen(
        fdt: *mut c_void,
        node: c_int,
        name: *const c_char,
        namelen: c_int,
        val: *const c_void,
        len: c_int,
    ) -> c_int;
    fn fdt_subnode_offset(fdt: *const c_void, parent: c_int, name: *const c_char) -> c_int;
    fn fdt_getprop(
        fdt: *const c_void,
        node: c_int,
        name: *const c_char,
        len: *mut c_int,
    ) -> *const c_void;
}

/// The one property that a node has.
const VALUE: &CStr = c"value";

/// A tree with a node for each name.
///
/// # Invariants
///
/// `blob` holds a tree, and is as large as the tree was told.
pub(crate) struct Fdt {
    blob: KVVec<u64>,
}

impl Fdt {
    /// Makes an empty one with room for `nr` names.
    pub(crate) fn new(nr: usize) -> Result<Self> {
        let nr_words = 512 + nr * 8;
        let mut blob = KVVec::with_capacity(nr_words, GFP_KERNEL)?;
        for _ in 0..nr_words {
            blob.push(0, GFP_KERNEL)?;
        }
        // SAFETY: a buffer of that size.
        let ret =
            unsafe { fdt_create_empty_tree(blob.as_mut_ptr().cast(), (nr_words * 8) as c_int) };
        at(ret)?;
        // INVARIANT: just made.
        Ok(Self { blob })
    }

    /// Adds a name with a value.
    pub(crate) fn insert(&mut self, name: &CStr, value: u64) -> Result {
        let tree = self.blob.as_mut_ptr().cast();
        // SAFETY: a tree, by the type invariants; the name is a C string.
        let node = at(unsafe { fdt_add_subnode(tree, 0, name.as_char_ptr()) })?;
        let value = value.to_be_bytes();
        // SAFETY: as above; so many bytes are read.
        let ret = unsafe {
            fdt_setprop_namelen(
                tree,
                node,
                VALUE.as_char_ptr(),
                VALUE.count_bytes() as c_int,
                value.as_ptr().cast(),
                value.len() as c_int,
            )
        };
        at(ret).map(|_| ())
    }

    /// Returns the value of a name.
    pub(crate) fn get(&self, name: &CStr) -> Option<u64> {
        let tree = self.blob.as_ptr().cast();
        // SAFETY: a tree, by the type invariants; the name is a C string.
        let node = at(unsafe { fdt_subnode_offset(tree, 0, name.as_char_ptr()) }).ok()?;
        let mut len = 0;
        // SAFETY: as above; the pointer is to a local.
        let value = unsafe { fdt_getprop(tree, node, VALUE.as_char_ptr(), &mut len) };
        if value.is_null() || len != 8 {
            return None;
        }
        // SAFETY: eight bytes of the tree, which need not be aligned.
        let bytes = unsafe { value.cast::<[u8; 8]>().read_unaligned() };
        Some(u64::from_be_bytes(bytes))
    }
}

/// libfdt's negative numbers are not errnos.
fn at(ret: c_int) -> Result<c_int> {
    if ret < 0 {
        pr_err!("libfdt: {}\n", ret);
        return Err(EPROTO);
    }
    Ok(ret)
}
