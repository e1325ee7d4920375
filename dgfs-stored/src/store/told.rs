//! What a store tells of itself, and what it counts of its chunks.
//!
//! Never decides anything. Always: the counts by chunk are bounded, and one that is not held any more has none.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use dgfs_proto::chunk::{ChunkUse, StoreStatus, UseOrder, VersionId};
use dgfs_proto::ids::{ChunkId, Ino};
use dgfs_proto::limits::USES_MAX;
use dgfs_proto::status::Status;
use dgfs_runtime::instruments;

use super::Store;
use crate::uses::{Use, Used};

impl Store {
    /// Numbers for people and metrics.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let room = self.space.room().ok();
        let usage = self.usage.lock();
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        StoreStatus {
            server: self.server().unwrap_or_default(),
            directory: self.options.directory.display().to_string(),
            capacity_bytes: room.map_or(0, |room| room.capacity_bytes),
            used_bytes: self.maintenance.used_bytes(),
            free_bytes: room.map_or(0, |room| room.free_bytes),
            live_bytes: usage.live_bytes,
            record_bytes: usage.segments.values().sum(),
            versions: usage.versions,
            segments: self.maintenance.segment_count(),
            puts: count(&self.numbers.puts),
            gets: count(&self.numbers.gets),
            put_bytes: count(&self.numbers.put_bytes),
            get_bytes: count(&self.numbers.get_bytes),
            checksum_errors: count(&self.numbers.checksum_errors),
            syncs: self.sync.count(),
            lost: self.report.sentences.clone(),
            interrupted: self.report.interrupted.clone(),
            lost_versions: self.report.versions.len() as u64,
            lost_bytes: self.report.bytes,
            mended: self.mended.clone(),
            upkeep: self.upkeep.told(self.now_ms()),
        }
    }

    /// The versions its start could not find whole.
    #[must_use]
    pub fn not_whole(&self) -> BTreeSet<VersionId> {
        self.report.not_whole()
    }

    /// Does it take puts? The error says why not and what to do.
    ///
    /// # Errors
    /// A sentence.
    pub fn check_writable(&self) -> Result<(), String> {
        if self.sync.has_failed() {
            return Err("a disk sync failed: look at the disk, then restart the daemon".to_owned());
        }
        if self.maintenance.index_has_failed() {
            return Err("the chunk index failed: restart the daemon, it will rebuild it".to_owned());
        }
        Ok(())
    }

    /// The chunks first in the order of `by`, the greatest first, at most `limit` (and [`USES_MAX`]); those without any are left
    /// out. Blocks: with a million chunks for some 10 ms.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn top_uses(&self, by: UseOrder, limit: usize) -> Result<Vec<ChunkUse>, Status> {
        self.uses.top(by, limit.min(USES_MAX)).iter().map(|row| self.owned(row)).collect()
    }

    /// The uses of these chunks, of those that have any. Blocks.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn uses_of(&self, chunks: &[ChunkId]) -> Result<Vec<ChunkUse>, Status> {
        chunks.iter().filter_map(|chunk| self.uses.get(*chunk)).map(|row| self.owned(&row)).collect()
    }

    /// Counts a use of a chunk that has `bytes` of data.
    pub(crate) fn count_use(&self, chunk: ChunkId, bytes: u32, used: Used) {
        if self.options.count_uses && instruments::are_on() {
            self.uses.count(chunk, self.now(), bytes, used);
            self.totals.count(chunk, used);
        }
    }

    /// Adds whose chunk it is.
    fn owned(&self, row: &Use) -> Result<ChunkUse, Status> {
        let entries = self.shelf.table.of_chunk(row.chunk).map_err(|error| {
            tracing::error!(%error, "the index refused to tell whose a chunk is");
            Status::Io
        })?;
        let newest = entries.last().map(|(_, entry)| entry);
        Ok(ChunkUse {
            chunk: row.chunk,
            owner: newest.and_then(|entry| Ino::new(entry.owner)),
            index: newest.map_or(0, |entry| entry.index),
            bytes: row.bytes,
            reads: row.reads,
            writes: row.writes,
            read_bytes: row.read_bytes,
            write_bytes: row.write_bytes,
            errors: u64::from(row.errors),
            last_use: u64::from(row.last_use),
        })
    }
}
