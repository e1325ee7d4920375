//! Values: what a key is compared with, typed by the key.
//!
//! Never compares. A value is read from its text without `%XX`, and [`Value::to_text`] gives a text that is read as the same value
//! in every zone.

use alloc::format;
use alloc::string::{String, ToString};
use core::cmp::Ordering;
use core::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::Context;
use super::error::{QueryError, QueryErrorKind};
use super::key::Key;
use super::time;
use crate::attr::Timestamp;
use crate::limits::{COMPONENT_BYTES_MAX, QUERY_WORDS_MAX, TAG_BYTES_MAX};
use crate::spelling;

/// Powers of 1024 as `find` and `ls -h` use them, the largest first.
const SIZE_UNITS: [(char, u32); 6] = [('E', 60), ('P', 50), ('T', 40), ('G', 30), ('M', 20), ('K', 10)];
/// Decimals of a size: more say nothing about whole bytes below 10 E.
const DECIMALS_MAX: usize = 18;
/// Units of durations in seconds, the largest first.
const DURATION_UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// Magnitudes outside are written with an exponent: written out, they would have up to 308 zeros.
const PLAIN_NUMBERS: core::ops::Range<f64> = 1e-6..1e16;

/// What a key is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// Of `nlink`, of an owner or group given by number, and of other keys where the text is a number.
    Number(Number),
    /// Bytes.
    Size(u64),
    /// A second, minute, hour, day, month or year of some zone.
    Time {
        /// Its first moment.
        from: Timestamp,
        /// The first moment after it.
        until: Timestamp,
    },
    /// An age: so many seconds back from now.
    Within(u64),
    /// 1 to 200 bytes of NFC without control characters.
    Text(String),
}

/// A finite number; totally ordered, one zero.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Number(f64);

impl Number {
    /// `None` for what is not finite. Minus zero becomes zero.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number + 0.0))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Reads a decimal number, with an exponent perhaps.
    ///
    /// `None` also for the texts "inf" and "NaN", for numbers past the range of a double, and for those that begin or end with a
    /// dot.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, _) = digits.split_once(['e', 'E']).unwrap_or((digits, ""));
        let shaped = mantissa.starts_with(|first: char| first.is_ascii_digit()) && !mantissa.ends_with('.');
        if shaped { text.parse().ok().and_then(Self::new) } else { None }
    }

    fn is_whole_up_to(self, max: f64) -> bool {
        (0.0..=max).contains(&self.0) && self.0 % 1.0 == 0.0
    }

    fn to_text(self) -> String {
        let plain = self.0 == 0.0 || PLAIN_NUMBERS.contains(&self.0.abs());
        if plain { self.0.to_string() } else { format!("{:e}", self.0) }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl TryFrom<f64> for Number {
    type Error = &'static str;

    fn try_from(number: f64) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("not a finite number")
    }
}

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        number.0
    }
}

/// The types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Size,
    Time,
    /// A whole number that fits 32 bits.
    Count,
    /// A whole number that fits 32 bits, or a name.
    Account,
    Text,
    /// A number, or else a text.
    Any,
}

impl Kind {
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Size => "a size such as 4096, 10M or 1.5GiB",
            Self::Time => "a date such as 2024, 2024-03 or 2024-03-09T18:30, or an age such as 7d, 12h or 30m",
            Self::Count => "a whole number such as 2",
            Self::Account => "a number or a name",
            Self::Text => "a text of 1 to 200 bytes without control characters",
            Self::Any => "a number, or a text of 1 to 200 bytes without control characters",
        }
    }

    /// Is it a value that [`Kind::parse`] could have given?
    pub(super) fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Size, Value::Size(_)) | (Self::Time, Value::Within(_)) | (Self::Any, Value::Number(_)) => true,
            (Self::Time, Value::Time { from, until }) => {
                from.nanos == 0 && until.nanos == 0 && time::show(from.secs, until.secs).is_some()
            }
            (Self::Count | Self::Account, Value::Number(number)) => number.is_whole_up_to(f64::from(u32::MAX)),
            (Self::Account, Value::Text(text)) => is_text(text) && account(text).is_none(),
            (Self::Text, Value::Text(text)) => is_text(text),
            (Self::Any, Value::Text(text)) => is_text(text) && Number::parse(text).is_none(),
            (Self::Size | Self::Time | Self::Count | Self::Account | Self::Text | Self::Any, _) => false,
        }
    }

    /// Reads a value; `None` when `text` is none of this type.
    fn parse(self, text: &str, context: &Context) -> Option<Value> {
        match self {
            Self::Size => parse_size(text).map(Value::Size),
            Self::Time => parse_time(text, context),
            Self::Count => account(text).map(Value::Number),
            Self::Account => account(text).map(Value::Number).or_else(|| parse_text(text)),
            Self::Text => parse_text(text),
            Self::Any => Number::parse(text).map(Value::Number).or_else(|| parse_text(text)),
        }
    }
}

