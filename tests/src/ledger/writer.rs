//! One thread of the ledger: what it does, and what may be found of it.
//!
//! Never touches another writer's directory. Always: what a call may leave behind is noted before the call.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Failure, Promise};
use crate::rng::Rng;

/// Bytes that carry one stamp.
const SECTOR: usize = 512;
/// Sectors of a file at most: several chunks of the smallest size.
const SECTORS_MAX: u64 = 640;
/// Sectors of one write at most.
const WRITE_MAX: u64 = 96;
/// Files of a writer at most.
const FILES_MAX: usize = 10;
/// Directories of a writer; names move among them.
const DIRECTORIES: u64 = 3;

/// Names and the files they stand for.
type Names = BTreeMap<String, u64>;

/// One thread and its directory.
pub(super) struct Writer {
    pub(super) number: u64,
    promise: Promise,
    rng: Rng,
    /// Names that may be found: the last acknowledged state and every later one.
    names: Vec<Names>,
    files: BTreeMap<u64, Content>,
    /// The crash has begun.
    pub(super) stopping: Arc<AtomicBool>,
    next_file: u64,
    next_write: u64,
    pub(super) calls: u64,
    pub(super) syncs: u64,
}

/// What a writer hears and tells while it works.
#[derive(Clone, Copy)]
pub(super) struct Signals<'a> {
    /// The crash has begun.
    pub(super) stopping: &'a AtomicBool,
    /// No more work.
    pub(super) ended: &'a AtomicBool,
    /// Counts what was done.
    pub(super) rounds: &'a AtomicU64,
}

/// What may be found in a file.
#[derive(Clone, Debug)]
struct Content {
    /// For each sector the writes that may be found; 0 is zeros or nothing. The last one is the newest.
    sectors: Vec<Vec<u64>>,
    /// Sizes in bytes that may be found; the last one is the newest. Between them lie those of a write that was done in part.
    sizes: Vec<u64>,
}

impl Content {
    const fn empty() -> Self {
        Self { sectors: Vec::new(), sizes: Vec::new() }
    }

    fn size(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(0)
    }

    fn sector(&mut self, at: u64) -> &mut Vec<u64> {
        let at = at as usize;
        if self.sectors.len() <= at {
            self.sectors.resize(at + 1, vec![0]);
        }
        &mut self.sectors[at]
    }

    fn write(&mut self, range: std::ops::Range<u64>, write: u64) {
        let end = range.end * SECTOR as u64;
        for at in range {
            self.sector(at).push(write);
        }
        self.sizes.push(self.size().max(end));
    }

    fn cut(&mut self, sectors: u64) {
        for sector in self.sectors.iter_mut().skip(sectors as usize) {
            sector.push(0);
        }
        self.sizes.push(sectors * SECTOR as u64);
    }

    /// Only the newest may be found from now on.
    fn acknowledge(&mut self) {
        for sector in &mut self.sectors {
            sector.drain(..sector.len() - 1);
        }
        let newest = self.size();
        self.sizes = vec![newest];
    }
}

impl Writer {
    pub(super) fn new(root: &Path, number: u64, promise: Promise, rng: Rng) -> Self {
        let home = root.join(format!("writer{number}"));
        std::fs::create_dir(&home).expect("make a writer's directory");
        for directory in 0..DIRECTORIES {
            std::fs::create_dir(home.join(format!("d{directory}"))).expect("make a writer's directory");
        }
        sync(&home).expect("sync a writer's directory");
        let files = BTreeMap::new();
        let (names, stopping) = (vec![Names::new()], Arc::default());
        Self { number, promise, rng, names, files, stopping, next_file: 1, next_write: 1, calls: 0, syncs: 0 }
    }

