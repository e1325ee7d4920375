//! Decoded records in memory, so that a read pays for a look-up and a decode once.
//!
//! Never the truth. Always: at most the bytes it was given, in two generations:
//! what was not used while one generation filled up is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dgfs_proto::chunk::VersionId;
use parking_lot::Mutex;

use crate::frames::frames_of;
use crate::record::{Manifest, Place, blocks_of};

const SHARDS: usize = 16;

/// A record ready for reads.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) place: Place,
    /// Offset of the data inside the record.
    pub(crate) data_at: u32,
    pub(crate) manifest: Manifest,
    /// For each run: its first byte in the data, its first checksum, its first frame.
    pub(crate) run_starts: Vec<(u32, u32, u32)>,
    /// Where each frame begins on the disk, counted from the data's first byte; and where the last one ends. Only of compressed data.
    pub(crate) frame_starts: Vec<u32>,
    dropped: AtomicBool,
}

impl Record {
    pub(crate) fn new(place: Place, data_at: u32, manifest: Manifest, live: bool) -> Self {
        let mut run_starts = Vec::with_capacity(manifest.runs.len());
        let mut next = (0, 0, 0);
        for run in &manifest.runs {
            run_starts.push(next);
            next = (next.0 + run.len, next.1 + blocks_of(run.len), next.2 + frames_of(run.len));
        }
        let mut end = 0;
        let mut frame_starts: Vec<u32> = Vec::new();
        if !manifest.frames.is_empty() {
            frame_starts.push(end);
            frame_starts.extend(manifest.frames.iter().map(|len| {
                end += len;
                end
            }));
        }
        Self { place, data_at, manifest, run_starts, frame_starts, dropped: AtomicBool::new(!live) }
    }

    /// Held under its own name (not only as data of others)?
    pub(crate) fn is_live(&self) -> bool {
        !self.dropped.load(Ordering::Acquire)
    }

    fn memory_bytes(&self) -> usize {
        self.manifest.memory_bytes() + self.run_starts.len() * 12 + self.frame_starts.len() * 4 + 128
    }
}

#[derive(Default)]
struct Shard {
    young: HashMap<VersionId, Arc<Record>>,
    old: HashMap<VersionId, Arc<Record>>,
    young_bytes: usize,
}

/// Records by version.
pub(crate) struct RecordCache {
    shards: [Mutex<Shard>; SHARDS],
    generation_bytes: usize,
}

impl RecordCache {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { shards: Default::default(), generation_bytes: bytes / SHARDS / 2 }
    }

    pub(crate) fn get(&self, id: VersionId) -> Option<Arc<Record>> {
        let mut shard = self.shard(id)?.lock();
        if let Some(record) = shard.young.get(&id) {
            return Some(Arc::clone(record));
        }
        let record = shard.old.remove(&id)?;
        self.insert_into(&mut shard, id, &record);
        Some(record)
    }

    pub(crate) fn insert(&self, id: VersionId, record: &Arc<Record>) {
        if let Some(shard) = self.shard(id) {
            self.insert_into(&mut shard.lock(), id, record);
        }
    }

    fn insert_into(&self, shard: &mut Shard, id: VersionId, record: &Arc<Record>) {
        if shard.young_bytes > self.generation_bytes {
            shard.old = std::mem::take(&mut shard.young);
            shard.young_bytes = 0;
        }
        if shard.young.insert(id, Arc::clone(record)).is_none() {
            shard.young_bytes += record.memory_bytes();
        }
    }

    /// Says that `id` was dropped, to those who hold its record too.
    pub(crate) fn mark_dropped(&self, id: VersionId) {
        if let Some(shard) = self.shard(id) {
            let shard = shard.lock();
            for record in [shard.young.get(&id), shard.old.get(&id)].into_iter().flatten() {
                record.dropped.store(true, Ordering::Release);
            }
        }
    }

    pub(crate) fn remove(&self, id: VersionId) {
        if let Some(shard) = self.shard(id) {
            let mut shard = shard.lock();
            if let Some(record) = shard.young.remove(&id) {
                shard.young_bytes = shard.young_bytes.saturating_sub(record.memory_bytes());
            }
            shard.old.remove(&id);
        }
    }

    fn shard(&self, id: VersionId) -> Option<&Mutex<Shard>> {
        let mixed = (id.chunk.get() ^ id.version.get().rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.shards.get((mixed >> 60) as usize % SHARDS)
    }
}
