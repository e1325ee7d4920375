//! Room: on the disk, with a part kept back for deletes and compaction, and in use by records.
//!
//! Never touches a segment. Always: puts are refused before the reserve is used.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use dgfs_runtime::disk::{DiskSpace, disk_space};

use crate::index::{Entry, State};

/// Reserve unless configured: this, or a hundredth of the disk where that is less.
pub(crate) const RESERVE_BYTES_DEFAULT: u64 = 64 << 20;
/// Bytes that may be written before the disk is asked again; others may fill it meanwhile.
const STEP_BYTES: u64 = 16 << 20;

/// The accountant of one directory.
pub(crate) struct Space {
    directory: PathBuf,
    reserve_bytes: u64,
    budget: AtomicI64,
}

impl Space {
    pub(crate) fn new(directory: &Path, reserve_bytes: Option<u64>) -> io::Result<Self> {
        let capacity = disk_space(directory)?.capacity_bytes;
        let reserve_bytes = reserve_bytes.unwrap_or_else(|| RESERVE_BYTES_DEFAULT.min(capacity / 100));
        Ok(Self { directory: directory.to_owned(), reserve_bytes, budget: AtomicI64::new(0) })
    }

    /// May `bytes` more be written?
    pub(crate) fn take(&self, bytes: u32) -> bool {
        let bytes = i64::from(bytes);
        if self.budget.fetch_sub(bytes, Ordering::Relaxed) >= bytes {
            return true;
        }
        let Ok(room) = self.room() else { return true };
        let available = i64::try_from(room.free_bytes.min(STEP_BYTES.max(bytes.unsigned_abs()))).unwrap_or(i64::MAX);
        let fits = available >= bytes;
        self.budget.store(if fits { available - bytes } else { 0 }, Ordering::Relaxed);
        fits
    }

    /// The disk, with the reserve already subtracted from what is free.
    pub(crate) fn room(&self) -> io::Result<DiskSpace> {
        let room = disk_space(&self.directory)?;
        Ok(DiskSpace { free_bytes: room.free_bytes.saturating_sub(self.reserve_bytes), ..room })
    }

    /// Bytes that are free, the reserve included: for compaction.
    pub(crate) fn free_with_reserve(&self) -> u64 {
        disk_space(&self.directory).map_or(0, |room| room.free_bytes)
    }
}

/// Names the file system of `directory`: the same for all stores on it while this machine runs; 0 when it cannot be told.
pub(crate) fn disk_name(directory: &Path) -> u64 {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let (Ok(boot), Ok(facts)) = (boot, std::fs::metadata(directory)) else { return 0 };
    let words = boot.bytes().chain(facts.dev().to_le_bytes());
    // FNV-1a, 64 bits; never 0.
    words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) | 1
}

/// What the records that are not dead take.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) versions: u64,
    pub(crate) live_bytes: u64,
    /// Bytes of such records in each segment.
    pub(crate) segments: HashMap<u32, u64>,
}

impl Usage {
    /// Counts an entry's change.
    pub(crate) fn change(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        if let Some(old) = old.filter(|entry| entry.state != State::Dead) {
            self.versions = self.versions.saturating_sub(u64::from(old.state == State::Live));
            self.live_bytes = self.live_bytes.saturating_sub(u64::from(old.data_len));
            if let Some(bytes) = self.segments.get_mut(&old.place.segment) {
                *bytes = bytes.saturating_sub(u64::from(old.place.total));
            }
        }
        if let Some(new) = new.filter(|entry| entry.state != State::Dead) {
            self.versions += u64::from(new.state == State::Live);
            self.live_bytes += u64::from(new.data_len);
            *self.segments.entry(new.place.segment).or_default() += u64::from(new.place.total);
        }
    }
}
