//! Where every record passes: counted, kept, written.
//!
//! Never logs itself. Always: a line is one write, so that lines of several threads do not mix; one that cannot be written is
//! dropped and counted.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use dgfs_proto::watch::{LogLevel, LogPage, LogQuery};

use crate::telemetry::LogFormat;
use crate::telemetry::line::line;
use crate::telemetry::record::record_of;
use crate::telemetry::ring::Ring;
use crate::trace;

/// Where lines go.
pub(crate) enum Target {
    /// Standard error.
    Stderr,
    /// A file, opened for appending.
    File(File),
}

/// The log of a process.
pub(crate) struct Log {
    format: LogFormat,
    target: Target,
    ring: Ring,
    pub(crate) errors: AtomicU64,
    pub(crate) warnings: AtomicU64,
    /// Lines that could not be written.
    pub(crate) dropped: AtomicU64,
}

impl Log {
    pub(crate) fn new(format: LogFormat, target: Target) -> Self {
        let count = || AtomicU64::new(0);
        Self { format, target, ring: Ring::default(), errors: count(), warnings: count(), dropped: count() }
    }

    pub(crate) fn page(&self, query: &LogQuery) -> LogPage {
        self.ring.page(query)
    }
}

/// The layer that fills a [`Log`].
pub(crate) struct LogLayer(pub(crate) std::sync::Arc<Log>);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let log = &self.0;
        let mut record = record_of(event, trace::current_id().unwrap_or(0));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        record.at_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        match record.level {
            LogLevel::Error => log.errors.fetch_add(1, Ordering::Relaxed),
            LogLevel::Warn => log.warnings.fetch_add(1, Ordering::Relaxed),
            LogLevel::Info | LogLevel::Debug | LogLevel::Trace => 0,
        };
        let line = line(&record, log.format);
        log.ring.keep(record);
        let written = match &log.target {
            Target::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Target::File(file) => (&*file).write_all(line.as_bytes()),
        };
        if written.is_err() {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
