//! Operator ↔ any daemon: its log, its facts, its numbers.
//!
//! Never changes anything, and never carries a secret. Always: a page of records fits one frame.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::FRAME_HEAD_BYTES_MAX;
use crate::status::Status;

/// Bytes of a record's message at most; what is longer is cut.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of one field's name or text at most; what is longer is cut.
pub const LOG_FIELD_BYTES_MAX: usize = 1024;
/// Fields of a record at most; further ones are left out.
pub const LOG_FIELDS_MAX: usize = 32;
/// Bytes of records in one page, about: the next record begins another page.
pub const LOG_PAGE_BYTES: usize = 512 << 10;
/// Records in one page at most.
pub const LOG_PAGE_RECORDS_MAX: u32 = 4096;

/// A record at its largest.
const LOG_RECORD_BYTES_MAX: usize =
    LOG_MESSAGE_BYTES_MAX + LOG_FIELD_BYTES_MAX + LOG_FIELDS_MAX * (2 * LOG_FIELD_BYTES_MAX + 16) + 64;
const _: () = assert!(LOG_PAGE_BYTES + LOG_RECORD_BYTES_MAX + 1024 < FRAME_HEAD_BYTES_MAX as usize);

/// How much a record matters; the more it does, the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Somebody has to do something.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All of them, what matters most first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// No level has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use error, warn, info, debug or trace")]
pub struct NoLevel;

impl FromStr for LogLevel {
    type Err = NoLevel;

    fn from_str(word: &str) -> Result<Self, NoLevel> {
        Self::ALL.into_iter().find(|level| level.word().eq_ignore_ascii_case(word)).ok_or(NoLevel)
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LogValue {
    /// Words.
    Text(String),
    /// A number.
    Unsigned(u64),
    /// A number that may be below zero.
    Signed(i64),
    /// A number with a fraction.
    Real(f64),
    /// Yes or no.
    Truth(bool),
}

impl fmt::Display for LogValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number}"),
            Self::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Counts the records of a process from 1.
    pub number: u64,
    /// Microseconds since 1970, by the process's clock.
    pub at_us: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The request it belongs to; 0: none.
    pub request: u64,
    /// The part of the program.
    pub target: String,
    /// The sentence.
    pub message: String,
    /// What else is said, in order.
    pub fields: Vec<(String, LogValue)>,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Only records behind this number; 0: from the first that is kept.
    pub after: u64,
    /// Only records of this time or later, microseconds since 1970.
    pub since_us: u64,
    /// Only those of this request.
    pub request: Option<u64>,
    /// Only those that matter so much.
    pub level: LogLevel,
    /// At most so many, at most [`LOG_PAGE_RECORDS_MAX`]; 0 and more are refused.
    pub limit: u32,
}

/// A page of records, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogPage {
    /// Those that were asked for.
    pub records: Vec<LogRecord>,
    /// The last record looked at: the next page begins behind it.
    pub until: u64,
    /// More are there.
    pub more: bool,
    /// Records behind `after` that are not kept any more.
    pub forgotten: u64,
}

/// What is asked of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchRequest {
    /// Its last log records.
    Logs(LogQuery),
    /// What it is, and what it stands on.
    Facts,
    /// Its numbers, in Prometheus' text format, in the reply's body.
    Metrics,
}

/// A request with what every request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchCall {
    /// Made at the edge.
    pub request_id: u64,
    /// What is asked.
    pub request: WatchRequest,
}

/// The disk a daemon keeps its files on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryFacts {
    /// The directory.
    pub path: String,
    /// Bytes of its file system.
    pub capacity_bytes: u64,
    /// Bytes free there.
    pub free_bytes: u64,
    /// It is mounted read-only.
    pub read_only: bool,
}

/// A daemon and what it stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `meta`, `stored` or `index`.
    pub part: String,
    /// Of the program.
    pub version: String,
    /// Its machine.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// When it started, microseconds since 1970.
    pub started_us: u64,
    /// What its clock says now, microseconds since 1970.
    pub now_us: u64,
    /// Files it may have open (soft limit).
    pub descriptors_max: u64,
    /// Files it has open.
    pub descriptors: u64,
    /// Bytes of memory it takes.
    pub resident_bytes: u64,
    /// When its certificate ends, seconds since 1970; 0: not known.
    pub certificate_until_s: i64,
    /// Where its files lie, if it has any.
    pub directory: Option<DirectoryFacts>,
    /// Its configuration, as `key` or `table.key` and value; secrets are left out.
    pub config: Vec<(String, String)>,
}

/// A daemon's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub enum WatchReply {
    /// Records.
    Logs(LogPage),
    /// Facts.
    Facts(Box<Facts>),
    /// The body has them.
    Metrics,
    /// Refused.
    Refused(Status),
}
