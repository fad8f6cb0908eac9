// SPDX-License-Identifier: GPL-2.0

//! Stanzas of a package index, cut just as xtask/src/data.rs cuts them: the digests are of these bytes.

/// The stanzas: separated by empty lines, each without the line feed of its last line.
pub(crate) fn all(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some(tail) = rest.strip_prefix(b"\n") {
            rest = tail;
        }
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            if line == b"\n" {
                break;
            }
            end += line.len();
        }
        let (stanza, tail) = rest.split_at(end);
        rest = tail;
        Some(stanza.strip_suffix(b"\n").unwrap_or(stanza))
    })
}

/// `Package/Version/Architecture`.
pub(crate) fn key(stanza: &[u8]) -> Option<String> {
    let mut fields = [None; 3];
    for line in stanza.split(|byte| *byte == b'\n') {
        for (field, name) in fields
            .iter_mut()
            .zip(["Package: ", "Version: ", "Architecture: "])
        {
            if field.is_none() {
                *field = line.strip_prefix(name.as_bytes());
            }
        }
        if let [Some(package), Some(version), Some(architecture)] = fields {
            let text = |bytes| String::from_utf8_lossy(bytes);
            return Some(format!(
                "{}/{}/{}",
                text(package),
                text(version),
                text(architecture)
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{all, key};

    #[test]
    fn index() {
        let text = b"Package: a\nVersion: 1\nArchitecture: all\n\n\nPackage: b\nVersion: 2\nArchitecture: amd64\nX: y\n";
        let found: Vec<_> = all(text).collect();
        assert_eq!(found.len(), 2);
        assert!(found[1].ends_with(b"X: y"));
        assert_eq!(key(found[0]).unwrap(), "a/1/all");
        assert_eq!(key(b"Package: a\nVersion: 1"), None);
    }
}
