//! The bytes unsent writes may take in all files together.
//!
//! Never drops a byte. Always: a writer that finds no room waits; bytes held stay below the budget plus what
//! writers admitted at the same moment add (one request and one buffer growth each).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use dgfs_proto::status::Status;
use dgfs_runtime::trace::{self, Stage};

use crate::operation::Op;

/// A counted budget of bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    freed: Notify,
    /// Wakes the writer when half is used.
    pub(crate) pressed: Notify,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0), freed: Notify::new(), pressed: Notify::new() }
    }

    /// Is there room for `bytes` more?
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.used() + bytes <= self.limit
    }

    /// Bytes that may be held.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// More than half is used.
    pub(crate) fn is_pressed(&self) -> bool {
        self.used() > self.limit / 2
    }

    /// Counts a change of what is held.
    pub(crate) fn change(&self, before: u64, after: u64) {
        if after > before {
            let used = self.used.fetch_add(after - before, Ordering::Relaxed);
            if used <= self.limit / 2 && used + (after - before) > self.limit / 2 {
                self.pressed.notify_one();
            }
        } else if before > after {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }

    /// Waits until there is room for `bytes`.
    pub(crate) async fn wait(&self, op: &Op, bytes: u64) -> Result<(), Status> {
        let began = Instant::now();
        let waited = self.wait_for_room(op, bytes).await;
        trace::add(Stage::Room, began.elapsed());
        waited
    }

    async fn wait_for_room(&self, op: &Op, bytes: u64) -> Result<(), Status> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.has_room(bytes) {
                return Ok(());
            }
            self.pressed.notify_one();
            if op.expired() {
                return Err(Status::Unavailable);
            }
            let patience = op.left(std::time::Duration::from_millis(250));
            // The time-out only looks again, so that a missed wake-up cannot hold a writer.
            drop(tokio::time::timeout(patience, freed).await);
        }
    }
}
