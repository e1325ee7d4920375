//! How full the disk of an embedded engine may become.
//!
//! Never writes. Always: fjall does not survive a full disk without being opened again, so every batch is refused while
//! there is still room for what it writes by itself; what grows is refused earlier, so that removals find room.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::files::{disk_bytes, free_bytes};
use crate::engine::EngineError;

/// Below this part of the disk free nothing may grow.
const FREE_PART_MIN: u64 = 20;
/// That part, but at least what a journal's worth of rows takes until it lies in tables and the journal goes, …
const FREE_BYTES_LEAST: u64 = 96 << 20;
/// … of a small disk this part, …
const FREE_PART_LEAST: u64 = 4;
/// … and at most a compaction of the first levels.
const FREE_BYTES_MOST: u64 = 256 << 20;
/// Below this part of that nothing is written at all.
const HARD_PART: u64 = 4;
/// Memtables of a disk are this part of it together at most, so that their flush finds room.
const MEMTABLE_PART: u64 = 64;
const MEMTABLE_BYTES: std::ops::RangeInclusive<u64> = 2 << 20..=16 << 20;
/// How long an answer about free space is believed: far less than it takes to fill the reserve.
const BELIEVED_US: u64 = 5_000;

/// Bytes of a disk of `capacity_bytes` that are left free for metadata: what grows is refused below. Whoever
/// stores data on the same disk must stop well before.
#[must_use]
pub fn free_bytes_min(capacity_bytes: u64) -> u64 {
    let least = FREE_BYTES_LEAST.min(capacity_bytes / FREE_PART_LEAST);
    (capacity_bytes / FREE_PART_MIN).clamp(least, FREE_BYTES_MOST)
}

/// Rows in memory before they become a table file, in bytes. Four full ones may wait for the disk of `dir`.
pub(super) fn memtable_bytes(dir: &Path) -> u64 {
    let part = disk_bytes(dir).map_or(*MEMTABLE_BYTES.end(), |capacity| capacity / MEMTABLE_PART);
    part.clamp(*MEMTABLE_BYTES.start(), *MEMTABLE_BYTES.end())
}

/// The room on one engine's disk.
pub(super) struct Room {
    /// `None`: by the size of the disk. Tests set it.
    least_bytes: Option<u64>,
    since: Instant,
    /// When `last` was asked for, microseconds after `since`; 0 never.
    asked_us: AtomicU64,
    last: AtomicBool,
}

impl Room {
    pub(super) fn new(least_bytes: Option<u64>) -> Self {
        Self { least_bytes, since: Instant::now(), asked_us: AtomicU64::new(0), last: AtomicBool::new(true) }
    }

    /// May rows be added? A disk that does not say has room.
    pub(super) fn may_grow(&self, dir: &Path) -> bool {
        let now = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let asked = self.asked_us.load(Ordering::Acquire);
        if asked > 0 && now < asked.saturating_add(BELIEVED_US) {
            return self.last.load(Ordering::Acquire);
        }
        let may = self.is_above(dir, 1).unwrap_or(true);
        self.last.store(may, Ordering::Release);
        self.asked_us.store(now, Ordering::Release);
        may
    }

    /// Refuses every batch when there is not even room for removals.
    pub(super) fn check(&self, dir: &Path) -> Result<(), EngineError> {
        if self.is_above(dir, HARD_PART)? { Ok(()) } else { Err(EngineError::NoSpace) }
    }

    fn is_above(&self, dir: &Path, part: u64) -> Result<bool, EngineError> {
        let least = match self.least_bytes {
            Some(least) => least,
            None => free_bytes_min(disk_bytes(dir)?),
        };
        Ok(free_bytes(dir)? >= least / part)
    }
}
