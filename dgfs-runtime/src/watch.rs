//! Answers operators: this process's log, facts and numbers.
//!
//! Never changes anything and never tells a secret. Always: served beside a daemon's own protocol, to clients only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use dgfs_proto::limits::FRAME_BODY_BYTES_MAX;
use dgfs_proto::status::Status;
use dgfs_proto::watch::{DirectoryFacts, Facts, LOG_PAGE_RECORDS_MAX, WatchCall, WatchReply, WatchRequest};

use crate::channel::{Handler, Peer, Role, WatchProtocol};
use crate::clock::Clock;
use crate::disk::disk_space;
use crate::metrics::MetricSet;
use crate::pki::Identity;
use crate::telemetry;

mod machine;

/// Who is told what a daemon knows of itself.
pub const WATCHERS: &[Role] = &[Role::Client];

/// Words of the configuration told at most.
const CONFIG_WORDS_MAX: usize = 256;
/// Keys that hold secrets, or parts of them.
const SECRET_KEYS: &[&str] = &["password", "secret", "token"];

/// What a daemon tells of itself.
pub struct WatchParts {
    /// `meta`, `stored` or `index`.
    pub part: &'static str,
    /// Of the program.
    pub version: &'static str,
    /// Its numbers.
    pub set: MetricSet,
    /// Where its files lie, if it has any.
    pub directory: Option<PathBuf>,
    /// When its certificate ends, seconds since 1970; 0: not known.
    pub certificate_until_s: i64,
    /// Its configuration, of [`words`].
    pub config: Vec<(String, String)>,
}

impl WatchParts {
    /// A part with its numbers, its certificate and its configuration.
    #[must_use]
    pub fn new(part: &'static str, set: MetricSet, identity: &Identity, config: &impl Serialize) -> Self {
        let certificate_until_s = identity.valid_until_s();
        Self {
            part,
            version: env!("CARGO_PKG_VERSION"),
            set,
            directory: None,
            certificate_until_s,
            config: words(config),
        }
    }
}

/// See the module.
pub struct WatchService {
    parts: WatchParts,
    clock: Clock,
    started_us: u64,
    began: Instant,
}

impl WatchService {
    /// Answers with `parts` from now on, which counts as the process's start.
    #[must_use]
    pub fn new(parts: WatchParts) -> Arc<Self> {
        let clock = Clock::real();
        Arc::new(Self { parts, started_us: clock.wall_ns() / 1000, clock, began: Instant::now() })
    }

    /// How long it has been answering.
    #[must_use]
    pub fn age_s(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    fn facts(&self) -> Facts {
        let parts = &self.parts;
        Facts {
            part: parts.part.to_owned(),
            version: parts.version.to_owned(),
            host: machine::host(),
            pid: std::process::id(),
            started_us: self.started_us,
            now_us: self.clock.wall_ns() / 1000,
            descriptors_max: machine::descriptors_max(),
            descriptors: machine::descriptors(),
            resident_bytes: machine::resident_bytes(),
            certificate_until_s: parts.certificate_until_s,
            directory: parts.directory.as_deref().map(|path| {
                let space = disk_space(path).ok();
                DirectoryFacts {
                    path: path.display().to_string(),
                    capacity_bytes: space.map_or(0, |space| space.capacity_bytes),
                    free_bytes: space.map_or(0, |space| space.free_bytes),
                    read_only: machine::is_read_only(path),
                }
            }),
            config: parts.config.clone(),
        }
    }

    fn answer(&self, request: WatchRequest) -> (WatchReply, Bytes) {
        let reply = match request {
            WatchRequest::Logs(query) if query.limit == 0 || query.limit > LOG_PAGE_RECORDS_MAX => {
                WatchReply::Refused(Status::Malformed)
            }
            WatchRequest::Logs(query) => WatchReply::Logs(telemetry::page(&query)),
            WatchRequest::Facts => WatchReply::Facts(Box::new(self.facts())),
            WatchRequest::Metrics => match self.parts.set.render() {
                Ok(text) if text.len() <= FRAME_BODY_BYTES_MAX as usize => {
                    return (WatchReply::Metrics, Bytes::from(text));
                }
                Ok(_) => WatchReply::Refused(Status::Range),
                Err(_) => WatchReply::Refused(Status::Io),
            },
        };
        (reply, Bytes::new())
    }
}

impl Handler<WatchProtocol> for WatchService {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: WatchCall, _: Bytes) -> BoxFuture<'static, (WatchReply, Bytes)> {
        Box::pin(async move {
            // Numbers and facts read files and may wait for locks: not on a thread that serves calls.
            let answered = tokio::task::spawn_blocking(move || self.answer(call.request)).await;
            answered.unwrap_or_else(|_| (WatchReply::Refused(Status::Io), Bytes::new()))
        })
    }
}

/// A configuration as words: `table.key` and value. Secrets and what a URL says of its user are left out.
#[must_use]
pub fn words(config: &impl Serialize) -> Vec<(String, String)> {
    let mut words = Vec::new();
    if let Ok(table) = toml::Table::try_from(config) {
        collect(String::new(), &toml::Value::Table(table), &mut words);
    }
    words.truncate(CONFIG_WORDS_MAX);
    words
}

fn collect(key: String, value: &toml::Value, words: &mut Vec<(String, String)>) {
    if let toml::Value::Table(table) = value {
        for (name, value) in table {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            collect(key, value, words);
        }
        return;
    }
    let text = match value {
        toml::Value::String(text) => without_user(text),
        other => other.to_string(),
    };
    let is_secret = SECRET_KEYS.iter().any(|word| key.contains(word)) && !key.ends_with("_file");
    words.push((key, if is_secret { "(not told)".to_owned() } else { text }));
}

/// `scheme://user:password@host` as `scheme://host`.
fn without_user(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
