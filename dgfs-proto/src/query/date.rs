//! A year, a month or a day, as `@date` names them.
//!
//! Never knows a zone: who asks says which day it means.

use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::time::{Calendar, Unit};
use crate::attr::Timestamp;

/// A year 1 to 9999, perhaps with its month, perhaps with its day; a date that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, Option<u8>, Option<u8>)", into = "(u16, Option<u8>, Option<u8>)")]
pub struct DatePrefix {
    year: u16,
    month: Option<u8>,
    day: Option<u8>,
}

impl DatePrefix {
    /// Checks the date; `None` when there is no such year, month or day, or a day without a month.
    #[must_use]
    pub fn new(year: u16, month: Option<u8>, day: Option<u8>) -> Option<Self> {
        if day.is_some() && month.is_none() {
            return None;
        }
        let calendar = Calendar::date(year, month.unwrap_or(1), day.unwrap_or(1));
        calendar.is_valid().then_some(Self { year, month, day })
    }

    /// 1 to 9999.
    #[must_use]
    pub const fn year(self) -> u16 {
        self.year
    }

    /// 1 to 12.
    #[must_use]
    pub const fn month(self) -> Option<u8> {
        self.month
    }

    /// 1 to 31; only with a month.
    #[must_use]
    pub const fn day(self) -> Option<u8> {
        self.day
    }

    /// The same with one more of month and day; `None` when there is no such date or it has a day already.
    #[must_use]
    pub fn narrowed(self, next: u8) -> Option<Self> {
        match (self.month, self.day) {
            (None, _) => Self::new(self.year, Some(next), None),
            (Some(month), None) => Self::new(self.year, Some(month), Some(next)),
            (Some(_), Some(_)) => None,
        }
    }

    /// From its first moment to the first one after it, where the clocks are `utc_offset_secs` ahead of UTC.
    #[must_use]
    pub fn span(self, utc_offset_secs: i32) -> (Timestamp, Timestamp) {
        let start = Calendar::date(self.year, self.month.unwrap_or(1), self.day.unwrap_or(1));
        let unit = match (self.month, self.day) {
            (None, _) => Unit::Year,
            (Some(_), None) => Unit::Month,
            (Some(_), Some(_)) => Unit::Day,
        };
        let at = |secs: i64| Timestamp { secs: secs - i64::from(utc_offset_secs), nanos: 0 };
        (at(start.secs()), at(start.after(unit)))
    }

    /// The components behind `@date`: `2024`, `03`, `09`.
    pub fn components(self) -> impl Iterator<Item = String> {
        let parts = [self.month, self.day].into_iter().flatten();
        core::iter::once(format!("{:04}", self.year)).chain(parts.map(|part| format!("{part:02}")))
    }
}

impl TryFrom<(u16, Option<u8>, Option<u8>)> for DatePrefix {
    type Error = &'static str;

    fn try_from((year, month, day): (u16, Option<u8>, Option<u8>)) -> Result<Self, Self::Error> {
        Self::new(year, month, day).ok_or("no such date")
    }
}

impl From<DatePrefix> for (u16, Option<u8>, Option<u8>) {
    fn from(date: DatePrefix) -> Self {
        (date.year, date.month, date.day)
    }
}
