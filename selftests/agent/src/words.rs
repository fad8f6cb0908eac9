// SPDX-License-Identifier: GPL-2.0

//! Splits a step into words, as a shell would.

use anyhow::{bail, Context, Result};

/// Words are separated by blanks; single and double quotes hold blanks together; a backslash takes the next character as it is.
pub(crate) fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(character),
            (_, '\\') => match characters.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => bail!("a backslash at the end of: {text}"),
            },
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        bail!("a quote is not closed in: {text}");
    }
    words.extend(word);
    Ok(words)
}

/// The value of a word `name=value` among the arguments, and the other arguments.
pub(crate) fn option<'a>(arguments: &'a [String], name: &str) -> (Option<&'a str>, Vec<&'a str>) {
    let ([value], rest) = options(arguments, [name]);
    (value, rest)
}

/// The values of several such words, and the other arguments.
pub(crate) fn options<'a, const N: usize>(
    arguments: &'a [String],
    names: [&str; N],
) -> ([Option<&'a str>; N], Vec<&'a str>) {
    let mut values = [None; N];
    let mut rest = Vec::new();
    'words: for word in arguments {
        for (value, name) in values.iter_mut().zip(names) {
            let tail = word.strip_prefix(name);
            if let Some(found) = tail.and_then(|tail| tail.strip_prefix('=')) {
                *value = Some(found);
                continue 'words;
            }
        }
        rest.push(word.as_str());
    }
    (values, rest)
}

/// The names that a step with `count=N` means: NAME.0, NAME.1 and so on; without it, NAME alone.
pub(crate) fn several(count: Option<&str>, name: &str) -> Result<Vec<String>> {
    let Some(count) = count else {
        return Ok(vec![name.to_owned()]);
    };
    let count: u64 = count.parse().context("count=NUMBER")?;
    Ok((0..count).map(|nth| format!("{name}.{nth}")).collect())
}

#[cfg(test)]
mod tests {
    use super::{option, several, split};

    #[test]
    fn words() {
        assert_eq!(
            split(r#"cmd dev "fill 10" it\'s 'a "b"' "" "#).unwrap(),
            ["cmd", "dev", "fill 10", "it's", "a \"b\"", ""]
        );
        assert!(split("cmd \"open").is_err());
        assert!(split("cmd \\").is_err());
        assert!(split("  ").unwrap().is_empty());
    }

    #[test]
    fn several_options() {
        let words = split("count=3 file fails=EBUSY x=y count=4").unwrap();
        assert_eq!(
            super::options(&words, ["count", "fails", "max"]),
            ([Some("4"), Some("EBUSY"), None], vec!["file", "x=y"])
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(several(None, "a").unwrap(), ["a"]);
        assert_eq!(several(Some("2"), "a").unwrap(), ["a.0", "a.1"]);
        assert!(several(Some("two"), "a").is_err());
    }

    #[test]
    fn options() {
        let words = split("name fails=EBUSY x=y").unwrap();
        assert_eq!(
            option(&words, "fails"),
            (Some("EBUSY"), vec!["name", "x=y"])
        );
        assert_eq!(option(&words, "nofails").0, None);
    }
}
