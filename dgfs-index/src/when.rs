//! Times as taggers and cameras write them.
//!
//! Never guesses a zone: a time without one is taken as UTC.

use dgfs_proto::query::{Context, Key, Value};

use crate::step::nanoseconds;

/// Nanoseconds since 1970 of an ISO 8601 time or a part of one (`2024-03-01T12:30`).
#[must_use]
pub fn parse_ns(text: &str) -> Option<i64> {
    match Value::parse(&Key::Taken, text, &Context { utc_offset_secs: 0 }) {
        Ok(Value::Time { from, .. }) => Some(nanoseconds(from)),
        Ok(Value::Number(_) | Value::Size(_) | Value::Within(_) | Value::Text(_)) | Err(_) => None,
    }
}
