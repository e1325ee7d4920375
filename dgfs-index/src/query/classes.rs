//! Classes of sizes and dates: keys whose values follow from attributes alone.
//!
//! Never stored, and said by no tagger: they are right with the change that they follow from. Always of what is no directory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dgfs_proto::attr::FileKind;
use dgfs_proto::query::Key;

use crate::graph::columns::{Facts, NEVER};
use crate::query::dates::civil;

/// First sizes of the classes, in bytes, smallest first: what fits a block or two, a text, a photograph or a song, a film.
const SIZES: [(u64, &str); 5] =
    [(0, "tiny"), (16 << 10, "small"), (1 << 20, "medium"), (128 << 20, "large"), (1 << 30, "huge")];
const MONTHS: i64 = 12;

/// A key whose values are classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `size-class=medium`.
    Size,
    /// `date-year=2024`.
    Year,
    /// `date-month=2024-03`.
    Month,
}

impl Class {
    /// The class that a key asks for.
    pub(crate) fn of_key(key: &Key) -> Option<Self> {
        match key.as_str() {
            "size-class" => Some(Self::Size),
            "date-year" => Some(Self::Year),
            "date-month" => Some(Self::Month),
            _ => None,
        }
    }

    /// Where a file's class stands among the others.
    pub(crate) fn order(self, facts: &Facts) -> Option<i64> {
        if facts.kind == FileKind::Directory {
            return None;
        }
        let at_ns = if facts.taken_ns == NEVER { facts.mtime_ns } else { facts.taken_ns };
        Some(match self {
            Self::Size => SIZES.partition_point(|(from, _)| *from <= facts.size) as i64 - 1,
            Self::Year => year_and_month(at_ns).0,
            Self::Month => {
                let (year, month) = year_and_month(at_ns);
                year * MONTHS + month - 1
            }
        })
    }

    /// The class that stands there.
    pub(crate) fn text(self, order: i64) -> String {
        match self {
            Self::Size => usize::try_from(order).ok().and_then(|at| SIZES.get(at)).map_or("", |size| size.1).to_owned(),
            Self::Year => format!("{order:04}"),
            Self::Month => format!("{:04}-{:02}", order.div_euclid(MONTHS), order.rem_euclid(MONTHS) + 1),
        }
    }

    /// A test of files whose class fits: each class is looked at once.
    pub(crate) fn fits(self, fits: impl Fn(&str) -> bool) -> impl Fn(&Facts) -> bool {
        let known: RefCell<BTreeMap<i64, bool>> = RefCell::default();
        move |facts| {
            let Some(order) = self.order(facts) else { return false };
            *known.borrow_mut().entry(order).or_insert_with(|| fits(&self.text(order)))
        }
    }
}

/// Year and month (1 to 12) of a moment in UTC.
fn year_and_month(at_ns: i64) -> (i64, i64) {
    let (year, month, _) = civil(at_ns);
    (year, i64::from(month))
}

#[cfg(test)]
mod tests {
    use super::{Class, SIZES, year_and_month};

    #[test]
    fn months_of_moments() {
        const DAY: i64 = 86_400_000_000_000;
        for (days, wanted) in [
            (0, (1970, 1)),
            (-1, (1969, 12)),
            (364, (1970, 12)),
            (365, (1971, 1)),
            (11_015, (2000, 2)),
            (11_016, (2000, 2)),
            (11_017, (2000, 3)),
            (19_782, (2024, 2)),
            (19_783, (2024, 3)),
        ] {
            assert_eq!(year_and_month(days * DAY), wanted, "{days}");
        }
        assert_eq!(Class::Month.text(2024 * 12 + 2), "2024-03");
        assert_eq!(Class::Size.text(4), SIZES[4].1);
    }
}
