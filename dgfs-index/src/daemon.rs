//! The daemon `dgfs-index`: the index behind QUIC, following metadata services over QUIC.
//!
//! Never answers or applies anything itself; it wires index, follower, service, transport and metrics together. [`run`]
//! ends when it is asked to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::info;

use dgfs_client::config::{VfsConfig, VfsDeps};
use dgfs_client::stores::{NoChannel, StoresByAddress};
use dgfs_proto::meta::{ClientInfo, ProcessKind};
use dgfs_runtime::announce::{Announcer, ClockOffset, announcement};
use dgfs_runtime::channel::{Channel, ChunkProtocol, GraphProtocol, MetaProtocol, Role, WatchProtocol};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::config;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::{MetricSet, MetricsServer, no_pages};
use dgfs_runtime::pki::{Identity, PkiError};
use dgfs_runtime::process;
use dgfs_runtime::quic::channel::QuicChannel;
use dgfs_runtime::quic::server::{QuicError, QuicServer};
use dgfs_runtime::telemetry::{self, LogConfig};
use dgfs_runtime::watch::{WATCHERS, WatchParts, WatchService};

use crate::follower::follow;
use crate::index::{Index, OpenError};
use crate::meta_link::MetaLink;
use crate::metrics::{register, register_neo4j};
use crate::neo4j::link::LinkError;
use crate::neo4j::service::Neo4j;
use crate::neo4j::settings::Neo4jConfig;
use crate::service::{Extension, IndexService, ServiceParts};
use crate::tagging::{Tagging, TaggingParts, worker_command};

/// How long calls under way may take when the daemon stops.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexConfig {
    /// Where it keeps what it derived.
    #[serde(deserialize_with = "config::path")]
    pub dir: PathBuf,
    /// Where users register taggers of their own; none: `taggers` beside `dir`, which may be removed.
    #[serde(default, deserialize_with = "config::optional_path", skip_serializing_if = "Option::is_none")]
    pub registrations: Option<PathBuf>,
    /// Where clients reach it.
    pub listen: SocketAddr,
    /// `HOST:PORT` at which clients are told to reach it; none: where it listens. The change log is followed under this name,
    /// and kept until each index that follows it has applied it.
    #[serde(default)]
    pub advertise: Option<String>,
    /// `HOST:PORT` of each metadata service.
    pub meta: Vec<String>,
    /// Directory of `cert.pem`, `key.pem`, `ca.pem` with the role `index`.
    #[serde(deserialize_with = "config::path")]
    pub identity: PathBuf,
    /// Worker processes that look at the contents of files at the same time; 0: contents are not looked at.
    #[serde(default = "taggers_default")]
    pub taggers: usize,
    /// The Neo4j server that is to hold the graph as well; none: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neo4j: Option<Neo4jConfig>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none: nowhere.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// What is logged, and where.
    #[serde(default)]
    pub log: LogConfig,
}

/// Worker processes unless told otherwise.
pub const TAGGERS_DEFAULT: usize = 1;

fn taggers_default() -> usize {
    TAGGERS_DEFAULT
}

