//! The last records of this process, for whoever asks.
//!
//! Never holds more than [`BYTES_MAX`] and [`RECORDS_MAX`]: the oldest go. Always: numbers have no gaps, so a reader
//! notices what it missed.

use std::collections::VecDeque;

use parking_lot::Mutex;

use dgfs_proto::watch::{LOG_PAGE_BYTES, LogPage, LogQuery, LogRecord, LogValue};

/// Bytes of records kept, about.
pub(crate) const BYTES_MAX: usize = 4 << 20;
/// Records kept.
pub(crate) const RECORDS_MAX: usize = 20_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Ring {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<LogRecord>,
    bytes: usize,
    /// Of the newest record.
    number: u64,
}

impl Ring {
    /// Numbers and keeps a record; what it is then.
    pub(crate) fn keep(&self, mut record: LogRecord) {
        let mut kept = self.kept.lock();
        kept.number += 1;
        record.number = kept.number;
        kept.bytes += bytes_of(&record);
        kept.records.push_back(record);
        while kept.bytes > BYTES_MAX || kept.records.len() > RECORDS_MAX {
            let Some(oldest) = kept.records.pop_front() else { break };
            kept.bytes -= bytes_of(&oldest);
        }
    }

    /// A page of what is asked for.
    pub(crate) fn page(&self, query: &LogQuery) -> LogPage {
        let kept = self.kept.lock();
        let first = kept.records.front().map_or(kept.number + 1, |record| record.number);
        let mut page = LogPage { until: kept.number, ..LogPage::default() };
        if query.after + 1 < first && query.after > 0 {
            page.forgotten = first - query.after - 1;
        }
        let mut bytes = 0;
        for record in kept.records.iter().skip_while(|record| record.number <= query.after) {
            let wanted = record.at_us >= query.since_us
                && record.level <= query.level
                && query.request.is_none_or(|request| record.request == request);
            if !wanted {
                continue;
            }
            if page.records.len() >= query.limit as usize || bytes > LOG_PAGE_BYTES {
                page.until = page.records.last().map_or(query.after, |record| record.number);
                page.more = true;
                break;
            }
            bytes += bytes_of(record);
            page.records.push(record.clone());
        }
        page
    }
}

/// What a record takes, about.
fn bytes_of(record: &LogRecord) -> usize {
    let fields: usize = record.fields.iter().map(|(name, value)| name.len() + 40 + text_bytes(value)).sum();
    size_of::<LogRecord>() + record.target.len() + record.message.len() + fields
}

const fn text_bytes(value: &LogValue) -> usize {
    match value {
        LogValue::Text(text) => text.len(),
        LogValue::Unsigned(_) | LogValue::Signed(_) | LogValue::Real(_) | LogValue::Truth(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::watch::{LOG_MESSAGE_BYTES_MAX, LOG_PAGE_BYTES, LogLevel, LogQuery, LogRecord};

    use super::{BYTES_MAX, RECORDS_MAX, Ring};

    const ALL: LogQuery = LogQuery { after: 0, since_us: 0, request: None, level: LogLevel::Trace, limit: 4096 };

    fn record(at_us: u64, level: LogLevel, request: u64) -> LogRecord {
        let (target, message) = ("t".to_owned(), "m".to_owned());
        LogRecord { number: 0, at_us, level, request, target, message, fields: Vec::new() }
    }

    fn times(ring: &Ring, query: LogQuery) -> Vec<u64> {
        ring.page(&query).records.into_iter().map(|record| record.at_us).collect()
    }

    #[test]
    fn a_page_has_what_is_asked_for_and_no_more() {
        let ring = Ring::default();
        ring.keep(record(10, LogLevel::Info, 1));
        ring.keep(record(20, LogLevel::Error, 2));
        ring.keep(record(30, LogLevel::Debug, 1));
        assert_eq!(times(&ring, ALL), [10, 20, 30]);
        assert_eq!(times(&ring, LogQuery { since_us: 20, ..ALL }), [20, 30]);
        assert_eq!(times(&ring, LogQuery { level: LogLevel::Info, ..ALL }), [10, 20]);
        assert_eq!(times(&ring, LogQuery { request: Some(1), ..ALL }), [10, 30]);
        assert_eq!(times(&ring, LogQuery { after: 3, ..ALL }), [0; 0]);
        let page = ring.page(&LogQuery { limit: 2, ..ALL });
        assert_eq!((page.records.len(), page.until, page.more), (2, 2, true));
        assert_eq!(times(&ring, LogQuery { after: page.until, ..ALL }), [30]);
    }

    #[test]
    fn the_oldest_go_and_a_reader_hears_of_it() {
        let ring = Ring::default();
        for at in 0..RECORDS_MAX as u64 + 5 {
            ring.keep(record(at, LogLevel::Info, 0));
        }
        assert_eq!(times(&ring, LogQuery { limit: 1, ..ALL }), [5]);
        let page = ring.page(&LogQuery { after: 2, limit: 1, ..ALL });
        assert_eq!((page.forgotten, page.until), (3, 6));
    }

    #[test]
    fn long_records_are_bounded_by_their_bytes_in_the_ring_and_in_a_page() {
        let ring = Ring::default();
        let long = LogRecord { message: "x".repeat(LOG_MESSAGE_BYTES_MAX), ..record(1, LogLevel::Info, 0) };
        for _ in 0..2 * BYTES_MAX / LOG_MESSAGE_BYTES_MAX {
            ring.keep(long.clone());
        }
        assert!(ring.kept.lock().bytes <= BYTES_MAX);
        let page = ring.page(&ALL);
        assert!(page.more && page.records.len() * LOG_MESSAGE_BYTES_MAX <= LOG_PAGE_BYTES + LOG_MESSAGE_BYTES_MAX);
    }
}
