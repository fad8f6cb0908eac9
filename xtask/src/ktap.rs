// SPDX-License-Identifier: GPL-2.0

//! KTAP: the kernel's test results, nested documents and all.
//!
//! See Documentation/dev-tools/ktap.rst of the kernel. Leaves are counted; the line that sums up a nested document is not, unless
//! it fails for a reason of its own.

/// Reads lines and counts.
#[derive(Default)]
pub(crate) struct Parser {
    open: Vec<Document>,
    /// Names of passed leaves.
    pub(crate) passed: Vec<String>,
    /// Names and reasons of failed leaves.
    pub(crate) failed: Vec<String>,
    /// Names of skipped leaves.
    pub(crate) skipped: Vec<String>,
    /// Plans that are missing or not kept.
    pub(crate) problems: Vec<String>,
    /// Named documents that were read to their end.
    pub(crate) suites: Vec<String>,
    /// How many top-level documents there were.
    pub(crate) documents: usize,
}

struct Document {
    level: usize,
    name: String,
    plan: Option<usize>,
    results: usize,
    failed_before: usize,
    bailed: bool,
}

impl Parser {
    /// Reads a line; lines that are not KTAP are passed over.
    pub(crate) fn feed(&mut self, line: &str) {
        let text = line.trim_start_matches(' ');
        let level = (line.len() - text.len()) / 4;
        let text = text.trim_end();
        if text == "KTAP version 1" {
            self.close(level);
            self.documents += usize::from(level == 0);
            self.open.push(Document {
                level,
                name: String::new(),
                plan: None,
                results: 0,
                failed_before: self.failed.len(),
                bailed: false,
            });
        } else if let Some(name) = text.strip_prefix("# Subtest: ") {
            if let Some(document) = self.at(level) {
                document.name = name.to_owned();
            }
        } else if let Some(count) = text.strip_prefix("1..") {
            let count = count.split(' ').next().and_then(|n| n.parse().ok());
            if let Some(document) = self.at(level) {
                document.plan = document.plan.or(count);
            }
        } else if text.starts_with("Bail out!") {
            let failed = self.failed.len();
            let mut explained = false;
            for document in &mut self.open {
                document.bailed = true;
                explained |= failed > document.failed_before;
            }
            if !explained {
                self.problems.push(text.to_owned());
            }
        } else if let Some(rest) = text.strip_prefix("ok ") {
            self.result(level, true, rest);
        } else if let Some(rest) = text.strip_prefix("not ok ") {
            self.result(level, false, rest);
        }
    }

    /// Ends all documents that are still open.
    pub(crate) fn finish(&mut self) {
        self.close(0);
    }

    fn at(&mut self, level: usize) -> Option<&mut Document> {
        self.open
            .last_mut()
            .filter(|document| document.level == level)
    }

    /// `rest`: number, maybe a dash, name, maybe ` # SKIP` or a reason.
    fn result(&mut self, level: usize, ok: bool, rest: &str) {
        let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if number.parse::<usize>().is_err() {
            return;
        }
        let (name, remark) = rest.split_once(" # ").unwrap_or((rest, ""));
        let name = name.trim_start_matches("- ").trim().to_owned();
        let nested = self.close(level + 1);
        match self.at(level) {
            Some(document) => document.results += 1,
            // A KUnit module prints its suite one level down, and no document around it.
            None if nested.is_some() => {}
            None => return,
        }
        if let Some(nested) = nested {
            if !ok && self.failed.len() == nested.failed_before {
                self.failed.push(format!("{name} (as a whole) {remark}"));
            }
            if !nested.name.is_empty() {
                self.suites.push(nested.name);
            }
        } else if remark.starts_with("SKIP") {
            self.skipped.push(name);
        } else if ok {
            self.passed.push(name);
        } else if remark.is_empty() {
            self.failed.push(name);
        } else {
            self.failed.push(format!("{name}: {remark}"));
        }
    }

    /// Closes the documents at `level` and deeper; returns the outermost of them.
    fn close(&mut self, level: usize) -> Option<Document> {
        let mut outermost = None;
        while self.open.last().is_some_and(|d| d.level >= level) {
            let Some(document) = self.open.pop() else {
                break;
            };
            self.judge(&document);
            outermost = Some(document);
        }
        outermost
    }

    fn judge(&mut self, document: &Document) {
        let what = if document.name.is_empty() {
            "a KTAP document".to_owned()
        } else {
            document.name.clone()
        };
        match document.plan {
            _ if document.bailed => {}
            // Parameterized KUnit tests have none.
            None if document.level > 1 => {}
            None => self
                .problems
                .push(format!("{what} has no plan ({} results)", document.results)),
            Some(plan) if plan != document.results => self.problems.push(format!(
                "{what} planned {plan} tests, but gave {} results",
                document.results
            )),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Parser;

    fn parse(text: &str) -> Parser {
        let mut parser = Parser::default();
        text.lines().for_each(|line| parser.feed(line));
        parser.finish();
        parser
    }

    #[test]
    fn flat() {
        let p =
            parse("KTAP version 1\n1..3\nok 1 - a\nnot ok 2 - b # broke\nnoise\nok 3 c # SKIP why");
        assert_eq!(p.passed, ["a"]);
        assert_eq!(p.failed, ["b: broke"]);
        assert_eq!(p.skipped, ["c"]);
        assert!(p.problems.is_empty());
    }

    #[test]
    fn kunit() {
        let p = parse(
            "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: suite\n    # module: m\n    1..2\n    \
             ok 1 a\n    # b: EXPECTATION FAILED at x\n    not ok 2 b\n# suite: pass:1 fail:1\nnot ok 1 suite",
        );
        assert_eq!(p.passed, ["a"]);
        assert_eq!(p.failed, ["b"]);
        assert_eq!(p.suites, ["suite"]);
        assert!(p.problems.is_empty(), "{:?}", p.problems);
    }

    #[test]
    fn kunit_module_has_no_outer_document() {
        let p =
            parse("    KTAP version 1\n    # Subtest: s\n    1..1\n    ok 1 a\nok 1 s\nok 5 stray");
        assert_eq!((p.passed.len(), p.suites.len()), (1, 1));
    }

    #[test]
    fn broken_plans() {
        assert_eq!(parse("KTAP version 1\nok 1 a").problems.len(), 1);
        assert_eq!(parse("KTAP version 1\n1..2\nok 1 a").problems.len(), 1);
        assert_eq!(
            parse("KTAP version 1\n1..1\nok 1 a\nok 2 b").problems.len(),
            1
        );
        assert_eq!(
            parse("KTAP version 1\n1..2\nBail out! no reason")
                .problems
                .len(),
            1
        );
        let p = parse("KTAP version 1\n1..9\nnot ok 1 a\nBail out! step 1 failed");
        assert_eq!((p.problems.len(), p.failed.len()), (0, 1));
    }

    #[test]
    fn a_suite_that_fails_by_itself_counts() {
        let p =
            parse("KTAP version 1\n1..1\n    KTAP version 1\n    1..1\n    ok 1 a\nnot ok 1 suite");
        assert_eq!(p.failed.len(), 1);
    }
}
