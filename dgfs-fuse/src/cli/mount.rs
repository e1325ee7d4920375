//! `dgfs mount`.
//!
//! Never leaves anything unwritten behind on an orderly end: unmounted, asked to stop by a signal, or the connection
//! broken, it sends and syncs everything before the process ends.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dgfs_client::config::{DiskCacheConfig, VfsConfig, VfsDeps};
use dgfs_client::vfs::Vfs;
use dgfs_proto::meta::{Caller, ClientInfo, ProcessKind};
use dgfs_runtime::announce::{Announcer, ClockOffset, announcement};
use dgfs_runtime::disk::create_dir_durably;
use dgfs_runtime::lifecycle::{Shutdown, build_runtime};
use dgfs_runtime::metrics::{MetricSet, MetricsServer, no_pages, show};
use dgfs_runtime::pki::Identity;
use dgfs_runtime::process;
use dgfs_runtime::supervisor::Supervisor;
use dgfs_runtime::telemetry::{self, LogConfig};

use crate::adapter::notify::KernelForgetter;
use crate::adapter::session::{Serving, serve};
use crate::adapter::{Adapter, AdapterOptions};
use crate::cli::args::MountArgs;
use crate::cli::args::neo4j::refuse_for_cluster;
use crate::cli::background::{Ready, start};
use crate::cli::check::METRICS_NONE;
use crate::cli::daemon::read_identity;
use crate::cli::files::{ClientFile, MountFacts, read_file};
use crate::cli::past::Record;
use crate::cli::show::losses_at;
use crate::cli::{Failure, check, paths};
use crate::client_metrics;
use crate::embedded::Embedded;
use crate::metrics::MountMetrics;
use crate::mount::checks::{is_root, prepare};
use crate::mount::device;
use crate::mount::options::MountOptions;
use crate::mount::table::{kernel_queue, raise_read_ahead};
use crate::mount::unmount::{How, unmount};
use crate::volume::watched::MountWatch;
use crate::volume::{MountInspector, VolumeLink};

/// Metrics of a mount are there for whoever asks on this machine.
const METRICS_DEFAULT: &str = "127.0.0.1:0";
/// What a cache on a local disk takes unless told otherwise.
const DISK_CACHE_BYTES_DEFAULT: u64 = 10 << 30;
/// How long the process waits for its kernel threads after the mount is gone.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);

/// Where the volume is.
enum Source {
    /// In a directory of this machine, run by this process.
    Embedded(PathBuf),
    /// A cluster.
    Cluster { file: Box<ClientFile>, base: PathBuf },
}

/// Runs the command; `arguments` is the whole command line, for the child of `--background`.
pub(crate) fn run(args: MountArgs, arguments: &[OsString]) -> Result<(), Failure> {
    let options = options_of(&args)?;
    let source = source_of(&args, &options)?;
    let graph = args.graph.config(&options.graph)?;
    if matches!(source, Source::Cluster { .. }) {
        let file = args.config.as_deref().unwrap_or(Path::new("--meta"));
        refuse_for_cluster(graph.as_ref(), file)?;
    }
    if args.background {
        // What is refused is refused before anything is made.
        check_paths(&args, &options, &source)?;
        let (log, made) = log_of(&args, &options, &source)?;
        let words: Vec<_> = arguments.iter().skip(1).filter(|word| *word != "--background").cloned().collect();
        let pid = start(&words, &log).inspect_err(|_| made.iter().for_each(|directory| unmake(directory)))?;
        println!("mounted at {} by process {pid}, log in {}", args.path.display(), log.display());
        losses_at(&args.path).iter().for_each(|line| eprintln!("dgfs: {line}"));
        return Ok(());
    }
    let mut ready = Ready::from_option(args.ready_fd)?;
    let outcome = foreground(&args, &options, source, &mut ready);
    if let Err(failure) = &outcome {
        ready.failed(&failure.sentence);
    }
    outcome
}

fn options_of(args: &MountArgs) -> Result<MountOptions, Failure> {
    let mut options = MountOptions::parse(&args.options, is_root()).map_err(Failure::new)?;
    options.soft |= args.soft;
    if let Some(metrics) = &args.metrics {
        options.metrics = Some(metrics.clone());
    }
    if let Some(address) = &options.metrics {
        check::metrics_address(address)?;
    }
    Ok(options)
}

