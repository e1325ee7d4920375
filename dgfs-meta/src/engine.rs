//! Where rows live for good: a narrow trait and its two real engines.
//!
//! Never knows what a row means. Invariants every engine keeps, held by one
//! conformance suite: a batch is applied whole or not at all; batches are
//! applied in order; a batch of a writer whose epoch is not the newest is
//! refused; a batch sent twice (same number) is applied once.

pub mod fjall;
pub mod redis;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod conformance;

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use thiserror::Error;

use dgfs_proto::ids::Epoch;

/// Which kind of row. The number is part of the stored key and never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Volume facts and counters; partition 0.
    Volume = 1,
    /// Inodes; partition `ino / 64`, sort `ino`.
    Inode = 2,
    /// Inline bytes of a file; as `Inode`.
    Inline = 3,
    /// Extended attributes of an inode; as `Inode`.
    Xattr = 4,
    /// Directory entries; partition parent, sort name hash.
    Dentry = 5,
    /// Chunk slots; partition inode, sort slot / 32.
    Chunks = 6,
    /// Locks held on an inode; as `Inode`.
    Lock = 7,
    /// Change log; partition 0, sort seq.
    Log = 8,
    /// Sessions; partition 0, sort session.
    Session = 9,
    /// First answers of mutations; partition session, sort op.
    Answer = 10,
    /// Versions nobody refers to; partition 0, sort number.
    Garbage = 11,
    /// Reference counts of shared versions; partition `version / 64`, sort version.
    Shared = 12,
    /// Inodes without a name; partition 0, sort `ino`.
    Orphan = 13,
    /// Storage servers; partition 0, sort server.
    Server = 14,
    /// Change-log consumers; partition 0, sort hash of their name.
    Consumer = 15,
    /// Tags that people use. Partition 0: by number; 1: their numbers by the hash of each (folded) name; 2: saved queries by
    /// the hash of their name.
    Tag = 16,
    /// What the cluster tells of itself. Partition 0: events by number; 1: which are kept; 2: what storage servers announced
    /// last, by their numbers.
    Watch = 17,
}

/// Where a row lies. Keys order by table, partition, sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Kind.
    pub table: Table,
    /// Rows listed together.
    pub partition: u64,
    /// Order inside the partition.
    pub sort: u64,
}

/// Rows to change at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Grows by one with each batch of a writer; the engine remembers the last, so a repetition is recognised.
    pub number: u64,
    /// `None` deletes. Each key at most once.
    pub rows: Vec<(RowKey, Option<Vec<u8>>)>,
    /// Those of them that are surely not there yet: an engine need not look for what they replace.
    pub new: BTreeSet<RowKey>,
}

impl Batch {
    /// Of rows of which nothing is known.
    #[must_use]
    pub const fn of(number: u64, rows: Vec<(RowKey, Option<Vec<u8>>)>) -> Self {
        Self { number, rows, new: BTreeSet::new() }
    }
}

/// When a commit may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At least handed to the operating system of the engine's machine (or better, as the engine's named level says).
    Handed,
    /// Synced to disk, and everything committed before too.
    Synced,
}

/// The right to write: proved by every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterLease {
    /// Newer than that of every writer before.
    pub epoch: Epoch,
    /// The number of the last batch ever applied; the next one is this + 1.
    pub last_batch: u64,
}

/// Why an engine did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// Cannot be reached now, or did not answer; trying again may help.
    #[error("the metadata engine is not reachable: {0}")]
    Unavailable(String),
    /// Another writer has a newer epoch: this one must stop at once.
    #[error("another metadata service has taken over (epoch {newer})")]
    Fenced {
        /// The newer epoch.
        newer: Epoch,
    },
    /// The engine holds another history than this writer wrote (its last batch is not what the writer knows).
    #[error("the metadata engine lost batches: it is at {at}, the writer expected {expected}")]
    Regressed {
        /// The engine's last batch.
        at: u64,
        /// What the writer expected.
        expected: u64,
    },
    /// Not a volume, or of a newer format, or unsafe settings, or a wrong password: a sentence with the remedy.
    #[error("{0}")]
    Refused(String),
    /// The disk is full.
    #[error("the metadata engine's disk is full")]
    NoSpace,
    /// Damaged rows.
    #[error("the metadata engine is damaged: {0}")]
    Damaged(String),
}

