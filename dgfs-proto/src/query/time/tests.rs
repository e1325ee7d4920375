//! Tests of dates as texts: units, zones, the calendar, and the way back.

use proptest::prelude::{prop_assert_eq, proptest};

use super::{Calendar, days_since_1970, parse, show};

/// 2024-03-01 00:00 UTC, as `date -u -d 2024-03-01 +%s` says.
const MARCH: i64 = 1_709_251_200;
const DAY: i64 = 86_400;

#[test]
fn a_date_means_its_whole_unit() {
    for (text, from, until) in [
        ("2024-03", MARCH, MARCH + 31 * DAY),
        ("2024-02", MARCH - 29 * DAY, MARCH),
        ("2024", MARCH - 60 * DAY, MARCH + 306 * DAY),
        ("2024-03-01", MARCH, MARCH + DAY),
        ("2024-03-01T05", MARCH + 18_000, MARCH + 21_600),
        ("2024-03-01T05:30", MARCH + 19_800, MARCH + 19_860),
        ("2024-03-01t05:30:07z", MARCH + 19_807, MARCH + 19_808),
        ("2024-03-01T05:30+05:30", MARCH, MARCH + 60),
        ("2024-03-01T00:00-01:00", MARCH + 3600, MARCH + 3660),
        ("2024-03+08:00", MARCH - 28_800, MARCH + 31 * DAY - 28_800),
        ("2024-03-05:00", MARCH + 18_000, MARCH + 31 * DAY + 18_000),
        ("1970", 0, 365 * DAY),
        ("1900-02", -2_206_310_400, -2_206_310_400 + 28 * DAY),
        ("0001-01-01", -62_135_596_800, -62_135_596_800 + DAY),
        ("9999-12-31T23:59:59", 253_402_300_799, 253_402_300_800),
    ] {
        assert_eq!(parse(text, 0), Some((from, until)), "{text}");
    }
}

#[test]
fn a_date_without_a_zone_is_in_the_context_s() {
    assert_eq!(parse("2024-03-01", 28_800), Some((MARCH - 28_800, MARCH - 28_800 + DAY)));
    assert_eq!(parse("2024-03-01Z", 28_800), Some((MARCH, MARCH + DAY)));
    assert_eq!(parse("2024-03-01", 119), parse("2024-03-01", 60), "whole minutes");
    assert_eq!(parse("2024-03-01", i32::MAX), parse("2024-03-01+18:00", 0), "at most 18 hours");
}

#[test]
fn what_is_no_date_is_refused() {
    for text in [
        "",
        "Z",
        "24",
        "202",
        "20240",
        "0000",
        "2024-",
        "2024-00",
        "2024-13",
        "2024-3",
        "2024-02-30",
        "2023-02-29",
        "1900-02-29",
        "2024-03-00",
        "2024-03-01-01",
        "2024-03T05",
        "2024T05",
        "2024-03-01T",
        "2024-03-01T24",
        "2024-03-01T05:60",
        "2024-03-01T05:30:60",
        "2024-03-01T5",
        "2024-03-01 05:30",
        "2024+08",
        "2024+0800",
        "2024+19:00",
        "2024+08:60",
        "+08:00",
        "٢٠٢٤",
        "２０２４",
        "2024-03-0é",
    ] {
        assert_eq!(parse(text, 0), None, "{text}");
    }
}

#[test]
fn every_day_of_ten_thousand_years_has_its_number() {
    let mut expected = days_since_1970(1, 1, 1);
    for year in 1..=9999 {
        for month in 1..=12 {
            let days = (28..=31).rev().find(|day| Calendar::date(year, month, *day).is_valid()).unwrap();
            for day in 1..=days {
                let calendar = Calendar::date(year, month, day);
                assert_eq!(calendar.secs(), expected * DAY, "{calendar:?}");
                assert_eq!(Calendar::of_secs(calendar.secs()), Some(calendar));
                expected += 1;
            }
        }
    }
    assert_eq!(days_since_1970(1970, 1, 1), 0);
    assert_eq!((Calendar::of_secs(i64::MIN), Calendar::of_secs(i64::MAX)), (None, None));
}

#[test]
fn a_span_that_is_no_unit_has_no_text() {
    for (from, until) in [
        (MARCH, MARCH),
        (MARCH, MARCH - 1),
        (MARCH, MARCH + 2),
        (MARCH, MARCH + 32 * DAY),
        (i64::MIN, i64::MAX),
        (i64::MAX, i64::MIN),
        (i64::MAX - 1, i64::MAX),
    ] {
        assert_eq!(show(from, until), None, "{from} {until}");
    }
    assert_eq!(show(MARCH - 28_800, MARCH + 31 * DAY - 28_800).as_deref(), Some("2024-03+08:00"));
    assert_eq!(show(MARCH, MARCH + 60).as_deref(), Some("2024-03-01T00:00Z"));
}

proptest! {
    #[test]
    fn every_span_of_a_text_has_a_text(
        text in "(0001|19[0-9]{2}|20[0-9]{2}|9999)(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9])?)?)?)?)?(Z|[+-](0[0-9]|1[0-7]):[0-5][0-9])?",
        offset in -70_000_i32..70_000,
        other in -70_000_i32..70_000,
    ) {
        let Some((from, until)) = parse(&text, offset) else { return Ok(()) };
        // Only the first and the last day of all time may lie outside the calendar in the zone that shows them.
        let Some(shown) = show(from, until) else {
            prop_assert_eq!(text.starts_with("0001") || text.starts_with("9999"), true, "{}", text);
            return Ok(());
        };
        prop_assert_eq!(parse(&shown, other), Some((from, until)), "{}", shown);
    }

    #[test]
    fn any_text_and_any_span_end(text in ".{0,40}", from: i64, until: i64) {
        let _ = parse(&text, 0);
        if let Some(shown) = show(from, until) {
            prop_assert_eq!(parse(&shown, 0), Some((from, until)));
        }
    }
}
