// SPDX-License-Identifier: GPL-2.0

//! The way into the build root: a chroot inside namespaces of its own.
//!
//! All mounts live in a private mount namespace and all processes in a private PID namespace whose first process dies
//! with us. So nothing is left behind, however we end.

use std::{
    env,
    ffi::OsStr,
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A build root with what is mounted into it.
#[derive(Clone)]
pub(crate) struct Jail {
    root: PathBuf,
    binds: Vec<Bind>,
    overlays: Vec<Overlay>,
    folder: String,
    variables: Vec<(String, String)>,
}

#[derive(Clone)]
struct Bind {
    host: PathBuf,
    inside: String,
    writable: bool,
}

#[derive(Clone)]
struct Overlay {
    lower: PathBuf,
    upper: PathBuf,
    work: PathBuf,
    inside: String,
}

impl Jail {
    /// A jail with nothing mounted but /proc and /dev.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            binds: Vec::new(),
            overlays: Vec::new(),
            folder: "/".to_owned(),
            variables: Vec::new(),
        }
    }

    /// Shows the host's folder at `inside`, read-only.
    pub(crate) fn show(mut self, host: &Path, inside: &str) -> Self {
        self.binds.push(Bind {
            host: host.to_owned(),
            inside: inside.to_owned(),
            writable: false,
        });
        self
    }

    /// Shows the host's folder at `inside`, writable.
    pub(crate) fn lend(mut self, host: &Path, inside: &str) -> Self {
        self.binds.push(Bind {
            host: host.to_owned(),
            inside: inside.to_owned(),
            writable: true,
        });
        self
    }

    /// Shows `lower` at `inside` with what is in `upper` laid over it.
    pub(crate) fn overlay(mut self, lower: &Path, upper: &Path, work: &Path, inside: &str) -> Self {
        self.overlays.push(Overlay {
            lower: lower.to_owned(),
            upper: upper.to_owned(),
            work: work.to_owned(),
            inside: inside.to_owned(),
        });
        self
    }

    /// Runs commands in this folder of the jail.
    pub(crate) fn in_folder(mut self, folder: &str) -> Self {
        self.folder = folder.to_owned();
        self
    }

    /// Sets an environment variable inside.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A command that runs inside.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = apart();
        command
            .args(["sh", "-euc", &self.script(), "sh", program])
            .args(arguments);
        command
    }

    /// A command line of the shell that runs inside.
    pub(crate) fn shell(&self, line: &str) -> Command {
        self.command("sh", ["-euc", line])
    }

    /// The mounts, then the chroot; `"$@"` is the command.
    fn script(&self) -> String {
        let root = self.root.to_string_lossy();
        let mut script = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "{text}");
        };
        let at = |inside: &str| quote(&format!("{root}{inside}"));
        line(format_args!(
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH"
        ));
        // Some containers refuse a new proc: the outer one will do there.
        line(format_args!(
            "mount -t proc proc {0} 2>/dev/null || mount --rbind /proc {0}",
            at("/proc")
        ));
        line(format_args!("mount --rbind /dev {}", at("/dev")));
        line(format_args!(
            "mount -t tmpfs -o mode=1777 tmpfs {}",
            at("/tmp")
        ));
        for overlay in &self.overlays {
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                overlay.lower.display(),
                overlay.upper.display(),
                overlay.work.display()
            );
            line(format_args!("mkdir -p {}", at(&overlay.inside)));
            line(format_args!(
                "mount -t overlay overlay -o {} {}",
                quote(&options),
                at(&overlay.inside)
            ));
        }
        for bind in &self.binds {
            let host = quote(&bind.host.to_string_lossy());
            let inside = at(&bind.inside);
            line(format_args!(
                "if [ -d {host} ]; then mkdir -p {inside}; else mkdir -p \"$(dirname {inside})\"; touch {inside}; fi"
            ));
            line(format_args!("mount --bind {host} {inside}"));
            if !bind.writable {
                line(format_args!("mount -o remount,bind,ro {inside}"));
            }
        }
        let mut environment = String::from(
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive",
        );
        let passed = ["http_proxy", "https_proxy", "no_proxy"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)));
        for (name, value) in passed.chain(self.variables.iter().cloned()) {
            let _ = write!(environment, " {name}={}", quote(&value));
        }
        let _ = writeln!(
            script,
            "exec chroot {} env -i {environment} sh -c 'cd \"$0\" && exec \"$@\"' {} \"$@\"",
            at("/"),
            quote(&self.folder)
        );
        script
    }
}

/// The start of a command that runs in namespaces of mounts and processes of its own: nothing of it
/// is left behind.
pub(crate) fn apart() -> Command {
    // If we are killed, setpriv's signal takes all of it with us.
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    command
}

/// Quotes a word for the shell.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
