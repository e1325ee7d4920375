//! The graph on disk: one SQLite database per generation. This module and what lies below it are all that names the
//! engine.
//!
//! Never answers a query about tags: memory does, filled from here when it is opened. Always: the seq of the last event
//! is stored in the transaction that carries its effects, so after a kill at any moment the log goes on where it
//! stopped, each event applied once.

mod derive;
mod forsaken;
mod likeness;
mod load;
mod read;
mod schema;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Ino, Seq};

use crate::graph::Applied;
use crate::likeness::Print;
use crate::pointer::Pointer;
use crate::step::{ContentHash, Step};

pub(crate) use derive::tidy;
pub(crate) use read::LARGE_BYTES;
pub use read::{Changed, EdgeRow, Examination, Read, Vertex};

/// Readers kept open for the next query.
const READERS_IDLE_MAX: usize = 8;

/// Why the store could not do something.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The engine says so.
    #[error("index database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Another version of this program made it.
    #[error("the index database has format {found}, not {wanted}: it is built anew")]
    Format {
        /// What it says.
        found: i64,
        /// What this program reads.
        wanted: i64,
    },
    /// A value in it has no meaning.
    #[error("index database: {0}")]
    Damaged(&'static str),
}

impl StoreError {
    /// Is the file itself of no use, so that it has to be built anew?
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Format { .. } | Self::Damaged(_) => true,
            Self::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
        }
    }
}

/// A tagger's result for one content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Who.
    pub tagger: String,
    /// Its version: a number without an order, as that of a model follows from its file. The last word of a tagger counts.
    pub version: u32,
    /// Tags and `key=value`, each with how sure it is (0 to 1,000).
    pub marks: Vec<(String, u16)>,
    /// Text to be found by its words.
    pub text: Option<String>,
    /// It failed, and why.
    pub failed: Option<String>,
    /// What like contents are found by: at most one of each kind.
    pub prints: Vec<Print>,
    /// What the content points at.
    pub pointers: Vec<Pointer>,
}

/// Relations that a tagger found from one inode: all of that tagger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEdges {
    /// Who.
    pub tagger: String,
    /// Kind (as [`EdgeRow::kind`]), to whom, and how sure (0 to 1,000).
    pub edges: Vec<(String, Ino, u16)>,
}

/// What besides its bytes took part in what was found in a content: what its name says of its kind, and what its attributes do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Digest of all that may take part: with another one it is looked for anew.
    pub digest: [u8; 8],
    /// Something else would have been found without them. Else all files of that content share it.
    pub matter: bool,
}

impl Hints {
    /// What findings are kept by, beside the hash.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        if self.matter { &self.digest } else { &[] }
    }
}

/// What taggers found in an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The inode.
    pub ino: Ino,
    /// The version of its data that was read.
    pub data_version: u64,
    /// Hash of these data.
    pub content: ContentHash,
    /// What else took part.
    pub hints: Hints,
    /// By tagger.
    pub found: Vec<Finding>,
    /// By tagger.
    pub edges: Vec<FoundEdges>,
}

/// What a batch brings the store to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last event.
    pub seq: Seq,
    /// Its time.
    pub at: Timestamp,
    /// [`digest`] of it, so that another log is noticed.
    pub digest: u64,
}

/// What tells one event from another at the same seq.
#[must_use]
pub fn digest<T: Serialize>(event: &T) -> u64 {
    // An event that cannot be encoded was never decoded: 0 is as good as any.
    postcard::to_allocvec(event).map_or(0, |bytes| xxhash_rust::xxh3::xxh3_64(&bytes))
}

/// The writing side of one generation.
pub struct Store {
    connection: Connection,
    path: PathBuf,
    applied: Applied,
    digest: u64,
    /// What a transaction under way leads to.
    pending: Option<(Applied, u64)>,
}