impl Value {
    /// Reads a value of `key` from its text without `%XX`.
    ///
    /// # Errors
    /// `NotANumber` for keys that have numbers, sizes or times; `Syntax` for texts; both say what was expected.
    pub fn parse(key: &Key, text: &str, context: &Context) -> Result<Self, QueryError> {
        let kind = key.kind();
        let refused = match kind {
            Kind::Size | Kind::Time | Kind::Count => QueryErrorKind::NotANumber,
            Kind::Account | Kind::Text | Kind::Any => QueryErrorKind::Syntax,
        };
        kind.parse(text, context).ok_or_else(|| QueryError::new(refused, 0, kind.expected()))
    }

    /// A text that is read as this value again, whatever the context's zone. Empty for a span of time that is no whole unit,
    /// which [`super::Query::check`] refuses.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Number(number) => number.to_text(),
            Self::Size(bytes) => size_text(*bytes),
            Self::Time { from, until } => time::show(from.secs, until.secs).unwrap_or_default(),
            Self::Within(secs) => duration_text(*secs),
            Self::Text(text) => text.clone(),
        }
    }

    /// Has it an order?
    pub(super) fn check_ordered(&self) -> Result<(), QueryError> {
        match self {
            Self::Number(_) | Self::Size(_) | Self::Time { .. } | Self::Within(_) => Ok(()),
            Self::Text(_) => Err(QueryError::not_a_number(0, "a number here: texts have no order")),
        }
    }

    /// May a range go from `self` to `high`?
    fn begins_range_to(&self, high: &Self) -> Result<(), QueryError> {
        let ordered = match (self, high) {
            (Self::Time { from, .. }, Self::Time { until, .. }) => from < until,
            (Self::Number(_), Self::Number(_))
            | (Self::Size(_), Self::Size(_))
            | (Self::Within(_), Self::Within(_))
            | (Self::Text(_), Self::Text(_)) => self <= high,
            (Self::Number(_) | Self::Size(_) | Self::Time { .. } | Self::Within(_) | Self::Text(_), _) => {
                return Err(QueryError::syntax(0, "both bounds of a range to be of one kind (dates, or ages)"));
            }
        };
        if ordered { Ok(()) } else { Err(QueryError::syntax(0, "the lower bound of a range before the upper one")) }
    }
}

/// Checks a range as a whole; `at` of errors is 0.
pub(super) fn check_range(key: &Key, low: Option<&Value>, high: Option<&Value>) -> Result<(), QueryError> {
    for bound in [low, high].into_iter().flatten() {
        key.check_value(bound)?;
        bound.check_ordered()?;
    }
    match (low, high) {
        (None, None) => Err(QueryError::syntax(0, "a bound before or behind \"..\"")),
        (Some(low), Some(high)) => low.begins_range_to(high),
        (Some(_), None) | (None, Some(_)) => Ok(()),
    }
}

