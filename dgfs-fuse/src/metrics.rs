//! What the mount counts: operations, errors, latency, queues.
//!
//! Never decides anything. Labels are bounded: operations and errno are lists.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use dgfs_runtime::metrics::MetricSet;

use crate::errno::Errno;

/// Requests answered, by operation.
pub const OPERATIONS: &str = "dgfs_mount_operations_total";
/// Requests refused, by errno.
pub const ERRORS: &str = "dgfs_mount_errors_total";
/// Seconds from the kernel's request to our answer, by operation.
pub const LATENCY: &str = "dgfs_mount_operation_seconds";
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

/// Latency buckets, seconds: the inline path is tens of µs, a disk sync some ms, an outage seconds.
const BUCKETS: [f64; 12] = [0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

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
    operations: Vec<(IntCounter, Histogram)>,
    errors: IntCounterVec,
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

impl MountMetrics {
    /// Makes the counters in `set`; once for each process.
    #[must_use]
    pub fn new(set: &MetricSet) -> Arc<Self> {
        let operations = set.counters(OPERATIONS, "requests answered", &["op"]);
        let latency = set.histograms(LATENCY, "seconds from the request to the answer", &["op"], &BUCKETS);
        let series = |op: &Op| (operations.with_label_values(&[op.label()]), latency.with_label_values(&[op.label()]));
        Arc::new(Self {
            operations: Op::ALL.iter().map(series).collect(),
            errors: set.counters(ERRORS, "requests refused", &["errno"]),
            waiting: set.gauge(WAITING, "requests that wait for something now"),
            panics: set.counter(PANICS, "requests that ended in a panic"),
            lock_waits: set.gauge(LOCK_WAITS, "lock requests that wait now"),
            invalidations: set.counter(INVALIDATIONS, "kernel cache entries dropped on purpose"),
            epochs: set.counter(NAME_EXPIRIES, "times all names cached by the kernel were made to expire"),
        })
    }

    /// Notes that a request was answered.
    pub fn answered(&self, op: Op, started: Instant, refused: Option<Errno>) {
        if let Some((count, latency)) = self.operations.get(op as usize) {
            count.inc();
            latency.observe(started.elapsed().as_secs_f64());
        }
        if let Some(errno) = refused {
            self.errors.with_label_values(&[errno.symbol()]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use dgfs_runtime::metrics::MetricSet;

    use super::{MountMetrics, Op};
    use crate::errno::Errno;

    #[test]
    fn an_answer_is_counted_under_its_own_operation() {
        let set = MetricSet::new();
        MountMetrics::new(&set).answered(Op::Rename, Instant::now(), Some(Errno::NOT_FOUND));
        let text = set.render().unwrap();
        assert!(text.contains("dgfs_mount_operations_total{op=\"rename\"} 1"), "{text}");
        assert!(text.contains("dgfs_mount_operations_total{op=\"link\"} 0"), "{text}");
        assert!(text.contains("dgfs_mount_errors_total{errno=\"ENOENT\"} 1"), "{text}");
    }
}
