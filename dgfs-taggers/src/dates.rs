//! Points in time as formats spell them.
//!
//! Never guesses: what is no date of the years 1 to 9999 gives none. A date without a zone is taken as UTC, since only its
//! writer knew better. The calendar is the proleptic Gregorian one.

/// A date and a time of day.
#[derive(Debug, Clone, Copy, Default)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// East of UTC.
    offset_minutes: i64,
}

impl Civil {
    fn seconds(self) -> Option<i64> {
        let is_date = (1..=9999).contains(&self.year) && (1..=12).contains(&self.month) && (1..=31).contains(&self.day);
        let is_time = (0..24).contains(&self.hour) && (0..60).contains(&self.minute) && (0..=60).contains(&self.second);
        let is_zone = (-15 * 60..=15 * 60).contains(&self.offset_minutes);
        if !is_date || !is_time || !is_zone {
            return None;
        }
        let minutes = (days(self.year, self.month, self.day) * 24 + self.hour) * 60 + self.minute - self.offset_minutes;
        Some(minutes * 60 + self.second)
    }
}

/// Days since 1970-01-01, after Hinnant, "chrono-compatible low-level date algorithms" (2013).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Takes digits and signs off a text.
struct Digits<'a> {
    rest: &'a str,
}

impl Digits<'_> {
    /// A number of exactly `len` digits.
    fn number(&mut self, len: usize) -> Option<i64> {
        let (digits, rest) = self.rest.split_at_checked(len)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        digits.parse().ok()
    }

    fn skip(&mut self, marks: &[char]) -> bool {
        let rest = self.rest.strip_prefix(marks);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `Z`, `+08:00`, `+0800`, `+08'00'`, or nothing.
    fn zone(&mut self) -> i64 {
        let sign = if self.skip(&['+']) {
            1
        } else if self.skip(&['-']) {
            -1
        } else {
            return 0;
        };
        let hours = self.number(2).unwrap_or(0);
        self.skip(&[':', '\'']);
        sign * (hours * 60 + self.number(2).unwrap_or(0))
    }
}

/// `2024-03-05`, `2024-03-05T10:20:30.5+08:00`, `2024:03:05 10:20:30` (EXIF), `D:20240305102030+08'00'` (PDF): parts after
/// the year may be missing.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let mut digits = Digits { rest: text.strip_prefix("D:").unwrap_or(text) };
    let mut civil = Civil { year: digits.number(4)?, month: 1, day: 1, ..Civil::default() };
    let dates = ['-', ':', '/', '.'];
    digits.skip(&dates);
    if let Some(month) = digits.number(2) {
        civil.month = month;
        digits.skip(&dates);
        if let Some(day) = digits.number(2) {
            civil.day = day;
        }
    }
    digits.skip(&['T', ' ', 't']);
    if let Some(hour) = digits.number(2) {
        civil.hour = hour;
        digits.skip(&[':']);
        civil.minute = digits.number(2).unwrap_or(0);
        digits.skip(&[':']);
        civil.second = digits.number(2).unwrap_or(0);
        if digits.skip(&['.', ',']) {
            digits.rest = digits.rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        }
        civil.offset_minutes = digits.zone();
    }
    civil.seconds()
}

/// `Tue, 5 Mar 2024 10:20:30 +0800 (CST)`, as RFC 5322 spells it.
pub(crate) fn parse_mail(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split_whitespace();
    let day = words.next()?.parse().ok()?;
    let month = words.next()?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month).and_then(|at| i64::try_from(at + 1).ok())?;
    let year: i64 = words.next()?.parse().ok()?;
    // Two digits were written until the standard of 2001.
    let year = if (0..50).contains(&year) {
        year + 2000
    } else if (50..100).contains(&year) {
        year + 1900
    } else {
        year
    };
    let mut time = Digits { rest: words.next()? };
    let hour = time.number(2)?;
    time.skip(&[':']);
    let minute = time.number(2)?;
    time.skip(&[':']);
    let second = time.number(2).unwrap_or(0);
    let offset_minutes = Digits { rest: words.next().unwrap_or_default() }.zone();
    Civil { year, month, day, hour, minute, second, offset_minutes }.seconds()
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_mail};

    #[test]
    fn every_spelling_gives_its_seconds() {
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(parse("2024-03-05T10:20:30Z"), Some(1_709_634_030));
        assert_eq!(parse("2024:03:05 18:20:30.25+08:00"), Some(1_709_634_030));
        assert_eq!(parse("D:20240305182030+08'00'"), Some(1_709_634_030));
        assert_eq!(parse("2000"), Some(946_684_800));
        assert_eq!(parse_mail("Tue, 5 Mar 2024 18:20:30 +0800 (CST)"), Some(1_709_634_030));
        assert_eq!(parse_mail("5 Mar 24 10:20 GMT"), Some(1_709_634_000));
    }

    #[test]
    fn what_is_no_date_gives_none() {
        for text in ["", "D:", "20", "0000-01-01", "2024-13-01", "2024-01-32", "2024-01-01T25:00", "\u{e9}\u{e9}\u{e9}"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["", "5", "5 Mar", "5 Foo 2024 10:00", "x Mar 2024 10:00", "5 \u{e9}\u{e9} 2024 10:00"] {
            assert_eq!(parse_mail(text), None, "{text}");
        }
    }
}
