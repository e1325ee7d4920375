//! The index services of a cluster, wherever they are: they follow the change log under names that end in their address.
//!
//! Never asks two of them for one question at once, and never waits for longer than the call may take. Always: one that was
//! started after the mount is found, and one that went away is left alone until it is heard of again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use dgfs_proto::graph::{GraphCall, GraphReply, GraphRequest};
use dgfs_proto::meta::{AdminRequest, ConsumerStatus, MetaReply, MetaRequest};
use dgfs_runtime::channel::{CallError, Channel, GraphProtocol, Role};
use dgfs_runtime::pki::Identity;
use dgfs_runtime::quic::channel::QuicChannel;

use crate::volume::VolumeLink;

/// How long what is known of the services is gone by.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// A service that was silent for so long is not asked.
const SILENT_MS_MAX: u64 = 30_000;
/// Services that are tried for one question.
const TRIED_MAX: usize = 3;

type Service = Arc<dyn Channel<GraphProtocol>>;

/// Reaches whichever index service of a cluster answers.
pub struct ClusterIndex {
    shared: Arc<Shared>,
}

struct Shared {
    link: VolumeLink,
    identity: Identity,
    known: Mutex<Known>,
    /// The service that answered last.
    preferred: AtomicUsize,
}

#[derive(Default)]
struct Known {
    services: BTreeMap<String, Service>,
    looked: Option<Instant>,
}

impl ClusterIndex {
    /// Index services of the cluster that `link` reaches.
    #[must_use]
    pub fn new(link: VolumeLink, identity: Identity) -> Self {
        let (known, preferred) = (Mutex::default(), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { link, identity, known, preferred }) }
    }
}

/// The address in the name of an index service that follows the log now.
fn address(consumer: &ConsumerStatus) -> Option<&str> {
    let (kind, address) = consumer.name.split_once('@')?;
    (kind == "index" && consumer.idle_ms <= SILENT_MS_MAX && !address.is_empty()).then_some(address)
}

/// A question that takes its time by itself.
fn waits(request: &GraphRequest) -> bool {
    matches!(request, GraphRequest::Watch { .. } | GraphRequest::Check | GraphRequest::Cypher(_))
}

impl Shared {
    /// The services there are, asked for at the metadata service when that was some time ago, or `anew`.
    async fn services(&self, anew: bool) -> Result<Vec<Service>, String> {
        {
            let known = self.known.lock();
            let fresh = known.looked.is_some_and(|looked| looked.elapsed() < KNOWN_FOR);
            if fresh && !anew && !known.services.is_empty() {
                return Ok(known.services.values().cloned().collect());
            }
        }
        let consumers = match self.link.ask(MetaRequest::Admin(AdminRequest::Consumers)).await? {
            MetaReply::Consumers(consumers) => consumers,
            _ => return Err("the metadata service does not tell who follows its log".to_owned()),
        };
        let mut known = self.known.lock();
        let mut services = BTreeMap::new();
        for address in consumers.iter().filter_map(address) {
            let service = match known.services.get(address) {
                Some(service) => Arc::clone(service),
                None => {
                    let made = QuicChannel::<GraphProtocol>::new(address.to_owned(), &self.identity, Role::Index);
                    Arc::new(made.map_err(|error| error.to_string())?)
                }
            };
            services.insert(address.to_owned(), service);
        }
        known.services = services;
        known.looked = Some(Instant::now());
        Ok(known.services.values().cloned().collect())
    }

    async fn call(&self, call: GraphCall, deadline: Option<Duration>) -> Result<(GraphReply, Bytes), CallError> {
        let away = |reason: String| CallError::Unreachable { peer: "an index service".to_owned(), reason };
        let until = deadline.map(|deadline| Instant::now() + deadline);
        let mut last = away("none follows the change log: start one with `dgfs index`".to_owned());
        for anew in [false, true] {
            let services = self.services(anew).await.map_err(away)?;
            let first = self.preferred.load(Ordering::Acquire);
            let order = (0..services.len()).map(|at| (first + at) % services.len());
            let tries = services.len().min(TRIED_MAX);
            for (tried, at) in order.take(tries).enumerate() {
                let Some(service) = services.get(at) else { continue };
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Err(last);
                }
                // One that hangs must leave the others some time.
                let others = if waits(&call.request) { 0 } else { tries - tried - 1 };
                let time = left.map(|left| left / u32::try_from(others + 1).unwrap_or(u32::MAX));
                match service.call(call.clone(), Bytes::new(), time).await {
                    Ok(answer) => {
                        self.preferred.store(at, Ordering::Release);
                        return Ok(answer);
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }
}

impl Channel<GraphProtocol> for ClusterIndex {
    fn call(
        &self,
        call: GraphCall,
        _body: Bytes,
        deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(GraphReply, Bytes), CallError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.call(call, deadline).await })
    }

    fn peer(&self) -> &str {
        "the cluster's index"
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::Seq;
    use dgfs_proto::meta::ConsumerStatus;

    use super::address;

    #[test]
    fn services_are_found_by_the_names_under_which_they_follow() {
        let consumer = |name: &str, idle_ms| ConsumerStatus { name: name.to_owned(), seq: Seq(1), idle_ms };
        assert_eq!(address(&consumer("index@127.0.0.1:7", 5)), Some("127.0.0.1:7"));
        assert_eq!(address(&consumer("index@127.0.0.1:7", 60_000)), None, "it is gone");
        assert_eq!(address(&consumer("index", 5)), None);
        assert_eq!(address(&consumer("index@", 5)), None);
        assert_eq!(address(&consumer("audit@127.0.0.1:7", 5)), None);
    }
}
