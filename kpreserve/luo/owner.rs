// SPDX-License-Identifier: GPL-2.0

//! Who owns the state of a file while LUO has it.

use kernel::sync::Arc;
use kernel::types::ForeignOwnable;

use kpreserve_kho::{
    Handle,
    Preservable, //
};
use kpreserve_slab::Preserved;

/// What LUO holds of a file's state, from preserve to unpreserve.
///
/// [`Preserved`]: LUO alone has it, and `freeze` may change it. [`Arc`] of one: the file has it too,
/// from when it was opened on, in preserved memory all the time; then there is nothing left to do
/// when LUO asks for it. An `Arc` of a struct of the client's that has it, and what it names (an open area): so that
/// taking the file back needs nothing, and the drop of the struct gives all of it back.
pub trait Owner<S: Preservable>: ForeignOwnable {
    /// Returns the handle of the state.
    fn state_handle(&self) -> Handle<S>;
}

impl<S: Preservable> Owner<S> for Preserved<S> {
    fn state_handle(&self) -> Handle<S> {
        self.handle()
    }
}

impl<S: Preservable> Owner<S> for Arc<Preserved<S>> {
    fn state_handle(&self) -> Handle<S> {
        self.handle()
    }
}
