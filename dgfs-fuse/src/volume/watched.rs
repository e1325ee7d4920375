//! What a mount tells of its own process, by extended attributes of any inode: numbers, log, profile.
//!
//! Never tells anybody but root and whoever mounted (the inspector sees to that). Always: an answer fits an attribute.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{MetaReply, MetaRequest, Query};
use dgfs_proto::status::Status;
use dgfs_proto::watch::{LogLevel, LogQuery};
use dgfs_runtime::metrics::MetricSet;
use dgfs_runtime::telemetry;

use crate::profile::{Process, Profile, Used};
use crate::volume::VolumeLink;

/// Pages of the numbers: `dgfs.metrics.0` makes them, the others are of the same moment.
const METRICS: &[u8] = b"dgfs.metrics.";
/// Records behind a number.
const LOGS: &[u8] = b"dgfs.logs.";
/// Requests by `process`, `path` or `op`.
const PROFILE: &[u8] = b"dgfs.profile.";

/// Bytes of one page; the kernel's bound is 65,536.
const PAGE_BYTES: usize = 60_000;
/// Records asked for at once; fewer are told where they are long.
const RECORDS: u32 = 200;
/// Entries of a profile.
const ENTRIES: usize = 100;
/// Bytes of a path in a profile: of a longer one the end is told.
const PATH_BYTES_MAX: usize = 400;
/// Paths asked for at once.
const PATHS_AT_ONCE: usize = 16;

/// Is it an attribute of this module?
pub(crate) fn is_named(name: &[u8]) -> bool {
    [METRICS, LOGS, PROFILE].iter().any(|prefix| name.starts_with(prefix))
}

/// See the module.
pub struct MountWatch {
    set: MetricSet,
    profile: Arc<Profile>,
    /// The numbers as they were rendered last.
    rendered: Mutex<Arc<str>>,
}

impl MountWatch {
    /// Tells the numbers of `set` and what `profile` counted.
    #[must_use]
    pub fn new(set: MetricSet, profile: Arc<Profile>) -> Self {
        Self { set, profile, rendered: Mutex::new(Arc::from("")) }
    }

    /// The value of `name`.
    pub(crate) fn answer(&self, link: VolumeLink, name: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, Status>> {
        let number =
            |prefix: &[u8]| -> Option<u64> { std::str::from_utf8(name.strip_prefix(prefix)?).ok()?.parse().ok() };
        let ready = |answer: Result<Vec<u8>, Status>| -> BoxFuture<'static, Result<Vec<u8>, Status>> {
            Box::pin(std::future::ready(answer))
        };
        if let Some(page) = number(METRICS) {
            return ready(self.metrics(page));
        }
        if let Some(after) = number(LOGS) {
            return ready(Ok(logs(after)));
        }
        let epoch = self.profile.ask();
        let profile = match name.strip_prefix(PROFILE) {
            Some(b"process") => {
                let counted = self.profile.processes(ENTRIES);
                let entry = |(process, used): &(Process, Used)| json!({ "pid": process.pid, "name": process.name, "count": used.count, "us": used.us });
                json!({ "entries": counted.entries.iter().map(entry).collect::<Vec<_>>(), "others": counted.others })
            }
            Some(b"op") => {
                let counted = self.profile.ops();
                let entry = |(op, used): &(&str, Used)| json!({ "op": op, "count": used.count, "us": used.us });
                json!({ "entries": counted.entries.iter().map(entry).collect::<Vec<_>>(), "others": counted.others })
            }
            Some(b"path") => {
                let counted = self.profile.inodes(ENTRIES);
                return Box::pin(async move {
                    let entries = named(&link, counted.entries).await;
                    Ok(with_epoch(json!({ "entries": entries, "others": counted.others }), epoch))
                });
            }
            Some(_) | None => return ready(Err(Status::NoXattr)),
        };
        ready(Ok(with_epoch(profile, epoch)))
    }

    /// A page of the numbers: `more` in its first line says that there is another one.
    fn metrics(&self, page: u64) -> Result<Vec<u8>, Status> {
        let mut rendered = self.rendered.lock();
        if page == 0 {
            *rendered = Arc::from(without_zeros(&self.set.render().map_err(|_| Status::Io)?));
        }
        let from = usize::try_from(page).map_err(|_| Status::NoXattr)?.saturating_mul(PAGE_BYTES);
        let bytes = rendered.as_bytes();
        let rest = bytes.get(from..).filter(|rest| page == 0 || !rest.is_empty()).ok_or(Status::NoXattr)?;
        let part = rest.get(..PAGE_BYTES).unwrap_or(rest);
        let head = if part.len() < rest.len() { "more\n" } else { "last\n" };
        Ok([head.as_bytes(), part].concat())
    }
}

