//! The daemon `dgfs-stored`: a store behind QUIC, a member of a cluster.
//!
//! Never touches a chunk itself; it wires store, service, transport, membership
//! and metrics together. [`run`] ends when it is asked to stop, everything synced.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::info;

use dgfs_client::stores::{ChunkDirectory, NoChannel, StoresByAddress};
use dgfs_proto::map::Labels;
use dgfs_proto::meta::ProcessKind;
use dgfs_runtime::announce::{Announcer, ClockOffset, announcement, of_server};
use dgfs_runtime::channel::{Channel, ChunkProtocol, MetaProtocol, Role, WatchProtocol};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::config;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::{MetricSet, MetricsServer};
use dgfs_runtime::pki::{Identity, PkiError};
use dgfs_runtime::process;
use dgfs_runtime::quic::channel::QuicChannel;
use dgfs_runtime::quic::server::{QuicError, QuicServer};
use dgfs_runtime::telemetry::{self, LogConfig};
use dgfs_runtime::watch::{WATCHERS, WatchParts, WatchService};

use crate::aside::Aside;
use crate::beat::{Joining, Member, Peers};
use crate::metrics;
use crate::pages::pages;
use crate::service::StoreService;
use crate::store::{OpenError, Store, StoreOptions};
use crate::view::ClusterView;

/// How long calls under way may take when the daemon stops.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// [`StoredConfig::scrub_period_s`] unless told otherwise.
pub const SCRUB_PERIOD_S_DEFAULT: u64 = 7 * 24 * 3600;

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredConfig {
    /// Where the chunks lie; made where missing.
    #[serde(deserialize_with = "config::path")]
    pub dir: PathBuf,
    /// Where clients reach it.
    pub listen: SocketAddr,
    /// `HOST:PORT` told to clients, where it is not the address listened at (0.0.0.0, a container).
    #[serde(default)]
    pub advertise: Option<String>,
    /// `HOST:PORT` of each metadata service.
    pub meta: Vec<String>,
    /// Directory of `cert.pem`, `key.pem`, `ca.pem` with the role `stored`.
    #[serde(deserialize_with = "config::path")]
    pub identity: PathBuf,
    /// Its name for people; the address where none is given.
    #[serde(default)]
    pub label: String,
    /// Where it stands: room, machine, disk. Copies of a chunk never share the narrowest of these that there are enough of.
    #[serde(default)]
    pub labels: Labels,
    /// MiB a second that repair and rebalancing may fetch; none: as fast as it goes.
    #[serde(default)]
    pub repair_mib_s: Option<u64>,
    /// Seconds in which everything is read and checked once.
    #[serde(default = "scrub_period_s_default")]
    pub scrub_period_s: u64,
    /// MiB of the disk kept back for deletes and compaction; none: 64, or 1 % of the disk where that is less.
    #[serde(default)]
    pub reserve_mib: Option<u64>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none: nowhere.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// What is logged, and where.
    #[serde(default)]
    pub log: LogConfig,
}

/// A week, as for disks of mirrored arrays.
const fn scrub_period_s_default() -> u64 {
    SCRUB_PERIOD_S_DEFAULT
}

/// Why the daemon did not start or stop well. The sentence says what to do.
#[derive(Debug, Error)]
pub enum StoredDaemonError {
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The certificate.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The transport.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The cluster.
    #[error("{0}")]
    Join(String),
    /// The metrics address.
    #[error("listen at {address} for metrics: {source}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// No thread for numbers and heartbeats.
    #[error("start a thread for numbers and heartbeats: {0}; see whether the limit of processes or memory is reached")]
    Thread(std::io::Error),
    /// A bug; the log has more.
    #[error("a part of the daemon ended early; see the log")]
    Panicked,
}

/// Runs the daemon until `shutdown` is asked for. `started` hears where it listens, once it joined.
///
/// # Errors
/// The directory, the certificate, an address, or the cluster refused.
pub async fn run(
    config: StoredConfig,
    shutdown: Shutdown,
    started: impl FnOnce(SocketAddr, Option<SocketAddr>),
) -> Result<(), StoredDaemonError> {
    let identity = Identity::read(&config.identity)?;
    identity.check_time(&Clock::real())?;
    let options = StoreOptions {
        reserve_bytes: config.reserve_mib.map(|mib| mib << 20),
        puts_are_synced: true,
        ..StoreOptions::new(&config.dir)
    };
    let store = blocking(move || Store::open(options)).await??;
    let served = serve(&config, &identity, &store, &shutdown, started).await;
    blocking(move || store.close()).await?;
    served
}

