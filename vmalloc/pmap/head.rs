// SPDX-License-Identifier: GPL-2.0

//! The head of a map, with the types of what is in it.

use core::marker::PhantomData;

use kernel::prelude::*;

use kpreserve_kho::hash::fnv1a_u64;
use kpreserve_kho::Preservable;

use crate::abi::MapSer;

/// A [`MapSer`] of a map from `K` to `V`.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(transparent)]
pub struct MapHeadSer<K, V> {
    ser: MapSer,
    _types: PhantomData<(K, V)>,
}

impl<K, V> MapHeadSer<K, V> {
    pub(super) fn new(ser: MapSer) -> Self {
        Self {
            ser,
            _types: PhantomData,
        }
    }

    /// Returns what crosses.
    pub fn ser(&self) -> &MapSer {
        &self.ser
    }
}

// SAFETY: a `MapSer`, of which any bit pattern is valid and which has no padding, as the derives prove;
// the fingerprint covers those of both types.
unsafe impl<K: Preservable, V: Preservable> Preservable for MapHeadSer<K, V> {
    const COMPATIBLE: &'static str = "kpreserve-map";
    const VERSION: u32 = 1;
    const FINGERPRINT: u64 = {
        let hash = kpreserve_kho::hash::fnv1a(0, b"kpreserve-map-v1");
        fnv1a_u64(fnv1a_u64(hash, K::FINGERPRINT), V::FINGERPRINT)
    };
}
