// SPDX-License-Identifier: GPL-2.0

//! The ground kpreserve stands on: page runs, arenas, handles, validation, and the seams to the
//! machine.
//!
//! Files in this directory may depend on `core`, `zerocopy` and the public parts of the `kernel`
//! crate, and on nothing else; only `kho.rs` and `context.rs` (with `helpers.c`) speak to C. Nothing
//! here knows a name or an object.
//!
//! | file | noun |
//! | --- | --- |
//! | [`abi`] | what crosses a kexec: [`RunSer`], [`ArenaSer`], [`SharedU64`] |
//! | [`phys`] | [`Phys`], [`Window`] |
//! | [`seams`] | [`PageSource`], [`Handover`], [`CpuLocal`], [`Machine`] |
//! | [`run`] | [`PageRun`], its state in its type |
//! | [`ledger`] | [`Ledger`], [`Run`], [`Gate`]: where runs are recorded, and who may still change structure |
//! | [`note`] | a word about a run, found from any address in it |
//! | [`arena`] | [`Arena`]: the runs of one owner, born preserved |
//! | [`handle`] | [`Handle`], [`ArenaHandle`]: claim tickets |
//! | [`context`] | who may grow, who may call at all |
//! | [`mod@preservable`] | [`Preservable`] and the [`preservable!`] macro |
//! | [`sort`] | [`sort::heap_sort`] |
//! | [`ordered`], [`pinned`] | ordered bytes, [`Pinned`], [`PerCpu`]: what has to be inline |
//! | [`refusal`], [`validate`] | what happens to bytes of the previous kernel |
//! | `kho` | the seams on mainline KHO (kernel only) |

#![cfg_attr(not(CONFIG_RUST), no_std)]

#[cfg(not(CONFIG_RUST))]
extern crate pin_init as pinned_init;
#[cfg(not(CONFIG_RUST))]
extern crate std;

pub mod abi;
pub mod arena;
pub mod blocks;
mod ceiling;
pub mod context;
mod early;
pub mod handle;
pub mod hash;
#[cfg(CONFIG_RUST)]
pub mod kho;
pub mod ledger;
pub mod note;
pub mod ordered;
pub mod phys;
pub mod pinned;
pub mod preservable;
pub mod refusal;
pub mod run;
pub mod seams;
pub mod sort;
pub mod validate;

pub use abi::{
    ArenaKind,
    ArenaSer,
    RunSer,
    SharedU64, //
};
pub use arena::Arena;
pub use handle::{
    ArenaHandle,
    Handle, //
};
pub use ledger::{
    Gate,
    GatePass,
    Ledger,
    LedgerSlot,
    Run, //
};
pub use phys::{
    Phys,
    Window, //
};
pub use pinned::{
    PerCpu,
    Pinned, //
};
pub use preservable::Preservable;
pub use refusal::Refusal;
pub use run::PageRun;
pub use seams::{
    CpuLocal,
    Effort,
    Handover,
    Machine,
    Node,
    PageSource,
    Seen,
    Source, //
};
pub use validate::Checked;

/// What the macros of this crate need in the crates that use them.
#[doc(hidden)]
pub mod __private {
    pub use zerocopy_derive::{
        FromBytes,
        IntoBytes, //
    };
}

/// Gives a crate that does not hold `module!` what `pr_info!` and friends expect of their crate
/// root.
///
/// `module!` defines these items in the one crate that it stands in (`rust/macros/module.rs`).
#[macro_export]
macro_rules! crate_of_kpreserve {
    () => {
        #[allow(dead_code)]
        pub(crate) const __LOG_PREFIX: &[u8] = b"kpreserve\0";
    };
}

crate_of_kpreserve!();
