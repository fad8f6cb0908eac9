// SPDX-License-Identifier: GPL-2.0

//! Memfds: made with all that user space can see of one, and compared with that later.

use crate::{words, Machine};
use anyhow::{bail, ensure, Context, Result};
use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Seek, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

const PAGE_SIZE_BYTES: u64 = 4096;

/// Seals by name.
const SEALS: &[(&str, i32)] = &[
    ("seal", libc::F_SEAL_SEAL),
    ("shrink", libc::F_SEAL_SHRINK),
    ("grow", libc::F_SEAL_GROW),
    ("write", libc::F_SEAL_WRITE),
    ("future-write", libc::F_SEAL_FUTURE_WRITE),
    ("exec", libc::F_SEAL_EXEC),
];

/// Flags of fcntl(F_SETFL) by name.
const FLAGS: &[(&str, i32)] = &[
    ("append", libc::O_APPEND),
    ("nonblock", libc::O_NONBLOCK),
    ("noatime", libc::O_NOATIME),
];

/// What a memfd is: `SIZE SEED [every=K] [words=N] [seals=a,b] [flags=a,b] [mode=OCTAL] [pos=N]
/// [owner=UID] [access=rdonly]`.
struct Looks {
    size_bytes: u64,
    seed: u64,
    /// Each how-manieth page has contents.
    every: u64,
    /// How many words at the head of such a page have contents, and are looked at. The rest of a
    /// large file takes too long in a machine that is emulated.
    words: usize,
    seals: i32,
    flags: i32,
    mode: Option<u32>,
    pos: u64,
    owner: u32,
    read_only: bool,
}

impl Looks {
    fn parse(arguments: &[String]) -> Result<(String, Self)> {
        let mut rest = arguments.to_vec();
        let mut take = |name: &str| {
            let (value, left) = words::option(&rest, name);
            let value = value.map(str::to_owned);
            rest = left.into_iter().map(str::to_owned).collect();
            value
        };
        let every = take("every").map_or(Ok(1), |text| text.parse())?;
        let words = take("words").map_or(Ok(512), |text| text.parse())?;
        let seals = bits(SEALS, take("seals"))?;
        let flags = bits(FLAGS, take("flags"))?;
        let mode = take("mode")
            .map(|text| u32::from_str_radix(&text, 8))
            .transpose()?;
        let pos = take("pos").map_or(Ok(0), |text| text.parse())?;
        let owner = take("owner").map_or(Ok(0), |text| text.parse())?;
        let read_only = take("access").is_some_and(|text| text == "rdonly");
        let [file, size, seed] = &rest[..] else {
            bail!("FILE SIZE SEED [every=K] [words=N] [seals=..] [flags=..] [mode=..] [pos=..] [owner=..] [access=rdonly]");
        };
        let looks = Self {
            size_bytes: size_bytes(size)?,
            seed: seed.parse()?,
            every,
            words,
            seals,
            flags,
            mode,
            pos,
            owner,
            read_only,
        };
        Ok((file.clone(), looks))
    }

    /// How many bytes of a page that begins at `at` are looked at.
    fn len(&self, at: u64) -> usize {
        let len = self.size_bytes.saturating_sub(at).min(PAGE_SIZE_BYTES);
        (len as usize).min(self.words * 8)
    }

    /// What page `index` holds: its last part may lie behind the end.
    fn page(&self, index: u64, page: &mut [u64]) {
        if index % self.every != 0 {
            page.fill(0);
            return;
        }
        let first = (self.seed << 40) ^ (index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for (word, place) in page.iter_mut().zip(0u64..) {
            *word = first.wrapping_add(place.wrapping_mul(0x1_0000_0001)) | 1;
        }
    }
}

/// `4096`, `4K`, `16M`, `1G`.
fn size_bytes(text: &str) -> Result<u64> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number: u64 = digits
        .parse()
        .with_context(|| format!("no size: {text:?}"))?;
    Ok(number * unit)
}

fn bits(names: &[(&str, i32)], list: Option<String>) -> Result<i32> {
    let mut bits = 0;
    for name in list.iter().flat_map(|list| list.split(',')) {
        match names.iter().find(|(known, _)| *known == name) {
            Some((_, bit)) => bits |= bit,
            None => bail!("{name:?} is none of {:?}", names.map_names()),
        }
    }
    Ok(bits)
}

trait Names {
    fn map_names(&self) -> Vec<&str>;
}

impl Names for [(&str, i32)] {
    fn map_names(&self) -> Vec<&str> {
        self.iter().map(|(name, _)| *name).collect()
    }
}

/// The file of a name.
pub(crate) fn get<'a>(machine: &'a Machine, file: &str) -> Result<&'a File> {
    machine
        .files
        .get(file)
        .with_context(|| format!("no file {file:?} is open"))
}

fn fcntl(file: &File, command: i32, argument: i32) -> io::Result<i32> {
    // SAFETY: a descriptor that is open; the argument is a number.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ret)
}

