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

use dgfs_runtime::disk::{claim_name_durably, rename_durably, sync_file};

use crate::cli::Failure;
use crate::cli::debug::redact::Secrets;

/// Bytes of one entry at most: the largest log of a daemon, with room.
const ENTRY_BYTES_MAX: usize = 16 << 20;
/// Bytes of all entries at most.
const TOTAL_BYTES_MAX: usize = 512 << 20;

/// Ends the name of a bundle that is being made.
const PART: &str = ".part";

/// A bundle that is being made.
pub(super) struct Archive {
    tar: Option<Builder<GzEncoder<File>>>,
    path: PathBuf,
    part: PathBuf,
    secrets: Secrets,
    now_s: u64,
    used: usize,
    missing: Vec<String>,
    notes: Vec<String>,
}

impl Archive {
    /// Begins the file, beside its place; refuses where one is.
    pub(super) fn create(path: &Path, secrets: Secrets, now_s: u64) -> Result<Self, Failure> {
        if let Ok(facts) = std::fs::symlink_metadata(path) {
            return Err(taken(path, facts.is_symlink()));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(PART);
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(|error| {
            let part = part.display();
            Failure::new(match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{part} is there: a bundle is being made, or was broken off; remove it, or name another file with -o")
                }
                _ => format!("make {part}: {error}"),
            })
        })?;
        let tar = Some(Builder::new(GzEncoder::new(file, Compression::default())));
        let (path, missing, notes) = (path.to_owned(), Vec::new(), Vec::new());
        Ok(Self { tar, path, part, secrets, now_s, used: 0, missing, notes })
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

    /// Says what was not looked for.
    pub(super) fn note(&mut self, sentence: String) {
        self.notes.push(self.secrets.out_of(&sentence));
    }

    /// Ends the file and gives it its name; what is missing in it.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Failure> {
        let missing = std::mem::take(&mut self.missing);
        let mut text = match missing.is_empty() {
            true => "Nothing is missing.\n".to_owned(),
            false => missing.join("\n") + "\n",
        };
        for (at, note) in self.notes.iter().enumerate() {
            text.push_str(&format!("{}{note}\n", if at == 0 { "\nNot looked at:\n" } else { "" }));
        }
        self.append("MISSING.txt", text.as_bytes())?;
        if let Some(tar) = self.tar.take() {
            let file = tar.into_inner().and_then(GzEncoder::finish).map_err(|error| self.failed(&error))?;
            sync_file(&file).map_err(|error| self.failed(&error))?;
        }
        // Whoever claims the name first has it.
        claim_name_durably(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(&self.path, false),
            _ => self.failed(&error),
        })?;
        rename_durably(&self.part, &self.path).map_err(|error| {
            let _ = std::fs::remove_file(&self.path);
            self.failed(&error)
        })?;
        Ok(missing)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": name a file on another disk with -o",
            _ => "",
        };
        Failure::new(format!("write {}: {error}{hint}", self.path.display()))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now_s);
        self.used = self.used.saturating_add(bytes.len());
        let within = format!("dgfs-debug/{name}");
        let written = self.tar.as_mut().map_or(Ok(()), |tar| tar.append_data(&mut header, within, bytes));
        written.map_err(|error| self.failed(&error))
    }
}

impl Drop for Archive {
    /// What was not ended has no worth. (One that has its name is not there any more under the other.)
    fn drop(&mut self) {
        drop(self.tar.take());
        let _ = std::fs::remove_file(&self.part);
    }
}

/// Something is where the file is to be.
fn taken(path: &Path, is_link: bool) -> Failure {
    let (at, remedy) = (path.display(), "name another file with -o");
    Failure::new(match is_link && !path.exists() {
        true => format!("{at} is a symbolic link that leads to nothing: remove it, or {remedy}"),
        false => format!("{at} is there already: {remedy}"),
    })
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
        std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
        let refused = Archive::create(&path, Secrets::default(), 0).err().unwrap();
        assert!(refused.sentence.contains("leads to nothing"), "{}", refused.sentence);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn of_a_bundle_that_is_not_ended_nothing_stays() {
        let path = std::env::temp_dir().join(format!("dgfs-broken-off-{}.tar.gz", std::process::id()));
        let part = path.with_extension("gz.part");
        let mut archive = Archive::create(&path, Secrets::default(), 0).unwrap();
        archive.add("a", "text").unwrap();
        assert!(part.exists() && !path.exists(), "it has its name only when it is whole");
        let refused = Archive::create(&path, Secrets::default(), 0).err().unwrap();
        assert!(refused.sentence.contains("was broken off"), "{}", refused.sentence);
        drop(archive);
        assert!(!part.exists() && !path.exists());
    }

    #[test]
    fn names_of_peers_make_no_paths() {
        assert_eq!(file_word("../../etc/passwd"), "etc_passwd");
        assert_eq!(file_word("stored 1 (s 1)"), "stored_1__s_1");
        assert_eq!(file_word("[::1]:7440"), "__1__7440".trim_matches('_'));
    }
}
