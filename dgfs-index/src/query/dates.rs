//! Dates in which something lies: years, months of a year, days of a month, all of UTC.
//!
//! Never reads a clock. A date is that of when a picture was taken, or where that is not known of the last change, as
//! `@date` means it.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::answer::Facet;
use dgfs_proto::query::DatePrefix;

use crate::graph::columns::NEVER;
use crate::query::{Ask, Refusal};

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400 * 1_000_000_000;

impl Ask<'_> {
    /// Dates of `docs` one step finer than `within`, by date.
    pub(crate) fn dates(&self, docs: &RoaringBitmap, within: Option<DatePrefix>) -> Result<Vec<Facet>, Refusal> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut steps = 0;
        for doc in docs {
            self.deadline.check_sometimes(&mut steps)?;
            let facts = self.facts(doc);
            if facts.kind == FileKind::Directory {
                continue;
            }
            let at_ns = if facts.taken_ns == NEVER { facts.mtime_ns } else { facts.taken_ns };
            if let Some(name) = name_within(civil(at_ns), within) {
                *counts.entry(name).or_default() += 1;
            }
        }
        Ok(counts.into_iter().map(|(name, count)| Facet { name, count }).collect())
    }
}

/// What a date is called in a year or month; none where it does not lie there, or years have other than four digits.
fn name_within((year, month, day): (i64, u8, u8), within: Option<DatePrefix>) -> Option<String> {
    let Some(within) = within else {
        return (1..=9999).contains(&year).then(|| format!("{year:04}"));
    };
    if i64::from(within.year()) != year {
        return None;
    }
    match (within.month(), within.day()) {
        (None, _) => Some(format!("{month:02}")),
        (Some(asked), None) if asked == month => Some(format!("{day:02}")),
        (Some(_), _) => None,
    }
}

/// Year, month and day of a moment: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days` (eras of 400
/// years that begin in March).
pub(crate) fn civil(at_ns: i64) -> (i64, u8, u8) {
    let shifted = at_ns.div_euclid(DAY_NS) + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    // 1 to 12 and 1 to 31 by construction.
    (year, month as u8, day_of_month as u8)
}

#[cfg(test)]
mod tests {
    use super::{DAY_NS, civil, name_within};
    use dgfs_proto::query::DatePrefix;

    #[test]
    fn days_of_leap_years_and_of_the_past() {
        let rows = [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (365, (1971, 1, 1)),
            (11_016, (2000, 2, 29)),
            (19_722, (2023, 12, 31)),
            (19_782, (2024, 2, 29)),
            (19_783, (2024, 3, 1)),
        ];
        for (days, wanted) in rows {
            assert_eq!(civil(days * DAY_NS), wanted, "{days}");
            assert_eq!(civil(days * DAY_NS + DAY_NS - 1), wanted, "{days}");
        }
    }

    #[test]
    fn a_date_is_named_by_its_next_part() {
        let date = (2024, 3, 9);
        let within = |month, day| DatePrefix::new(2024, month, day);
        assert_eq!(name_within(date, None).as_deref(), Some("2024"));
        assert_eq!(name_within(date, within(None, None)).as_deref(), Some("03"));
        assert_eq!(name_within(date, within(Some(3), None)).as_deref(), Some("09"));
        for elsewhere in [within(Some(4), None), within(Some(3), Some(9)), DatePrefix::new(2023, None, None)] {
            assert_eq!(name_within(date, elsewhere), None);
        }
        assert_eq!(name_within((10_000, 1, 1), None), None);
    }
}
