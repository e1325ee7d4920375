//! The daemon `dgfs-meta`: a metadata service behind QUIC.
//!
//! Never decides anything about files; it wires engine, service, transport and
//! metrics together. [`run`] ends when it is asked to stop, everything synced.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::info;

use dgfs_proto::meta::Caller;
use dgfs_runtime::channel::{MetaProtocol, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::{MetricSet, MetricsServer};
use dgfs_runtime::pki::{Identity, PkiError};
use dgfs_runtime::quic::server::{QuicError, QuicServer};
use dgfs_runtime::telemetry::LogConfig;

use crate::engine::fjall::FjallEngine;
use crate::engine::redis::{RedisDurability, RedisEngine};
use crate::engine::{Engine, EngineError};
use crate::metrics;
use crate::service::{MEMORY_BYTES_DEFAULT, MetaOptions, MetaService, SERVER_GRACE_MS_DEFAULT};

/// How long calls under way may take when the daemon stops.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Where the rows are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum EngineConfig {
    /// On this machine's disk.
    Embedded {
        /// The engine's directory, made by `dgfs format`.
        dir: PathBuf,
    },
    /// In Redis 7 or newer (or Valkey).
    Redis {
        /// `redis://[:password@]host:port[/db]`.
        url: String,
        /// The volume's name, part of every key.
        volume: String,
        /// `always`, `everysec` or `replicas=N`.
        durability: String,
    },
}

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaConfig {
    /// Where clients reach it.
    pub listen: SocketAddr,
    /// Directory of `cert.pem`, `key.pem`, `ca.pem` with the role `meta`.
    pub identity: PathBuf,
    /// Where the rows are.
    pub engine: EngineConfig,
    /// MiB of rows kept in memory, about.
    #[serde(default = "memory_mib_default")]
    pub memory_mib: usize,
    /// Who owns the root directory of a new volume.
    #[serde(default)]
    pub root_uid: u32,
    /// Its group.
    #[serde(default)]
    pub root_gid: u32,
    /// Seconds that a storage server may be down before its data are rebuilt on others.
    #[serde(default = "server_grace_s_default")]
    pub server_grace_s: u64,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none: nowhere.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// What is logged, and where.
    #[serde(default)]
    pub log: LogConfig,
}

const fn memory_mib_default() -> usize {
    MEMORY_BYTES_DEFAULT >> 20
}

const fn server_grace_s_default() -> u64 {
    SERVER_GRACE_MS_DEFAULT / 1000
}

/// Why the daemon did not start or stop well. The sentence says what to do.
#[derive(Debug, Error)]
pub enum MetaDaemonError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The durability level.
    #[error("durability `{0}`: use always, everysec or replicas=N")]
    Durability(String),
    /// The certificate.
    #[error(transparent)]
    Identity(#[from] PkiError),
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
}

/// Opens the engine that `config` names.
///
/// # Errors
/// The engine's own, as sentences; a bad durability level.
pub async fn open_engine(config: &EngineConfig) -> Result<Arc<dyn Engine>, MetaDaemonError> {
    match config {
        EngineConfig::Embedded { dir } => Ok(Arc::new(FjallEngine::open(dir)?)),
        EngineConfig::Redis { url, volume, durability } => {
            let level: RedisDurability =
                durability.parse().map_err(|_| MetaDaemonError::Durability(durability.clone()))?;
            let engine = RedisEngine::connect(url, volume, level).await?;
            for warning in engine.warnings() {
                tracing::warn!("{warning}");
            }
            Ok(Arc::new(engine))
        }
    }
}

/// Runs the daemon until `shutdown` is asked for. `started` hears where it listens.
///
/// # Errors
/// Nothing could be opened, or the last sync failed.
pub async fn run(
    config: MetaConfig,
    shutdown: Shutdown,
    started: impl FnOnce(SocketAddr, Option<SocketAddr>),
) -> Result<(), MetaDaemonError> {
    let identity = Identity::read(&config.identity)?;
    let clock = Clock::real();
    identity.check_time(&clock)?;
    let engine = open_engine(&config.engine).await?;
    let options = MetaOptions {
        holder: format!("dgfs-meta {} pid {}", config.listen, std::process::id()),
        memory_bytes: config.memory_mib << 20,
        exclusive: false,
        data: None,
        root_owner: Caller { uid: config.root_uid, gid: config.root_gid },
        server_grace_ms: config.server_grace_s.saturating_mul(1000),
        clock,
    };
    let service = MetaService::start(engine, options).await?;
    let server = QuicServer::bind(config.listen, &identity)?;
    server.serve::<MetaProtocol>(service.clone(), &[Role::Client, Role::Stored, Role::Index])?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(serve_metrics(address, &service).await?),
        None => None,
    };
    let listening = server.local_address().unwrap_or(config.listen);
    info!(%listening, "metadata service listens");
    started(listening, metrics.as_ref().map(MetricsServer::address));
    shutdown.asked().await;
    server.close(CLOSE_GRACE).await;
    service.shutdown().await?;
    Ok(())
}

async fn serve_metrics(address: SocketAddr, service: &Arc<MetaService>) -> Result<MetricsServer, MetaDaemonError> {
    let set = MetricSet::new();
    metrics::register(&set, service);
    let ready = Arc::clone(service);
    let readiness = move || {
        if ready.is_active() { Ok(()) } else { Err("standby: another metadata service is active".to_owned()) }
    };
    MetricsServer::start(address, set, Arc::new(readiness))
        .await
        .map_err(|source| MetaDaemonError::Metrics { address, source })
}
