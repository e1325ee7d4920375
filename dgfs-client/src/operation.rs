//! One operation's patience: how long it may retry, and how it pauses between tries.
//!
//! Never retries by itself. Always: an operation ends by its deadline, unless it has none (lock waits).

use std::time::{Duration, Instant};

use dgfs_proto::status::Status;

const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The patience of one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    until: Option<Instant>,
    /// Give up at the first failure.
    pub(crate) soft: bool,
}

impl Op {
    /// An operation that may take `limit`.
    pub(crate) fn within(limit: Duration, soft: bool) -> Self {
        Self { until: Instant::now().checked_add(limit), soft }
    }

    /// An operation that waits as long as it takes.
    pub(crate) const fn endless() -> Self {
        Self { until: None, soft: false }
    }

    /// Time left, at most `most`.
    pub(crate) fn left(&self, most: Duration) -> Duration {
        self.until.map_or(most, |until| until.saturating_duration_since(Instant::now()).min(most))
    }

    /// All the time left; none when the operation waits as long as it takes.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// No time is left.
    pub(crate) fn expired(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Growing pauses between tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: PAUSE_FIRST }
    }

    /// Pauses before the next try; `Unavailable` when the operation may not try again.
    pub(crate) async fn pause(&mut self, op: &Op) -> Result<(), Status> {
        if op.soft || op.expired() {
            return Err(Status::Unavailable);
        }
        let pause = op.left(self.next);
        self.next = (self.next * 2).min(PAUSE_MAX);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
