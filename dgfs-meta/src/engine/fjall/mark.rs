//! The note of what was synced: which journal was the newest, and which batch the last.
//!
//! Never the only place of anything: a note that is missing or torn says nothing. Always: it is written after the sync it
//! tells of, so a journal that holds less than it says has lost something.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const NAME: &str = "synced";
const VERSION: u8 = 1;
const BYTES: usize = 25;

/// What was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The newest journal then.
    pub(super) journal: u64,
    /// The last batch.
    pub(super) number: u64,
}

impl Mark {
    pub(super) fn write(self, dir: &Path) -> io::Result<()> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.journal.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(NAME))?;
        file.write_all_at(&bytes, 0)
    }

    pub(super) fn read(dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(dir.join(NAME)).ok()?;
        let (words, checksum) = bytes.get(..BYTES)?.split_last_chunk::<8>()?;
        let (version, numbers) = words.split_first()?;
        let (journal, number) = numbers.split_first_chunk::<8>()?;
        let number = <[u8; 8]>::try_from(number).ok()?;
        let whole = *version == VERSION && xxhash_rust::xxh3::xxh3_64(words).to_le_bytes() == *checksum;
        whole.then(|| Self { journal: u64::from_le_bytes(*journal), number: u64::from_le_bytes(number) })
    }
}
