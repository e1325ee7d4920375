//! Who this store is: the `identity` file in its directory.
//!
//! Never changes the uuid or the salt once written. Always: a directory of a
//! newer format, or a damaged file, is refused with a sentence.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use dgfs_proto::ids::{ServerId, Uuid};
use dgfs_runtime::{disk, random};
use thiserror::Error;

const FILE: &str = "identity";
/// The same again: without it no record can be told from noise.
const COPY: &str = "identity.copy";
const FORMAT: u32 = 1;

/// Why an identity could not be had.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("read or write {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what this program wrote.
    #[error("{} is damaged ({reason}): its copy is missing or damaged too: restore it from a backup; without it the segments cannot be read", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Written by a newer program.
    #[error("{} has format {format}, this program knows {FORMAT}: use a newer dgfs", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The directory has segments of a store whose identity is gone.
    #[error("{} holds segments but no identity file and no copy of it: restore the file from a backup, or use an empty directory", directory.display())]
    Missing {
        /// Which directory.
        directory: PathBuf,
    },
}

/// Who a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: Uuid,
    /// Its number in the cluster, once it joined.
    pub(crate) server: Option<ServerId>,
    /// Mixed into the checksum of each record header.
    pub(crate) salt: u32,
}

impl Identity {
    /// Reads the identity in `directory`, or makes one if `fresh` (the directory has no segments).
    /// A damaged or missing file is written again from its copy; `mended` then says so.
    pub(crate) fn open(directory: &Path, fresh: bool, mended: &mut Vec<String>) -> Result<Self, IdentityError> {
        let copy = directory.join(COPY);
        let copied = std::fs::read_to_string(&copy).ok().and_then(|text| Self::parse(&text, &copy).ok());
        let first = Self::open_one(directory, FILE, fresh && copied.is_none());
        match (&first, copied) {
            (Ok(identity), copied) if copied != Some(*identity) => identity.write(directory)?,
            (Err(IdentityError::Damaged { .. } | IdentityError::Missing { .. }), Some(copied)) => {
                let sentence = format!("the file {FILE} was missing or damaged; it is written again from {COPY}");
                tracing::warn!("{sentence}");
                mended.push(sentence);
                copied.write(directory)?;
                return Ok(copied);
            }
            (Ok(_) | Err(_), _) => {}
        }
        first
    }

    fn open_one(directory: &Path, file: &str, fresh: bool) -> Result<Self, IdentityError> {
        let path = directory.join(file);
        let failed = |source| IdentityError::Io { path: path.clone(), source };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(IdentityError::Damaged { path, reason: "it is not text" })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && fresh => {
                let mut uuid = [0; 16];
                random::fill(&mut uuid).map_err(failed)?;
                let salt = random::number().map_err(failed)? as u32;
                let identity = Self { uuid: Uuid(uuid), server: None, salt };
                identity.write(directory)?;
                Ok(identity)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(IdentityError::Missing { directory: directory.to_owned() })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Replaces the file and its copy.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), IdentityError> {
        for path in [directory.join(FILE), directory.join(COPY)] {
            disk::write_atomically_with_mode(&path, self.text().as_bytes(), 0o600)
                .map_err(|source| IdentityError::Io { path, source })?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut uuid = String::with_capacity(32);
        for byte in self.uuid.0 {
            // Writing to a String cannot fail.
            let _ = write!(uuid, "{byte:02x}");
        }
        let server = self.server.map_or(0, |server| server.0);
        let known = u8::from(self.server.is_some());
        let body = format!("dgfs-stored {FORMAT}\nuuid {uuid}\nserver {server} {known}\nsalt {:08x}\n", self.salt);
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{body}crc {crc:08x}\n")
    }

    fn parse(text: &str, path: &Path) -> Result<Self, IdentityError> {
        let damaged = |reason| IdentityError::Damaged { path: path.to_owned(), reason };
        let format = text.lines().next().and_then(|line| line.strip_prefix("dgfs-stored ")?.parse::<u32>().ok());
        match format {
            None => return Err(damaged("it does not begin with its name")),
            Some(format) if format > FORMAT => return Err(IdentityError::Newer { path: path.to_owned(), format }),
            Some(_) => {}
        }
        let (body, crc) = text.trim_end().rsplit_once('\n').ok_or_else(|| damaged("it is cut off"))?;
        let body = format!("{body}\n");
        if crc != format!("crc {:08x}", crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("its checksum does not match"));
        }
        Self::fields(&body).ok_or_else(|| damaged("a field is missing"))
    }

    fn fields(body: &str) -> Option<Self> {
        let field = |name: &str| body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let hex = field("uuid")?;
        let number = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32)?;
        let (server, known) = field("server")?.split_once(' ')?;
        let server = server.parse().ok().map(ServerId)?;
        Some(Self {
            uuid: Uuid(number.to_be_bytes()),
            server: (known == "1").then_some(server),
            salt: u32::from_str_radix(field("salt")?, 16).ok()?,
        })
    }
}
