//! Holds background work to a rate.
//!
//! Never lets work of others wait. Always: over time no more bytes pass than the rate allows.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How far work may run ahead of its rate.
const BURST: Duration = Duration::from_millis(200);

/// A rate shared by tasks.
pub(crate) struct Pace {
    bytes_per_s: Option<u64>,
    due: Mutex<Option<Instant>>,
}

impl Pace {
    /// `None` is no limit.
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s: bytes_per_s.filter(|rate| *rate > 0), due: Mutex::new(None) }
    }

    /// Waits until `bytes` that just passed fit the rate.
    pub(crate) async fn after(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_s else { return };
        let takes = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        let until = {
            let mut due = self.due.lock();
            let now = Instant::now();
            let next = due.map_or(now, |due| due.max(now)) + takes;
            *due = Some(next);
            next
        };
        if until > Instant::now() + BURST {
            tokio::time::sleep_until(until).await;
        }
    }
}
