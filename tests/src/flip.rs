//! Bits that flip on the disk below a running daemon.
//!
//! Never touches a head or a table of a record: what is damaged are data of files.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::known::KnownFile;

/// Bytes of a chunk, the product's own.
const CHUNK: usize = 4 << 20;
/// Below this a file has no chunk: it lies in the metadata.
const INLINE: usize = 4096;

/// What was done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flipped {
    /// Chunks with a bit flipped.
    pub chunks: u64,
    /// Chunks that the files have.
    pub of: u64,
}

/// Flips a bit in the middle of every chunk of these files that is found in the store in `directory`.
///
/// # Panics
/// When its segments cannot be read or written.
#[must_use]
pub fn flip_bits(directory: &Path, files: &[KnownFile]) -> Flipped {
    // Random bytes: eight of them are found nowhere else.
    let mut wanted: HashSet<u64> = HashSet::new();
    for file in files.iter().filter(|file| file.len > INLINE) {
        for chunk in file.bytes().chunks(CHUNK).filter(|chunk| chunk.len() > 64) {
            let middle = chunk.len() / 2;
            wanted.insert(word(&chunk[middle..middle + 8]));
        }
    }
    let mut chunks = 0;
    for entry in fs::read_dir(directory.join("segments")).expect("list the segments") {
        let path = entry.expect("list the segments").path();
        let bytes = fs::read(&path).expect("read a segment");
        let found = bytes.windows(8).enumerate().filter(|(_, window)| wanted.contains(&word(window)));
        let segment = fs::File::options().write(true).open(&path).expect("open a segment");
        for (at, window) in found {
            segment.write_all_at(&[window[0] ^ 0x10], at as u64).expect("flip a bit");
            chunks += 1;
        }
    }
    println!("{chunks} bits flipped in {}", directory.display());
    Flipped { chunks, of: wanted.len() as u64 }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
