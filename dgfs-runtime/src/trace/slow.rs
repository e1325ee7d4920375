//! What took longer than it should: one line in the log, with the time by stage.
//!
//! Never logs more than [`LINES_PER_SECOND_MAX`]: the next line says how many were left out. Never costs more than one
//! comparison where nothing is slow.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::channel::Peer;
use crate::trace::{Trace, follow};

/// Lines of one process in one second.
pub const LINES_PER_SECOND_MAX: u32 = 10;
/// What is slow unless told otherwise, milliseconds.
pub const SLOW_MS_DEFAULT: u64 = 1000;

/// 0: nothing is.
static SLOW_MS: AtomicU64 = AtomicU64::new(SLOW_MS_DEFAULT);
static LINES: Mutex<Lines> = Mutex::new(Lines { since: None, written: 0, left_out: 0 });

/// Lines of the second that runs.
struct Lines {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// May one more be written? Then how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let over = self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1));
        if over {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written >= LINES_PER_SECOND_MAX {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// From now on what takes `ms` milliseconds is slow; 0: nothing is.
pub fn set_slow_ms(ms: u64) {
    SLOW_MS.store(ms, Ordering::Relaxed);
}

/// Is that slow?
#[must_use]
pub fn is_slow(time: Duration) -> bool {
    let limit = SLOW_MS.load(Ordering::Relaxed);
    limit > 0 && time >= Duration::from_millis(limit)
}

/// Logs a request that was slow; `what` says more about it. To be called where the request is current, so that the line
/// carries its number.
pub fn log(trace: &Trace, (part, op): (&'static str, &'static str), what: &str) {
    let Some(left_out) = LINES.lock().admit(Instant::now()) else { return };
    let ms = u64::try_from(trace.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: "slow", part, op, ms, stages = %trace.stages(), what, left_out, "slow operation");
}

/// An operation of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The daemon's part.
    pub part: &'static str,
    /// The operation.
    pub op: &'static str,
    /// It waits for others by its nature (a poll, a lock): never slow.
    pub waits: bool,
}

/// Carries out a call that came with `request_id`, and logs it when it was slow.
pub async fn serve<F: Future>(request_id: u64, served: Served, peer: Arc<Peer>, work: F) -> F::Output {
    let trace = Trace::begin(request_id);
    let watched = Arc::clone(&trace);
    follow(trace, async move {
        let output = work.await;
        if !served.waits && is_slow(watched.elapsed()) {
            log(&watched, (served.part, served.op), &format!("for {}", peer.address));
        }
        output
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LINES_PER_SECOND_MAX, Lines};

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut lines = Lines { since: None, written: 0, left_out: 0 };
        let now = Instant::now();
        let admitted = (0..100).filter(|_| lines.admit(now).is_some()).count();
        assert_eq!(admitted, LINES_PER_SECOND_MAX as usize);
        let later = now + Duration::from_secs(1);
        assert_eq!(lines.admit(later), Some(100 - u64::from(LINES_PER_SECOND_MAX)));
        assert_eq!(lines.admit(later), Some(0));
    }
}
