//! What the load writes and reads: files of stamped pages.
//!
//! Never reads a file that was not synced once. Always: a write is noted before it begins, and again when it was synced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::rng::Rng;

/// Bytes that carry one stamp.
const PAGE: usize = 4096;
/// Files of a writer at most: the oldest is removed for a new one.
const FILES_MAX: usize = 16;
/// Pages of one overwrite, and of one read, at most.
const RANGE_MAX: u64 = 256;

/// All files that were acknowledged.
#[derive(Default)]
pub(super) struct Files {
    named: Mutex<BTreeMap<String, Arc<Stamped>>>,
    failures: Mutex<Vec<String>>,
}

/// One file.
pub(super) struct Stamped {
    seed: u64,
    /// For each page the write that was synced last, and the one that was begun last.
    pages: Mutex<Vec<(u64, u64)>>,
}

impl Stamped {
    fn state(&self, range: std::ops::Range<usize>) -> Vec<(u64, u64)> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)[range].to_vec()
    }

    fn len(&self) -> usize {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Checks pages read from `first`: none older than synced before the read, none newer than begun after it.
    fn check(&self, first: usize, bytes: &[u8], before: &[(u64, u64)]) -> Result<(), String> {
        let after = self.state(first..first + before.len());
        if bytes.len() != before.len() * PAGE {
            return Err(format!("{} bytes are there, {} were written", bytes.len(), before.len() * PAGE));
        }
        for (at, page) in bytes.chunks(PAGE).enumerate() {
            let (oldest, newest) = (before[at].0, after[at].1);
            let number = (first + at) as u64;
            let writes: Vec<Vec<u8>> = (oldest..=newest).map(|write| stamp(self.seed, number, write)).collect();
            if let Some(byte) = foreign(page, &writes) {
                let word = |at: usize| u64::from_le_bytes(page[at * 8..at * 8 + 8].try_into().expect("8 bytes"));
                return Err(format!(
                    "page {number} must show a write from {oldest} to {newest} of file {:x}; its byte {byte} is of none; it says file {:x}, page {}, write {}",
                    self.seed,
                    word(0),
                    word(1),
                    word(2)
                ));
            }
        }
        Ok(())
    }
}

/// The first byte of a page that no one of these writes put there. A read and a write of one page at the same time are not ordered
/// for each of its bytes: where both go through the kernel's page one may overtake the other more than once, and a long read that
/// begins anywhere in memory is split inside a page.
fn foreign(page: &[u8], writes: &[Vec<u8>]) -> Option<usize> {
    (0..page.len()).find(|at| writes.iter().all(|write| write[*at] != page[*at]))
}

/// The bytes of a page.
fn stamp(seed: u64, page: u64, write: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PAGE);
    for word in [seed, page, write] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&Rng::new(seed ^ page << 40 ^ write << 20).bytes(PAGE - 24));
    bytes
}

