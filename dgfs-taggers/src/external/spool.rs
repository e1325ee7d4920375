//! The copy of a file that a user's tagger may open.
//!
//! Never outlives its job: dropping it removes it. Only we and what we start can read it.

use std::fs::{DirBuilder, OpenOptions, remove_file};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file in a private directory.
pub(super) struct Spooled {
    path: PathBuf,
    spelt: String,
}

impl Spooled {
    /// Writes `bytes` to a new file in `directory`, which is made if it is not there.
    pub(super) fn write(directory: &Path, tagger: &str, id: u64, bytes: &[u8]) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(format!("{tagger}.{}.{id}", std::process::id()));
        let spelt = path.to_str().map(str::to_owned);
        let spelt = spelt.ok_or_else(|| io::Error::other("the spool directory's name is not UTF-8"))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let spooled = Self { path, spelt };
        file.write_all(bytes)?;
        Ok(spooled)
    }

    /// Absolute if the directory is.
    pub(super) fn path(&self) -> &str {
        &self.spelt
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // A copy that stays is found by the next start's cleaning of the spool directory; nobody waits for it here.
        let _ = remove_file(&self.path);
    }
}
