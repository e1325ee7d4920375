//! Dates and times as texts (ISO 8601 prefixes) and as spans of seconds.
//!
//! Never asks a clock. Leap seconds do not exist here, as in POSIX. A text means the whole of its smallest unit.

use alloc::format;
use alloc::string::String;

/// Seconds of a day, an hour, a minute.
const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
const MINUTE: i64 = 60;
/// How far a zone may be from UTC; real ones reach 14 hours.
const OFFSET_SECS_MAX: i64 = 18 * HOUR;

/// The smallest unit that a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

const UNITS: [Unit; 6] = [Unit::Year, Unit::Month, Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];

/// A moment in some zone, as a calendar and a clock show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Calendar {
    /// Midnight of a day.
    pub(super) const fn date(year: u16, month: u8, day: u8) -> Self {
        Self { year, month, day, hour: 0, minute: 0, second: 0 }
    }

    /// Exists, in the years 1 to 9999.
    pub(super) const fn is_valid(&self) -> bool {
        let date = self.year >= 1 && self.year <= 9999 && self.month >= 1 && self.month <= 12;
        let day = self.day >= 1 && self.day <= days_of_month(self.year, self.month);
        date && day && self.hour < 24 && self.minute < 60 && self.second < 60
    }

    /// Seconds since 1970 as if the zone were UTC.
    pub(super) const fn secs(&self) -> i64 {
        let days = days_since_1970(self.year as i64, self.month as i64, self.day as i64);
        days * DAY + self.hour as i64 * HOUR + self.minute as i64 * MINUTE + self.second as i64
    }

    /// The seconds where the unit that begins here ends.
    pub(super) const fn after(&self, unit: Unit) -> i64 {
        let start = self.secs();
        match unit {
            Unit::Year => days_since_1970(self.year as i64 + 1, 1, 1) * DAY,
            Unit::Month => start + days_of_month(self.year, self.month) as i64 * DAY,
            Unit::Day => start + DAY,
            Unit::Hour => start + HOUR,
            Unit::Minute => start + MINUTE,
            Unit::Second => start + 1,
        }
    }

    /// The calendar of `secs` since 1970; `None` outside the years 1 to 9999.
    fn of_secs(secs: i64) -> Option<Self> {
        let (days, rest) = (secs.div_euclid(DAY), secs.rem_euclid(DAY));
        let (year, month, day) = civil_of_days(days)?;
        let time = (rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE);
        Some(Self { year, month, day, hour: time.0 as u8, minute: time.1 as u8, second: time.2 as u8 })
    }

    /// Is it the start of such a unit?
    const fn begins(&self, unit: Unit) -> bool {
        let minute = self.second == 0;
        let hour = minute && self.minute == 0;
        let day = hour && self.hour == 0;
        match unit {
            Unit::Second => true,
            Unit::Minute => minute,
            Unit::Hour => hour,
            Unit::Day => day,
            Unit::Month => day && self.day == 1,
            Unit::Year => day && self.day == 1 && self.month == 1,
        }
    }

    fn text(&self, unit: Unit) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        match unit {
            Unit::Year => format!("{year:04}"),
            Unit::Month => format!("{year:04}-{month:02}"),
            Unit::Day => format!("{year:04}-{month:02}-{day:02}"),
            Unit::Hour => format!("{year:04}-{month:02}-{day:02}T{hour:02}"),
            Unit::Minute => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}"),
            Unit::Second => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"),
        }
    }
}

