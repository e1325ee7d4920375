//! A process of a cluster says that it is there, and learns how far its clock is off.
//!
//! Never stops the process it speaks for: a metadata service that does not answer is tried again. Always: one call at a
//! time, at most one a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::ServerId;
use dgfs_proto::limits::{ANNOUNCE_MS, ANNOUNCED_NAME_BYTES_MAX, LABEL_BYTES_MAX};
use dgfs_proto::meta::{Announce, MetaCall, MetaReply, MetaRequest, ProcessKind, WatchReply, WatchRequest};
use dgfs_proto::status::Status;

use crate::channel::{Channel, MetaProtocol};
use crate::clock::Clock;
use crate::metrics::MetricSet;
use crate::metrics::computed::{Family, FamilyKind};
use crate::random;
use crate::telemetry::fresh_request_id;

/// How long one metadata service may take to answer.
const CALL: Duration = Duration::from_secs(4);
/// Pause after an announcement that nobody heard: a process that has just started is to be known soon.
const AGAIN: Duration = Duration::from_secs(1);
/// Half of this is what an answer may be wrong by; a slower one tells nothing about the clock.
const ROUND_TRIP_NS_MAX: u64 = 1_000_000_000;
/// A clock that is off by more is worth a line in the log: session leases bear 2 s.
const OFFSET_NS_MAX: u64 = 2_000_000_000;
const OFFSET: &str = "dgfs_clock_offset_seconds";
static FAMILIES: [Family; 1] = [Family {
    name: OFFSET,
    help: "This process's clock minus the active metadata service's; not there while it is not known",
    kind: FamilyKind::Gauge,
    labels: &[],
}];
/// Not known yet.
const UNKNOWN: i64 = i64::MIN;

/// What a process says of itself, with words cut to their bounds. `metrics` is where its metrics are served, as text.
#[must_use]
pub fn announcement(kind: ProcessKind, name: &str, metrics: Option<String>) -> Announce {
    Announce {
        // Without randomness the process id tells most of them apart.
        instance: random::number().unwrap_or(u64::from(std::process::id())),
        kind,
        host: cut(&host(), LABEL_BYTES_MAX),
        pid: std::process::id(),
        name: cut(name, ANNOUNCED_NAME_BYTES_MAX),
        version: cut(env!("CARGO_PKG_VERSION"), LABEL_BYTES_MAX),
        metrics: metrics.filter(|address| address.len() <= LABEL_BYTES_MAX).unwrap_or_default(),
        started: Timestamp::from_ms(Clock::real().wall_ms()),
        server: None,
    }
}

/// This machine's name.
#[must_use]
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// At most `bytes_max` bytes of a text.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().to_owned()
}

/// How far this process's clock is before the active metadata service's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClockOffset(Arc<Offset>);

#[derive(Debug)]
struct Offset {
    /// Nanoseconds, or [`UNKNOWN`].
    ahead_ns: AtomicI64,
    warned: AtomicBool,
}

impl Default for ClockOffset {
    fn default() -> Self {
        Self(Arc::new(Offset { ahead_ns: AtomicI64::new(UNKNOWN), warned: AtomicBool::new(false) }))
    }
}

