//! Values compared: sizes, times, numbers and words.
//!
//! Never looks a document up; its callers hand the values over.

use dgfs_proto::query::{Compare, Context, Key, Number, Value};
use dgfs_proto::tag::fold;

use crate::step::nanoseconds;
use crate::when::parse_ns;

const NS_PER_S: i64 = 1_000_000_000;

/// A test of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moments {
    /// Not before this.
    from_ns: i64,
    /// Before this.
    until_ns: i64,
    /// Outside of it.
    outside: bool,
}

impl Moments {
    pub(crate) const ALL: Self = Self { from_ns: i64::MIN, until_ns: i64::MAX, outside: false };

    pub(crate) const fn span(from_ns: i64, until_ns: i64) -> Self {
        Self { from_ns, until_ns, outside: false }
    }

    pub(crate) const fn contain(&self, at_ns: i64) -> bool {
        let inside = self.from_ns <= at_ns && (at_ns < self.until_ns || self.until_ns == i64::MAX);
        inside != self.outside
    }

    /// What fits a comparison; a value that is no time fits nothing.
    pub(crate) fn of_comparison(op: Compare, value: &Value, now_ns: i64) -> Option<Self> {
        let (from, until) = span_of(value, now_ns)?;
        let young = matches!(value, Value::Within(_));
        Some(match op {
            Compare::Equal => Self::span(from, until),
            Compare::Differs => Self { from_ns: from, until_ns: until, outside: true },
            // An age: smaller is later.
            Compare::Less | Compare::AtMost if young => Self::span(from, until),
            Compare::Greater | Compare::AtLeast if young => Self::span(i64::MIN, from.saturating_add(1)),
            Compare::Less => Self::span(i64::MIN, from),
            Compare::AtMost => Self::span(i64::MIN, until),
            Compare::Greater => Self::span(until, i64::MAX),
            Compare::AtLeast => Self::span(from, i64::MAX),
        })
    }

    /// What lies between two bounds.
    pub(crate) fn of_range(low: Option<&Value>, high: Option<&Value>, now_ns: i64) -> Option<Self> {
        let mut moments = Self::ALL;
        for (bound, is_low) in [(low, true), (high, false)] {
            let Some(bound) = bound else { continue };
            let op = if is_low { Compare::AtLeast } else { Compare::AtMost };
            let one = Self::of_comparison(op, bound, now_ns)?;
            moments.from_ns = moments.from_ns.max(one.from_ns);
            moments.until_ns = moments.until_ns.min(one.until_ns);
        }
        Some(moments)
    }
}

/// From the first moment to the first one behind it; an age reaches to the end of time (clocks differ).
fn span_of(value: &Value, now_ns: i64) -> Option<(i64, i64)> {
    match value {
        Value::Time { from, until } => Some((nanoseconds(*from), nanoseconds(*until))),
        Value::Within(secs) => {
            let age = i64::try_from(*secs).unwrap_or(i64::MAX).saturating_mul(NS_PER_S);
            Some((now_ns.saturating_sub(age), i64::MAX))
        }
        Value::Number(_) | Value::Size(_) | Value::Text(_) => None,
    }
}

/// Does one ordered value stand so to another?
pub(crate) fn holds<T: PartialOrd>(left: &T, op: Compare, right: &T) -> bool {
    match op {
        Compare::Equal => left == right,
        Compare::Differs => left != right,
        Compare::Less => left < right,
        Compare::AtMost => left <= right,
        Compare::Greater => left > right,
        Compare::AtLeast => left >= right,
    }
}

/// A whole number of the file system's, compared with a number of the language.
pub(crate) fn count_holds(count: u32, op: Compare, value: &Value) -> bool {
    match (value, Number::new(f64::from(count))) {
        (Value::Number(number), Some(count)) => holds(&count, op, number),
        _ => false,
    }
}

/// A value of a key that is no time and no size of the file system's: times as times (a date means its whole unit), numbers as
/// numbers, everything else as folded text.
pub(crate) fn word_holds(stored: &str, op: Compare, value: &Value) -> bool {
    if let (Some(at_ns), Some(date)) = (written_time(stored), date_of(value)) {
        return Moments::of_comparison(op, &date, 0).is_some_and(|moments| moments.contain(at_ns));
    }
    match value {
        Value::Number(number) => match Number::parse(stored) {
            Some(stored) => holds(&stored, op, number),
            // Text is never equal to a number, and has no place among numbers.
            None => op == Compare::Differs,
        },
        Value::Text(text) => holds(&stored, op, &fold(text).as_str()),
        Value::Size(_) | Value::Time { .. } | Value::Within(_) => false,
    }
}