fn with_epoch(mut profile: Value, epoch: u64) -> Vec<u8> {
    if let Some(object) = profile.as_object_mut() {
        object.insert("epoch".to_owned(), json!(epoch));
    }
    profile.to_string().into_bytes()
}

/// Series that count and have counted nothing say nothing; nor do comments.
fn without_zeros(text: &str) -> String {
    let (mut kept, mut buckets) = (String::new(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        // The buckets of a histogram stand together, the one that counts all of them last.
        if line.contains("_bucket{") {
            buckets.push(line);
            continue;
        }
        let counted = std::mem::take(&mut buckets);
        if counted.last().is_some_and(|last| !last.ends_with(" 0")) {
            kept.extend(counted.iter().flat_map(|line| [*line, "\n"]));
        }
        if !line.ends_with(" 0") {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// Records behind `after`, as many as fit.
fn logs(after: u64) -> Vec<u8> {
    let query = LogQuery { after, since_us: 0, request: None, level: LogLevel::Trace, limit: RECORDS };
    let page = telemetry::page(&query);
    let (mut records, mut bytes, mut until, mut more) = (Vec::new(), 0, page.until, page.more);
    for record in &page.records {
        let value = telemetry::json(record);
        bytes += value.to_string().len() + 1;
        if bytes > PAGE_BYTES && !records.is_empty() {
            more = true;
            until = record.number - 1;
            break;
        }
        records.push(value);
    }
    json!({ "records": records, "until": until, "more": more, "forgotten": page.forgotten }).to_string().into_bytes()
}

/// Inodes with their paths.
async fn named(link: &VolumeLink, inodes: Vec<(u64, Used)>) -> Vec<Value> {
    let ask = |(ino, used): (u64, Used)| {
        let link = link.clone();
        async move {
            let path = match Ino::new(ino) {
                Some(ino) => link.ask(MetaRequest::Query(Query::PathOf(ino))).await.ok().and_then(path_of),
                None => None,
            };
            json!({ "ino": ino, "path": path, "count": used.count, "us": used.us })
        }
    };
    stream::iter(inodes.into_iter().map(ask)).buffered(PATHS_AT_ONCE).collect().await
}

fn path_of(reply: MetaReply) -> Option<String> {
    let MetaReply::Path(names) = reply else { return None };
    let text: String = names.iter().map(|name| format!("/{}", String::from_utf8_lossy(name.as_bytes()))).collect();
    let text = if text.is_empty() { "/".to_owned() } else { text };
    let from = text.len().saturating_sub(PATH_BYTES_MAX);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Some(if from > 0 { format!("…{}", text.get(from..).unwrap_or_default()) } else { text })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dgfs_proto::status::Status;
    use dgfs_runtime::metrics::MetricSet;

    use super::{MountWatch, PAGE_BYTES, is_named};

    #[test]
    fn numbers_are_told_in_pages_of_one_moment_without_what_is_zero() {
        let set = MetricSet::new();
        let counters = set.counters("dgfs_test_total", "Test", &["name"]);
        for number in 0..3000 {
            counters.with_label_values(&[&format!("{number:030}")]).inc();
        }
        counters.with_label_values(&["never"]).reset();
        let watch = MountWatch::new(set, Arc::default());
        let (mut text, mut page) = (String::new(), 0);
        loop {
            let part = String::from_utf8(watch.metrics(page).unwrap()).unwrap();
            assert!(part.len() <= PAGE_BYTES + 5);
            let (head, rest) = part.split_once('\n').unwrap();
            text.push_str(rest);
            page += 1;
            if head == "last" {
                break;
            }
            counters.with_label_values(&["later"]).inc();
        }
        assert!(page > 2);
        assert_eq!(text.lines().count(), 3000, "nothing that is 0, and nothing of later");
        assert!(text.lines().all(|line| line.starts_with("dgfs_test_total{name=\"0") && line.ends_with("\"} 1")));
        assert_eq!(watch.metrics(page), Err(Status::NoXattr));
    }

    #[test]
    fn a_histogram_that_counted_keeps_its_empty_buckets() {
        let set = MetricSet::new();
        let times = set.histograms("dgfs_test_seconds", "Test", &["op"], &[0.1, 1.0]);
        times.with_label_values(&["used"]).observe(0.5);
        let _ = times.with_label_values(&["unused"]);
        let text = super::without_zeros(&set.render().unwrap());
        assert!(text.contains("dgfs_test_seconds_bucket{op=\"used\",le=\"0.1\"} 0\n"), "{text}");
        assert!(!text.contains("unused"), "{text}");
    }

    #[test]
    fn only_its_own_names_are_taken() {
        assert!(is_named(b"dgfs.metrics.0") && is_named(b"dgfs.logs.17") && is_named(b"dgfs.profile.op"));
        assert!(!is_named(b"dgfs.status") && !is_named(b"dgfs.metrics"));
    }
}
