// SPDX-License-Identifier: GPL-2.0

//! Takes the example out of the README, for `tests/readme.rs`.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    const README: &str = "../README.md";
    println!("cargo::rerun-if-changed={README}");
    let readme = fs::read_to_string(README)?;
    let blocks: Vec<_> = readme.split("```rust\n").skip(1).collect();
    let [block] = blocks[..] else {
        let found = format!("{README} has {} blocks of Rust, expected 1", blocks.len());
        return Err(io::Error::other(found));
    };
    let example = block
        .split_once("```")
        .map_or(block, |(example, _)| example);
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&out).join("readme.rs"), example)
}
