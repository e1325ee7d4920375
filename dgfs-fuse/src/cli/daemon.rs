//! `dgfs meta`, `dgfs stored`, `dgfs index`: the daemons, each by its configuration file.
//!
//! Never starts another process. A daemon whose configuration lies beside a file `pids` (a cluster of `dgfs up`) keeps
//! its line there, however it was started; it says when it is ready (to its parent, and to the service manager if it has
//! one), and ends in order on SIGTERM and SIGINT.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use dgfs_index::daemon::IndexConfig;
use dgfs_index::neo4j::settings::Neo4jConfig;
use dgfs_meta::daemon::{EngineConfig, MetaConfig};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::{Shutdown, build_runtime};
use dgfs_runtime::pki::Identity;
use dgfs_runtime::supervisor::Supervisor;
use dgfs_runtime::telemetry::{self, LogConfig};
use dgfs_stored::daemon::StoredConfig;

use crate::cli::args::DaemonArgs;
use crate::cli::args::graph::IndexArgs;
use crate::cli::background::Ready;
use crate::cli::files::{ClientFile, read_file};
use crate::cli::pids::PidFile;
use crate::cli::{CODE_USAGE, Failure, paths};
use crate::volume::VolumeLink;

/// What calls that run get to end when a daemon stops.
const GRACE: Duration = Duration::from_secs(2);

/// Channels to the cluster of a `client.toml`. Must be called inside a tokio runtime.
pub(crate) fn link_to(config: &Path) -> Result<VolumeLink, Failure> {
    let (file, base) = read_file::<ClientFile>(config)?;
    let identity = read_identity(&base.join(&file.identity))?;
    VolumeLink::to_cluster(&file.meta, &identity).map_err(Failure::new)
}

/// An identity that is valid now.
pub(crate) fn read_identity(directory: &Path) -> Result<Identity, Failure> {
    let identity = Identity::read(directory).map_err(Failure::new)?;
    identity.check_time(&Clock::real()).map_err(Failure::new)?;
    Ok(identity)
}

/// A daemon's configuration. That it cannot be used is told by the exit code too: starting again does not help.
fn read_daemon_file<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf), Failure> {
    read_file(path).map_err(|failure| failure.with_code(CODE_USAGE))
}

/// Runs a metadata service.
pub(crate) fn meta(args: &DaemonArgs) -> Result<(), Failure> {
    let (mut config, base) = read_daemon_file::<MetaConfig>(&args.config)?;
    config.identity = base.join(&config.identity);
    if let EngineConfig::Embedded { dir } = &mut config.engine {
        *dir = base.join(&*dir);
    }
    if let Some(join) = &mut config.join {
        join.authority = base.join(&join.authority);
    }
    if let Some(alerts) = &mut config.alerts {
        alerts.token_file = base.join(&alerts.token_file);
    }
    let log = config.log.clone();
    run(args, &log, async move |process| {
        let shutdown = process.shutdown.clone();
        let outcome = dgfs_meta::daemon::run(config, shutdown, |listening, _| process.serving(listening)).await;
        outcome.map_err(Failure::new)
    })
}

/// Runs an index service.
pub(crate) fn index(args: &IndexArgs) -> Result<(), Failure> {
    let config = args.config.clone().ok_or_else(|| Failure::new("expected --config FILE"))?;
    let args = &DaemonArgs { config, ready_fd: args.ready_fd };
    let (mut config, base) = read_daemon_file::<IndexConfig>(&args.config)?;
    config.identity = base.join(&config.identity);
    config.dir = base.join(&config.dir);
    config.neo4j = config.neo4j.map(|neo4j| neo4j.below(&base));
    let refused = |error| Failure::new(format!("{}: {error}", args.config.display())).with_code(CODE_USAGE);
    config.neo4j.as_ref().map(Neo4jConfig::check).transpose().map_err(refused)?;
    let log = config.log.clone();
    run(args, &log, async move |process| {
        let shutdown = process.shutdown.clone();
        let outcome = dgfs_index::daemon::run(config, shutdown, |listening, _| process.serving(listening)).await;
        outcome.map_err(Failure::new)
    })
}

/// Runs a storage daemon.
pub(crate) fn stored(args: &DaemonArgs) -> Result<(), Failure> {
    let (mut config, base) = read_daemon_file::<StoredConfig>(&args.config)?;
    config.identity = base.join(&config.identity);
    config.dir = base.join(&config.dir);
    let log = config.log.clone();
    run(args, &log, async move |process| {
        let shutdown = process.shutdown.clone();
        let outcome = dgfs_stored::daemon::run(config, shutdown, |listening, _| process.serving(listening)).await;
        outcome.map_err(Failure::new)
    })
}

/// A daemon's process.
struct Process<'a> {
    ready: &'a mut Ready,
    shutdown: Shutdown,
    supervisor: Supervisor,
    /// Where its line is, and the line's role.
    line: Option<(PidFile, String)>,
}

impl Process<'_> {
    /// Everything is up.
    fn serving(&mut self, listening: SocketAddr) {
        self.note(Some(std::process::id()));
        self.ready.ready();
        self.supervisor.ready(&format!("serving at {listening}"));
    }

    fn note(&self, pid: Option<u32>) {
        let Some((pids, role)) = &self.line else { return };
        if let Err(error) = pids.set(role, pid) {
            tracing::warn!(%error, "the pids file cannot be kept true");
        }
    }
}

/// The line of a daemon in a cluster of `dgfs up`.
fn line_of(config: &Path) -> Option<(PidFile, String)> {
    let role = config.file_stem()?.to_str()?.to_owned();
    let pids: PathBuf = std::path::absolute(config).ok()?.with_file_name("pids");
    pids.exists().then(|| (PidFile::new(pids), role))
}

fn run<F>(args: &DaemonArgs, log: &LogConfig, body: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(&mut Process<'_>) -> Result<(), Failure>,
{
    let mut ready = Ready::from_option(args.ready_fd)?;
    telemetry::init(log, paths::log_level().as_deref()).map_err(Failure::new)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = build_runtime("dgfs", (cores / 2).max(1)).map_err(Failure::new)?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.ask_on_signals().map_err(Failure::new)?;
        let supervisor = Supervisor::attach(&shutdown);
        let mut process = Process { ready: &mut ready, shutdown, supervisor, line: line_of(&args.config) };
        let outcome = body(&mut process).await;
        process.note(None);
        outcome
    });
    runtime.shutdown_timeout(GRACE);
    if let Err(failure) = &outcome {
        ready.failed(&failure.sentence);
    }
    outcome
}
