//! Logs: where they go, how they look, and the request ids that tie them.
//!
//! Never reads the environment: the caller passes `RUST_LOG` on if it wants
//! it. Always: a request id is new in this process and, but for chance, in the cluster; the last records are kept for whoever
//! asks (`dgfs logs`).

mod layer;
mod line;
mod record;
mod ring;

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use dgfs_proto::watch::{LOG_PAGE_RECORDS_MAX, LogPage, LogQuery};

use crate::config::optional_path;
use crate::instruments;
use crate::metrics::{MetricSet, follow};
use crate::random;
use crate::telemetry::layer::{Log, LogLayer, Target};
use crate::trace::slow::{SLOW_MS_DEFAULT, set_slow_ms};

pub use self::line::{json, line, parse_request, request_text};

/// The log of this process, once it began.
static LOG: OnceLock<Arc<Log>> = OnceLock::new();

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
    /// For the journal, which keeps the time itself: each line begins with its priority, as in `<4>`.
    Journald,
}

/// What to log and where to: the `[log]` table of every daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or filters such as `info,dgfs_meta=debug`.
    pub level: String,
    /// The file that lines are appended to; none: standard error.
    #[serde(deserialize_with = "optional_path")]
    pub file: Option<PathBuf>,
    /// Milliseconds from which on an operation is logged as a slow one; 0: none is.
    pub slow_ms: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned(), file: None, slow_ms: SLOW_MS_DEFAULT }
    }
}

/// Why logging could not begin.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error(
        "log level `{level}`: {reason}; use error, warn, info, debug, trace or filters such as `info,dgfs_meta=debug`"
    )]
    Level {
        /// As given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log file cannot be opened.
    #[error("open the log file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Called twice.
    #[error("logging has begun already in this process")]
    Twice,
}

/// Begins logging for the whole process; `level_override` (such as the value of `RUST_LOG`) wins over the configured level.
///
/// # Errors
/// `Level`, `File`, or `Twice`.
pub fn init(config: &LogConfig, level_override: Option<&str>) -> Result<(), TelemetryError> {
    let level = level_override.filter(|level| !level.is_empty()).unwrap_or(&config.level);
    let filter = EnvFilter::try_new(level)
        .map_err(|error| TelemetryError::Level { level: level.to_owned(), reason: error.to_string() })?;
    let target = match &config.file {
        None => Target::Stderr,
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            Target::File(file.map_err(|source| TelemetryError::File { path: path.clone(), source })?)
        }
    };
    let log = Arc::new(Log::new(config.format, target));
    let begun = tracing_subscriber::registry().with(filter).with(LogLayer(Arc::clone(&log))).try_init();
    begun.map_err(|_| TelemetryError::Twice)?;
    set_slow_ms(config.slow_ms);
    LOG.get_or_init(|| log);
    instruments::warn_if_off();
    Ok(())
}

/// The last records of this process that fit `query`; none where logging has not begun.
#[must_use]
pub fn page(query: &LogQuery) -> LogPage {
    let query = LogQuery { limit: query.limit.min(LOG_PAGE_RECORDS_MAX), ..*query };
    LOG.get().map_or_else(LogPage::default, |log| log.page(&query))
}

/// Counts the records of this process in `set`; once.
///
/// # Panics
/// When the names are taken.
pub fn register(set: &MetricSet) {
    let records = set.counters("dgfs_log_records_total", "Errors and warnings logged since the start", &["level"]);
    let dropped = set.counter("dgfs_log_dropped_total", "Log lines that could not be written");
    let (errors, warnings) = (records.with_label_values(&["error"]), records.with_label_values(&["warn"]));
    set.before_render(move || {
        let Some(log) = LOG.get() else { return };
        for (shown, counted) in [(&errors, &log.errors), (&warnings, &log.warnings), (&dropped, &log.dropped)] {
            follow(shown, counted.load(Ordering::Relaxed));
        }
    });
}

/// A number for one request, made at the edge and carried in every message and log line on its way.
#[must_use]
pub fn fresh_request_id() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Without randomness the ids are still different within this process.
    let start = *START.get_or_init(|| random::number().unwrap_or(u64::from(std::process::id()) << 32));
    mix(start.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// The finisher of splitmix64: one to one, so different numbers stay different, and neighbours look unlike.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dgfs_proto::watch::{LogLevel, LogQuery};

    use super::{LogConfig, LogFormat, TelemetryError, fresh_request_id, init, page, register};
    use crate::metrics::MetricSet;
    use crate::quic::tests::support::TestDirectory;
    use crate::trace::{Trace, within};

    #[test]
    fn request_ids_differ() {
        let ids: BTreeSet<u64> = (0..10_000).map(|_| fresh_request_id()).collect();
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn a_wrong_level_is_refused_with_the_right_ones() {
        let config = LogConfig { level: "a=b=c".to_owned(), ..LogConfig::default() };
        let sentence = init(&config, None).unwrap_err().to_string();
        assert!(sentence.contains("`a=b=c`") && sentence.contains("use error, warn"), "{sentence}");
    }

    /// One test for all of it: a process begins logging once.
    #[test]
    fn json_lines_go_to_the_file_and_a_second_start_is_refused() {
        let directory = TestDirectory::new();
        let path = directory.0.join("log");
        let config =
            LogConfig { format: LogFormat::Json, level: "error".to_owned(), file: Some(path.clone()), slow_ms: 0 };
        init(&config, Some("warn,quinn=error")).unwrap();
        within(Trace::begin(7), || tracing::warn!(inode = 5, "shown"));
        tracing::info!("hidden");
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().find(|line| line.contains("\"shown\"")).unwrap();
        assert!(line.starts_with('{') && line.contains("\"inode\":5"), "{line}");
        assert!(line.contains("\"request\":\"0000000000000007\""), "{line}");
        assert!(!text.contains("hidden"), "{text}");
        let query = LogQuery { after: 0, since_us: 0, request: Some(7), level: LogLevel::Info, limit: 9 };
        assert_eq!(page(&query).records.iter().map(|record| record.message.as_str()).collect::<Vec<_>>(), ["shown"]);
        let set = MetricSet::new();
        register(&set);
        assert!(set.render().unwrap().contains("dgfs_log_records_total{level=\"warn\"} 1"));
        assert!(matches!(init(&config, None), Err(TelemetryError::Twice)));
    }
}
