//! Reads Prometheus' text format, and tells what happened between two readings.
//!
//! Never fails on a line: what cannot be read is left out. Always: a number that became smaller was begun anew, and counts from 0.

use std::collections::{BTreeMap, BTreeSet};

/// One number.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The numbers of one process at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(Vec<Sample>);

impl Numbers {
    /// Reads `text`.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_line).collect())
    }

    /// The sum of all series of a name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        total(self.0.iter().filter(|sample| sample.name == name))
    }

    /// Is there a series of that name?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// The sum of those series of a name whose label has this value.
    pub(crate) fn of(&self, name: &str, (label, value): (&str, &str)) -> f64 {
        let fits = |sample: &&Sample| sample.name == name && sample.labels.get(label).is_some_and(|own| own == value);
        total(self.0.iter().filter(fits))
    }

    /// The sums of a name's series by a label.
    pub(crate) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            if let Some(value) = sample.labels.get(label) {
                *sums.entry(value.clone()).or_insert(0.0) += sample.value;
            }
        }
        sums
    }

    /// What was counted since `before`: counters and buckets. What goes up and down has no meaning here.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let key = |sample: &Sample| (sample.name.clone(), sample.labels.clone());
        let old: BTreeMap<_, f64> = before.0.iter().map(|sample| (key(sample), sample.value)).collect();
        let grown = |sample: &Sample| {
            let old = old.get(&key(sample)).copied().unwrap_or(0.0);
            let value = if sample.value < old { sample.value } else { sample.value - old };
            Sample { value, ..sample.clone() }
        };
        Self(self.0.iter().map(grown).collect())
    }

    /// The value below which the share `q` of a histogram's observations lies, of the series whose label has this value; none
    /// without observations.
    pub(crate) fn quantile(&self, name: &str, (label, value): (&str, &str), q: f64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut buckets: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == bucket) {
            let fits = label.is_empty() || sample.labels.get(label).is_some_and(|own| own == value);
            let bound = sample.labels.get("le").and_then(|le| parse_number(le)).filter(|_| fits);
            if let Some(bound) = bound {
                // Bounds are not below 0, so their bits are in their order.
                buckets.entry(bound.to_bits()).or_insert((bound, 0.0)).1 += sample.value;
            }
        }
        let total = buckets.values().next_back().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let wanted = total * q;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in buckets.values() {
            if *count >= wanted {
                let inside = if *count > below { (wanted - below) / (count - below) } else { 1.0 };
                // Of the last bucket only its lower end is known.
                return Some(if bound.is_finite() { from + (bound - from) * inside } else { from });
            }
            (from, below) = (*bound, *count);
        }
        None
    }

    /// The values of a label of a name's series.
    pub(crate) fn values(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.by(name, label).into_keys().collect()
    }
}

/// The sum of no floats is -0, which would be shown so.
fn total<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    samples.fold(0.0, |sum, sample| sum + sample.value)
}

/// `name{label="value",…} number`.
fn parse_line(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = parse_number(value)?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let labels = parse_labels(labels.strip_suffix('}')?)?;
    Some(Sample { name: name.to_owned(), labels, value })
}

fn parse_labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(name.to_owned(), value);
        text = rest.get(end + 1..)?;
        text = text.strip_prefix(',').unwrap_or(text);
    }
    Some(labels)
}

fn parse_number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        other => other.parse().ok(),
    }
}

/// Bytes for people: `1.5 MiB`.
pub(crate) fn bytes_text(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes;
    for unit in units {
        if value < 1024.0 || unit == "PiB" {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{bytes:.0} B")
}

/// Seconds for people: `1.2 ms`; nothing: `-`.
pub(crate) fn seconds_text(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

/// A share for people: `97.5 %`; of nothing: `-`.
pub(crate) fn share_text(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1} %", 100.0 * part / whole) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Numbers, bytes_text, seconds_text};

    const TEXT: &str = "# HELP a b\n\
        calls_total{kind=\"get\",odd=\"a\\\"b,c}\"} 5\n\
        calls_total{kind=\"put\"} 2\n\
        plain 1.5\n\
        t_bucket{op=\"read\",le=\"0.1\"} 50\n\
        t_bucket{op=\"read\",le=\"1\"} 100\n\
        t_bucket{op=\"read\",le=\"+Inf\"} 101\n\
        broken{\n";

    #[test]
    fn numbers_are_read_by_name_and_label() {
        let numbers = Numbers::parse(TEXT);
        assert_eq!((numbers.sum("calls_total"), numbers.of("calls_total", ("kind", "put"))), (7.0, 2.0));
        assert_eq!(numbers.by("calls_total", "odd").into_iter().collect::<Vec<_>>(), [("a\"b,c}".to_owned(), 5.0)]);
        assert_eq!(numbers.sum("plain"), 1.5);
        assert!(!numbers.has("broken") && numbers.sum("broken").is_sign_positive());
    }

    #[test]
    fn quantiles_lie_inside_of_their_bucket() {
        let numbers = Numbers::parse(TEXT);
        let quantile = |q| numbers.quantile("t", ("op", "read"), q);
        assert!(quantile(0.25).is_some_and(|value| value > 0.0 && value < 0.1));
        assert!(quantile(0.75).is_some_and(|value| value > 0.1 && value < 1.0));
        assert_eq!(quantile(1.0), Some(1.0), "of the last bucket the lower end");
        assert_eq!(numbers.quantile("t", ("op", "write"), 0.5), None);
    }

    #[test]
    fn a_number_that_became_smaller_counts_from_the_start() {
        let before = Numbers::parse("a 5\nb 9\n");
        let now = Numbers::parse("a 7\nb 4\nc 1\n").since(&before);
        assert_eq!((now.sum("a"), now.sum("b"), now.sum("c")), (2.0, 4.0, 1.0));
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!((bytes_text(0.0), bytes_text(1536.0)), ("0 B".to_owned(), "1.5 KiB".to_owned()));
        assert_eq!((seconds_text(None), seconds_text(Some(0.0125))), ("-".to_owned(), "12.5 ms".to_owned()));
    }
}
