// SPDX-License-Identifier: GPL-2.0

//! Objects with a name.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::command::Words;
use crate::reply::Reply;

kpreserve::preservable! {
    /// A number with a name.
    pub(crate) struct NumberSer {
        pub(crate) value: u64,
    }
    compatible = "selftest-number", version = 1
}

fn open(name: &CString) -> Result<Named<NumberSer>> {
    Named::open(name, NumberSer { value: 0 }, GFP_KERNEL)
}

/// `named.set NAME VALUE`.
pub(crate) fn set(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let name = words.name()?;
    let value = words.number()? as u64;
    open(&name)?.value = value;
    Ok(())
}

/// `named.get NAME`: 0 if it is new.
pub(crate) fn get(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let name = words.name()?;
    reply.put("value", open(&name)?.value);
    Ok(())
}

/// What another module might have, under the same compatible string.
mod other {
    kpreserve::preservable! {
        pub(crate) struct NumberSer {
            pub(crate) words: [u64; 3],
        }
        compatible = "selftest-number", version = 1
    }
}

/// `named.other NAME`: opens it as another type of the same compatible string.
pub(crate) fn open_other(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let name = words.name()?;
    Named::open(&name, other::NumberSer { words: [1; 3] }, GFP_KERNEL).map(drop)
}

/// `named.discard NAME`.
pub(crate) fn discard(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let name = words.name()?;
    open(&name)?.discard(&name)
}