impl Files {
    pub(super) fn fail(&self, why: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn named(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Stamped>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads every file; how many there are, and what is wrong.
    pub(super) fn verify(&self, root: &Path) -> (u64, Vec<String>) {
        let all: Vec<_> = self.named().iter().map(|(name, file)| (name.clone(), Arc::clone(file))).collect();
        let mut broken = Vec::new();
        for (name, file) in &all {
            let before = file.state(0..file.len());
            let checked = match fs::read(root.join(name)) {
                Ok(bytes) => file.check(0, &bytes, &before),
                Err(error) => Err(error.to_string()),
            };
            broken.extend(checked.err().map(|why| format!("{name}: {why}")));
        }
        (all.len() as u64, broken)
    }
}

/// Writes below a directory of its own.
pub(super) struct Writer {
    root: PathBuf,
    home: String,
    files: Arc<Files>,
    mine: Vec<String>,
    next: u64,
    rng: Rng,
}

impl Writer {
    pub(super) fn new(root: &Path, number: u64, files: Arc<Files>, rng: Rng) -> Self {
        let home = format!("load{number}");
        fs::create_dir(root.join(&home)).expect("make a writer's directory");
        Self { root: root.to_owned(), home, files, mine: Vec::new(), next: 0, rng }
    }

    pub(super) fn step(&mut self) -> Result<bool, String> {
        let creates = self.mine.is_empty() || self.rng.chance(40);
        let done = if creates { self.create() } else { self.overwrite() };
        done.map(|()| true)
    }

    fn create(&mut self) -> Result<(), String> {
        if self.mine.len() >= FILES_MAX {
            let oldest = self.mine.remove(0);
            // Readers must know first that it may be gone.
            self.files.named().remove(&oldest);
            fs::remove_file(self.root.join(&oldest)).map_err(|error| format!("unlink {oldest}: {error}"))?;
        }
        let name = format!("{}/f{}", self.home, self.next);
        self.next += 1;
        // In the metadata, one piece, some chunks.
        let pages = match self.rng.below(10) {
            0..2 => 1,
            2..8 => 1 + self.rng.below(200),
            _ => 500 + self.rng.below(2500),
        };
        let seed = self.rng.next();
        let write = || -> io::Result<()> {
            let mut file = File::create_new(self.root.join(&name))?;
            let bytes: Vec<u8> = (0..pages).flat_map(|page| stamp(seed, page, 1)).collect();
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(|error| format!("write {name} of {pages} pages: {error}"))?;
        let file = Stamped { seed, pages: Mutex::new(vec![(1, 1); pages as usize]) };
        self.files.named().insert(name.clone(), Arc::new(file));
        self.mine.push(name);
        Ok(())
    }

    fn overwrite(&mut self) -> Result<(), String> {
        let name = self.rng.pick(&self.mine).clone();
        let Some(file) = self.files.named().get(&name).cloned() else { return Ok(()) };
        let pages = file.len() as u64;
        let first = self.rng.below(pages);
        let last = (first + 1 + self.rng.below(RANGE_MAX)).min(pages);
        let range = first as usize..last as usize;
        let state = file.state(range.clone());
        let write = state.iter().map(|(_, begun)| *begun).max().unwrap_or(0) + 1;
        let note = |change: fn(&mut (u64, u64), u64)| {
            let mut pages = file.pages.lock().unwrap_or_else(PoisonError::into_inner);
            pages[range.clone()].iter_mut().for_each(|page| change(page, write));
        };
        let bytes: Vec<u8> = (first..last).flat_map(|page| stamp(file.seed, page, write)).collect();
        note(|page, write| page.1 = write);
        let call = || -> io::Result<()> {
            let opened = File::options().write(true).open(self.root.join(&name))?;
            opened.write_all_at(&bytes, first * PAGE as u64)?;
            opened.sync_all()
        };
        call().map_err(|error| format!("overwrite pages {first} to {last} of {name}: {error}"))?;
        note(|page, write| page.0 = write);
        Ok(())
    }
}

/// Reads whatever was acknowledged.
pub(super) struct Reader {
    roots: Vec<PathBuf>,
    files: Arc<Files>,
    rng: Rng,
}

impl Reader {
    pub(super) fn new(roots: Vec<PathBuf>, files: Arc<Files>, rng: Rng) -> Self {
        Self { roots, files, rng }
    }

    /// False when there is nothing to read.
    pub(super) fn step(&mut self) -> Result<bool, String> {
        let chosen = {
            let named = self.files.named();
            let at = if named.is_empty() { return Ok(false) } else { self.rng.index(named.len()) };
            named.iter().nth(at).map(|(name, file)| (name.clone(), Arc::clone(file)))
        };
        let Some((name, file)) = chosen else { return Ok(false) };
        let root = self.rng.pick(&self.roots).clone();
        let pages = file.len() as u64;
        let whole = self.rng.chance(40);
        let first = if whole { 0 } else { self.rng.below(pages) };
        let last = if whole { pages } else { (first + 1 + self.rng.below(RANGE_MAX)).min(pages) };
        let before = file.state(first as usize..last as usize);
        let read = || -> io::Result<Vec<u8>> {
            let opened = File::open(root.join(&name))?;
            let mut bytes = vec![0; (last - first) as usize * PAGE];
            opened.read_exact_at(&mut bytes, first * PAGE as u64)?;
            Ok(bytes)
        };
        let checked = match read() {
            Ok(bytes) => file.check(first as usize, &bytes, &before),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.files.named().contains_key(&name) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        checked
            .map(|()| true)
            .map_err(|why| format!("read pages {first} to {last} of {name} at {}: {why}", root.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_writes_that_met_and_nothing_else() {
        let writes: Vec<Vec<u8>> = (1..=2).map(|write| stamp(5, 9, write)).collect();
        let met = [&writes[0][..1000], &writes[1][1000..2000], &writes[0][2000..]].concat();
        for page in [&writes[0], &writes[1], &met] {
            assert_eq!(foreign(page, &writes), None);
        }
        let mut torn = met.clone();
        torn[3000] = (0..=255).find(|byte| writes.iter().all(|write| write[3000] != *byte)).unwrap();
        assert_eq!(foreign(&torn, &writes), Some(3000));
        assert!(foreign(&stamp(5, 8, 1), &writes).is_some() && foreign(&met, &writes[..1]).is_some());
        let zeros = [&writes[0][..1000], &[0; PAGE - 1000][..]].concat();
        assert!(foreign(&zeros, &writes).is_some());
    }
}
