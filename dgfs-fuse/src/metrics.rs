//! What the mount counts: operations, errors, latency, queues.
//!
//! Never decides anything. Labels are bounded: operations and errno are lists.

pub mod oldest;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use dgfs_runtime::instruments;
use dgfs_runtime::metrics::MetricSet;
use dgfs_runtime::trace::{Trace, slow};

use crate::errno::Errno;
use crate::metrics::oldest::Oldest;
use crate::profile::{Asker, Profile};

/// Requests answered, by operation.
pub const OPERATIONS: &str = "dgfs_mount_operations_total";
/// Requests refused, by operation and errno.
pub const ERRORS: &str = "dgfs_mount_operation_errors_total";
/// Requests that took longer than `slow_ms`, by operation.
pub const SLOW: &str = "dgfs_mount_slow_operations_total";
/// Age of the oldest request without an answer.
pub const OLDEST: &str = "dgfs_mount_oldest_request_seconds";
/// Seconds from the kernel's request to our answer, by operation.
pub const LATENCY: &str = "dgfs_mount_operation_seconds";
/// Bytes that programs read and wrote.
pub const BYTES: &str = "dgfs_mount_bytes_total";
/// Requests that wait for something now.
pub const WAITING: &str = "dgfs_mount_operations_waiting";
/// Requests that ended in a panic (answered EIO).
pub const PANICS: &str = "dgfs_mount_panics_total";
/// Lock requests that wait now.
pub const LOCK_WAITS: &str = "dgfs_mount_lock_waits";
/// Kernel cache entries dropped on purpose.
pub const INVALIDATIONS: &str = "dgfs_mount_invalidations_total";
/// Times that all cached names were made to expire, because one was waited for in vain (or all are recalled).
pub const NAME_EXPIRIES: &str = "dgfs_mount_name_expiries_total";

/// Latency buckets, seconds, about three for each power of ten so that p50 and p99 can be told: the inline path is tens of µs, a
/// disk sync some ms, an outage seconds.
const BUCKETS: [f64; 18] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    5.0, 30.0,
];

macro_rules! operations {
    ($($variant:ident => $label:literal),+ $(,)?) => {
        /// A kind of kernel request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op {
            $(#[doc = $label] $variant),+
        }

        impl Op {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label),+
                }
            }
        }
    };
}

operations! {
    Lookup => "lookup", GetAttr => "getattr", SetAttr => "setattr", ReadLink => "readlink", MkNod => "mknod",
    MkDir => "mkdir", Unlink => "unlink", RmDir => "rmdir", Symlink => "symlink", Rename => "rename", Link => "link",
    Create => "create", Open => "open", Read => "read", Write => "write", Flush => "flush", Release => "release",
    Fsync => "fsync", OpenDir => "opendir", ReadDir => "readdir", ReadDirPlus => "readdirplus",
    ReleaseDir => "releasedir", FsyncDir => "fsyncdir", StatFs => "statfs", SetXattr => "setxattr",
    GetXattr => "getxattr", ListXattr => "listxattr", RemoveXattr => "removexattr", GetLock => "getlk",
    SetLock => "setlk", WaitLock => "setlkw", Fallocate => "fallocate", Seek => "lseek", CopyRange => "copy_file_range",
    Atime => "atime",
}

/// The mount's counters. Cheap to touch: every series is resolved when it is made.
pub struct MountMetrics {
    operations: Vec<Series>,
    errors: IntCounterVec,
    /// Requests that wait.
    pub oldest: Arc<Oldest>,
    /// Bytes that programs read.
    pub read_bytes: IntCounter,
    /// Bytes that programs wrote, and copied inside the mount.
    pub written_bytes: IntCounter,
    /// What is counted for whoever asks.
    pub profile: Arc<Profile>,
    /// See [`WAITING`].
    pub waiting: IntGauge,
    /// See [`PANICS`].
    pub panics: IntCounter,
    /// See [`LOCK_WAITS`].
    pub lock_waits: IntGauge,
    /// See [`INVALIDATIONS`].
    pub invalidations: IntCounter,
    /// See [`NAME_EXPIRIES`].
    pub epochs: IntCounter,
}

