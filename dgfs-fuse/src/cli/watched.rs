//! The daemons of a cluster, and how operators ask them.
//!
//! Never waits for one daemon before another one is asked. Always: whoever does not answer is named.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use dgfs_proto::meta::{AdminRequest, MetaReply, MetaRequest};
use dgfs_proto::watch::{WatchCall, WatchReply, WatchRequest};
use dgfs_runtime::channel::{Channel, Role, WatchProtocol};
use dgfs_runtime::pki::Identity;
use dgfs_runtime::quic::channel::QuicChannel;
use dgfs_runtime::telemetry::fresh_request_id;

use crate::cli::Failure;
use crate::cli::daemon::read_identity;
use crate::cli::files::{ClientFile, read_file};
use crate::volume::VolumeLink;

/// How long one daemon is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// One daemon.
pub(crate) struct Daemon {
    /// `meta`, `stored` or `index`.
    pub(crate) part: &'static str,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// A storage server's label, else empty.
    pub(crate) label: String,
    /// A storage server's number, else none.
    pub(crate) number: Option<u32>,
    channel: Arc<dyn Channel<WatchProtocol>>,
}

impl Daemon {
    /// The one at `address`; a storage server also by its label and number. Nothing is asked yet.
    pub(crate) fn at(
        identity: &Identity,
        (part, role): (&'static str, Role),
        address: &str,
        named: Option<(String, u32)>,
    ) -> Result<Self, Failure> {
        let channel = QuicChannel::<WatchProtocol>::new(address.to_owned(), identity, role).map_err(Failure::new)?;
        let (label, number) = named.map_or((String::new(), None), |(label, number)| (label, Some(number)));
        Ok(Self { part, address: address.to_owned(), label, number, channel: Arc::new(channel) })
    }

    /// Its name for people.
    pub(crate) fn name(&self) -> String {
        match self.number {
            Some(number) if self.label != self.address => format!("stored {number} ({})", self.label),
            Some(number) => format!("stored {number} ({})", self.address),
            None => format!("{} {}", self.part, self.address),
        }
    }

    /// Is it what a person calls so?
    pub(crate) fn is_called(&self, word: &str) -> bool {
        let number = self.number.map(|number| number.to_string());
        [self.part, &self.address, &self.label].contains(&word) || number.as_deref() == Some(word)
    }

    /// Asks it.
    pub(crate) async fn ask(&self, request: WatchRequest) -> Result<(WatchReply, Bytes), String> {
        let call = WatchCall { request_id: fresh_request_id(), request };
        let answer = tokio::time::timeout(PATIENCE, self.channel.call(call, Bytes::new(), Some(PATIENCE))).await;
        match answer {
            Ok(Ok((WatchReply::Refused(status), _))) => Err(format!("{} refused: {status}", self.name())),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{} does not answer: {error}", self.name())),
            Err(_) => Err(format!("{} does not answer within {} s", self.name(), PATIENCE.as_secs())),
        }
    }

    /// Its numbers, in Prometheus' text format.
    pub(crate) async fn metrics(&self) -> Result<String, String> {
        let (reply, body) = self.ask(WatchRequest::Metrics).await?;
        match (reply, String::from_utf8(body.to_vec())) {
            (WatchReply::Metrics, Ok(text)) => Ok(text),
            _ => Err(format!("{} answered something else than numbers", self.name())),
        }
    }
}

/// A cluster as operators see it.
pub(crate) struct Cluster {
    pub(crate) link: VolumeLink,
    pub(crate) daemons: Vec<Daemon>,
    /// What is wrong with the list itself, in sentences.
    pub(crate) faults: Vec<String>,
}

impl Cluster {
    /// The daemons of the cluster of a `client.toml`: metadata services by the file, the others by the active one.
    pub(crate) async fn of(config: &Path) -> Result<Self, Failure> {
        let (file, base) = read_file::<ClientFile>(config)?;
        let identity = read_identity(&base.join(&file.identity))?;
        let link = VolumeLink::to_cluster(&file.meta, &identity).map_err(Failure::new)?;
        let mut cluster = Self { link, daemons: Vec::new(), faults: Vec::new() };
        for address in &file.meta {
            cluster.add(&identity, ("meta", Role::Meta), address, None)?;
        }
        let (map, consumers) =
            join(cluster.link.map(), cluster.link.ask(MetaRequest::Admin(AdminRequest::Consumers))).await;
        match map {
            Ok(map) => {
                for server in &map.servers {
                    let named = Some((server.label.clone(), server.id.0));
                    cluster.add(&identity, ("stored", Role::Stored), &server.address, named)?;
                }
            }
            Err(error) => cluster.faults.push(format!("storage servers are not known: {error}")),
        }
        match consumers {
            Ok(MetaReply::Consumers(consumers)) => {
                for consumer in &consumers {
                    if let Some(("index", address)) = consumer.name.split_once('@') {
                        cluster.add(&identity, ("index", Role::Index), address, None)?;
                    }
                }
            }
            Ok(_) => cluster.faults.push("the metadata service does not tell its index services".to_owned()),
            Err(error) => cluster.faults.push(format!("index services are not known: {error}")),
        }
        Ok(cluster)
    }

    fn add(
        &mut self,
        identity: &Identity,
        part: (&'static str, Role),
        address: &str,
        named: Option<(String, u32)>,
    ) -> Result<(), Failure> {
        self.daemons.push(Daemon::at(identity, part, address, named)?);
        Ok(())
    }

    /// The numbers of all daemons, in their order.
    pub(crate) async fn metrics(&self) -> Vec<Result<String, String>> {
        join_all(self.daemons.iter().map(Daemon::metrics)).await
    }
}
