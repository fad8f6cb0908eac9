// SPDX-License-Identifier: GPL-2.0

//! What the arguments of each step look like. The agent checks a step by it before it carries it
//! out; xtask, which compiles this file, too, checks all steps of a scenario before anything is
//! built or booted.

use anyhow::{bail, Context, Result};

/// The words of verbs.rs with their shapes. A shape is a list of
///
/// - `NAME`: a word. `N`, `COUNT`, `KTH`, `MILLISECONDS`, `TOKEN`, `SEED` are numbers; `SIZE` is
///   one that may end in K, M or G;
/// - `a|b`: one of these words;
/// - `[NAME]`: a word that can be left out, `[NAME ...]`: any number of words; only at the end;
/// - `[name=NAME]`: an option, anywhere in the step.
pub(crate) const SHAPES: &[(&str, &str)] = &[
    ("insmod", "NAME [PARAMETER=VALUE ...] [fails=ERRNO]"),
    ("rmmod", "NAME [fails=ERRNO]"),
    ("cmd", "DEVICE-OR-TEXT [TEXT] [fails=ERRNO]"),
    ("expect", "KEY ==|=|!=|<|<=|>|>= VALUE"),
    ("dmesg-contains", "TEXT"),
    ("dmesg-lacks", "TEXT"),
    ("dmesg-count", "N TEXT"),
    ("read-file", "PATH [fails=ERRNO]"),
    ("write-file", "PATH TEXT [fails=ERRNO]"),
    ("sleep", "MILLISECONDS"),
    ("kexec-load", ""),
    ("kexec", "[fails=ERRNO]"),
    ("kexec-tools", ""),
    ("crash-load", ""),
    ("crash", ""),
    ("vmcore", ""),
    ("poweroff", ""),
    ("vanish", ""),
    ("kv-load", "DATA"),
    ("kv-verify", "DATA [extra=N]"),
    ("kv-churn", "KTH COUNT"),
    ("kv-errors", ""),
    ("kv-cursor", "FILE PREFIX [count=N] [fails=ERRNO]"),
    ("kv-next", "FILE COUNT"),
    ("kv-same", "FILE OTHER PREFIX"),
    ("dev-attach", "FILE DEVICE [count=N] [fails=ERRNO]"),
    ("dev-write", "FILE SEED"),
    ("dev-check", "FILE SEED"),
    ("dev-busy", "FILE 0|1"),
    ("probe", "FILE VALUE"),
    ("probe-check", "FILE VALUE"),
    ("memfd-make", MEMFD),
    ("memfd-check", MEMFD),
    ("memfd-appends", "FILE"),
    ("memfd-descriptor", "FILE"),
    ("memfd-fill", MEMFD),
    ("memfd-write-on", "FILE"),
    ("memfd-written", "FILE"),
    ("reopen", "FILE AS"),
    ("close", "FILE [count=N]"),
    ("huge-pages", ""),
    ("pages-moved", ""),
    ("memory-total", ""),
    ("memory-online", "online_kernel|online_movable"),
    ("pins-balanced", ""),
    ("xattr-set", "FILE NAME VALUE [fails=ERRNO]"),
    ("xattr-get", "FILE NAME VALUE [fails=ERRNO]"),
    ("swap-on", ""),
    ("page-out", "FILE"),
    ("cgroup", "NAME [max=SIZE]"),
    ("charged", "NAME"),
    ("luo-preserve", "SESSION TOKEN FILE [count=N] [fails=ERRNO]"),
    ("luo-retrieve", "SESSION TOKEN FILE [count=N] [fails=ERRNO]"),
    ("luo-finish", "SESSION [fails=ERRNO]"),
    ("luo-preserve-elsewhere", "SESSION TOKEN FILE [fails=ERRNO]"),
    ("luo-retrieve-elsewhere", "SESSION TOKEN FILE [fails=ERRNO]"),
    ("luo-retrieve-in", "GROUP SESSION TOKEN FILE [fails=ERRNO]"),
    ("luo-preserve-killed", "SESSION TOKEN FILE MILLISECONDS"),
    ("luo-preserve-faults", "SESSION TOKEN FILE"),
    ("luo-retrieve-faults", "SESSION TOKEN FILE COUNT"),
    ("luo-preserve-apart", "SESSION FILE COUNT"),
    ("luo-finish-faults", "SESSION COUNT"),
    ("luo-close-faults", "SESSION TOKEN FILE"),
    ("luo-close", "SESSION"),
    ("run", "PROGRAM [ARGUMENT ...] [exit=N]"),
    ("keep", "NAME [KEY]"),
    ("bench-row", "ROW N OURS PEER PEER-NAME [unit=UNIT]"),
    ("figures", "ROW [KEY[=NAME] ...]"),
    ("adopt", "ROW"),
];

/// What a memfd is.
const MEMFD: &str =
    "FILE SIZE SEED [every=N] [words=N] [seals=SEALS] [flags=FLAGS] [mode=OCTAL] [pos=SIZE] \
    [owner=N] [access=rdonly] [count=N]";

/// Checks a step that was split into words.
///
/// # Errors
///
/// Names the word that is not known, or that there should be none of, and what the step should look
/// like.
pub(crate) fn check(words: &[String]) -> Result<()> {
    let (verb, arguments) = words.split_first().context("an empty step")?;
    let Some((_, shape)) = SHAPES.iter().find(|(known, _)| known == verb) else {
        let known: Vec<_> = SHAPES.iter().map(|(known, _)| *known).collect();
        match nearest(verb, &known) {
            Some(near) => bail!("no step starts with {verb:?}; is {near:?} meant?"),
            None => bail!("no step starts with {verb:?}; known: {}", known.join(", ")),
        }
    };
    arguments_fit(arguments, shape).with_context(|| format!("expected: {verb} {shape}"))
}

