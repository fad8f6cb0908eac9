// SPDX-License-Identifier: GPL-2.0

//! A process as a chain of kernels: the memfd, with keys and subtrees behind the memory, goes
//! through execve(2).

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{
    AsRawFd,
    RawFd, //
};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kpreserve_kho::phys::PAGE_SIZE_BYTES;

use crate::config::Config;
use crate::machine::{
    SimMachine,
    Subtrees, //
};

const MAGIC: u64 = u64::from_le_bytes(*b"KPSIMFD1");

impl SimMachine {
    /// Writes what the next kernel has to know behind the memory, and returns the file descriptor,
    /// which stays open through execve(2). To be called right before it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn save(&self) -> io::Result<RawFd> {
        let mut words = vec![
            MAGIC,
            self.config.nr_pages as u64,
            self.config.phys_base,
            u64::from(self.config.order_max),
            self.config.nr_cpus as u64,
            self.config.seed,
            self.generation,
        ];
        {
            let state = self.state();
            words.push(state.keys.len() as u64);
            for &(phys, order) in &state.keys {
                words.extend([phys, u64::from(order)]);
            }
            words.push(state.subtrees_out.len() as u64);
            for (name, &(phys, size_bytes)) in &state.subtrees_out {
                let name = name.as_bytes();
                words.extend([phys, size_bytes as u64, name.len() as u64]);
                words.extend(name.iter().copied().map(u64::from));
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let file = self.memory.file();
        let end = (self.config.nr_pages * PAGE_SIZE_BYTES) as u64;
        file.write_all_at(&bytes, end)?;
        file.set_len(end + bytes.len() as u64)?;
        // SAFETY: the descriptor is open; only its close-on-exec flag changes.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(file.as_raw_fd())
    }

    /// Boots the next kernel on a memfd that [`save`](Self::save) prepared.
    ///
    /// # Errors
    ///
    /// What the system says; `InvalidData` if the file was not prepared.
    pub fn resume(file: File) -> io::Result<&'static SimMachine> {
        let len_bytes = file.metadata()?.len();
        let nr_pages = find_nr_pages(&file, len_bytes)?;
        let end = nr_pages * PAGE_SIZE_BYTES as u64;
        let mut bytes = vec![0; (len_bytes - end) as usize];
        file.read_exact_at(&mut bytes, end)?;
        let mut words = Words(bytes.chunks_exact(8).map(to_word).collect(), 2);
        let config = Config {
            nr_pages: nr_pages as usize,
            phys_base: words.next()?,
            order_max: words.next()? as u8,
            nr_cpus: words.next()? as usize,
            seed: words.next()?,
            ..Config::default()
        };
        let generation = words.next()?;
        let mut keys = BTreeSet::new();
        for _ in 0..words.next()? {
            keys.insert((words.next()?, words.next()? as u8));
        }
        let mut subtrees = Subtrees::new();
        for _ in 0..words.next()? {
            let place = (words.next()?, words.next()? as usize);
            let len = words.next()?;
            let name: io::Result<Vec<u8>> = (0..len).map(|_| Ok(words.next()? as u8)).collect();
            subtrees.insert(CString::new(name?)?, place);
        }
        Ok(SimMachine::start(
            Arc::new(file),
            config,
            generation + 1,
            keys,
            subtrees,
        ))
    }
}

struct Words(Vec<u64>, usize);

impl Words {
    fn next(&mut self) -> io::Result<u64> {
        let word = self
            .0
            .get(self.1)
            .copied()
            .ok_or(io::ErrorKind::InvalidData)?;
        self.1 += 1;
        Ok(word)
    }
}

/// Finds the end of the memory: the page that begins with the magic and names its own number.
fn find_nr_pages(file: &File, len_bytes: u64) -> io::Result<u64> {
    let mut head = [0; 16];
    for number in (1..len_bytes.div_ceil(PAGE_SIZE_BYTES as u64)).rev() {
        let offset = number * PAGE_SIZE_BYTES as u64;
        if offset + 16 > len_bytes {
            continue;
        }
        file.read_exact_at(&mut head, offset)?;
        if to_word(&head[..8]) == MAGIC && to_word(&head[8..]) == number {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn to_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
