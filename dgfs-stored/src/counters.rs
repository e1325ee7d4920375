//! How often each chunk was used.
//!
//! Never on the way of durability: a lost file costs numbers only. Always at
//! most [`CHUNKS_MAX`] chunks; when full, one that was not used for long makes room.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use dgfs_proto::ids::ChunkId;
use dgfs_runtime::disk;
use parking_lot::Mutex;

use crate::record::Fields;

/// Chunks counted: about 6 MiB of memory.
pub const CHUNKS_MAX: usize = 64 << 10;
const SHARDS: usize = 16;
/// Candidates looked at when one must make room.
const CANDIDATES: usize = 8;
const MAGIC: &[u8; 8] = b"DGFSCNT1";
const FILE: &str = "counters";

/// Use of one chunk since it was first counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkUse {
    /// Gets.
    pub reads: u64,
    /// Puts.
    pub writes: u64,
    /// Bytes got.
    pub read_bytes: u64,
    /// Bytes put.
    pub write_bytes: u64,
    /// Gets that found damage.
    pub errors: u64,
    /// Seconds since 1970.
    pub last_use: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    shards: [Mutex<HashMap<ChunkId, ChunkUse>>; SHARDS],
}

impl Counters {
    /// Changes the numbers of `chunk`.
    pub(crate) fn count(&self, chunk: ChunkId, now: u64, change: impl FnOnce(&mut ChunkUse)) {
        let Some(shard) = self.shards.get((chunk.get() % SHARDS as u64) as usize) else { return };
        let mut shard = shard.lock();
        if shard.len() >= CHUNKS_MAX / SHARDS && !shard.contains_key(&chunk) {
            let oldest = shard.iter().take(CANDIDATES).min_by_key(|(_, numbers)| numbers.last_use).map(|(id, _)| *id);
            oldest.map(|oldest| shard.remove(&oldest));
        }
        let numbers = shard.entry(chunk).or_default();
        numbers.last_use = now;
        change(numbers);
    }

    /// All numbers, in no order.
    pub(crate) fn all(&self) -> Vec<(ChunkId, ChunkUse)> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().iter().map(|(id, numbers)| (*id, *numbers)).collect::<Vec<_>>())
            .collect()
    }

    /// Writes the file in `directory`. Blocks.
    pub(crate) fn save(&self, directory: &Path) -> io::Result<()> {
        let all = self.all();
        let mut out = Vec::with_capacity(MAGIC.len() + 12 + all.len() * 56);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(all.len() as u64).to_le_bytes());
        for (id, numbers) in all {
            let ChunkUse { reads, writes, read_bytes, write_bytes, errors, last_use } = numbers;
            for field in [id.get(), reads, writes, read_bytes, write_bytes, errors, last_use] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        disk::write_atomically_with_mode(&directory.join(FILE), &out, 0o600)
    }

    /// Reads the file in `directory`; a missing or damaged one counts from zero.
    pub(crate) fn load(directory: &Path) -> Self {
        let counters = Self::default();
        match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => {
                if counters.fill(&bytes).is_none() {
                    tracing::warn!("the per-chunk counters are damaged; counting starts again from zero");
                    return Self::default();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "the per-chunk counters cannot be read; counting starts again from zero")
            }
        }
        counters
    }

    fn fill(&self, bytes: &[u8]) -> Option<()> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return None;
        }
        let mut read = Fields(body.strip_prefix(MAGIC)?);
        let count = read.u64()?;
        for _ in 0..count.min(CHUNKS_MAX as u64) {
            let chunk = ChunkId::new(read.u64()?)?;
            let numbers = ChunkUse {
                reads: read.u64()?,
                writes: read.u64()?,
                read_bytes: read.u64()?,
                write_bytes: read.u64()?,
                errors: read.u64()?,
                last_use: read.u64()?,
            };
            self.count(chunk, numbers.last_use, |own| *own = numbers);
        }
        Some(())
    }
}
