// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/print.rs: prints to stderr, and remembers, for each thread, what it
//! printed.

use core::cell::RefCell;
use core::fmt;

std::thread_local! {
    static LOG: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// `KERN_EMERG`.
    Emerg,
    /// `KERN_ALERT`.
    Alert,
    /// `KERN_CRIT`.
    Crit,
    /// `KERN_ERR`.
    Err,
    /// `KERN_WARNING`.
    Warning,
    /// `KERN_NOTICE`.
    Notice,
    /// `KERN_INFO`.
    Info,
    /// `KERN_DEBUG`.
    Debug,
}

/// A line of the log (host only).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its text, with the prefix of the crate that printed it.
    pub text: String,
}

/// Returns, and forgets, what this thread has logged (host only).
pub fn take_log() -> Vec<Line> {
    LOG.with(RefCell::take)
}

/// Returns, and forgets, what this thread has logged with the level of a warning or worse
/// (host only).
pub fn take_complaints() -> Vec<String> {
    take_log()
        .into_iter()
        .filter(|line| line.level <= Level::Warning)
        .map(|line| line.text)
        .collect()
}

#[doc(hidden)]
pub fn call_printk(level: Level, prefix: &[u8], args: fmt::Arguments<'_>) {
    let prefix = core::str::from_utf8(prefix).unwrap_or_default();
    let text = std::format!("{}: {}", prefix.trim_end_matches('\0'), args);
    // The kernel appends to an unfinished line; here each call is a line.
    let text = text.trim_end_matches('\n').to_owned();
    std::eprintln!("{text}");
    LOG.with(|log| log.borrow_mut().push(Line { level, text }));
}

#[doc(hidden)]
#[macro_export]
#[allow(clippy::crate_in_macro_def)]
macro_rules! print_macro (
    ($level:ident, $($arg:tt)+) => (
        $crate::print::call_printk(
            $crate::print::Level::$level,
            crate::__LOG_PREFIX,
            ::core::format_args!($($arg)+),
        )
    );
);

/// Logs with the level [`Emerg`](crate::print::Level::Emerg).
#[macro_export]
macro_rules! pr_emerg (
    ($($arg:tt)*) => (
        $crate::print_macro!(Emerg, $($arg)*)
    )
);

/// Logs with the level [`Alert`](crate::print::Level::Alert).
#[macro_export]
macro_rules! pr_alert (
    ($($arg:tt)*) => (
        $crate::print_macro!(Alert, $($arg)*)
    )
);

/// Logs with the level [`Crit`](crate::print::Level::Crit).
#[macro_export]
macro_rules! pr_crit (
    ($($arg:tt)*) => (
        $crate::print_macro!(Crit, $($arg)*)
    )
);

/// Logs with the level [`Err`](crate::print::Level::Err).
#[macro_export]
macro_rules! pr_err (
    ($($arg:tt)*) => (
        $crate::print_macro!(Err, $($arg)*)
    )
);

/// Logs with the level [`Warning`](crate::print::Level::Warning).
#[macro_export]
macro_rules! pr_warn (
    ($($arg:tt)*) => (
        $crate::print_macro!(Warning, $($arg)*)
    )
);

/// Logs with the level [`Notice`](crate::print::Level::Notice).
#[macro_export]
macro_rules! pr_notice (
    ($($arg:tt)*) => (
        $crate::print_macro!(Notice, $($arg)*)
    )
);

/// Logs with the level [`Info`](crate::print::Level::Info).
#[macro_export]
macro_rules! pr_info (
    ($($arg:tt)*) => (
        $crate::print_macro!(Info, $($arg)*)
    )
);

/// Logs with the level [`Debug`](crate::print::Level::Debug).
#[macro_export]
macro_rules! pr_debug (
    ($($arg:tt)*) => (
        $crate::print_macro!(Debug, $($arg)*)
    )
);