    /// Works until a call fails or the end is there.
    pub(super) fn work(&mut self, root: &Path, signals: Signals<'_>) -> Option<Failure> {
        let home = root.join(format!("writer{}", self.number));
        while !signals.ended.load(Ordering::SeqCst) {
            if let Err((what, error)) = self.step(&home) {
                let after_stop = signals.stopping.load(Ordering::SeqCst);
                return Some(Failure { what, error: error.to_string(), after_stop });
            }
            signals.rounds.fetch_add(1, Ordering::SeqCst);
        }
        None
    }

    fn step(&mut self, home: &Path) -> Result<(), (String, io::Error)> {
        let names = self.newest();
        let chosen = (!names.is_empty()).then(|| {
            let at = self.rng.index(names.len());
            names.iter().nth(at).map(|(name, file)| (name.clone(), *file)).expect("a name")
        });
        let Some((name, file)) = chosen else { return self.create(home) };
        match self.rng.below(100) {
            0..20 if names.len() < FILES_MAX => self.create(home),
            0..55 => self.change(home, &name, file),
            55..75 => self.rename(home, &name, file),
            75..85 => self.unlink(home, &name),
            _ => self.sync_directory(home, &name),
        }
    }

    fn newest(&self) -> Names {
        self.names.last().cloned().expect("there is always a state")
    }

    fn free_name(&mut self) -> String {
        loop {
            let name = format!("d{}/f{}", self.rng.below(DIRECTORIES), self.rng.below(40));
            if !self.newest().contains_key(&name) {
                return name;
            }
        }
    }

    fn create(&mut self, home: &Path) -> Result<(), (String, io::Error)> {
        let (name, file) = (self.free_name(), self.next_file);
        self.next_file += 1;
        let mut names = self.newest();
        names.insert(name.clone(), file);
        self.files.insert(file, Content { sizes: vec![0], ..Content::empty() });
        let made = self.try_names(&format!("create {name}"), names, || {
            OpenOptions::new().read(true).write(true).create_new(true).open(home.join(&name))
        })?;
        self.fill(&made, &name, file)
    }

