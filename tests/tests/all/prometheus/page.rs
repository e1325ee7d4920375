//! `docs/METRICS.md`: what it says of a metric, and how it is made from what processes show.
//!
//! Never writes it unless `DGFS_BLESS=1`. Always: a metric that no process of a healthy cluster shows stays on the page as long as
//! the sources name it, as it is shown with its first event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use dgfs_tests::monitored::root;

/// Where it is.
const PAGE: &str = "docs/METRICS.md";
const HEAD: &str = "# Metrics\n\nEvery metric of every process, as `/metrics` shows it. Labels of the target (job, instance, name, \
machine) come from Prometheus' configuration. A histogram has the series `_bucket`, `_sum` and `_count`. An embedded mount shows \
what metadata, storage and index show, too. Metrics of faults may be absent until the first one.\n\nMade by `DGFS_BLESS=1 \
DGFS_BIN=… cargo test -p dgfs-tests --release -- --test-threads=1 prometheus::live::`.\n";

/// What is known of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    parts: BTreeSet<String>,
    help: String,
}

/// Names of metrics on the page.
pub fn names() -> BTreeSet<String> {
    read().into_keys().collect()
}

/// Adds what one process of a part shows.
pub fn add(metrics: &mut BTreeMap<String, Metric>, part: &str, text: &str) {
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let metric = metrics.entry(name.to_owned()).or_default();
            help.clone_into(&mut metric.help);
            metric.parts.insert(part.to_owned());
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else if let Some((series, rest)) = line.split_once('{') {
            let name = super::without_ending(series);
            let name = if metrics.contains_key(series) { series } else { &name };
            let labels = rest
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""))
                .map(|(label, _)| label.trim_start_matches(','));
            let labels = labels.filter(|label| *label != "le").map(str::to_owned);
            metrics.entry(name.to_owned()).or_default().labels.extend(labels);
        }
    }
}

/// The page says what processes show; with `DGFS_BLESS=1` it is made to.
pub fn check(live: BTreeMap<String, Metric>) {
    let mut all = live;
    let sources = named_in_sources();
    for (name, old) in read() {
        if let Some(metric) = all.get_mut(&name) {
            metric.labels.extend(old.labels);
            metric.parts.extend(old.parts);
        } else if sources.contains(&name) {
            all.insert(name, old);
        }
    }
    let wanted = write(&all);
    let file = root().join(PAGE);
    if std::env::var("DGFS_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(&file, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let missing: Vec<String> = lines(&wanted).difference(&lines(&found)).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "{PAGE} lacks lines; make it anew with DGFS_BLESS=1");
    let old: Vec<String> = lines(&found).difference(&lines(&wanted)).cloned().collect();
    assert_eq!(old, Vec::<String>::new(), "{PAGE} has lines of what is not there; make it anew with DGFS_BLESS=1");
}

fn write(metrics: &BTreeMap<String, Metric>) -> String {
    let mut page = HEAD.to_owned();
    let mut family = "";
    for (name, metric) in metrics {
        let of = name.split('_').take(if name.starts_with("dgfs_") { 2 } else { 1 }).last().unwrap_or_default();
        if of != family {
            family = of;
            write!(
                page,
                "\n## {family}\n\n| metric | type | labels | unit | parts | meaning |\n|---|---|---|---|---|---|\n"
            )
            .unwrap();
        }
        let (labels, parts) = (joined(&metric.labels), joined(&metric.parts));
        let (kind, unit, help) = (&metric.kind, unit(name), metric.help.replace('|', "/"));
        writeln!(page, "| `{name}` | {kind} | {labels} | {unit} | {parts} | {help} |").unwrap();
    }
    page
}

fn read() -> BTreeMap<String, Metric> {
    let text = std::fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let set = |cell: &str| cell.split(", ").filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let metric = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, _, parts, help] = cells[..] else { panic!("{PAGE}: six columns: {row}") };
        let metric = Metric { kind: kind.to_owned(), labels: set(labels), parts: set(parts), help: help.to_owned() };
        (name.trim_matches('`').to_owned(), metric)
    };
    rows.map(metric).collect()
}

fn unit(name: &str) -> &'static str {
    let base = name.strip_suffix("_total").unwrap_or(name);
    let units = [
        ("timestamp_seconds", "seconds since 1970"),
        ("_seconds", "seconds"),
        ("_seconds_max", "seconds"),
        ("_bytes", "bytes"),
        ("_info", "1"),
    ];
    units.into_iter().find(|(ending, _)| base.ends_with(ending)).map_or("count", |(_, unit)| unit)
}

fn joined(words: &BTreeSet<String>) -> String {
    words.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Words in quotes that could be metrics' names, of all sources.
fn named_in_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let crates = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut directories: Vec<_> = crates.filter(|path| path.is_dir()).collect();
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                names.extend(quoted(&path));
            }
        }
    }
    names
}

fn quoted(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split('"')
        .filter(|word| word.starts_with("dgfs_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}
