// SPDX-License-Identifier: GPL-2.0

//! What a machine was asked for.

/// How often each call of the seams was made, and what is out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// `alloc_run` and `alloc_run_from`, the failed ones included.
    pub alloc: u64,
    /// Those of them that preferred a node.
    pub alloc_on_node: u64,
    /// `met_added_memory`.
    pub met_added: u64,
    /// `free_run`.
    pub free: u64,
    /// `preserve`, the failed ones included.
    pub preserve: u64,
    /// `unpreserve`.
    pub unpreserve: u64,
    /// `probe`.
    pub probe: u64,
    /// `restore`.
    pub restore: u64,
    /// `add_subtree`.
    pub add_subtree: u64,
    /// `retrieve_subtree`.
    pub retrieve_subtree: u64,
    /// `map_runs`.
    pub map: u64,
    /// `unmap_runs`.
    pub unmap: u64,
    /// `kick_worker`.
    pub kick: u64,
    /// Pages that are owned by the framework now: allocated or restored.
    pub pages_out: u64,
    /// Keys that the next kernel would find now.
    pub keys: u64,
    /// Mappings that exist now.
    pub mappings: u64,
}

impl Counters {
    /// Returns how many calls there were, probes and kicks included.
    pub fn calls(&self) -> u64 {
        self.alloc
            + self.free
            + self.preserve
            + self.unpreserve
            + self.probe
            + self.restore
            + self.add_subtree
            + self.retrieve_subtree
            + self.map
            + self.unmap
            + self.kick
    }

    /// Returns what is out now: pages, keys, mappings.
    pub fn held(&self) -> (u64, u64, u64) {
        (self.pages_out, self.keys, self.mappings)
    }
}