/// The moment that a value is, if it is written as one: at least a whole date.
fn written_time(stored: &str) -> Option<i64> {
    let is_digit = |at: usize| stored.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let dashes = stored.as_bytes().get(4) == Some(&b'-') && stored.as_bytes().get(7) == Some(&b'-');
    let is_date = dashes && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(is_digit);
    // Stored values come folded.
    if is_date { parse_ns(&stored.to_ascii_uppercase()) } else { None }
}

/// The time that a value means, if it is a date or a part of one that some value could lie in.
pub(crate) fn date_of(value: &Value) -> Option<Value> {
    let text = match value {
        Value::Number(number) => {
            Some(number.get()).filter(|year| (1000.0..=9999.0).contains(year)).map(|year| year.to_string())
        }
        Value::Text(text) => Some(text.to_ascii_uppercase()),
        Value::Size(_) | Value::Time { .. } | Value::Within(_) => None,
    }?;
    let year = text.get(..4).is_some_and(|year| year.bytes().all(|byte| byte.is_ascii_digit()));
    let date = year && matches!(text.as_bytes().get(4), None | Some(b'-'));
    let parsed = date.then(|| Value::parse(&Key::Taken, &text, &Context { utc_offset_secs: 0 }));
    parsed.and_then(Result::ok).filter(|value| matches!(value, Value::Time { .. }))
}

#[cfg(test)]
mod tests {
    use super::{Moments, word_holds};
    use dgfs_proto::attr::Timestamp;
    use dgfs_proto::query::{Compare, Number, Value};

    const DAY: i64 = 86_400;
    const NOW: i64 = 100 * DAY * 1_000_000_000;

    fn day(number: i64) -> Value {
        let at = |secs| Timestamp { secs, nanos: 0 };
        Value::Time { from: at(number * DAY), until: at((number + 1) * DAY) }
    }

    fn fits(op: Compare, value: &Value) -> Vec<i64> {
        let moments = Moments::of_comparison(op, value, NOW).unwrap();
        (97..=100).filter(|day| moments.contain(day * DAY * 1_000_000_000)).collect()
    }

    #[test]
    fn a_date_is_its_whole_unit() {
        for (op, days) in [
            (Compare::Equal, vec![98]),
            (Compare::Differs, vec![97, 99, 100]),
            (Compare::Less, vec![97]),
            (Compare::AtMost, vec![97, 98]),
            (Compare::Greater, vec![99, 100]),
            (Compare::AtLeast, vec![98, 99, 100]),
        ] {
            assert_eq!(fits(op, &day(98)), days, "{op:?}");
        }
    }

    #[test]
    fn an_age_counts_back_from_now() {
        let age = Value::Within(2 * DAY as u64);
        assert_eq!(fits(Compare::AtMost, &age), [98, 99, 100]);
        assert_eq!(fits(Compare::AtLeast, &age), [97, 98]);
        assert_eq!(fits(Compare::Differs, &age), [97]);
        let range = Moments::of_range(Some(&Value::Within(DAY as u64)), Some(&age), NOW).unwrap();
        let days: Vec<i64> = (97..=100).filter(|day| range.contain(day * DAY * 1_000_000_000)).collect();
        assert_eq!(days, [98, 99]);
    }

    #[test]
    fn numbers_compare_as_numbers_and_text_folded() {
        let ten = Value::Number(Number::new(10.0).unwrap());
        assert!(word_holds("9", Compare::Less, &ten) && word_holds("10.0", Compare::Equal, &ten));
        assert!(!word_holds("ten", Compare::Equal, &ten) && word_holds("ten", Compare::Differs, &ten));
        assert!(word_holds("ann", Compare::Equal, &Value::Text("Ann".to_owned())));
    }

    #[test]
    fn values_that_are_times_compare_as_times() {
        let text = |text: &str| Value::Text(text.to_owned());
        let year = |year: f64| Value::Number(Number::new(year).unwrap());
        let created = "2021-02-03t04:05:06z";
        for (op, value, expected) in [
            (Compare::Equal, text("2021-02"), true),
            (Compare::Equal, text("2021-02-03T04"), true),
            (Compare::Equal, text("2021-03"), false),
            (Compare::Differs, text("2021-03"), true),
            (Compare::Less, text("2022"), true),
            (Compare::AtMost, text("2021-02-03"), true),
            (Compare::Greater, text("2021-02-03"), false),
            (Compare::Equal, year(2021.0), true),
            (Compare::AtLeast, year(2022.0), false),
            (Compare::Equal, text("ann"), false),
        ] {
            assert_eq!(word_holds(created, op, &value), expected, "{op:?} {value:?}");
        }
        assert!(word_holds("2021", Compare::Equal, &year(2021.0)), "a year alone is a number");
    }
}
