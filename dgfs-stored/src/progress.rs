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
    pub(crate) scrubbed_bytes: AtomicU64,
    pub(crate) scrub_errors: AtomicU64,
    pub(crate) scrubbed_at: AtomicU64,
    /// Something is to be repaired.
    pub(crate) wake: Notify,
}

impl Progress {
    /// The numbers now.
    pub(crate) fn told(&self) -> Upkeep {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Upkeep {
            partitions_left: count(&self.partitions_left),
            bytes_left: count(&self.bytes_left),
            fetched: count(&self.fetched),
            fetched_bytes: count(&self.fetched_bytes),
            not_found: count(&self.not_found),
            healed: count(&self.healed),
            scrubbed_bytes: count(&self.scrubbed_bytes),
            scrub_errors: count(&self.scrub_errors),
            scrubbed_at: count(&self.scrubbed_at),
        }
    }

    /// Lowers a number that is kept by adding and taking away.
    pub(crate) fn lower(number: &AtomicU64, by: u64) {
        let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
    }
}
