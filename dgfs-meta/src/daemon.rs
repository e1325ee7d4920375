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

use dgfs_proto::meta::{Caller, ProcessKind};
use dgfs_runtime::announce::{announcement, host};
use dgfs_runtime::channel::{MetaProtocol, Role, WatchProtocol};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::config;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::{MetricSet, MetricsServer};
use dgfs_runtime::pki::registrar::{CERTIFICATE_DAYS_DEFAULT, Registrar};
use dgfs_runtime::pki::{Identity, PkiError};
use dgfs_runtime::process;
use dgfs_runtime::quic::join::JoinServer;
use dgfs_runtime::quic::server::{QuicError, QuicServer};
use dgfs_runtime::telemetry::{self, LogConfig};
use dgfs_runtime::watch::{WATCHERS, WatchParts, WatchService};

use crate::engine::fjall::FjallEngine;
use crate::engine::redis::{RedisDurability, RedisEngine};
use crate::engine::{Engine, EngineError};
use crate::service::{MEMORY_BYTES_DEFAULT, MetaOptions, MetaService, SERVER_GRACE_MS_DEFAULT};
use crate::{metrics, pages};

/// How long calls under way may take when the daemon stops.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Bytes of the token for alerts at least: nobody guesses so many.
const ALERTS_TOKEN_BYTES_MIN: usize = 16;
/// Days of a joiner's certificate at most: a hundred years.
const CERTIFICATE_DAYS_MAX: u32 = 36_525;

/// Where the rows are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum EngineConfig {
    /// On this machine's disk.
    Embedded {
        /// The engine's directory, made by `dgfs format`.
        #[serde(deserialize_with = "config::path")]
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
    #[serde(deserialize_with = "config::path")]
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
    /// Where machines join the cluster by token; none: not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinConfig>,
    /// How alerts are taken; none: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertsConfig>,
    /// What is logged, and where.
    #[serde(default)]
    pub log: LogConfig,
}

/// How alerts are taken, at `/alerts` of `metrics_listen`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsConfig {
    /// A file whose first line Alertmanager shows as `Authorization: Bearer`; at least 16 bytes.
    #[serde(deserialize_with = "config::path")]
    pub token_file: PathBuf,
}

/// How machines join by token (`dgfs join`). Whoever reads `authority` can make members of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// Where they join: a port of its own.
    pub listen: SocketAddr,
    /// Directory of `ca.pem` and `ca.key`; the used tokens are remembered in its `used`.
    #[serde(deserialize_with = "config::path")]
    pub authority: PathBuf,
    /// Days a certificate is valid.
    #[serde(default = "certificate_days_default")]
    pub cert_days: u32,
    /// `HOST:PORT` of every metadata service, told to who joins; none: this one, at the host that was reached.
    #[serde(default)]
    pub meta: Vec<String>,
}

const fn certificate_days_default() -> u32 {
    CERTIFICATE_DAYS_DEFAULT
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
    /// The certificate, or the authority.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The validity of certificates.
    #[error("join.cert_days must be 1 to {CERTIFICATE_DAYS_MAX}, not {0}")]
    CertificateDays(u32),
    /// The transport.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The token for alerts.
    #[error("the token for alerts in {}: {reason}; write at least 16 random letters into its first line", path.display())]
    AlertsToken {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
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
    let token = config.alerts.as_ref().map(read_token).transpose()?;
    let service = MetaService::start(engine, options).await?;
    let server = QuicServer::bind(config.listen, &identity)?;
    server.serve::<MetaProtocol>(service.clone(), &[Role::Client, Role::Stored, Role::Index])?;
    let set = MetricSet::new();
    process::register(&set, "meta", Some(&identity));
    metrics::register(&set, &service);
    service.register_clock(&set);
    telemetry::register(&set);
    let mut watched = WatchParts::new("meta", set.clone(), &identity, &config);
    if let EngineConfig::Embedded { dir } = &config.engine {
        watched.directory = Some(dir.clone());
    }
    server.serve::<WatchProtocol>(WatchService::new(watched), WATCHERS)?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(serve_metrics(address, set, &service, token).await?),
        None => None,
    };
    let listening = server.local_address().unwrap_or(config.listen);
    let metrics_at = metrics.as_ref().map(|metrics| reachable(metrics.address()));
    service.introduce(announcement(ProcessKind::Meta, &reachable(listening), metrics_at));
    let joining = config.join.as_ref().map(|join| serve_joins(join, &identity, listening)).transpose()?;
    info!(%listening, "metadata service listens");
    started(listening, metrics.as_ref().map(MetricsServer::address));
    shutdown.asked().await;
    if let Some(joining) = joining {
        joining.close(CLOSE_GRACE).await;
    }
    server.close(CLOSE_GRACE).await;
    service.shutdown().await?;
    Ok(())
}