/// `memfd-make FILE SIZE SEED [...] [count=N]`: makes one, fills it, and keeps it open; or FILE.0, FILE.1 and so on.
pub(crate) fn make(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (count, rest) = words::option(arguments, "count");
    let rest: Vec<_> = rest.into_iter().map(str::to_owned).collect();
    let (name, looks) = Looks::parse(&rest)?;
    words::several(count, &name)?
        .into_iter()
        .try_for_each(|name| make_one(machine, name, &looks))
}

fn make_one(machine: &mut Machine, name: String, looks: &Looks) -> Result<()> {
    let c_name = CString::new(name.as_str())?;
    // SAFETY: a C string; the flag is one of memfd_create(2).
    let fd = unsafe { libc::memfd_create(c_name.as_ptr(), libc::MFD_ALLOW_SEALING) };
    ensure!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
    // SAFETY: made just now, and nobody else's.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(looks.size_bytes)?;
    fill(&file, looks)?;
    // Each change of what the file is comes before the seals that would forbid it.
    if let Some(mode) = looks.mode {
        // SAFETY: a descriptor that is open.
        let ret = unsafe { libc::fchmod(fd, mode) };
        ensure!(ret == 0, "fchmod: {}", io::Error::last_os_error());
    }
    if looks.owner != 0 {
        // SAFETY: a descriptor that is open.
        let ret = unsafe { libc::fchown(fd, looks.owner, looks.owner) };
        ensure!(ret == 0, "fchown: {}", io::Error::last_os_error());
    }
    if looks.seals != 0 {
        fcntl(&file, libc::F_ADD_SEALS, looks.seals)?;
    }
    let file = match looks.read_only {
        true => File::open(format!("/proc/self/fd/{fd}"))?,
        false => file,
    };
    if looks.flags != 0 {
        fcntl(&file, libc::F_SETFL, looks.flags)?;
    }
    seek(&file, looks.pos)?;
    machine.files.insert(name, file);
    Ok(())
}

fn seek(file: &File, pos: u64) -> Result<()> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::Start(pos))?;
    Ok(())
}

fn fill(file: &File, looks: &Looks) -> Result<()> {
    let mut page = vec![0u64; looks.words];
    let mut bytes = Vec::with_capacity(4096);
    for index in (0..looks.size_bytes.div_ceil(PAGE_SIZE_BYTES)).step_by(looks.every as usize) {
        looks.page(index, &mut page);
        bytes.clear();
        bytes.extend(page.iter().flat_map(|word| word.to_le_bytes()));
        let at = index * PAGE_SIZE_BYTES;
        file.write_all_at(&bytes[..looks.len(at)], at)?;
    }
    Ok(())
}

/// `memfd-check FILE SIZE SEED [...]`: everything is as `memfd-make` with the same words made it. Replies `blocks`,
/// the units of 512 bytes that the file has.
pub(crate) fn check(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    use std::io::Seek as _;
    let (name, looks) = Looks::parse(arguments)?;
    let mut file = get(machine, &name)?;
    let found = file.metadata()?;
    ensure!(
        found.len() == looks.size_bytes,
        "size is {}, not {}",
        found.len(),
        looks.size_bytes
    );
    let mode = looks.mode.unwrap_or(0o777);
    ensure!(
        found.mode() & 0o7777 == mode,
        "mode is {:o}, not {mode:o}",
        found.mode() & 0o7777
    );
    ensure!(
        (found.uid(), found.gid()) == (looks.owner, looks.owner),
        "owner is {}:{}, not {}",
        found.uid(),
        found.gid(),
        looks.owner
    );
    let seals = fcntl(file, libc::F_GET_SEALS, 0)?;
    ensure!(
        seals == looks.seals,
        "seals are {seals:#x}, not {:#x}",
        looks.seals
    );
    let flags = fcntl(file, libc::F_GETFL, 0)?;
    let known = FLAGS
        .iter()
        .fold(libc::O_ACCMODE, |all, (_, bit)| all | bit);
    let access = if looks.read_only {
        libc::O_RDONLY
    } else {
        libc::O_RDWR
    };
    ensure!(
        flags & known == looks.flags | access,
        "flags are {:#o}, not {:#o}",
        flags & known,
        looks.flags | access
    );
    let pos = file.stream_position()?;
    ensure!(pos == looks.pos, "position is {pos}, not {}", looks.pos);
    compare(file, &looks)?;
    let blocks = found.blocks().to_string();
    machine.reply.clear();
    machine.reply.push(("blocks".to_owned(), blocks));
    Ok(())
}

fn compare(file: &File, looks: &Looks) -> Result<()> {
    let mut page = vec![0u64; looks.words];
    let mut expected = Vec::with_capacity(4096);
    let mut found = vec![0u8; 4096];
    for index in 0..looks.size_bytes.div_ceil(PAGE_SIZE_BYTES) {
        looks.page(index, &mut page);
        expected.clear();
        expected.extend(page.iter().flat_map(|word| word.to_le_bytes()));
        let at = index * PAGE_SIZE_BYTES;
        let len = looks.len(at);
        file.read_exact_at(&mut found[..len], at)?;
        if found[..len] == expected[..len] {
            continue;
        }
        if let Some(place) = (0..len).find(|&place| found[place] != expected[place]) {
            bail!(
                "byte {} is {:#x}, not {:#x}",
                at + place as u64,
                found[place],
                expected[place]
            );
        }
    }
    Ok(())
}

