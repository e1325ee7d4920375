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

/// Seconds since 1970 as an ISO 8601 time in UTC, by the civil calendar (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
#[must_use]
pub fn iso(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::{iso, parse_ns};

    #[test]
    fn a_time_that_is_written_is_read_back() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59Z");
        for seconds in [-86_400 * 365, 0, 68_169_600, 951_827_696, 1_709_164_800, 4_102_444_799] {
            assert_eq!(parse_ns(&iso(seconds)), Some(seconds * 1_000_000_000), "{}", iso(seconds));
        }
    }
}