/// The join endpoint of a service that listens at `service`.
fn serve_joins(join: &JoinConfig, identity: &Identity, service: SocketAddr) -> Result<JoinServer, MetaDaemonError> {
    if !(1..=CERTIFICATE_DAYS_MAX).contains(&join.cert_days) {
        return Err(MetaDaemonError::CertificateDays(join.cert_days));
    }
    let meta = match (join.meta.is_empty(), service.ip().is_unspecified()) {
        (false, _) => join.meta.clone(),
        (true, true) => vec![format!(":{}", service.port())],
        (true, false) => vec![service.to_string()],
    };
    let registrar = Registrar::open(&join.authority, join.cert_days, meta)?;
    let server = JoinServer::bind(join.listen, identity, Arc::new(registrar))?;
    info!(listening = %server.local_address().unwrap_or(join.listen), "machines join by token");
    Ok(server)
}

/// An address as others may use it: "any address" of this machine by the machine's name.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("{}:{}", host(), address.port()) } else { address.to_string() }
}

fn read_token(config: &AlertsConfig) -> Result<String, MetaDaemonError> {
    let refused = |reason: String| MetaDaemonError::AlertsToken { path: config.token_file.clone(), reason };
    let text = std::fs::read_to_string(&config.token_file).map_err(|error| refused(error.to_string()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < ALERTS_TOKEN_BYTES_MIN {
        return Err(refused(format!("its first line has less than {ALERTS_TOKEN_BYTES_MIN} bytes")));
    }
    Ok(token.to_owned())
}

async fn serve_metrics(
    address: SocketAddr,
    set: MetricSet,
    service: &Arc<MetaService>,
    token: Option<String>,
) -> Result<MetricsServer, MetaDaemonError> {
    let ready = Arc::clone(service);
    let readiness = move || {
        if ready.is_active() { Ok(()) } else { Err("standby: another metadata service is active".to_owned()) }
    };
    let boxes = (pages::pages(service), pages::inbox(service, token));
    MetricsServer::start_with_inbox(address, set, Arc::new(readiness), boxes)
        .await
        .map_err(|source| MetaDaemonError::Metrics { address, source })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dgfs_runtime::config::parse;

    use super::MetaConfig;

    const REQUIRED: &str = "listen = \"127.0.0.1:1\"\nidentity = \"i\"\n[engine.embedded]\ndir = \"d\"\n";

    #[test]
    fn machines_join_only_where_the_configuration_says_so() {
        let without: MetaConfig = parse(Path::new("meta.toml"), REQUIRED).unwrap();
        assert_eq!(without.join, None);
        let text = format!("{REQUIRED}[join]\nlisten = \"127.0.0.1:2\"\nauthority = \"ca\"\n");
        let join = parse::<MetaConfig>(Path::new("meta.toml"), &text).unwrap().join.unwrap();
        assert_eq!((join.cert_days, join.meta), (365, Vec::new()));
        let misspelt = text.replace("authority", "authorities");
        assert!(
            parse::<MetaConfig>(Path::new("meta.toml"), &misspelt).unwrap_err().to_string().contains("authorities")
        );
    }
}