/// Why the daemon did not start.
#[derive(Debug, Error)]
pub enum IndexDaemonError {
    /// The index itself.
    #[error(transparent)]
    Index(#[from] OpenError),
    /// The certificate.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The settings of Neo4j.
    #[error(transparent)]
    Neo4j(#[from] LinkError),
    /// The transport.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The metrics address.
    #[error("listen at {address} for metrics: {source}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A bug; the log has more.
    #[error("the index ended early; see the log")]
    Panicked,
}

/// Runs the daemon until `shutdown` is asked for. `started` hears where it listens, for calls and for metrics.
///
/// # Errors
/// Nothing could be opened.
pub async fn run(
    config: IndexConfig,
    shutdown: Shutdown,
    started: impl FnOnce(SocketAddr, Option<SocketAddr>),
) -> Result<(), IndexDaemonError> {
    let identity = Identity::read(&config.identity)?;
    identity.check_time(&Clock::real())?;
    config.neo4j.as_ref().map(Neo4jConfig::check).transpose()?;
    let mut metas: Vec<Arc<dyn Channel<MetaProtocol>>> = Vec::new();
    for address in &config.meta {
        metas.push(Arc::new(QuicChannel::<MetaProtocol>::new(address.clone(), &identity, Role::Meta)?));
    }
    let dir = config.dir.clone();
    let opened = tokio::task::spawn_blocking(move || Index::open(&dir)).await;
    let index = opened.map_err(|_| IndexDaemonError::Panicked)??;
    let advertised = config.advertise.clone().unwrap_or_else(|| config.listen.to_string());
    let meta = MetaLink::new(metas.clone(), &format!("index@{advertised}"));
    let to_announce = metas.clone();
    let tagging = (config.taggers > 0).then(|| tagging(&config, (&index, &identity), metas));
    let set = MetricSet::new();
    process::register(&set, "index", Some(&identity));
    let offset = ClockOffset::default();
    offset.register(&set);
    let neo4j = config.neo4j.clone().map(|neo4j| Neo4j::new(neo4j, Arc::clone(&index), Arc::clone(&meta)));
    if let Some(neo4j) = &neo4j {
        register_neo4j(&set, neo4j);
    }
    let service = IndexService::new(ServiceParts {
        index: Arc::clone(&index),
        meta: Arc::clone(&meta),
        clock: Clock::real(),
        numbers: register(&set, &index),
        cypher: neo4j.clone().map(|neo4j| Arc::new(neo4j) as Arc<dyn Extension>),
        taggers: tagging.clone().map(|tagging| tagging as Arc<dyn Extension>),
        tagger_versions: tagging.as_ref().map_or_else(Vec::new, |tagging| tagging.versions()),
    });
    let server = QuicServer::bind(config.listen, &identity)?;
    server.serve::<GraphProtocol>(service, &[Role::Client, Role::Index])?;
    telemetry::register(&set);
    if let Some(tagging) = &tagging {
        tagging.register(&set);
    }
    let mut watched = WatchParts::new("index", set.clone(), &identity, &config);
    watched.directory = Some(config.dir.clone());
    server.serve::<WatchProtocol>(WatchService::new(watched), WATCHERS)?;
    let listening = server.local_address().unwrap_or(config.listen);
    let metrics = match config.metrics_listen {
        Some(address) => Some(serve_metrics(address, set, &index).await?),
        None => None,
    };
    info!(%listening, "index listens");
    let metrics_at = metrics.as_ref().map(|metrics| metrics.address().to_string());
    let announcer = Announcer::start(to_announce, announcement(ProcessKind::Index, &advertised, metrics_at), offset);
    started(listening, metrics.as_ref().map(MetricsServer::address));
    let looking = tagging.map(|tagging| tokio::spawn(tagging.run(shutdown.clone())));
    let followed = neo4j.map(|neo4j| tokio::spawn(neo4j.run(shutdown.clone())));
    follow(index, meta, shutdown).await;
    announcer.leave().await;
    if let Some(followed) = followed {
        followed.await.map_err(|_| IndexDaemonError::Panicked)?;
    }
    if let Some(looking) = looking {
        looking.await.map_err(|_| IndexDaemonError::Panicked)?;
    }
    server.close(CLOSE_GRACE).await;
    Ok(())
}

/// Whoever looks at contents, read from the cluster's storage servers.
fn tagging(
    config: &IndexConfig,
    (index, identity): (&Arc<Index>, &Identity),
    meta: Vec<Arc<dyn Channel<MetaProtocol>>>,
) -> Arc<Tagging> {
    let identity = identity.clone();
    let make = move |address: &str| -> Arc<dyn Channel<ChunkProtocol>> {
        match QuicChannel::<ChunkProtocol>::new(address.to_owned(), &identity, Role::Stored) {
            Ok(channel) => Arc::new(channel),
            Err(error) => Arc::new(NoChannel::new(error.to_string())),
        }
    };
    let deps = VfsDeps { meta, stores: Arc::new(StoresByAddress::new(make)), graph: Vec::new() };
    Tagging::new(TaggingParts {
        index: Arc::clone(index),
        contents: (VfsConfig::cluster(ClientInfo::default()), deps),
        worker: worker_command(),
        workers: config.taggers,
        registrations: config.registrations.clone().unwrap_or_else(|| config.dir.with_file_name("taggers")),
        spool: config.dir.join("spool"),
    })
}

async fn serve_metrics(
    address: SocketAddr,
    set: MetricSet,
    index: &Arc<Index>,
) -> Result<MetricsServer, IndexDaemonError> {
    let index = Arc::clone(index);
    let readiness = move || match index.building() {
        Some(inodes) if index.last_event().is_none() => {
            Err(format!("the index is being built: {inodes} inodes read so far"))
        }
        Some(_) | None => Ok(()),
    };
    MetricsServer::start(address, set, Arc::new(readiness), no_pages())
        .await
        .map_err(|source| IndexDaemonError::Metrics { address, source })
}
