//! The local time zone.
//!
//! Never fails: where the zone is not known, it is UTC. The only place of the command that asks libc for local time.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as clocks on the wall show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Local {
    year: i64,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
    offset_secs: i32,
}

impl Local {
    fn at(secs: i64) -> Option<Self> {
        // SAFETY: `tm` is plain data, for which all zeros is a value (its pointer, the zone's name, may be null).
        let mut tm: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to values that outlive the call; the zone's name that it points to is not looked at.
        if unsafe { libc::localtime_r(&raw const secs, &raw mut tm) }.is_null() {
            return None;
        }
        Some(Self {
            year: i64::from(tm.tm_year) + 1900,
            month: tm.tm_mon + 1,
            day: tm.tm_mday,
            hour: tm.tm_hour,
            minute: tm.tm_min,
            second: tm.tm_sec,
            offset_secs: i32::try_from(tm.tm_gmtoff).unwrap_or(0),
        })
    }
}

fn now_secs() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// Seconds east of UTC, now: for times in expressions. (Those of another season may have another; that is not looked at.)
pub(crate) fn utc_offset_secs() -> i32 {
    Local::at(now_secs()).map_or(0, |local| local.offset_secs)
}

/// `2026-11-26 14:03`; seconds since 1970 as they are where there is no such date.
pub(crate) fn minute_text(secs: i64) -> String {
    Local::at(secs).map_or_else(
        || secs.to_string(),
        |at| format!("{:04}-{:02}-{:02} {:02}:{:02}", at.year, at.month, at.day, at.hour, at.minute),
    )
}

/// The same with seconds.
pub(crate) fn second_text(secs: i64) -> String {
    Local::at(secs).map_or_else(|| secs.to_string(), |at| format!("{}:{:02}", minute_text(secs), at.second))
}

#[cfg(test)]
mod tests {
    use super::{Local, minute_text, second_text, utc_offset_secs};

    #[test]
    fn a_moment_is_shown_as_clocks_here_show_it() {
        let secs = 1_700_000_000;
        let here = Local::at(secs).unwrap();
        // What is local for us is UTC for whoever stands `offset` further on.
        let days = (secs + i64::from(here.offset_secs)).div_euclid(86_400);
        let left = (secs + i64::from(here.offset_secs)).rem_euclid(86_400);
        assert_eq!(i64::from(here.hour) * 3600 + i64::from(here.minute) * 60 + i64::from(here.second), left);
        // 1,700,000,000 lies on 14 November 2023 in UTC, day 19,675.
        assert_eq!((here.year, here.month, i64::from(here.day)), (2023, 11, 14 + days - 19_675));
        assert!(minute_text(secs).starts_with("2023-11-1") && second_text(secs).len() == "2023-11-14 22:13:20".len());
    }

    #[test]
    fn no_time_is_too_far_away() {
        for secs in [i64::MIN, i64::MAX, 0, -1] {
            assert!(!second_text(secs).is_empty());
        }
        assert!(utc_offset_secs().abs() <= 18 * 3600);
    }
}
