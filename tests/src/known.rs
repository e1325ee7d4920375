//! Files whose bytes follow from a seed, so that whoever reads them knows what must be there.
//!
//! Never keeps the bytes. Always: a file counts only after fsync returned.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// A file that was synced.
#[derive(Clone, Debug)]
pub struct KnownFile {
    /// Its path from the root of the mount.
    pub name: String,
    /// Bytes.
    pub len: usize,
    seed: u64,
}

/// Many of them.
#[derive(Clone, Debug, Default)]
pub struct KnownFiles(pub Vec<KnownFile>);

impl KnownFile {
    /// Writes it (over what is there) and syncs it.
    ///
    /// # Errors
    /// Those of the calls.
    pub fn write(root: &Path, name: &str, len: usize, rng: &mut Rng) -> io::Result<Self> {
        let known = Self { name: name.to_owned(), len, seed: rng.next() };
        let mut file = File::create(root.join(name))?;
        file.write_all(&known.bytes())?;
        file.sync_all()?;
        Ok(known)
    }

    /// What must be there.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        Rng::new(self.seed).bytes(self.len)
    }

    /// Reads it; how long that took.
    ///
    /// # Errors
    /// It cannot be read, or has other bytes.
    pub fn read(&self, root: &Path) -> Result<Duration, String> {
        let began = Instant::now();
        let found = fs::read(root.join(&self.name)).map_err(|error| format!("read {}: {error}", self.name))?;
        let took = began.elapsed();
        let written = self.bytes();
        if found == written {
            return Ok(took);
        }
        let wrong = (0..written.len().max(found.len())).filter(|at| found.get(*at) != written.get(*at));
        let wrong: Vec<usize> = wrong.collect();
        Err(format!(
            "{} has {} bytes, written were {}; {} differ, from {:?} to {:?}",
            self.name,
            found.len(),
            written.len(),
            wrong.len(),
            wrong.first(),
            wrong.last()
        ))
    }
}

impl KnownFiles {
    /// Makes `directory` with `count` files whose lengths are taken from `lens` in turn.
    #[must_use]
    #[track_caller]
    pub fn write(root: &Path, directory: &str, count: usize, lens: &[usize], rng: &mut Rng) -> Self {
        fs::create_dir_all(root.join(directory)).expect("make a directory for known files");
        let mut files = Self::default();
        for (at, len) in (0..count).zip(lens.iter().cycle()) {
            let written = KnownFile::write(root, &format!("{directory}/f{at}"), *len, rng);
            files.0.push(written.unwrap_or_else(|error| panic!("write {directory}/f{at}: {error}")));
        }
        files
    }

    /// Reads them all; how long the slowest took.
    ///
    /// # Errors
    /// All that were wrong.
    pub fn read(&self, root: &Path) -> Result<Duration, String> {
        let (mut slowest, mut wrong) = (Duration::ZERO, Vec::new());
        for file in &self.0 {
            match file.read(root) {
                Ok(took) => slowest = slowest.max(took),
                Err(why) => wrong.push(why),
            }
        }
        if wrong.is_empty() { Ok(slowest) } else { Err(wrong.join("\n")) }
    }

    /// Bytes of all.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.0.iter().map(|file| file.len as u64).sum()
    }
}