impl Store {
    /// Opens the database at `path`, or makes it.
    ///
    /// # Errors
    /// Those of the engine; [`StoreError::is_lost`] when the file is of no use.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        schema::keep_statements(&connection)?;
        schema::prepare(&connection)?;
        let mut store =
            Self { connection, path: path.to_owned(), applied: Applied::default(), digest: 0, pending: None };
        let found = store
            .connection
            .query_row("SELECT seq, at_secs, at_nanos, stamp, digest FROM applied WHERE id = 0", [], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, u32>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, i64>(4)?,
                ))
            })
            .optional()?;
        if let Some((seq, secs, nanos, stamp, digest)) = found {
            store.applied =
                Applied { seq: Seq(seq.cast_unsigned()), at: Timestamp { secs, nanos }, stamp: stamp.cast_unsigned() };
            store.digest = digest.cast_unsigned();
        }
        Ok(store)
    }

    /// Up to where it is.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// [`Mark::digest`] of the last event.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Readers of this database.
    #[must_use]
    pub fn readers(&self) -> Readers {
        Readers { path: Arc::from(self.path.as_path()), idle: Arc::default() }
    }

    /// Carries out steps in a transaction that stays open, and answers what memory is to do once it is committed.
    ///
    /// # Errors
    /// Those of the engine; nothing was changed then.
    pub fn prepare(&mut self, steps: Vec<Step>, mark: Option<Mark>) -> Result<Vec<Step>, StoreError> {
        self.within(mark, |connection, stamp| write::Batch::new(connection, stamp).run(steps))
    }

    /// Likewise for what taggers found. A file whose data have changed since keeps what was said of it until it is read
    /// again.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_findings(&mut self, findings: &[Findings]) -> Result<Vec<Step>, StoreError> {
        self.within(None, |connection, stamp| write::Batch::new(connection, stamp).run_findings(findings))
    }

    /// Likewise for the hash of a whole content that taggers did not read to its end.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_whole_hash(
        &mut self,
        ino: Ino,
        data_version: u64,
        hash: ContentHash,
    ) -> Result<Vec<Step>, StoreError> {
        self.within(None, |connection, stamp| {
            write::Batch::new(connection, stamp).run_whole_hash(ino, data_version, &hash)
        })
    }

    /// Takes over what taggers found in all contents from another generation, and what follows for every inode.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_findings_of(&mut self, other: &Path) -> Result<Vec<Step>, StoreError> {
        let other = other.to_string_lossy().into_owned();
        self.connection.execute("ATTACH DATABASE ?1 AS other", [other])?;
        let copied = self.within(None, |connection, stamp| write::Batch::new(connection, stamp).copy_findings());
        if copied.is_err() {
            self.roll_back();
        }
        copied
    }

    /// Goes on counting stamps behind `stamp`, so that whoever follows changes by stamp goes on, too, after a rebuild: every
    /// vertex counts as changed at the next one.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn skip_to_stamp(&mut self, stamp: u64) -> Result<(), StoreError> {
        let next = stamp.max(self.applied.stamp);
        self.connection.execute_batch("DETACH DATABASE other")?;
        self.applied.stamp = next;
        self.within(None, |connection, stamp| {
            let stamp = stamp.cast_signed();
            write::all_changed(connection, stamp)?;
            connection.execute("UPDATE tag SET stamp = ?1", [stamp])?;
            connection.execute("UPDATE gone SET stamp = ?1", [stamp])?;
            Ok(Vec::new())
        })?;
        self.commit()?;
        Ok(())
    }

    fn within(
        &mut self,
        mark: Option<Mark>,
        work: impl FnOnce(&Connection, u64) -> Result<Vec<Step>, StoreError>,
    ) -> Result<Vec<Step>, StoreError> {
        assert!(self.pending.is_none(), "one transaction at a time");
        let stamp = self.applied.stamp + 1;
        let (seq, at, digest) = match mark {
            Some(mark) => (mark.seq, mark.at, mark.digest),
            None => (self.applied.seq, self.applied.at, self.digest),
        };
        let applied = Applied { seq, at, stamp };
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = work(&self.connection, stamp).and_then(|steps| {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO applied(id, seq, at_secs, at_nanos, stamp, digest) VALUES(0, ?1, ?2, ?3, ?4, ?5)")?
                .execute((seq.0.cast_signed(), at.secs, at.nanos, stamp.cast_signed(), digest.cast_signed()))?;
            Ok(steps)
        });
        match done {
            Ok(steps) => {
                self.pending = Some((applied, digest));
                Ok(steps)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Ends the transaction: a kill from here on keeps it.
    ///
    /// # Errors
    /// Those of the engine; nothing was changed then.
    pub fn commit(&mut self) -> Result<Applied, StoreError> {
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            self.roll_back();
            return Err(error.into());
        }
        if let Some((applied, digest)) = self.pending.take() {
            self.applied = applied;
            self.digest = digest;
        }
        Ok(self.applied)
    }

    /// Gives a transaction up, if there is one.
    pub fn roll_back(&mut self) {
        self.pending = None;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "index transaction could not be taken back");
        }
    }
}

/// Connections that only read, at most one for each query under way.
#[derive(Clone)]
pub struct Readers {
    path: Arc<Path>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                schema::keep_statements(&connection)?;
                connection
            }
        };
        let done = work(&connection)?;
        let mut idle = self.idle.lock();
        if idle.len() < READERS_IDLE_MAX {
            idle.push(connection);
        }
        Ok(done)
    }

    /// Bytes of the database on disk, its write-ahead log included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let bytes = |path: PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        bytes(self.path.to_path_buf()) + bytes(PathBuf::from(wal))
    }
}

#[cfg(test)]
mod tests;
