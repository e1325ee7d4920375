//! A whole volume inside one process: metadata, storage, and the channels between them.
//!
//! Never opens a socket. Owns the data directory (`meta/`, `chunks/`) while it lives; a second process is told who has it.
//! The order of the end matters: the mount's session first, then metadata, then storage.

mod index;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

use dgfs_client::config::VfsDeps;
use dgfs_client::stores::OneStore;
use dgfs_index::neo4j::settings::Neo4jConfig;
use dgfs_meta::engine::Engine as _;
use dgfs_meta::engine::fjall::{FjallEngine, free_bytes_min};
use dgfs_meta::format::{FORMAT, format_volume};
use dgfs_meta::service::{LocalData, MetaOptions, MetaService, SERVER_GRACE_MS_DEFAULT};
use dgfs_proto::attr::Timestamp;
use dgfs_proto::chunk::VersionId;
use dgfs_proto::class::Class;
use dgfs_proto::ids::Uuid;
use dgfs_proto::limits::{CHUNK_BYTES_DEFAULT, INLINE_BYTES_MAX};
use dgfs_proto::map::Labels;
use dgfs_proto::meta::{Caller, VolumeInfo};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, ChunkProtocol, LocalChannel, MetaProtocol, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::disk::{DirectoryLock, LockError, create_dir_durably, disk_space, rename_durably};
use dgfs_runtime::metrics::MetricSet;
use dgfs_runtime::random;
use dgfs_stored::beat::{Joining, Member};
use dgfs_stored::service::StoreService;
use dgfs_stored::store::{OpenError, Store, StoreOptions};

use crate::embedded::index::EmbeddedIndex;
use crate::mount::checks::is_root;
use crate::mount::table::mounted_at;
use crate::volume::VolumeLink;

/// Metadata rows in memory: a mount shares its machine with the programs that use it.
const META_MEMORY_BYTES: usize = 96 << 20;

/// Disk kept free for metadata beyond their own limit: some 100,000 changes between two flushes.
const META_HEADROOM_BYTES: u64 = 48 << 20;

/// How long the process of a mount that was taken away may write before it gives up its volume.
const END_OF_MOUNT: Duration = Duration::from_secs(60);
/// How long such a process may take to end after that.
const END_OF_PROCESS: Duration = Duration::from_secs(5);
/// How often a lock is asked for again; it cannot tell.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What a new volume is like.
#[derive(Clone, Debug)]
pub struct NewVolume {
    /// For people.
    pub name: String,
    /// A power of two.
    pub chunk_bytes: u32,
    /// Storage servers that must join before anything is stored.
    pub servers: u32,
    /// How its data are stored.
    pub class: Class,
}

impl Default for NewVolume {
    fn default() -> Self {
        Self { name: "main".to_owned(), chunk_bytes: CHUNK_BYTES_DEFAULT, servers: 1, class: Class::SINGLE }
    }
}

impl NewVolume {
    /// The volume's facts, with a fresh id.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn facts(&self) -> Result<VolumeInfo, String> {
        let mut uuid = [0_u8; 16];
        random::fill(&mut uuid).map_err(|error| format!("make a volume id: {error}"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(VolumeInfo {
            uuid: Uuid(uuid),
            name: self.name.clone(),
            chunk_bytes: self.chunk_bytes,
            inline_bytes_max: INLINE_BYTES_MAX,
            format: FORMAT,
            created: Timestamp { secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos: now.subsec_nanos() },
            initial_servers: self.servers,
        })
    }
}

/// A volume that runs in this process.
pub struct Embedded {
    /// Reaches its parts.
    pub link: VolumeLink,
    meta: Arc<MetaService>,
    store: Arc<Store>,
    member: Member,
    /// None where nobody asks the graph (`dgfs fsck`).
    index: Option<EmbeddedIndex>,
    _lock: DirectoryLock,
}

impl Embedded {
    /// Makes a volume in `data_dir`, which must hold none.
    ///
    /// # Errors
    /// A sentence.
    pub async fn format(data_dir: &Path, volume: &NewVolume) -> Result<(), String> {
        create_dir_durably(data_dir).map_err(|error| format!("make {}: {error}", data_dir.display()))?;
        // Before the metadata: a volume without this directory is one that lost it.
        let chunks = data_dir.join("chunks");
        create_dir_durably(&chunks).map_err(|error| format!("make {}: {error}", chunks.display()))?;
        let (meta, making) = (data_dir.join("meta"), data_dir.join("meta.new"));
        if std::fs::read_dir(&meta).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(format!("{} is not empty: a volume is there; --force destroys it", meta.display()));
        }
        // Whole or absent, whenever this process is killed.
        if making.exists() {
            std::fs::remove_dir_all(&making).map_err(|error| format!("remove {}: {error}", making.display()))?;
        }
        let engine = FjallEngine::create(&making).map_err(|error| error.to_string())?;
        format_volume(&engine, &volume.facts()?, volume.class).await.map_err(|error| error.to_string())?;
        engine.sync().await.map_err(|error| error.to_string())?;
        drop(engine);
        rename_durably(&making, &meta).map_err(|error| format!("rename the new volume to {}: {error}", meta.display()))
    }