/// How a server that holds the rows is, for people and alerts. `None`: it would not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineHealth {
    /// Bytes of memory it uses.
    pub used_bytes: Option<u64>,
    /// Bytes it may use; 0: as many as there are.
    pub max_bytes: Option<u64>,
    /// It keeps a log.
    pub log_enabled: Option<bool>,
    /// The last write to its log went well.
    pub log_written: Option<bool>,
    /// Its last snapshot went well.
    pub snapshot_saved: Option<bool>,
    /// It is the primary, no replica.
    pub is_primary: bool,
    /// Replicas that follow it.
    pub replicas: u64,
    /// Bytes that the one furthest behind lacks.
    pub replica_lag_bytes: u64,
    /// Keys it threw away for want of memory, since its start.
    pub evicted_keys: u64,
    /// Why its settings do not fit the durability level, with the command that mends it; none: they do.
    pub not_durable: Option<String>,
}

/// What a standby learns of the clocks when it says that it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineTime {
    /// The engine's clock, milliseconds since 1970.
    pub now_ms: u64,
    /// Milliseconds that the active writer's clock is ahead of it, where that one has said so.
    pub writer_ahead_ms: Option<i64>,
}

/// What an engine answers, some day.
pub type EngineFuture<T> = BoxFuture<'static, Result<T, EngineError>>;

/// A place for rows. Every method may be called from any thread; `commit` only one at a time.
/// Futures of an embedded engine are ready at the first poll (except `Synced` commits).
pub trait Engine: Send + Sync + 'static {
    /// Takes the right to write away from whoever has it, if his lease of
    /// [`dgfs_proto::limits::WRITER_LEASE_MS`] has run out by the engine's clock (or there is none);
    /// `None` while another holds it. `holder` names the taker for people.
    fn acquire(&self, holder: String) -> EngineFuture<Option<WriterLease>>;

    /// Keeps the right; `Fenced` when another took it.
    fn renew(&self, epoch: Epoch) -> EngineFuture<()>;

    /// Gives the right up, so that a standby need not wait.
    fn release(&self, epoch: Epoch) -> EngineFuture<()>;

    /// Rows by key, in the order asked; `None` where there is none.
    fn load(&self, keys: Vec<RowKey>) -> EngineFuture<Vec<Option<Vec<u8>>>>;

    /// Rows of a partition with sort in `from..=to`, in order, at most `limit`.
    fn list(&self, range: RowRange) -> EngineFuture<Vec<(RowKey, Vec<u8>)>>;

    /// Partitions of `table` that have rows, at or behind `from`, in order, at most `limit`.
    fn partitions(&self, table: Table, from: u64, limit: usize) -> EngineFuture<Vec<u64>>;

    /// Applies a batch under `epoch`.
    fn commit(&self, epoch: Epoch, batch: Batch, durability: Durability) -> EngineFuture<()>;

    /// Makes every batch committed so far durable, as far as the engine's named level can.
    fn sync(&self) -> EngineFuture<()>;

    /// Is there room for more rows? An engine that knows its disk says no early and keeps the rest for removals; one
    /// that does not says so by `NoSpace`. Cheap: asked before each change.
    fn has_room(&self) -> bool {
        true
    }

    /// Does a server hold the rows, whose health is to be watched and where standbys meet the active writer?
    fn is_server(&self) -> bool {
        false
    }

    /// How that server is, within two seconds. Never in the way of a commit.
    fn health(&self) -> EngineFuture<EngineHealth> {
        Box::pin(async { Ok(EngineHealth::default()) })
    }

    /// A standby says that it waits; `who` (at most 4 KiB) is kept for [`dgfs_proto::limits::STANDBY_MS`].
    fn wait_here(&self, who: Vec<u8>) -> EngineFuture<EngineTime> {
        let _ = who;
        Box::pin(async { Ok(EngineTime { now_ms: 0, writer_ahead_ms: None }) })
    }

    /// Who waits. The active writer says what its clock shows, in milliseconds since 1970.
    fn waiting(&self, writer_ms: u64) -> EngineFuture<Vec<Vec<u8>>> {
        let _ = writer_ms;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Name and durability level, for people: `fjall (embedded)`, `redis 7.0.15, always`.
    fn describe(&self) -> String;

    /// Round trips (or engine calls) since it was opened.
    fn calls(&self) -> u64;
}

/// Which rows to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// Kind.
    pub table: Table,
    /// Partition.
    pub partition: u64,
    /// First sort.
    pub from: u64,
    /// Last sort, inclusive.
    pub to: u64,
    /// Rows at most, at least 1.
    pub limit: usize,
}
