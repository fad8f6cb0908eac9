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
            description: "Begin a new image if that of the previous kernel is refused, which is carried on otherwise (what it holds is lost)",
        },
    },
}

struct Kpreserve {
    #[cfg(CONFIG_KPRESERVE_MEMFD)]
    _memfd: Option<kpreserve::luo::Registration<kpreserve_memfd::handler::Memfd>>,
}

impl kernel::Module for Kpreserve {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let up = kpreserve::boot::init(module, module_parameters::fresh.value());
        // A module goes, and can be loaded again. Built in, the handler of memfds stays without a
        // framework, too: if LUO finds none, it gives up all sessions, also those of others.
        if !cfg!(CONFIG_KPRESERVE_MEMFD) {
            up?;
        }
        Ok(Kpreserve {
            #[cfg(CONFIG_KPRESERVE_MEMFD)]
            _memfd: memfd(),
        })
    }
}

/// Without LUO, or if its handler cannot be had, the rest works as well.
#[cfg(CONFIG_KPRESERVE_MEMFD)]
fn memfd() -> Option<kpreserve::luo::Registration<kpreserve_memfd::handler::Memfd>> {
    match kpreserve_memfd::handler::register() {
        Ok(registration) => Some(registration),
        // `liveupdate=on` is missing on the command line.
        Err(error) if error == EOPNOTSUPP => None,
        Err(error) => {
            pr_err!("memfds cannot be preserved: {:?}\n", error);
            None
        }
    }
}
