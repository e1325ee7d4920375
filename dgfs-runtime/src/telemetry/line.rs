//! From a record to a line: for people, for collectors, for the journal.
//!
//! Never writes anywhere. Always: one record is one line, whatever its words hold.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use dgfs_proto::watch::{LogLevel, LogRecord, LogValue};

use crate::clock::utc_text;
use crate::telemetry::LogFormat;

/// The line of `record`, with its end.
#[must_use]
pub fn line(record: &LogRecord, format: LogFormat) -> String {
    let mut line = match format {
        LogFormat::Text => format!("{} {:>5} {}", utc_text(record.at_us), upper(record.level), text(record)),
        LogFormat::Json => json(record).to_string(),
        // The journal keeps the time itself, and takes the priority from the number in front (sd-daemon(3)).
        LogFormat::Journald => format!("<{}>{}", priority(record.level), text(record)),
    };
    line.push('\n');
    line
}

/// `record` as an object: what is said in fields stands beside `timestamp`, `level`, `target`, `message` and `request`.
#[must_use]
pub fn json(record: &LogRecord) -> Value {
    let mut object = Map::new();
    for (name, value) in &record.fields {
        let value = match value {
            LogValue::Text(text) => json!(text),
            LogValue::Unsigned(number) => json!(number),
            LogValue::Signed(number) => json!(number),
            LogValue::Real(number) => json!(number),
            LogValue::Truth(truth) => json!(truth),
        };
        object.insert(name.clone(), value);
    }
    object.insert("timestamp".to_owned(), json!(utc_text(record.at_us)));
    object.insert("level".to_owned(), json!(upper(record.level)));
    object.insert("target".to_owned(), json!(record.target));
    object.insert("message".to_owned(), json!(record.message));
    if record.request != 0 {
        object.insert("request".to_owned(), json!(request_text(record.request)));
    }
    Value::Object(object)
}

/// A request's number as it stands in logs: 16 hexadecimal digits.
#[must_use]
pub fn request_text(request: u64) -> String {
    format!("{request:016x}")
}

/// The number in such a text; fewer digits will do.
#[must_use]
pub fn parse_request(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Target, sentence, fields and request.
fn text(record: &LogRecord) -> String {
    let mut text = format!("{}: {}", record.target, escaped(&record.message));
    for (name, value) in &record.fields {
        let value = value.to_string();
        // A String takes all that is written.
        let _ = if needs_quotes(&value) { write!(text, " {name}={value:?}") } else { write!(text, " {name}={value}") };
    }
    if record.request != 0 {
        let _ = write!(text, " request={}", request_text(record.request));
    }
    text
}

/// Whoever names a file chooses words that are logged: they must not look like further lines or fields.
fn escaped(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::new(), |mut out, letter| {
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
        out
    })
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty()
        || value.chars().any(|letter| letter.is_whitespace() || letter.is_control() || "\"=".contains(letter))
}

const fn upper(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "ERROR",
        LogLevel::Warn => "WARN",
        LogLevel::Info => "INFO",
        LogLevel::Debug => "DEBUG",
        LogLevel::Trace => "TRACE",
    }
}

/// Of syslog(3).
const fn priority(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => 3,
        LogLevel::Warn => 4,
        LogLevel::Info => 6,
        LogLevel::Debug | LogLevel::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::watch::{LogLevel, LogRecord, LogValue};

    use super::{line, parse_request, request_text};
    use crate::telemetry::LogFormat;

    fn record() -> LogRecord {
        LogRecord {
            number: 1,
            at_us: 1_700_000_000_000_001,
            level: LogLevel::Warn,
            request: 0xbeef,
            target: "dgfs_meta".to_owned(),
            message: "two\nlines".to_owned(),
            fields: vec![
                ("op".to_owned(), LogValue::Text("rename".to_owned())),
                ("why".to_owned(), LogValue::Text("no \"room\"".to_owned())),
                ("ms".to_owned(), LogValue::Unsigned(12)),
            ],
        }
    }

    #[test]
    fn a_record_is_one_line_for_people() {
        let wanted = "2023-11-14T22:13:20.000001Z  WARN dgfs_meta: two\\nlines op=rename why=\"no \\\"room\\\"\" ms=12 \
                      request=000000000000beef\n";
        assert_eq!(line(&record(), LogFormat::Text), wanted);
    }

    #[test]
    fn the_journal_gets_the_priority_and_no_time() {
        let line = line(&record(), LogFormat::Journald);
        assert!(line.starts_with("<4>dgfs_meta: two\\nlines op=rename"), "{line}");
    }

    #[test]
    fn collectors_get_numbers_as_numbers_and_the_request() {
        let value: serde_json::Value = serde_json::from_str(&line(&record(), LogFormat::Json)).unwrap();
        assert_eq!(value["ms"], 12);
        assert_eq!(value["message"], "two\nlines");
        assert_eq!(value["request"], "000000000000beef");
        assert_eq!(value["level"], "WARN");
    }

    #[test]
    fn a_request_is_read_as_it_is_written() {
        assert_eq!(parse_request(&request_text(u64::MAX)), Some(u64::MAX));
        assert_eq!(parse_request("beef"), Some(0xbeef));
        for wrong in ["", "+1", "g", "00000000000000000"] {
            assert_eq!(parse_request(wrong), None, "{wrong}");
        }
    }
}