/// The series of one operation.
struct Series {
    count: IntCounter,
    seconds: Histogram,
    slow: IntCounter,
}

impl MountMetrics {
    /// Makes the counters in `set`; once for each process.
    #[must_use]
    pub fn new(set: &MetricSet) -> Arc<Self> {
        let operations = set.counters(OPERATIONS, "requests answered", &["op"]);
        let latency = set.histograms(LATENCY, "seconds from the request to the answer", &["op"], &BUCKETS);
        let slow = set.counters(SLOW, "requests that took longer than what is configured as slow", &["op"]);
        let series = |op: &Op| Series {
            count: operations.with_label_values(&[op.label()]),
            seconds: latency.with_label_values(&[op.label()]),
            slow: slow.with_label_values(&[op.label()]),
        };
        let oldest = Arc::<Oldest>::default();
        let age = set.real(OLDEST, "age of the oldest request without an answer, waits for locks left out");
        let waiting = Arc::clone(&oldest);
        let bytes = set.counters(BYTES, "bytes that programs read and wrote", &["kind"]);
        set.before_render(move || age.set(waiting.age().as_secs_f64()));
        Arc::new(Self {
            operations: Op::ALL.iter().map(series).collect(),
            errors: set.counters(ERRORS, "requests refused", &["op", "errno"]),
            oldest,
            read_bytes: bytes.with_label_values(&["read"]),
            written_bytes: bytes.with_label_values(&["write"]),
            profile: Arc::default(),
            waiting: set.gauge(WAITING, "requests that wait for something now"),
            panics: set.counter(PANICS, "requests that ended in a panic"),
            lock_waits: set.gauge(LOCK_WAITS, "lock requests that wait now"),
            invalidations: set.counter(INVALIDATIONS, "kernel cache entries dropped on purpose"),
            epochs: set.counter(NAME_EXPIRIES, "times all names cached by the kernel were made to expire"),
        })
    }

    /// Notes that a request was answered on the thread that took it.
    pub fn answered_at_once(&self, op: Op, (started, asker): (Instant, Asker), refused: Option<Errno>) {
        self.answered(op, (started.elapsed(), asker), refused);
    }

    /// Notes that a request was answered, and logs it when it was slow. To be called as part of it.
    pub fn ended(&self, op: Op, (trace, asker): (&Trace, Asker), refused: Option<Errno>) {
        let took = trace.elapsed();
        self.answered(op, (took, asker), refused);
        if op != Op::WaitLock && slow::is_slow(took) {
            if let Some(series) = self.operations.get(op as usize) {
                series.slow.inc();
            }
            let outcome = refused.map_or("done", Errno::symbol);
            slow::log(trace, ("mount", op.label()), &format!("inode {} thread {}: {outcome}", asker.ino, asker.tid));
        }
    }

    fn answered(&self, op: Op, (took, asker): (Duration, Asker), refused: Option<Errno>) {
        if !instruments::are_on() {
            return;
        }
        if let Some(series) = self.operations.get(op as usize) {
            series.count.inc();
            series.seconds.observe(took.as_secs_f64());
        }
        if let Some(errno) = refused {
            self.errors.with_label_values(&[op.label(), errno.symbol()]).inc();
        }
        self.profile.note(op, asker, took);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use dgfs_runtime::metrics::MetricSet;

    use super::{MountMetrics, Op};
    use crate::errno::Errno;
    use crate::profile::Asker;

    #[test]
    fn an_answer_is_counted_under_its_own_operation() {
        let set = MetricSet::new();
        let asked = (Instant::now(), Asker::default());
        MountMetrics::new(&set).answered_at_once(Op::Rename, asked, Some(Errno::NOT_FOUND));
        let text = set.render().unwrap();
        assert!(text.contains("dgfs_mount_operations_total{op=\"rename\"} 1"), "{text}");
        assert!(text.contains("dgfs_mount_operations_total{op=\"link\"} 0"), "{text}");
        assert!(text.contains("dgfs_mount_operation_errors_total{errno=\"ENOENT\",op=\"rename\"} 1"), "{text}");
    }
}