/// `memfd-descriptor FILE`: what belongs to the descriptor, or is only seen by it. Replies
/// `cloexec`, and `named`, whether the file has a name, 0 or 1 each.
pub(crate) fn descriptor(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("memfd-descriptor: FILE");
    };
    let file = get(machine, name)?;
    let cloexec = fcntl(file, libc::F_GETFD, 0)? & libc::FD_CLOEXEC != 0;
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let link = link.to_string_lossy();
    let found = link
        .strip_prefix("/memfd:")
        .and_then(|rest| rest.strip_suffix(" (deleted)"))
        .with_context(|| format!("{link} is no memfd"))?;
    let named = !found.is_empty();
    machine.reply = [("cloexec", cloexec), ("named", named)]
        .map(|(key, value)| (key.to_owned(), u8::from(value).to_string()))
        .to_vec();
    Ok(())
}

/// `memfd-fill FILE SIZE SEED [...]`: writes other contents to one that is there.
pub(crate) fn refill(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (name, looks) = Looks::parse(arguments)?;
    fill(get(machine, &name)?, &looks)
}

/// `reopen FILE AS`: opens the memfd a second time.
pub(crate) fn reopen(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name, other] = arguments else {
        bail!("reopen: FILE AS");
    };
    let fd = get(machine, name)?.as_raw_fd();
    let file = File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{fd}"))?;
    machine.files.insert(other.clone(), file);
    Ok(())
}

/// The first words of the pages of a memfd, mapped.
fn map(file: &File, nr_pages: usize) -> Result<&'static [AtomicU64]> {
    let size_bytes = nr_pages * PAGE_SIZE_BYTES as usize;
    // SAFETY: a new mapping, wherever there is room.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    ensure!(
        start != libc::MAP_FAILED,
        "mmap: {}",
        io::Error::last_os_error()
    );
    // SAFETY: just mapped, for as long as this program runs; atomic words, whoever else has mapped them.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), size_bytes / 8) })
}

fn pages_of(file: &File) -> Result<usize> {
    Ok((file.metadata()?.len() / PAGE_SIZE_BYTES) as usize)
}

/// `memfd-write-on FILE`: begins to write to it through a mapping, page after page, 1, 2, 3 and so on, and goes on for as long as
/// the CPUs run.
pub(crate) fn write_on(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("memfd-write-on: FILE");
    };
    let file = get(machine, name)?;
    let nr_pages = pages_of(file)?;
    let words = map(file, nr_pages)?;
    thread::spawn(move || {
        for number in 1u64.. {
            let page = number as usize % nr_pages;
            words[page * 512].store(number, Ordering::Release);
        }
    });
    Ok(())
}

/// `memfd-written FILE`: of what `memfd-write-on` wrote, nothing is missing before the last. Replies `writes`.
pub(crate) fn written(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("memfd-written: FILE");
    };
    let file = get(machine, name)?;
    let nr_pages = pages_of(file)?;
    let words = map(file, nr_pages)?;
    let found: Vec<u64> = (0..nr_pages)
        .map(|page| words[page * 512].load(Ordering::Acquire))
        .collect();
    let last = found.iter().copied().max().unwrap_or(0);
    for (page, &number) in found.iter().enumerate() {
        let behind = (last as usize + nr_pages - page) % nr_pages;
        let expected = last.saturating_sub(behind as u64);
        ensure!(
            number == expected,
            "page {page} has {number}, not {expected}; the last number is {last}"
        );
    }
    machine.reply.clear();
    machine.reply.push(("writes".to_owned(), last.to_string()));
    Ok(())
}

/// `memfd-appends FILE`: what is written comes to the end, wherever the position is. The file is as it was afterwards.
pub(crate) fn appends(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let [name] = arguments else {
        bail!("memfd-appends: FILE");
    };
    let mut file = get(machine, name)?;
    let (size, position) = (file.metadata()?.len(), file.stream_position()?);
    file.rewind()?;
    file.write_all(b"x")?;
    let found = file.metadata()?.len();
    ensure!(
        found == size + 1,
        "{name}: {size} bytes, and {found} after one more was written"
    );
    file.set_len(size)?;
    file.seek(io::SeekFrom::Start(position))?;
    Ok(())
}

/// `close FILE [count=N]`: with a count, those of FILE.0, FILE.1 and so on that are open, which some must be.
pub(crate) fn close(machine: &mut Machine, arguments: &[String]) -> Result<()> {
    let (count, rest) = words::option(arguments, "count");
    let [name] = rest[..] else {
        bail!("close: FILE [count=N]");
    };
    let mut closed = 0;
    for file in words::several(count, name)? {
        closed += usize::from(machine.files.remove(&file).is_some());
    }
    ensure!(closed > 0, "no file {name:?} is open");
    Ok(())
}
