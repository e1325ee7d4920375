//! The daemon `dgfs-index`: the follower against metadata services over QUIC.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use dgfs_runtime::channel::{Channel, MetaProtocol, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::disk;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::{MetricSet, MetricsServer};
use dgfs_runtime::pki::{Identity, PkiError};
use dgfs_runtime::quic::channel::QuicChannel;
use dgfs_runtime::quic::server::QuicError;
use dgfs_runtime::telemetry::LogConfig;

use crate::counts::CountsFile;
use crate::follower::follow;

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexConfig {
    /// Where it keeps what it derived.
    pub dir: PathBuf,
    /// `HOST:PORT` of each metadata service.
    pub meta: Vec<String>,
    /// Directory of `cert.pem`, `key.pem`, `ca.pem` with the role `index`.
    pub identity: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none: nowhere.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// What is logged, and where.
    #[serde(default)]
    pub log: LogConfig,
}

/// Why the daemon did not start.
#[derive(Debug, Error)]
pub enum IndexDaemonError {
    /// The directory.
    #[error("make the directory {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
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

/// Runs the daemon until `shutdown` is asked for.
///
/// # Errors
/// Nothing could be opened.
pub async fn run(config: IndexConfig, shutdown: Shutdown) -> Result<(), IndexDaemonError> {
    let identity = Identity::read(&config.identity)?;
    identity.check_time(&Clock::real())?;
    disk::create_dir_durably(&config.dir)
        .map_err(|source| IndexDaemonError::Directory { path: config.dir.clone(), source })?;
    let mut meta: Vec<Arc<dyn Channel<MetaProtocol>>> = Vec::new();
    for address in &config.meta {
        meta.push(Arc::new(QuicChannel::new(address.clone(), &identity, Role::Meta)?));
    }
    let _metrics = match config.metrics_listen {
        Some(address) => Some(
            MetricsServer::start(address, MetricSet::new(), Arc::new(|| Ok(())))
                .await
                .map_err(|source| IndexDaemonError::Metrics { address, source })?,
        ),
        None => None,
    };
    follow(meta, CountsFile::new(&config.dir), shutdown).await;
    Ok(())
}
