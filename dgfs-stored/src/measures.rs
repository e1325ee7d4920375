//! How long the daemon's calls take, and how they end.
//!
//! Never looks into a call. Always: the labels are those of [`Op`] and of the statuses there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dgfs_proto::chunk::ChunkRequest;
use dgfs_proto::status::Status;
use dgfs_runtime::instruments;
use dgfs_runtime::metrics::LATENCY_BOUNDS_S;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts};

/// A call, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Get,
    Extents,
    Sync,
    Verify,
    List,
    Status,
    Drop,
    Export,
    Repair,
    Stored,
    Uses,
}

impl Op {
    const ALL: [Self; 12] = [
        Self::Put,
        Self::Get,
        Self::Extents,
        Self::Sync,
        Self::Verify,
        Self::List,
        Self::Status,
        Self::Drop,
        Self::Export,
        Self::Repair,
        Self::Stored,
        Self::Uses,
    ];

    pub(crate) const fn of(request: &ChunkRequest) -> Self {
        match request {
            ChunkRequest::Put(_) => Self::Put,
            ChunkRequest::Get { .. } => Self::Get,
            ChunkRequest::Extents(_) => Self::Extents,
            ChunkRequest::Sync => Self::Sync,
            ChunkRequest::Verify(_) => Self::Verify,
            ChunkRequest::List { .. } => Self::List,
            ChunkRequest::Status => Self::Status,
            ChunkRequest::Drop(_) => Self::Drop,
            ChunkRequest::Export(_) => Self::Export,
            ChunkRequest::Repair(_) => Self::Repair,
            ChunkRequest::Stored(_) => Self::Stored,
            ChunkRequest::Uses(_) => Self::Uses,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Extents => "extents",
            Self::Sync => "sync",
            Self::Verify => "verify",
            Self::List => "list",
            Self::Status => "status",
            Self::Drop => "drop",
            Self::Export => "export",
            Self::Repair => "repair",
            Self::Stored => "stored",
            Self::Uses => "uses",
        }
    }
}

/// The numbers of one daemon's calls.
pub(crate) struct Measures {
    seconds: HistogramVec,
    /// Those of `seconds`, found without a look-up.
    by_op: [Histogram; Op::ALL.len()],
    errors: IntCounterVec,
    began: Instant,
    /// When meta answered a heartbeat last, milliseconds since `began`.
    heard_ms: AtomicU64,
    /// The map's epoch; 0: none yet.
    epoch: AtomicU64,
}

impl Measures {
    pub(crate) fn new() -> Self {
        let options = HistogramOpts::new("dgfs_stored_operation_seconds", "How long calls to this server took");
        let seconds = made(HistogramVec::new(options.buckets(LATENCY_BOUNDS_S.to_vec()), &["op"]));
        let by_op = Op::ALL.map(|op| seconds.with_label_values(&[op.name()]));
        let errors = Opts::new(
            "dgfs_stored_operation_errors_total",
            "Calls that were refused or failed, by the status answered",
        );
        let errors = made(IntCounterVec::new(errors, &["op", "status"]));
        Self { seconds, by_op, errors, began: Instant::now(), heard_ms: AtomicU64::new(0), epoch: AtomicU64::new(0) }
    }

    /// Counts a call that began then and ended now.
    pub(crate) fn answered(&self, op: Op, began: Instant, refused: Option<Status>) {
        if !instruments::are_on() {
            return;
        }
        if let Some(seconds) = self.by_op.get(op as usize) {
            seconds.observe(began.elapsed().as_secs_f64());
        }
        if let Some(status) = refused {
            self.errors.with_label_values(&[op.name(), &format!("{status:?}")]).inc();
        }
    }

    /// Meta answered a heartbeat.
    pub(crate) fn heard_meta(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Seconds since then, or since the start.
    pub(crate) fn meta_silent_s(&self) -> u64 {
        self.now_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed)) / 1000
    }

    pub(crate) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn seconds(&self) -> &HistogramVec {
        &self.seconds
    }

    pub(crate) fn errors(&self) -> &IntCounterVec {
        &self.errors
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn made<T>(metric: Result<T, prometheus::Error>) -> T {
    match metric {
        Ok(metric) => metric,
        Err(error) => panic!("a metric of calls cannot be made: {error}"),
    }
}