/// Checks the words of a full-text test.
pub(super) fn check_words(words: &[String]) -> Result<(), QueryError> {
    if words.is_empty() {
        return Err(QueryError::syntax(0, "at least one word to search for"));
    }
    if words.len() > QUERY_WORDS_MAX {
        return Err(QueryError::new(QueryErrorKind::TooBig, 0, format!("at most {QUERY_WORDS_MAX} words")));
    }
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    if bytes > COMPONENT_BYTES_MAX {
        return Err(QueryError::new(
            QueryErrorKind::TooLong,
            0,
            format!("at most {COMPONENT_BYTES_MAX} bytes of words"),
        ));
    }
    let is_word = |word: &String| {
        let plain = |character: char| !character.is_whitespace() && !character.is_control();
        !word.is_empty() && word.chars().all(plain) && spelling::is_nfc(word)
    };
    if words.iter().all(is_word) { Ok(()) } else { Err(QueryError::syntax(0, "words without control characters")) }
}

fn is_text(text: &str) -> bool {
    let plain = !text.is_empty() && text.len() <= TAG_BYTES_MAX && !text.chars().any(char::is_control);
    plain && spelling::is_nfc(text)
}

fn parse_text(text: &str) -> Option<Value> {
    spelling::nfc(text, TAG_BYTES_MAX).filter(|text| is_text(text)).map(Value::Text)
}

/// The number of an account, or of links: decimal digits, below 2^32.
fn account(text: &str) -> Option<Number> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse::<u32>().ok() } else { None };
    number.and_then(|number| Number::new(f64::from(number)))
}

fn parse_time(text: &str, context: &Context) -> Option<Value> {
    let at = |secs: i64| Timestamp { secs, nanos: 0 };
    let date = time::parse(text, context.utc_offset_secs);
    let date = date.map(|(from, until)| Value::Time { from: at(from), until: at(until) });
    date.or_else(|| parse_duration(text).map(Value::Within))
}

fn parse_duration(text: &str) -> Option<u64> {
    let (unit, secs) = DURATION_UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    whole(text.strip_suffix(unit)?)?.checked_mul(secs)
}

fn duration_text(secs: u64) -> String {
    let whole = |(_, unit): &(char, u64)| secs > 0 && secs.is_multiple_of(*unit);
    let (letter, unit) = DURATION_UNITS.into_iter().find(whole).unwrap_or(('s', 1));
    format!("{}{letter}", secs / unit)
}

/// Digits and nothing else (no sign).
fn whole(digits: &str) -> Option<u64> {
    let good = digits.bytes().all(|byte| byte.is_ascii_digit());
    if good { digits.parse().ok() } else { None }
}

/// Reads `4096`, `10M`, `1.5GiB`; every letter in either case. `B`, `KB`, `KiB` and `K` differ in nothing: all units are powers of
/// 1024. A part of a byte is dropped.
fn parse_size(text: &str) -> Option<u64> {
    let number_end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(number_end)?;
    let mut letters = suffix.chars().map(|letter| letter.to_ascii_uppercase()).peekable();
    let shift = SIZE_UNITS.into_iter().find(|(unit, _)| letters.peek() == Some(unit)).map(|(_, shift)| shift);
    if shift.is_some() {
        letters.next();
    }
    match (letters.next(), letters.next(), letters.next()) {
        (None, None, None) | (Some('B'), None, None) => {}
        (Some('I'), Some('B'), None) if shift.is_some() => {}
        (_, _, _) => return None,
    }
    let (integer, decimals) = match number.split_once('.') {
        Some((integer, decimals)) if !decimals.is_empty() && decimals.len() <= DECIMALS_MAX => (integer, decimals),
        Some(_) => return None,
        None => (number, ""),
    };
    let unit = 1_u128 << shift.unwrap_or(0);
    let fraction = if decimals.is_empty() { 0 } else { u128::from(whole(decimals)?) * unit };
    // Below 10^18 × 2^60, and 2^64 × 2^60: both fit 128 bits.
    let bytes = u128::from(whole(integer)?) * unit + fraction / 10_u128.pow(decimals.len() as u32);
    u64::try_from(bytes).ok()
}

fn size_text(bytes: u64) -> String {
    let whole = |(_, shift): &(char, u32)| bytes > 0 && bytes.trailing_zeros() >= *shift;
    match SIZE_UNITS.into_iter().find(whole) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests;