/// Of the words that there are, the one that is most like `word`, if any is.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut best = None;
    for candidate in known {
        let distance = distance(word, candidate);
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, *candidate));
        }
    }
    best.filter(|(distance, _)| *distance <= 2)
        .map(|(_, candidate)| candidate)
}

/// How many characters have to be inserted, removed or replaced.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column].min(diagonal) + 1);
        }
    }
    row[to.len()]
}

/// One part of a shape.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    Word(&'a str),
    MaybeWord(&'a str),
    Words,
    Option(&'a str, &'a str),
}

/// `A [B] [c=D] [E ...]` as its parts.
fn parts(shape: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = shape.trim_start();
    while !rest.is_empty() {
        // The bracket that closes may hold another pair.
        let mut depth = 0;
        let end = rest.find(|character| {
            depth += i32::from(character == '[') - i32::from(character == ']');
            character == ' ' && depth == 0
        });
        let (token, tail) = rest.split_at(end.unwrap_or(rest.len()));
        rest = tail.trim_start();
        let inside = token.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        parts.push(match inside {
            None => Part::Word(token),
            Some(inside) if inside.ends_with("...") => Part::Words,
            Some(inside) => match inside.split_once('=') {
                Some((name, value)) => Part::Option(name, value),
                None => Part::MaybeWord(inside),
            },
        });
    }
    parts
}

fn arguments_fit(arguments: &[String], shape: &str) -> Result<()> {
    let parts = parts(shape);
    let mut words = Vec::new();
    'arguments: for argument in arguments {
        for part in &parts {
            let Part::Option(name, kind) = part else {
                continue;
            };
            let tail = argument.strip_prefix(name);
            if let Some(value) = tail.and_then(|tail| tail.strip_prefix('=')) {
                fits(value, kind)?;
                continue 'arguments;
            }
        }
        words.push(argument.as_str());
    }
    let mut words = words.into_iter();
    for part in &parts {
        match part {
            Part::Option(..) => {}
            Part::Words => return Ok(()),
            Part::Word(kind) => {
                let word = words.next();
                fits(word.with_context(|| format!("{kind} is missing"))?, kind)?;
            }
            Part::MaybeWord(kind) => {
                if let Some(word) = words.next() {
                    fits(word, kind)?;
                }
            }
        }
    }
    match words.next() {
        None => Ok(()),
        Some(word) => bail!("what is {word:?}?"),
    }
}

/// Whether a word is of a kind.
fn fits(word: &str, kind: &str) -> Result<()> {
    let is_number = |digits: &str| match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).is_ok(),
        None => digits.parse::<u64>().is_ok(),
    };
    let fits = match kind {
        "N" | "COUNT" | "KTH" | "MILLISECONDS" | "TOKEN" | "SEED" => is_number(word),
        "SIZE" => is_number(word.strip_suffix(['K', 'M', 'G']).unwrap_or(word)),
        _ if kind.contains('|') => kind.split('|').any(|one| one == word),
        _ => true,
    };
    if !fits {
        bail!("{word:?} is no {kind}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check, distance, nearest, parts, Part, SHAPES};

    fn of(words: &[&str]) -> Result<(), String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        check(&words).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn shapes_have_parts() {
        assert_eq!(
            parts("A [B] [c=D] 0|1 [E[=F] ...]"),
            [
                Part::Word("A"),
                Part::MaybeWord("B"),
                Part::Option("c", "D"),
                Part::Word("0|1"),
                Part::Words
            ]
        );
        assert!(parts("").is_empty());
    }

    #[test]
    fn good_steps() {
        for step in [
            &["kexec"][..],
            &["insmod", "kpreserve_selftest", "fail=2", "fails=EINVAL"],
            &["cmd", "stats"],
            &["cmd", "kpreserve-bench", "slab.pair", "fails=EINVAL"],
            &["memfd-make", "a", "16M", "1", "seals=write,grow", "count=4"],
            &["expect", "records", ">=", "7"],
            &["figures", "cache", "objects", "bytes=size"],
            &["keep", "ours"],
            &["run", "luo", "a", "b"],
        ] {
            assert_eq!(of(step), Ok(()), "{step:?}");
        }
    }

    #[test]
    fn bad_steps_are_named() {
        for (step, part) in [
            (&["insmd", "x"][..], "is \"insmod\" meant?"),
            (&["frobnicate"], "known: insmod"),
            (&["insmod"], "NAME is missing"),
            (&["rmmod", "x", "fail=EBUSY"], "what is \"fail=EBUSY\"?"),
            (&["sleep", "long"], "\"long\" is no MILLISECONDS"),
            (&["expect", "a", "equals", "1"], "\"equals\" is no =="),
            (&["memfd-make", "a", "16X", "1"], "\"16X\" is no SIZE"),
            (&["dev-busy", "a", "2"], "\"2\" is no 0|1"),
            (
                &["luo-preserve", "s", "1", "f", "count=few"],
                "\"few\" is no N",
            ),
            (&["poweroff", "now"], "what is \"now\"?"),
        ] {
            let error = of(step).unwrap_err();
            assert!(error.contains(part), "{step:?}: {error}");
        }
    }

    #[test]
    fn words_are_known_once() {
        for (index, (verb, _)) in SHAPES.iter().enumerate() {
            assert!(
                SHAPES[..index].iter().all(|(other, _)| other != verb),
                "{verb}"
            );
        }
    }

    #[test]
    fn what_is_like_a_word() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(nearest("powerof", &["kexec", "poweroff"]), Some("poweroff"));
        assert_eq!(nearest("xyz", &["kexec", "poweroff"]), None);
    }
}