    /// Opens the volume in `data_dir`, made when there is none. `use_of_it` says for what, to whoever comes second:
    /// `mounted at /mnt/graph`.
    ///
    /// # Errors
    /// A sentence: somebody has it, it is of a newer format, or the disk refuses.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(data_dir: &Path, use_of_it: &str, host: &str, owner: Caller) -> Result<Self, String> {
        create_dir_durably(data_dir).map_err(|error| format!("make {}: {error}", data_dir.display()))?;
        let lock = lock(data_dir, use_of_it, host).await?;
        check_whole(data_dir)?;
        if !data_dir.join("meta").exists() {
            Self::format(data_dir, &NewVolume::default()).await?;
            tracing::info!(directory = %data_dir.display(), "made a new volume");
        }
        let engine = FjallEngine::open(&data_dir.join("meta")).map_err(|error| error.to_string())?;
        // Data stop before metadata do: on a full disk a file can still be removed.
        let space = disk_space(data_dir).map_err(|error| format!("look at {}: {error}", data_dir.display()))?;
        let reserve_bytes = Some(free_bytes_min(space.capacity_bytes) + META_HEADROOM_BYTES);
        let options = StoreOptions { reserve_bytes, ..StoreOptions::new(data_dir.join("chunks")) };
        let store = open_store(options).await?;
        let options = MetaOptions {
            holder: format!("{host}, process {}", std::process::id()),
            memory_bytes: META_MEMORY_BYTES,
            exclusive: true,
            data: Some(Arc::new(StoreData(Arc::clone(&store)))),
            root_owner: owner,
            server_grace_ms: SERVER_GRACE_MS_DEFAULT,
            clock: Clock::real(),
        };
        let meta = MetaService::start(Arc::new(engine), options).await.map_err(|error| error.to_string())?;
        let to_meta = |role| -> Arc<dyn Channel<MetaProtocol>> {
            Arc::new(LocalChannel::<MetaProtocol>::new(Arc::<MetaService>::clone(&meta), role))
        };
        let joining = Joining {
            store: Arc::clone(&store),
            metas: vec![to_meta(Role::Stored)],
            address: String::new(),
            label: "embedded".to_owned(),
            labels: Labels::default(),
            peers: None,
            work: tokio::runtime::Handle::current(),
        };
        let member = Member::join(joining).await?;
        let service = StoreService::new(Arc::clone(&store));
        let chunks: Arc<dyn Channel<ChunkProtocol>> = Arc::new(LocalChannel::new(service, Role::Client));
        let link =
            VolumeLink { metas: vec![to_meta(Role::Client)], stores: Arc::new(OneStore(chunks)), graph: Vec::new() };
        Ok(Self { link, meta, store, member, index: None, _lock: lock })
    }

    /// Starts the index in `data_dir`, with `neo4j` beside it, and shows its numbers in `set`; once.
    pub fn start_index(&mut self, data_dir: &Path, set: &MetricSet, neo4j: Option<Neo4jConfig>) {
        let meta: Arc<dyn Channel<MetaProtocol>> =
            Arc::new(LocalChannel::<MetaProtocol>::new(Arc::<MetaService>::clone(&self.meta), Role::Index));
        let contents =
            VfsDeps { meta: self.link.metas.clone(), stores: Arc::clone(&self.link.stores), graph: Vec::new() };
        let index = EmbeddedIndex::start(data_dir.join("index"), (meta, contents), set.clone(), neo4j);
        self.link.graph = vec![index.channel()];
        self.index = Some(index);
    }

    /// Shows the numbers of metadata and storage in `set`; once.
    pub fn register_metrics(&self, set: &MetricSet) {
        dgfs_meta::metrics::register(set, &self.meta);
        dgfs_stored::metrics::register(set, &self.store);
    }

    /// Ends metadata and storage; everything is synced when this returns.
    ///
    /// # Errors
    /// A sentence: the last sync failed.
    pub async fn close(self) -> Result<(), String> {
        if let Some(index) = self.index {
            index.close().await;
        }
        self.member.leave().await;
        let meta = self.meta.shutdown().await.map_err(|error| format!("end the metadata service: {error}"));
        let store = self.store;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        meta.and(closed.map_err(|_| "closing the chunk store panicked: see the log".to_owned()))
    }
}