    fn change(&mut self, home: &Path, name: &str, file: u64) -> Result<(), (String, io::Error)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self.rng.chance(10) {
            options.custom_flags(libc::O_DSYNC);
        }
        let what = format!("open {name}");
        let opened = options.open(home.join(name)).map_err(|error| (what, error))?;
        self.fill(&opened, name, file)
    }

    /// Some writes and cuts, perhaps fsync, perhaps a closing that is looked at.
    fn fill(&mut self, opened: &File, name: &str, file: u64) -> Result<(), (String, io::Error)> {
        for _ in 0..=self.rng.below(3) {
            if self.rng.chance(12) {
                let sectors = self.rng.below(SECTORS_MAX);
                self.content(file).cut(sectors);
                let cut = opened.set_len(sectors * SECTOR as u64);
                cut.map_err(|error| (format!("cut {name} to {sectors} sectors"), error))?;
            } else {
                self.write(opened, name, file)?;
            }
            self.calls += 1;
        }
        if self.rng.chance(50) {
            let synced = if self.rng.chance(50) { opened.sync_all() } else { opened.sync_data() };
            synced.map_err(|error| (format!("fsync {name}"), error))?;
            self.syncs += 1;
            if self.counts() {
                self.content(file).acknowledge();
                // fsync of a file makes the names that lead to it durable too, as on every journaling file system.
                self.acknowledge_names();
            }
        }
        close(opened).map_err(|error| (format!("close {name}"), error))?;
        match self.promise {
            Promise::Returned => self.content(file).acknowledge(),
            Promise::Closed => {
                self.content(file).acknowledge();
                self.acknowledge_names();
            }
            Promise::Synced => {}
        }
        Ok(())
    }

    fn write(&mut self, opened: &File, name: &str, file: u64) -> Result<(), (String, io::Error)> {
        let write = self.next_write;
        self.next_write += 1;
        // Small files are a case of their own: they lie in the metadata.
        let most = if self.rng.chance(40) { 8 } else { SECTORS_MAX };
        let first = self.rng.below(most);
        let last = (first + 1 + self.rng.below(WRITE_MAX)).min(most);
        let bytes: Vec<u8> = (first..last).flat_map(|at| sector(file, at, write)).collect();
        self.content(file).write(first..last, write);
        let wrote = opened.write_all_at(&bytes, first * SECTOR as u64);
        wrote.map_err(|error| (format!("write {} sectors of {name} at {first}", last - first), error))
    }

    fn rename(&mut self, home: &Path, name: &str, file: u64) -> Result<(), (String, io::Error)> {
        let mut names = self.newest();
        let over = self.rng.chance(40);
        let to = if over {
            let at = self.rng.index(names.len());
            names.keys().nth(at).cloned().expect("a name")
        } else {
            self.free_name()
        };
        if to == name {
            return Ok(());
        }
        names.remove(name);
        names.insert(to.clone(), file);
        self.try_names(&format!("rename {name} to {to}"), names, || std::fs::rename(home.join(name), home.join(&to)))
    }

    fn unlink(&mut self, home: &Path, name: &str) -> Result<(), (String, io::Error)> {
        let mut names = self.newest();
        names.remove(name);
        self.try_names(&format!("unlink {name}"), names, || std::fs::remove_file(home.join(name)))
    }

    fn sync_directory(&mut self, home: &Path, name: &str) -> Result<(), (String, io::Error)> {
        let directory = home.join(name);
        let directory = directory.parent().expect("a name lies in a directory");
        sync(directory).map_err(|error| (format!("fsync the directory of {name}"), error))?;
        self.syncs += 1;
        if self.counts() {
            self.acknowledge_names();
        }
        Ok(())
    }

    /// Is an answer a promise? Not when the power may be off already: an fsync that is under way while ext4 is shut down may succeed
    /// although its blocks' extents were not written. After a real power cut nobody hears an answer.
    fn counts(&self) -> bool {
        self.promise != Promise::Synced || !self.stopping.load(Ordering::SeqCst)
    }

    /// Notes names that may be found before a call that makes them, and what is promised after it.
    fn try_names<T>(
        &mut self,
        what: &str,
        names: Names,
        call: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, (String, io::Error)> {
        self.names.push(names);
        let done = call().map_err(|error| (what.to_owned(), error))?;
        self.calls += 1;
        if self.promise == Promise::Returned {
            self.acknowledge_names();
        }
        Ok(done)
    }

    fn acknowledge_names(&mut self) {
        self.names.drain(..self.names.len() - 1);
        self.forget_unnamed();
    }

    fn forget_unnamed(&mut self) {
        let names = &self.names;
        self.files.retain(|file, _| names.iter().any(|names| names.values().any(|named| named == file)));
    }

    fn content(&mut self, file: u64) -> &mut Content {
        self.files.get_mut(&file).expect("a file that is written is known")
    }

    pub(super) fn verify(&mut self, root: &Path) -> Result<(), String> {
        let home = root.join(format!("writer{}", self.number));
        let found = list(&home).map_err(|error| format!("list {}: {error}", home.display()))?;
        let fits = |names: &&Names| names.keys().eq(found.keys());
        let candidates: Vec<Names> = self.names.iter().filter(fits).cloned().collect();
        if candidates.is_empty() {
            let found: Vec<_> = found.keys().collect();
            let wanted: Vec<Vec<_>> = self.names.iter().map(|names| names.keys().collect()).collect();
            return Err(format!("names found: {found:?}\nno state that may be found has them: {wanted:?}"));
        }
        // Two states may have the same names for other files: one of them must fit as a whole.
        let mut why = Vec::new();
        for names in candidates.iter().rev() {
            match self.contents(names, &found) {
                Ok(contents) => {
                    self.names = vec![names.clone()];
                    self.files = contents;
                    return Ok(());
                }
                Err(broken) => why.push(broken),
            }
        }
        Err(why.join("\nor: "))
    }

    /// What is found in each file, which must be allowed.
    fn contents(&self, names: &Names, found: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<u64, Content>, String> {
        let mut contents = BTreeMap::new();
        for (name, file) in names {
            let path = &found[name];
            let bytes = std::fs::read(path).map_err(|error| format!("read {name}: {error}"))?;
            let content = self.files.get(file).ok_or_else(|| format!("{name}: file {file} is not known"))?;
            contents.insert(*file, check(name, *file, content, &bytes)?);
        }
        Ok(contents)
    }
}

fn check(name: &str, file: u64, content: &Content, bytes: &[u8]) -> Result<Content, String> {
    let size = bytes.len() as u64;
    let (least, most) = (content.sizes.iter().min(), content.sizes.iter().max());
    if least.is_some_and(|least| size < *least) || most.is_some_and(|most| size > *most) {
        return Err(format!("{name} (file {file}) has {size} bytes; may be found: {:?}", content.sizes));
    }
    let mut now = Content { sectors: Vec::new(), sizes: vec![size] };
    let present = bytes.chunks(SECTOR).collect::<Vec<_>>();
    for at in 0..(content.sectors.len().max(present.len()) as u64) {
        let allowed = content.sectors.get(at as usize).map_or(&[0][..], Vec::as_slice);
        let there = present.get(at as usize).copied().unwrap_or_default();
        let write = identify(file, at, there, allowed).ok_or_else(|| {
            format!("{name} (file {file}) sector {at}: {}; may be found: writes {allowed:?}", describe(there))
        })?;
        now.sector(at).clone_from(&vec![write]);
    }
    Ok(now)
}

/// Which of the allowed writes the bytes are.
fn identify(file: u64, at: u64, there: &[u8], allowed: &[u64]) -> Option<u64> {
    let is = |write: &u64| match write {
        0 => there.iter().all(|byte| *byte == 0),
        write => there == sector(file, at, *write),
    };
    allowed.iter().rev().copied().find(|write| is(write))
}

/// What the bytes say of themselves.
fn describe(there: &[u8]) -> String {
    if there.is_empty() {
        return "nothing is there".to_owned();
    }
    if there.iter().all(|byte| *byte == 0) {
        return "zeros are there".to_owned();
    }
    let word =
        |at: usize| there.get(at * 8..at * 8 + 8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
    let (file, at, write) = (word(0), word(1), word(2));
    let whole = matches!((file, at, write), (Some(file), Some(at), Some(write)) if there == sector(file, at, write));
    let (file, at, write) = (file.unwrap_or(0), at.unwrap_or(0), write.unwrap_or(0));
    if whole {
        format!("write {write} of file {file} at sector {at} is there")
    } else {
        format!("bytes that were never written are there (their head says file {file}, sector {at}, write {write})")
    }
}

/// The bytes of a sector.
fn sector(file: u64, at: u64, write: u64) -> Vec<u8> {
    let mut rng = Rng::new(file.wrapping_mul(0x9E37_79B9) ^ at << 32 ^ write);
    let mut bytes = Vec::with_capacity(SECTOR);
    for word in [file, at, write] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&rng.bytes(SECTOR - 24));
    bytes
}

/// Files below a writer's directories by their names.
fn list(home: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for directory in 0..DIRECTORIES {
        for entry in std::fs::read_dir(home.join(format!("d{directory}")))? {
            let entry = entry?;
            found.insert(format!("d{directory}/{}", entry.file_name().to_string_lossy()), entry.path());
        }
    }
    Ok(found)
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// close(2) with its error: what a duplicate's closing reports is what the file's would.
fn close(file: &File) -> io::Result<()> {
    use std::os::fd::IntoRawFd as _;
    let duplicate = file.try_clone()?.into_raw_fd();
    // SAFETY: the descriptor was given up by its owner just before, so nobody else closes it.
    if unsafe { libc::close(duplicate) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