async fn serve(
    config: &StoredConfig,
    identity: &Identity,
    store: &Arc<Store>,
    shutdown: &Shutdown,
    started: impl FnOnce(SocketAddr, Option<SocketAddr>),
) -> Result<(), StoredDaemonError> {
    let aside = Aside::start().map_err(StoredDaemonError::Thread)?;
    let view = ClusterView::new(Arc::clone(store), metas(config, identity)?, peers(identity));
    let server = QuicServer::bind(config.listen, identity)?;
    let service = StoreService::of_member(Arc::clone(&view));
    server.serve::<ChunkProtocol>(service, &[Role::Client, Role::Stored, Role::Index])?;
    let (set, offset) = (MetricSet::new(), ClockOffset::default());
    process::register(&set, "stored", Some(identity));
    metrics::register(&set, store);
    offset.register(&set);
    telemetry::register(&set);
    let mut watched = WatchParts::new("stored", set.clone(), identity, config);
    watched.directory = Some(config.dir.clone());
    server.serve::<WatchProtocol>(WatchService::new(watched), WATCHERS)?;
    let listening = server.local_address().unwrap_or(config.listen);
    let metrics = match config.metrics_listen {
        Some(address) => Some(serve_metrics(&aside, address, set, store).await?),
        None => None,
    };
    let address = config.advertise.clone().unwrap_or_else(|| listening.to_string());
    let label = if config.label.is_empty() { address.clone() } else { config.label.clone() };
    let peers = Peers {
        view,
        repair_bytes_per_s: config.repair_mib_s.map(|mib| mib << 20),
        scrub_period: Duration::from_secs(config.scrub_period_s.max(1)),
    };
    let (store, labels) = (Arc::clone(store), config.labels.clone());
    let who = announcement(ProcessKind::Stored, &label, metrics.as_ref().map(|metrics| metrics.address().to_string()));
    // Channels of their own: a connection is kept by the runtime that opened it.
    let beats = {
        let _there = aside.enter();
        metas(config, identity)?
    };
    let to_announce = beats.clone();
    let joining = Joining { store, metas: beats, address, label, labels, peers: Some(peers), work: Handle::current() };
    let joining = aside.run(Member::join(joining));
    let member = tokio::select! {
        member = joining => member.ok_or(StoredDaemonError::Panicked)?.map_err(StoredDaemonError::Join)?,
        () = shutdown.asked() => {
            server.close(CLOSE_GRACE).await;
            return Ok(());
        }
    };
    info!(%listening, "storage daemon listens");
    let announcer = {
        let _there = aside.enter();
        Announcer::start(to_announce, of_server(who, member.id()), offset)
    };
    started(listening, metrics.as_ref().map(MetricsServer::address));
    shutdown.asked().await;
    announcer.leave().await;
    member.leave().await;
    server.close(CLOSE_GRACE).await;
    Ok(())
}

/// Channels to the metadata services.
fn metas(config: &StoredConfig, identity: &Identity) -> Result<Vec<Arc<dyn Channel<MetaProtocol>>>, StoredDaemonError> {
    let mut metas: Vec<Arc<dyn Channel<MetaProtocol>>> = Vec::new();
    for meta in &config.meta {
        metas.push(Arc::new(QuicChannel::<MetaProtocol>::new(meta.clone(), identity, Role::Meta)?));
    }
    Ok(metas)
}

/// Channels to other storage servers.
fn peers(identity: &Identity) -> Arc<dyn ChunkDirectory> {
    let identity = identity.clone();
    let make = move |address: &str| -> Arc<dyn Channel<ChunkProtocol>> {
        match QuicChannel::<ChunkProtocol>::new(address.to_owned(), &identity, Role::Stored) {
            Ok(channel) => Arc::new(channel),
            Err(error) => Arc::new(NoChannel::new(error.to_string())),
        }
    };
    Arc::new(StoresByAddress::new(make))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoredDaemonError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoredDaemonError::Panicked)
}

async fn serve_metrics(
    aside: &Aside,
    address: SocketAddr,
    set: MetricSet,
    store: &Arc<Store>,
) -> Result<MetricsServer, StoredDaemonError> {
    let (store, pages) = (Arc::clone(store), pages(store));
    let readiness = move || store.check_writable();
    let started = aside.run(MetricsServer::start(address, set, Arc::new(readiness), pages)).await;
    started.ok_or(StoredDaemonError::Panicked)?.map_err(|source| StoredDaemonError::Metrics { address, source })
}