/// Refuses a directory with one half of a volume: whoever loses the other one must hear of it before anything is written.
fn check_whole(data_dir: &Path) -> Result<(), String> {
    let (meta, chunks) = (data_dir.join("meta"), data_dir.join("chunks"));
    let owner = std::fs::metadata(&meta).map(|facts| facts.uid());
    if let (Ok(owner @ 1..), true) = (owner, is_root()) {
        return Err(format!(
            "the volume in {} belongs to user {owner}, who could not use any more what root writes there: do this as that \
             user (runuser -u NAME -- dgfs …), or give the volume to root with chown -R",
            data_dir.display()
        ));
    }
    let has_chunks = chunks.join("identity").exists() || chunks.join("segments").exists();
    if has_chunks && !meta.exists() {
        return Err(format!(
            "{} holds contents of files, but their names and attributes, {}, are missing: restore that directory from a \
             backup; for a new, empty volume give another --data-dir, or move {} away",
            chunks.display(),
            meta.display(),
            chunks.display()
        ));
    }
    if meta.exists() && !chunks.exists() {
        return Err(format!(
            "{} is missing: the contents of files lay there; restore it from a backup. To go on with names, attributes and \
             small files only (reads of all others fail with EIO): mkdir {}",
            chunks.display(),
            chunks.display()
        ));
    }
    Ok(())
}

/// Locks the volume. The process of a mount that was just taken away (umount(8) does not wait for it) writes what it has and then
/// gives it up: that is waited for, as long as the mount point of the holder is none.
async fn lock(data_dir: &Path, use_of_it: &str, host: &str) -> Result<DirectoryLock, String> {
    let this = format!("{use_of_it} by pid {} on host {host}", std::process::id());
    let end = Instant::now() + END_OF_MOUNT;
    loop {
        match DirectoryLock::acquire(data_dir, &this) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { holder, .. }) if is_unmounted(&holder) && Instant::now() < end => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(LockError::Held { directory, holder }) => {
                let holder = holder.split(" (process ").next().unwrap_or_default().to_owned();
                return Err(format!(
                    "the volume in {} is {holder}: use that mount, unmount it first, or give another --data-dir",
                    directory.display()
                ));
            }
            Err(error @ LockError::Io { .. }) => return Err(error.to_string()),
        }
    }
}

/// Has the mount that a lock's holder names been taken away? (Or it is not there yet.)
fn is_unmounted(holder: &str) -> bool {
    let point = holder.strip_prefix("mounted at ").and_then(|rest| rest.split(" by pid ").next());
    point.is_some_and(|point| matches!(mounted_at(Path::new(point)), Ok(None)))
}

/// Opens the chunk store, whose own lock an ending process may give back a moment after the volume's.
async fn open_store(options: StoreOptions) -> Result<Arc<Store>, String> {
    let end = Instant::now() + END_OF_PROCESS;
    loop {
        let options = options.clone();
        // Recovery reads the disk: not on a runtime thread.
        let opened = tokio::task::spawn_blocking(move || Store::open(options))
            .await
            .map_err(|_| "opening the chunk store panicked: see the log".to_owned())?;
        match opened {
            Err(OpenError::Lock(LockError::Held { .. })) if Instant::now() < end => tokio::time::sleep(ASK_AGAIN).await,
            other => return other.map_err(|error| error.to_string()),
        }
    }
}

/// The chunk store, as far as the metadata service must know of it.
struct StoreData(Arc<Store>);

impl LocalData for StoreData {
    fn sync(&self) -> BoxFuture<'static, Result<(), Status>> {
        let store = Arc::clone(&self.0);
        Box::pin(async move { store.sync().await })
    }

    fn lost(&self, versions: Vec<VersionId>) -> BoxFuture<'static, Vec<VersionId>> {
        let store = Arc::clone(&self.0);
        Box::pin(async move { versions.into_iter().filter(|id| !store.has(*id)).collect() })
    }
}
