//! From an event to a record.
//!
//! Never formats a line. Always: a record is bounded, however long what was logged is.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use dgfs_proto::watch::{LOG_FIELD_BYTES_MAX, LOG_FIELDS_MAX, LOG_MESSAGE_BYTES_MAX, LogLevel, LogRecord, LogValue};

/// What `event` says, without number and time.
pub(crate) fn record_of(event: &Event<'_>, request: u64) -> LogRecord {
    let mut parts = Parts::default();
    event.record(&mut parts);
    LogRecord {
        number: 0,
        at_us: 0,
        level: level_of(*event.metadata().level()),
        request,
        target: cut(parts.target.unwrap_or_else(|| event.metadata().target().to_owned()), LOG_FIELD_BYTES_MAX),
        message: cut(parts.message, LOG_MESSAGE_BYTES_MAX),
        fields: parts.fields,
    }
}

const fn level_of(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// `text`, at most `bytes_max` long.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Fields in which the bridge from the crate `log` hides where a record is from.
const BRIDGED: &str = "log.";

#[derive(Default)]
struct Parts {
    message: String,
    /// Of a record that came by the crate `log`.
    target: Option<String>,
    fields: Vec<(String, LogValue)>,
}

impl Parts {
    fn put(&mut self, field: &Field, value: LogValue) {
        if let Some(what) = field.name().strip_prefix(BRIDGED) {
            if what == "target"
                && let LogValue::Text(target) = value
            {
                self.target = Some(target);
            }
        } else if self.fields.len() < LOG_FIELDS_MAX {
            self.fields.push((cut(field.name().to_owned(), LOG_FIELD_BYTES_MAX), value));
        }
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, LogValue::Text(cut(text, LOG_FIELD_BYTES_MAX)));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, LogValue::Text(cut(value.to_owned(), LOG_FIELD_BYTES_MAX)));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, LogValue::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, LogValue::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, LogValue::Real(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, LogValue::Truth(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
    use tracing_subscriber::registry;

    use dgfs_proto::watch::{LogRecord, LogValue};

    use super::{cut, record_of};

    struct Keep(Arc<Mutex<Vec<LogRecord>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().push(record_of(event, 7));
        }
    }

    #[test]
    fn what_comes_by_the_crate_log_is_told_as_everything_else() {
        let kept = Arc::default();
        let subscriber = registry().with(Keep(Arc::clone(&kept)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                log.target = "fjall::db",
                log.file = "/build/db.rs",
                log.line = 853_u64,
                rows = 2_u64,
                "made"
            );
        });
        let records = kept.lock();
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((record.target.as_str(), record.message.as_str(), record.request), ("fjall::db", "made", 7));
        assert_eq!(record.fields, [("rows".to_owned(), LogValue::Unsigned(2))]);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("abc".to_owned(), 3), "abc");
        assert_eq!(cut("aäb".to_owned(), 2), "a");
    }
}
