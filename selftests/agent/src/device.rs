// SPDX-License-Identifier: GPL-2.0

//! Talking to a test device: one command in, a reply out.

use crate::{errno, words, Machine};
use anyhow::{bail, Result};
use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
};

/// The device of the test module.
const DEFAULT: &str = "kpreserve-selftest";

/// A reply longer than this is a fault of the device.
const LONGEST_REPLY: u64 = 1 << 20;

/// `cmd [DEVICE] "TEXT" [fails=ERRNO]`.
pub(crate) fn cmd(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (fails, rest) = words::option(arguments, "fails");
    let (device, text) = match rest[..] {
        [text] => (DEFAULT, text),
        [device, text] => (device, text),
        _ => bail!("cmd: expected [DEVICE] \"TEXT\", got {} words", rest.len()),
    };
    let result = ask(device, text);
    machine.reply.clear();
    if let Some(reply) = errno::expect(&format!("/dev/{device}: {text}"), result, fails)? {
        take(machine, &reply);
    }
    Ok(())
}

/// Sends the text and returns what the device answers.
pub(crate) fn ask(device: &str, text: &str) -> io::Result<String> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/dev/{device}"))?;
    // One command is one write(2).
    let written = file.write(text.as_bytes())?;
    if written != text.len() {
        return Err(io::Error::other(format!(
            "the device took {written} of {} bytes",
            text.len()
        )));
    }
    let mut reply = Vec::new();
    file.take(LONGEST_REPLY).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Shows a reply, passes on its rows and remembers its `key=value` pairs.
pub(crate) fn take(machine: &mut Machine, reply: &str) {
    for line in reply.lines() {
        if line.starts_with("@@json ") {
            machine.report.line(line);
            continue;
        }
        machine.report.note(line);
        for word in line.split_whitespace() {
            if let Some((key, value)) = word.split_once('=') {
                machine.reply.push((key.to_owned(), value.to_owned()));
            }
        }
    }
}

/// `expect KEY OP VALUE`.
pub(crate) fn expect(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [key, operator, value] = arguments else {
        bail!("expect: expected KEY OP VALUE");
    };
    let Some((_, found)) = machine.reply.iter().rev().find(|(k, _)| k == key) else {
        let keys: Vec<_> = machine.reply.iter().map(|(k, _)| k.as_str()).collect();
        bail!("the last reply has no {key}; it has: {}", keys.join(", "));
    };
    if !compare(found, operator, value)? {
        bail!("{key}: expected {operator} {value}, found {found}");
    }
    Ok(())
}

/// Compares as numbers when both are, else as text.
fn compare(found: &str, operator: &str, value: &str) -> Result<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (number(found), number(value)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => found.cmp(value),
    };
    Ok(match operator {
        "==" | "=" => order == Equal,
        "!=" => order != Equal,
        "<" => order == Less,
        "<=" => order != Greater,
        ">" => order == Greater,
        ">=" => order != Less,
        _ => bail!("expect: no operator {operator:?}; known: == != < <= > >="),
    })
}

/// A decimal number, or a hexadecimal one with `0x`.
fn number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn numbers_are_not_compared_as_text() {
        assert!(compare("10", ">", "9").unwrap());
        assert!(compare("0x10", "==", "16").unwrap());
        assert!(compare("abc", "!=", "abd").unwrap());
        assert!(!compare("-1", ">=", "0").unwrap());
        assert!(compare("1", "~", "1").is_err());
    }
}