fn source_of(args: &MountArgs, options: &MountOptions) -> Result<Source, Failure> {
    if args.config.is_none() && args.meta.is_empty() {
        let given = args.data_dir.clone().or_else(|| options.data_dir.clone().map(PathBuf::from));
        let directory = given.map_or_else(paths::default_data_dir, Ok)?;
        return Ok(Source::Embedded(std::path::absolute(directory).map_err(Failure::new)?));
    }
    let (mut file, base) = match &args.config {
        Some(config) => read_file::<ClientFile>(config)?,
        None => {
            let identity = args.identity.clone().ok_or_else(|| Failure::new("--meta needs --identity or --config"))?;
            let base = std::env::current_dir().map_err(Failure::new)?;
            let file = ClientFile { identity, ..ClientFile::default() };
            (file, base)
        }
    };
    if !args.meta.is_empty() {
        file.meta.clone_from(&args.meta);
    }
    if let Some(identity) = &args.identity {
        file.identity = std::path::absolute(identity).map_err(Failure::new)?;
    }
    Ok(Source::Cluster { file: Box::new(file), base })
}

/// Where the log goes, and the data directory if it was made for it.
fn log_of(args: &MountArgs, options: &MountOptions, source: &Source) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if let Some(log) = args.log_file.clone().or_else(|| options.log_file.clone().map(PathBuf::from)) {
        return Ok((log, None));
    }
    match source {
        Source::Embedded(directory) => {
            let made = (!directory.exists()).then(|| directory.clone());
            create_dir_durably(directory)
                .map_err(|error| Failure::new(format!("make {}: {error}", directory.display())))?;
            Ok((directory.join("mount.log"), made))
        }
        Source::Cluster { base, .. } => {
            let at = std::path::absolute(&args.path).map_err(Failure::new)?;
            Ok((log_beside(base, &at), None))
        }
    }
}

/// The log of a mount at `at`, which is absolute, of the cluster in `base`: one for each mount point.
pub(crate) fn log_beside(base: &Path, at: &Path) -> PathBuf {
    let name = at.as_os_str().as_bytes().escape_ascii().to_string().replace('/', "-");
    base.join(format!("mount{name}.log"))
}

/// Checks the mount point, and that it hides no data; the absolute path of it.
fn check_paths(args: &MountArgs, options: &MountOptions, source: &Source) -> Result<PathBuf, Failure> {
    let path = prepare(&args.path, options.nonempty).map_err(Failure::new)?;
    if let Source::Embedded(directory) = source {
        check::apart(directory, &path)?;
    }
    Ok(path)
}

/// Takes back a data directory made for a mount that was refused, if no volume came to be in it.
fn unmake(directory: &Path) {
    if !directory.join("meta").exists() && !directory.join("chunks").exists() {
        ["lock", "mount.log"].iter().for_each(|name| drop(std::fs::remove_file(directory.join(name))));
        let _ = std::fs::remove_dir(directory);
    }
}

fn foreground(args: &MountArgs, options: &MountOptions, source: Source, ready: &mut Ready) -> Result<(), Failure> {
    // In the background standard error is the log file already.
    let file = if args.ready_fd.is_some() { None } else { args.log_file.clone() };
    let log = match &source {
        Source::Cluster { file, .. } => file.log.clone().unwrap_or_default(),
        Source::Embedded(_) => LogConfig::default(),
    };
    let log = LogConfig { file, slow_ms: options.slow_ms.unwrap_or(log.slow_ms), ..log };
    telemetry::init(&log, paths::log_level().as_deref()).map_err(Failure::new)?;
    let path = check_paths(args, options, &source)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // More workers make small calls slower; an embedded volume has a second one because writes may block a moment.
    let workers = if matches!(source, Source::Embedded(_)) { 2 } else { (cores / 4).max(1) };
    let runtime = build_runtime("dgfs", workers).map_err(Failure::new)?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::attach(&shutdown);
        let set = MetricSet::new();
        let volume = open((args, options), source, &path, &set).await?;
        let starting = Starting { ready, shutdown: &shutdown, supervisor: &supervisor };
        let served = answer(&path, options, &volume, (set, starting)).await;
        let closed = volume.close().await;
        served.and(closed)
    });
    runtime.shutdown_timeout(KERNEL_PATIENCE);
    outcome
}