impl ClockOffset {
    /// Seconds this clock is ahead; none while it is not known.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let ahead_ns = self.0.ahead_ns.load(Ordering::Acquire);
        (ahead_ns != UNKNOWN).then(|| ahead_ns as f64 / 1e9)
    }

    /// Meta's clock showed `told` between `sent_ns` and `received_ns` of ours (since 1970).
    pub fn learn(&self, (sent_ns, received_ns): (u64, u64), told: Timestamp) {
        // A clock that was set meanwhile, or an answer that took long, tells nothing.
        let Some(trip_ns) = received_ns.checked_sub(sent_ns).filter(|trip| *trip <= ROUND_TRIP_NS_MAX) else { return };
        let ours = i128::from(sent_ns) + i128::from(trip_ns / 2);
        let theirs = i128::from(told.secs) * 1_000_000_000 + i128::from(told.nanos);
        let ahead = i64::try_from(ours - theirs).unwrap_or(if ours > theirs { i64::MAX } else { -i64::MAX });
        self.set(ahead.max(UNKNOWN + 1));
    }

    /// The clock is so many nanoseconds ahead.
    pub fn set(&self, ahead_ns: i64) {
        self.0.ahead_ns.store(ahead_ns, Ordering::Release);
        let off = ahead_ns.unsigned_abs();
        if off > OFFSET_NS_MAX && !self.0.warned.swap(true, Ordering::AcqRel) {
            warn!(
                seconds = ahead_ns as f64 / 1e9,
                "the clock of this machine differs from the metadata service's: set both by NTP (chrony, systemd-timesyncd)"
            );
        } else if off < OFFSET_NS_MAX / 2 && self.0.warned.swap(false, Ordering::AcqRel) {
            info!("the clock of this machine agrees with the metadata service's again");
        }
    }

    /// Shows it in `set`: once.
    pub fn register(&self, set: &MetricSet) {
        let offset = self.clone();
        set.computed(&FAMILIES, move |samples| {
            if let Some(seconds) = offset.seconds() {
                samples.add(OFFSET, &[], seconds);
            }
        });
    }
}

/// Announces a process until it leaves or is dropped.
#[derive(Debug)]
pub struct Announcer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Announcer {
    /// Begins: to whichever of `metas` is active.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(metas: Vec<Arc<dyn Channel<MetaProtocol>>>, who: Announce, offset: ClockOffset) -> Self {
        let (stop, stopped) = watch::channel(false);
        let speaker = Speaker { metas, who, offset, clock: Clock::real(), first: Mutex::new(0) };
        Self { stop, task: tokio::spawn(speaker.run(stopped)) }
    }

    /// The process ends in order: it is forgotten at once, if that can be told within [`CALL`].
    pub async fn leave(self) {
        self.stop.send_replace(true);
        // A panic in it has been printed; there is nothing left to do.
        let _ = self.task.await;
    }
}

struct Speaker {
    metas: Vec<Arc<dyn Channel<MetaProtocol>>>,
    who: Announce,
    offset: ClockOffset,
    clock: Clock,
    /// Which of them was active last.
    first: Mutex<usize>,
}

impl Speaker {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let words = WatchRequest::Announce(self.who.clone());
        loop {
            let said = tokio::select! {
                said = self.say(&words) => said,
                // The sender gone without a word: the process was not asked to leave.
                left = stopped.changed() => return self.farewell(left.is_ok()).await,
            };
            let pause = if said { Duration::from_millis(ANNOUNCE_MS) } else { AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                left = stopped.changed() => return self.farewell(left.is_ok()).await,
            }
        }
    }

    async fn farewell(&self, orderly: bool) {
        if orderly {
            let words = WatchRequest::Leave { instance: self.who.instance };
            if tokio::time::timeout(CALL, self.say(&words)).await.is_err() {
                debug!("the metadata service was not told that this process ends");
            }
        }
    }

    /// Tells it to the active one; was it heard?
    async fn say(&self, request: &WatchRequest) -> bool {
        let first = *self.first.lock();
        for at in 0..self.metas.len() {
            let at = (first + at) % self.metas.len();
            let Some(meta) = self.metas.get(at) else { continue };
            let request = MetaRequest::Watch(request.clone());
            let call = MetaCall { request_id: fresh_request_id(), session: None, request };
            let sent = self.clock.wall_ns();
            match meta.call(call, Bytes::new(), Some(CALL)).await {
                Ok((MetaReply::Watch(WatchReply::Heard { time }), _)) => {
                    self.offset.learn((sent, self.clock.wall_ns()), time);
                    *self.first.lock() = at;
                    return true;
                }
                Ok((MetaReply::Refused(Status::NotActive), _)) => {}
                Ok((MetaReply::Done, _)) => return true,
                Ok((reply, _)) => debug!(peer = meta.peer(), ?reply, "the announcement was not taken"),
                Err(error) => debug!(%error, "the announcement was not heard"),
            }
        }
        false
    }
}

/// The same of a storage daemon, whose number the cluster knows.
#[must_use]
pub fn of_server(who: Announce, server: ServerId) -> Announce {
    Announce { server: Some(server), ..who }
}

#[cfg(test)]
mod tests;
