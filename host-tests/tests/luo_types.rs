// SPDX-License-Identifier: GPL-2.0

//! What C calls through a pointer has C's types, by their names.
//!
//! A kernel with CONFIG_CFI hashes the types of arguments and result, structs by their names, and
//! stops at a call of another hash. rustc does not see C's prototypes, nor clang ours:
//! `kpreserve/luo/layout.c` repeats those of LUO's callbacks, and the compiler compares it with
//! LUO's header in each build; here it is compared with `bindings.rs`. The scenarios on the `cfi`
//! kernel see the hashes themselves.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a struct of bindings.rs has a name of its own, as in all of them before | `structs_...`, `callbacks_have_...` |
//! | `can_finish` returns `c_int` in bindings.rs | `callbacks_have_...` |
//! | `unfreeze` is missing in layout.c | `callbacks_have_...` |
//! | a callback takes a struct of ours, also by the name of one of C's | `functions_for_c_...` |

use std::collections::BTreeSet;
use std::fs;
use std::path::{
    Path,
    PathBuf, //
};

/// Folders of what is compiled for the kernel.
const FOLDERS: &[&str] = &[
    "kho",
    "slab",
    "vmalloc",
    "kpreserve",
    "memfd",
    "samples",
    "selftests/kmod",
    "selftests/bench",
];

/// What functions that C calls may point to: `void`, and structs by C's names. Those of
/// `kernel::bindings` have them by bindgen.
const POINTEES: &[&str] = &[
    "c_void",
    "file",
    "inode",
    "liveupdate_file_handler",
    "liveupdate_file_op_args",
    "liveupdate_flb_op_args",
    "notifier_block",
];

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A source without its comments, and with one blank where there is any space.
fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap());
    let words: Vec<_> = code.flat_map(str::split_whitespace).collect();
    words.join(" ")
}

fn bindings() -> String {
    read(&checkout().join("kpreserve/luo/bindings.rs"))
}

fn layout() -> String {
    read(&checkout().join("kpreserve/luo/layout.c"))
}

/// What stands between two words, wherever they do.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start)
        .skip(1)
        .map(move |rest| rest.split_once(end).unwrap().0)
}

/// The structs of bindings.rs: their names, and their fields.
fn structs(bindings: &str) -> Vec<(&str, &str)> {
    between(bindings, "#[repr(C)] pub(super) struct ", " }")
        .map(|text| text.split_once(" {").unwrap())
        .collect()
}

/// A type of Rust's as C writes it.
fn in_c(rust: &str) -> String {
    match rust {
        "" => "void".to_owned(),
        "bool" => "bool".to_owned(),
        "c_int" => "int".to_owned(),
        "c_ulong" => "unsigned long".to_owned(),
        _ => match rust.strip_prefix("*mut ") {
            Some("c_void") => "void *".to_owned(),
            Some(name) => format!("struct {name} *"),
            None => panic!("{rust}: no type that this test knows"),
        },
    }
}

#[test]
fn structs_have_the_names_of_c() {
    let (bindings, layout) = (bindings(), layout());
    let structs = structs(&bindings);
    // None with another representation, whose name would be mangled as Rust's.
    assert_eq!(structs.len(), bindings.matches("struct ").count());
    assert_eq!(structs.len(), 6);
    for (name, _) in structs {
        assert!(
            layout.contains(&format!("static_assert(sizeof(struct {name}) ")),
            "layout.c does not know that C has a struct {name}"
        );
    }
}

#[test]
fn callbacks_have_the_types_of_c() {
    let (bindings, layout) = (bindings(), layout());
    let mut ours = BTreeSet::new();
    for (of, fields) in structs(&bindings) {
        for field in fields.split("pub(super) ").filter(|f| f.contains("fn(")) {
            let field = field.trim().trim_end_matches(',').replace("Option<", "");
            let (name, prototype) = field.split_once(": unsafe extern \"C\" fn(").unwrap();
            let (arguments, result) = prototype.split_once(')').unwrap();
            let result = result.trim_end_matches('>').trim();
            let arguments: Vec<_> = arguments.split(", ").map(in_c).collect();
            ours.insert(format!(
                "{of}, {name}, {}, {}",
                in_c(result.trim_start_matches("-> ")),
                arguments.join(", ")
            ));
        }
    }
    let theirs: BTreeSet<_> = between(&layout, "PROTOTYPE(liveupdate", ");")
        .map(|text| format!("liveupdate{text}"))
        .collect();
    assert_eq!(ours.len(), 13);
    assert_eq!(ours, theirs);
}

/// A new name has to be looked at: is it C's?
#[test]
fn functions_for_c_take_what_c_has() {
    let bindings = bindings();
    let mut nr_functions = 0;
    for folder in FOLDERS {
        for path in sources(&checkout().join(folder)) {
            let text = read(&path);
            for function in text.split("extern \"C\" fn").skip(1) {
                nr_functions += 1;
                for pointee in pointees(arguments(function)) {
                    let name = original(&bindings, original(&text, pointee));
                    let path = path.display();
                    assert!(POINTEES.contains(&name), "{path}: a pointer to {pointee}");
                }
            }
        }
    }
    assert!(nr_functions > 30);
}

/// `FileHandler`, of `FileHandler as RawHandler,`; the name itself if it has no other.
fn original<'a>(text: &'a str, name: &'a str) -> &'a str {
    let found = [format!(" as {name},"), format!(" as {name};")]
        .iter()
        .find_map(|end| text.split_once(end.as_str()));
    found.map_or(name, |(before, _)| {
        before.rsplit([' ', ':']).next().unwrap()
    })
}

/// What stands in the parentheses, of `name<F: FnOnce()>(arguments)`.
fn arguments(function: &str) -> &str {
    let mut depth = 0;
    let start = function.find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0 && c == '('
    });
    let arguments = &function[start.unwrap() + 1..];
    arguments.split_once(')').unwrap().0
}

/// The names of the types that arguments point to.
fn pointees(arguments: &str) -> Vec<&str> {
    arguments
        .split("*mut ")
        .flat_map(|part| part.split("*const "))
        .skip(1)
        .map(|rest| {
            let path = rest.split([',', ' ']).next().unwrap();
            path.rsplit("::").next().unwrap()
        })
        // A pointer to a pointer.
        .filter(|name| !name.is_empty())
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
