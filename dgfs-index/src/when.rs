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

#[cfg(test)]
mod tests {
    use dgfs_runtime::clock::utc_seconds_text;

    use super::parse_ns;

    #[test]
    fn a_time_that_is_written_is_read_back() {
        assert_eq!(utc_seconds_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc_seconds_text(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(utc_seconds_text(-1), "1969-12-31T23:59:59Z");
        for seconds in [-86_400 * 365, 0, 68_169_600, 951_827_696, 1_709_164_800, 4_102_444_799] {
            assert_eq!(
                parse_ns(&utc_seconds_text(seconds)),
                Some(seconds * 1_000_000_000),
                "{}",
                utc_seconds_text(seconds)
            );
        }
    }
}