const fn days_of_month(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `days_from_civil`. Years begin in March there, so that the leap day is the last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The way back: `civil_from_days` of the same paper.
fn civil_of_days(days: i64) -> Option<(u16, u8, u8)> {
    let days = days.checked_add(719_468)?;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let year = u16::try_from(year).ok().filter(|year| (1..=9999).contains(year))?;
    Some((year, month as u8, (day_of_year - (153 * shifted + 2) / 5 + 1) as u8))
}

/// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or one of these with `Thh[:mm[:ss]]`, and a zone `Z`, `+hh:mm` or `-hh:mm` behind any of
/// them. Gives the seconds since 1970 of its start and of its end; without a zone, `utc_offset_secs` is the zone.
pub(super) fn parse(text: &str, utc_offset_secs: i32) -> Option<(i64, i64)> {
    let (local, zone) = split_zone(text);
    let offset = match zone {
        None => (i64::from(utc_offset_secs) / MINUTE * MINUTE).clamp(-OFFSET_SECS_MAX, OFFSET_SECS_MAX),
        Some(zone) => parse_zone(zone)?,
    };
    let (calendar, unit) = parse_local(local)?;
    calendar.is_valid().then(|| (calendar.secs() - offset, calendar.after(unit) - offset))
}

/// Parts a zone from the end. Dates have no `:`, so that six characters `-hh:mm` behind one are a zone; behind a time, a `-` can
/// only be one.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return (local, Some("Z"));
    }
    match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
        Some((local, zone)) if zone.starts_with(['+', '-']) && zone.get(3..4) == Some(":") => (local, Some(zone)),
        Some(_) | None => (text, None),
    }
}

fn parse_zone(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, digits) = zone.split_at_checked(1)?;
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes) = (i64::from(number(hours, 2)?), i64::from(number(minutes, 2)?));
    let offset = hours * HOUR + minutes * MINUTE;
    let good = minutes < 60 && offset <= OFFSET_SECS_MAX;
    good.then_some(if sign == "-" { -offset } else { offset })
}

fn parse_local(text: &str) -> Option<(Calendar, Unit)> {
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut calendar = Calendar::date(0, 1, 1);
    let mut parts = date.split('-');
    calendar.year = number(parts.next()?, 4)?;
    let mut unit = Unit::Year;
    if let Some(month) = parts.next() {
        (calendar.month, unit) = (number(month, 2)? as u8, Unit::Month);
    }
    if let Some(day) = parts.next() {
        (calendar.day, unit) = (number(day, 2)? as u8, Unit::Day);
    }
    if parts.next().is_some() {
        return None;
    }
    let Some(time) = time else { return Some((calendar, unit)) };
    if unit != Unit::Day {
        return None;
    }
    let mut parts = time.split(':');
    (calendar.hour, unit) = (number(parts.next()?, 2)? as u8, Unit::Hour);
    if let Some(minute) = parts.next() {
        (calendar.minute, unit) = (number(minute, 2)? as u8, Unit::Minute);
    }
    if let Some(second) = parts.next() {
        (calendar.second, unit) = (number(second, 2)? as u8, Unit::Second);
    }
    parts.next().is_none().then_some((calendar, unit))
}

/// A number of exactly so many decimal digits, four at most.
pub(super) fn number(text: &str, digits: usize) -> Option<u16> {
    let good = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

/// A text with a zone that [`parse`] reads as exactly this span; `None` when the span is no whole unit of any zone.
pub(super) fn show(from: i64, until: i64) -> Option<String> {
    UNITS.into_iter().find_map(|unit| show_as(unit, from, until))
}

fn show_as(unit: Unit, from: i64, until: i64) -> Option<String> {
    // In the zone looked for, the span begins at a full day (hour, minute): that leaves one or two zones.
    let step = match unit {
        Unit::Year | Unit::Month | Unit::Day => DAY,
        Unit::Hour => HOUR,
        Unit::Minute | Unit::Second => MINUTE,
    };
    let ahead = if unit == Unit::Second { 0 } else { from.checked_neg()?.rem_euclid(step) };
    [ahead, ahead - step].into_iter().filter(|offset| offset.abs() <= OFFSET_SECS_MAX).find_map(|offset| {
        let calendar = Calendar::of_secs(from.checked_add(offset)?)?;
        let fits = offset % MINUTE == 0 && calendar.begins(unit) && calendar.after(unit) - offset == until;
        fits.then(|| calendar.text(unit) + &zone_text(offset))
    })
}

fn zone_text(offset: i64) -> String {
    if offset == 0 {
        return String::from("Z");
    }
    let (sign, offset) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    format!("{sign}{:02}:{:02}", offset / HOUR, offset % HOUR / MINUTE)
}

#[cfg(test)]
mod tests;
