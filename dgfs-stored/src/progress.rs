//! How far repair and scrub are: numbers that tasks count and people read.
//!
//! Never decides anything.

use std::sync::atomic::{AtomicU64, Ordering};

use dgfs_proto::chunk::Upkeep;
use tokio::sync::Notify;

/// Counters of one store.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) partitions_left: AtomicU64,
    pub(crate) bytes_left: AtomicU64,
    pub(crate) fetched: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
    pub(crate) not_found: AtomicU64,
    pub(crate) healed: AtomicU64,
    pub(crate) recompressed: AtomicU64,
    pub(crate) scrubbed_bytes: AtomicU64,
    pub(crate) scrub_errors: AtomicU64,
    pub(crate) scrubbed_at: AtomicU64,
    /// When the repair began that is under way, milliseconds by the store's clock, and how many partitions it had.
    pub(crate) began_ms: AtomicU64,
    pub(crate) began_with: AtomicU64,
    /// Something is to be repaired.
    pub(crate) wake: Notify,
}

impl Progress {
    /// A repair of so many partitions is under way; one that goes on keeps its beginning.
    pub(crate) fn begin(&self, partitions: u64, now_ms: u64) {
        let left = self.partitions_left.swap(partitions, Ordering::Relaxed);
        if left == 0 || partitions > left {
            self.began_ms.store(now_ms, Ordering::Relaxed);
            self.began_with.store(partitions, Ordering::Relaxed);
        }
    }

    /// Seconds until nothing is left, at the pace so far.
    fn estimate_s(&self, now_ms: u64) -> u64 {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let left = count(&self.partitions_left);
        let done = count(&self.began_with).saturating_sub(left);
        let took_ms = now_ms.saturating_sub(count(&self.began_ms));
        if left == 0 || done == 0 { 0 } else { (took_ms.saturating_mul(left) / done / 1000).max(1) }
    }

    /// The numbers now.
    pub(crate) fn told(&self, now_ms: u64) -> Upkeep {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Upkeep {
            estimate_s: self.estimate_s(now_ms),
            partitions_left: count(&self.partitions_left),
            bytes_left: count(&self.bytes_left),
            fetched: count(&self.fetched),
            fetched_bytes: count(&self.fetched_bytes),
            not_found: count(&self.not_found),
            healed: count(&self.healed),
            recompressed: count(&self.recompressed),
            scrubbed_bytes: count(&self.scrubbed_bytes),
            scrub_errors: count(&self.scrub_errors),
            scrubbed_at: count(&self.scrubbed_at),
            // Counted by the store.
            damaged_reads: 0,
        }
    }

    /// Lowers a number that is kept by adding and taking away.
    pub(crate) fn lower(number: &AtomicU64, by: u64) {
        let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_pace_of_the_repair_under_way() {
        let progress = Progress::default();
        progress.begin(100, 1_000);
        assert_eq!(progress.told(5_000).estimate_s, 0, "nothing is done yet");
        Progress::lower(&progress.partitions_left, 25);
        assert_eq!(progress.told(11_000).estimate_s, 30);
        progress.begin(50, 12_000);
        assert_eq!(progress.told(21_000).estimate_s, 20, "the same repair goes on");
        progress.begin(0, 30_000);
        assert_eq!(progress.told(31_000).estimate_s, 0);
    }
}
