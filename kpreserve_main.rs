// SPDX-License-Identifier: GPL-2.0

//! Assembles the crates into kpreserve.ko. No algorithms here.

use kernel::prelude::*;

module! {
    type: Kpreserve,
    name: "kpreserve",
    authors: ["The kpreserve developers"],
    description: "Slab caches and vmalloc areas that survive kexec",
    license: "GPL",
    params: {
        fresh: bool {
            default: false,
            description: "Begin anew if the image of the previous kernel is refused (its memory stays locked away until the next boot, and is lost)",
        },
    },
}

struct Kpreserve;

impl kernel::Module for Kpreserve {
    fn init(module: &'static ThisModule) -> Result<Self> {
        kpreserve::boot::init(module, module_parameters::fresh.value())?;
        Ok(Kpreserve)
    }
}
