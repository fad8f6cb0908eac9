// SPDX-License-Identifier: GPL-2.0

//! Running other programs: their output goes to a log, their failure becomes an error that shows the end of it.

use crate::ui::Stage;
use anyhow::{bail, Context, Result};
use std::{
    collections::VecDeque,
    env,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

/// How many lines of a failed command's output are shown.
const TAIL: usize = 40;

/// Sends each line of `from` to `to`; bytes that are no UTF-8 are replaced.
pub(crate) fn pump<T: Send + 'static>(
    from: impl Read + Send + 'static,
    to: Sender<T>,
    wrap: impl Fn(String) -> T + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
            let line = String::from_utf8_lossy(&bytes);
            if to
                .send(wrap(line.trim_end_matches(['\r', '\n']).to_owned()))
                .is_err()
            {
                return;
            }
            bytes.clear();
        }
    })
}

/// A path as people can use it where they are: seen from the current folder if it is below that.
pub(crate) fn for_people(path: &Path) -> String {
    let here = env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path).display().to_string()
}

/// Opens a log for appending, together with the folder that it lies in.
pub(crate) fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write the log {}", path.display()))
}

/// Runs a command to its end and hands each line of output to `each`. Returns whether it succeeded.
pub(crate) fn lines(
    command: &mut Command,
    mut each: impl FnMut(Option<&str>) -> Result<()>,
) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!(
                "cannot start {}; is it installed?",
                command.get_program().to_string_lossy()
            )
        })?;
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take().context("no stdout of a child")?;
    let stderr = child.stderr.take().context("no stderr of a child")?;
    pump(stdout, sender.clone(), |line| line);
    pump(stderr, sender, |line| line);
    loop {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => each(Some(&line))?,
            Err(RecvTimeoutError::Timeout) => each(None)?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(child.wait().context("waiting for a child")?.success())
}

/// Runs a command that belongs to a stage, with its output in `log`.
pub(crate) fn logged(stage: &mut Stage, log: &Path, command: &mut Command) -> Result<()> {
    let mut file = open_log(log)?;
    writeln!(file, "+ {command:?}")?;
    let mut tail = VecDeque::with_capacity(TAIL);
    let succeeded = lines(command, |line| {
        let Some(line) = line else {
            stage.tick();
            return Ok(());
        };
        writeln!(file, "{line}")?;
        stage.note(line);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
        Ok(())
    })?;
    if !succeeded {
        let tail: Vec<_> = tail.into();
        bail!(
            "a command failed. The end of its output (all of it: {}):\n    {}",
            log.display(),
            tail.join("\n    ")
        );
    }
    Ok(())
}

/// Runs a command and returns its standard output; an error holds what it said on standard error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            command.get_program().to_string_lossy(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
