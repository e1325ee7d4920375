//! The file of a bundle: entries go in without secrets, and what does not fit is named.
//!
//! Never takes the place of a file that is there. Always: readable by its owner only, and no larger (before it is compressed)
//! than [`TOTAL_BYTES_MAX`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use dgfs_runtime::disk::sync_file;

use crate::cli::Failure;
use crate::cli::debug::redact::Secrets;

/// Bytes of one entry at most: the largest log of a daemon, with room.
const ENTRY_BYTES_MAX: usize = 16 << 20;
/// Bytes of all entries at most.
const TOTAL_BYTES_MAX: usize = 512 << 20;

/// A bundle that is being made.
pub(super) struct Archive {
    tar: Builder<GzEncoder<File>>,
    path: PathBuf,
    secrets: Secrets,
    now_s: u64,
    used: usize,
    missing: Vec<String>,
}

impl Archive {
    /// Makes the file; refuses where one is.
    pub(super) fn create(path: &Path, secrets: Secrets, now_s: u64) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            let path = path.display();
            Failure::new(match error.kind() {
                io::ErrorKind::AlreadyExists => format!("{path} is there already: name another file with -o"),
                _ => format!("make {path}: {error}"),
            })
        })?;
        let tar = Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { tar, path: path.to_owned(), secrets, now_s, used: 0, missing: Vec::new() })
    }

    /// Adds a text.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let mut shown = self.secrets.out_of(text);
        let room = ENTRY_BYTES_MAX.min(TOTAL_BYTES_MAX.saturating_sub(self.used));
        if shown.len() > room {
            let end = (0..=room).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            self.miss(format!("{name}: the last {} bytes, there was no more room", shown.len() - end));
            shown.truncate(end);
        }
        self.append(name, shown.as_bytes())
    }

    /// Adds a configuration file, if it is one.
    pub(super) fn add_config(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        match self.secrets.config(text) {
            Some(text) => self.add(name, &text),
            None => {
                self.miss(format!("{name}: it is not TOML, so nobody knows what is secret in it"));
                Ok(())
            }
        }
    }

    /// Notes what could not be had.
    pub(super) fn miss(&mut self, sentence: String) {
        self.missing.push(self.secrets.out_of(&sentence));
    }

    /// Ends the file; what is missing in it.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Failure> {
        let missing = std::mem::take(&mut self.missing);
        let text = match missing.is_empty() {
            true => "Nothing is missing.\n".to_owned(),
            false => missing.join("\n") + "\n",
        };
        self.append("MISSING.txt", text.as_bytes())?;
        let failed = |error| Failure::new(format!("write {}: {error}", self.path.display()));
        let file = self.tar.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
        sync_file(&file).map_err(failed)?;
        Ok(missing)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now_s);
        self.used = self.used.saturating_add(bytes.len());
        let within = format!("dgfs-debug/{name}");
        self.tar
            .append_data(&mut header, within, bytes)
            .map_err(|error| Failure::new(format!("write {}: {error}", self.path.display())))
    }
}

/// A name of a daemon or a mount as a part of an entry's name.
pub(super) fn file_word(text: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    let word: String = text.chars().map(|letter| if fits(letter) { letter } else { '_' }).take(60).collect();
    word.trim_matches(['_', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Archive, ENTRY_BYTES_MAX, file_word};
    use crate::cli::debug::redact::Secrets;

    #[test]
    fn a_bundle_is_its_owners_and_takes_no_ones_place() {
        let path = std::env::temp_dir().join(format!("dgfs-archive-{}.tar.gz", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut archive = Archive::create(&path, Secrets::default(), 0).unwrap();
        archive.add("a/b.txt", "at redis://me:hunter2@r\n").unwrap();
        archive.add("large", &"é".repeat(ENTRY_BYTES_MAX)).unwrap();
        archive.miss("c: nobody answered".to_owned());
        let missing = archive.finish().unwrap();
        assert!(missing[0].starts_with("large: the last ") && missing[1] == "c: nobody answered", "{missing:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let file = std::fs::File::open(&path).unwrap();
        let mut names = Vec::new();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "dgfs-debug/a/b.txt" {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                assert_eq!(text, "at redis://(not told)@r\n");
            }
            names.push(name);
        }
        assert_eq!(names, ["dgfs-debug/a/b.txt", "dgfs-debug/large", "dgfs-debug/MISSING.txt"]);
        let refused = Archive::create(&path, Secrets::default(), 0).err().unwrap();
        assert!(refused.sentence.contains("is there already"), "{}", refused.sentence);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn names_of_peers_make_no_paths() {
        assert_eq!(file_word("../../etc/passwd"), "etc_passwd");
        assert_eq!(file_word("stored 1 (s 1)"), "stored_1__s_1");
        assert_eq!(file_word("[::1]:7440"), "__1__7440".trim_matches('_'));
    }
}