/// Who waits until the mount answers, and who may ask it to stop.
struct Starting<'a> {
    ready: &'a mut Ready,
    shutdown: &'a Shutdown,
    supervisor: &'a Supervisor,
}

/// An open volume with this mount's session.
struct Volume {
    vfs: Arc<Vfs>,
    link: VolumeLink,
    /// What `mount` and `df` show.
    shown: String,
    facts: MountFacts,
    /// What it shows to the cluster's daemons.
    identity: Option<Identity>,
    embedded: Option<Embedded>,
    /// Where `client.toml` wants metrics to be served.
    metrics: Option<String>,
    /// Names the session to the next mount here; a cluster's only.
    record: Option<Record>,
}

async fn open(
    (args, options): (&MountArgs, &MountOptions),
    source: Source,
    path: &Path,
    set: &MetricSet,
) -> Result<Volume, Failure> {
    let host = paths::host();
    let client = ClientInfo {
        host: host.clone(),
        pid: std::process::id(),
        mount_point: path.to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (mut identity, mut metrics) = (None, None);
    let (link, mut config, place, embedded, record) = match source {
        Source::Embedded(directory) => {
            let graph = args.graph.config(&options.graph)?;
            let use_of_it = format!("mounted at {}", path.display());
            let mut volume = Embedded::open(&directory, &use_of_it, &host, owner()).await.map_err(Failure::new)?;
            volume.start_index(&directory, set, graph);
            let place = format!("embedded in {}", directory.display());
            (volume.link.clone(), VfsConfig::embedded(client), place, Some(volume), None)
        }
        Source::Cluster { file, base } => {
            let ours = identity.insert(read_identity(&base.join(&file.identity))?);
            file.metrics.as_deref().map(check::metrics_address).transpose()?;
            metrics.clone_from(&file.metrics);
            let link = VolumeLink::to_cluster(&file.meta, ours).map_err(Failure::new)?.with_index(ours);
            let record = claim_record(path);
            if let Some(record) = &record {
                record.end_what_was_left(&link.metas, client.clone()).await;
            }
            let mut config = VfsConfig::cluster(client);
            config.soft = file.soft;
            take_sizes(&mut config, ("cache_mb", file.cache_mb), ("write_back_mb", file.write_back_mb))?;
            let dir = file.cache_dir.as_ref().map(|dir| base.join(dir));
            config.disk_cache = disk_cache(dir, ("cache_size", file.cache_size.as_deref()))?;
            config.deadline = file.deadline_s.map_or(config.deadline, Duration::from_secs);
            (link, config, format!("cluster at {}", file.meta.join(", ")), None, record)
        }
    };
    if args.cache_dir.is_some() {
        if config.local {
            let sentence =
                "an embedded volume has its data on this machine already: --cache-dir is for mounts of a cluster";
            return Err(Failure::new(sentence));
        }
        config.disk_cache = disk_cache(args.cache_dir.clone(), ("--cache-size", args.cache_size.as_deref()))?;
    }
    config.soft |= options.soft;
    options.set_tags(&mut config);
    take_sizes(&mut config, ("--cache-mb", args.cache_mb), ("--write-back-mb", args.write_back_mb))?;
    let deps = VfsDeps { meta: link.metas.clone(), stores: Arc::clone(&link.stores), graph: link.graph.clone() };
    let vfs = match Vfs::connect(config, deps).await {
        Ok(vfs) => vfs,
        Err(error) => {
            if let Some(volume) = embedded {
                let _ = volume.close().await;
            }
            return Err(Failure::new(error));
        }
    };
    if let (Some(record), Some(token)) = (&record, vfs.session_token())
        && let Err(error) = record.write(token)
    {
        tracing::debug!(%error, "the session is not recorded: after a kill its end is waited for");
    }
    let facts = facts_of(options, host, path, place);
    let shown = format!("dgfs:{}", vfs.volume().name);
    Ok(Volume { vfs, link, shown, facts, identity, embedded, metrics, record })
}

fn facts_of(options: &MountOptions, host: String, path: &Path, volume: String) -> MountFacts {
    MountFacts {
        pid: std::process::id(),
        host,
        mount_point: path.to_string_lossy().into_owned(),
        volume,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tags: options.tags().and_then(|name| String::from_utf8(name).ok()),
        metrics: None,
    }
}

/// Takes sizes that were given, in MiB, with the words they were given by.
fn take_sizes(
    config: &mut VfsConfig,
    cache: (&str, Option<u64>),
    write_back: (&str, Option<u64>),
) -> Result<(), Failure> {
    config.read_cache_bytes = check::bytes_of(cache.0, cache.1, 0)?.unwrap_or(config.read_cache_bytes);
    config.write_back_bytes = check::bytes_of(write_back.0, write_back.1, 1)?.unwrap_or(config.write_back_bytes);
    Ok(())
}

/// The cache on a local disk, if a directory was named; with the word its size was given by.
fn disk_cache(dir: Option<PathBuf>, size: (&str, Option<&str>)) -> Result<Option<DiskCacheConfig>, Failure> {
    let Some(directory) = dir else { return Ok(None) };
    let bytes = size.1.map_or(Ok(DISK_CACHE_BYTES_DEFAULT), |text| check::size(size.0, text))?;
    Ok(Some(DiskCacheConfig { directory, bytes }))
}

fn claim_record(path: &Path) -> Option<Record> {
    let directory = paths::runtime_dir()?;
    Record::claim(&directory, path).unwrap_or_else(|error| {
        tracing::debug!(directory = %directory.display(), %error, "no record of sessions: after a kill its end is waited for");
        None
    })
}

impl Volume {
    async fn close(self) -> Result<(), Failure> {
        let session = self.vfs.close().await;
        if session.is_ok()
            && let Some(Err(error)) = self.record.as_ref().map(Record::clear)
        {
            tracing::debug!(%error, "the record of the session stays; it names one that has ended");
        }
        let parts = match self.embedded {
            Some(volume) => volume.close().await,
            None => Ok(()),
        };
        session.map_err(|status| {
            Failure::new(format!("the last writes could not be made durable: {status}; the log says which"))
        })?;
        parts.map_err(Failure::new)
    }
}

fn owner() -> Caller {
    // SAFETY: getuid and getgid have no arguments and cannot fail.
    unsafe { Caller { uid: libc::getuid(), gid: libc::getgid() } }
}

/// Mounts, answers until the end, and leaves no mount behind.
async fn answer(
    path: &Path,
    options: &MountOptions,
    volume: &Volume,
    (set, starting): (MetricSet, Starting<'_>),
) -> Result<(), Failure> {
    let metrics = MountMetrics::new(&set);
    process::register(&set, "mount", volume.identity.as_ref());
    client_metrics::register(&set, &volume.vfs);
    telemetry::register(&set);
    if let Some(embedded) = &volume.embedded {
        embedded.register_metrics(&set);
    }
    let offset = ClockOffset::default();
    if volume.embedded.is_none() {
        offset.register(&set);
    }
    let said = options.metrics.as_deref().or(volume.metrics.as_deref());
    let server = serve_metrics(said, set.clone(), &volume.vfs).await?;
    let metrics_at = server.as_ref().map(|server| server.address().to_string());
    let facts = MountFacts { metrics: metrics_at.clone(), ..volume.facts.clone() };
    // Not before the volume is open: until then a signal ends the process at once.
    starting.shutdown.ask_on_signals().map_err(Failure::new)?;
    let forgetter = KernelForgetter::new(Arc::clone(&metrics));
    volume.vfs.set_kernel_cache(forgetter.clone());
    let mount = serde_json::to_vec(&facts).map_err(Failure::new)?;
    let adapter_options = AdapterOptions {
        atime: options.atime(),
        // Where a link below `.tags` leads follows the file: the kernel keeps targets of all links or of none.
        cache_symlinks: volume.embedded.is_some() && volume.link.graph.is_empty(),
        all_users: options.all_users,
        inspector: Some(Arc::new(MountInspector {
            link: volume.link.clone(),
            mount,
            watched: MountWatch::new(set.clone(), Arc::clone(&metrics.profile)),
        })),
    };
    let runtime = tokio::runtime::Handle::current();
    let adapter =
        Adapter::new(Arc::clone(&volume.vfs), runtime, &forgetter, adapter_options, metrics).map_err(Failure::new)?;
    let device = device::mount(path, &volume.shown, options).map_err(Failure::new)?;
    let serving = match serve(adapter, &forgetter, device) {
        Ok(serving) => serving,
        Err(error) => {
            let _ = unmount(path, How::Lazy);
            return Err(Failure::new(format!("the kernel and this program do not agree on FUSE: {error}")));
        }
    };
    if is_root()
        && let Err(error) = raise_read_ahead(path)
    {
        tracing::debug!(%error, "kernel read-ahead stays at its default");
    }
    show_kernel_queue(&set, path);
    tracing::info!(path = %path.display(), volume = %volume.facts.volume, "mounted");
    // An embedded volume is no cluster: there is nobody to tell.
    let announcer = volume.embedded.is_none().then(|| {
        let who = announcement(ProcessKind::Mount, &path.to_string_lossy(), metrics_at);
        Announcer::start(volume.link.metas.clone(), who, offset)
    });
    starting.ready.ready();
    starting.supervisor.ready(&format!("{} at {}", volume.facts.volume, path.display()));
    let ended = wait_for_end(path, serving, starting.shutdown).await;
    if let Some(announcer) = announcer {
        announcer.leave().await;
    }
    ended
}

/// Shows what the kernel holds of requests without an answer, where it tells.
fn show_kernel_queue(set: &MetricSet, path: &Path) {
    let Some(file) = kernel_queue(path) else { return };
    let waiting = set.gauge("dgfs_mount_kernel_waiting", "Requests that the kernel has no answer to yet");
    set.before_render(move || {
        let told = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        show(&waiting, told.unwrap_or(0));
    });
}

/// Where metrics are served: as the options say, else as the file says; else on a free port of loopback, if there is one.
async fn serve_metrics(said: Option<&str>, set: MetricSet, vfs: &Arc<Vfs>) -> Result<Option<MetricsServer>, Failure> {
    match said {
        Some(METRICS_NONE) => Ok(None),
        Some(address) => serve_metrics_at(address, set, vfs).await.map(Some),
        None => Ok(serve_metrics_at(METRICS_DEFAULT, set, vfs)
            .await
            .inspect_err(|failure| tracing::info!(reason = failure.sentence, "no metrics are served"))
            .ok()),
    }
}

async fn serve_metrics_at(address: &str, set: MetricSet, vfs: &Arc<Vfs>) -> Result<MetricsServer, Failure> {
    let refused = |error: String| Failure::new(format!("serve metrics at {address}: {error}"));
    let at = address.parse().map_err(|_| refused("give HOST:PORT with a numeric host".to_owned()))?;
    let vfs = Arc::clone(vfs);
    let readiness = Arc::new(move || {
        if vfs.is_fenced() {
            Err("the session was ended by the metadata service: mount again".to_owned())
        } else {
            Ok(())
        }
    });
    MetricsServer::start(at, set, readiness, no_pages()).await.map_err(|error| refused(error.to_string()))
}

async fn wait_for_end(path: &Path, serving: Serving, shutdown: &Shutdown) -> Result<(), Failure> {
    let mut ended = serving.ended;
    tokio::select! {
        outcome = &mut ended => return ended_by_itself(path, outcome.unwrap_or(Ok(()))),
        () = shutdown.asked() => {}
    }
    match unmount(path, How::WhenIdle) {
        Ok(()) => {
            if tokio::time::timeout(KERNEL_PATIENCE, ended).await.is_err() {
                tracing::warn!("the kernel has not ended the mount in time; going on");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the mount is in use: taking it out of the tree; its users get errors from now on");
            unmount(path, How::Lazy).map_err(|error| Failure::new(format!("unmount {}: {error}", path.display())))?;
        }
    }
    Ok(())
}

fn ended_by_itself(path: &Path, outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => {
            tracing::info!(path = %path.display(), "unmounted");
            Ok(())
        }
        // Somebody aborted the connection; what is dirty is still sent.
        Err(error) => {
            let _ = unmount(path, How::Lazy);
            Err(Failure::new(format!("the connection to the kernel ended: {error}")))
        }
    }
}
