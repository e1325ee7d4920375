//! One index: its tables, its graph in memory, and how far they are.
//!
//! Never asks the metadata service: the follower and the rebuild bring what it says. Always: the lock of the writer is
//! taken before that of the graph, and a commit happens under both, so that a reader sees memory and tables at one seq.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use dgfs_proto::graph::answer::IndexStatus;
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::log::Event;
use dgfs_runtime::disk::{self, DirectoryLock, LockError};

use crate::graph::{Applied, Graph};
use crate::query::results::ResultCache;
use crate::recent::{Before, Recent, Remembered, remembered};
use crate::step::{ContentHash, Step, steps_of_event};
use crate::store::{Findings, Mark, Readers, Store, StoreError, digest};

/// The file that says which generation counts.
const CURRENT: &str = "current";
/// No rebuild is under way.
const NOT_BUILDING: u64 = u64::MAX;

/// Why an index cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory.
    #[error("index directory {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The tables.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is read together.
pub(crate) struct Shared {
    pub(crate) graph: Graph,
    pub(crate) readers: Readers,
}

struct Writer {
    store: Store,
    generation: u64,
}

/// See the module.
pub struct Index {
    dir: PathBuf,
    writer: Mutex<Writer>,
    shared: RwLock<Shared>,
    pub(crate) cache: ResultCache,
    applied: watch::Sender<Applied>,
    /// The writer's, for those who must not wait for it.
    generation: AtomicU64,
    /// Up to where somebody waits, so that the follower hurries.
    wanted: AtomicU64,
    pub(crate) hurry: Notify,
    /// A change waits for questions that are worked on.
    pub(crate) change_waits: AtomicBool,
    head: AtomicU64,
    /// When it last had applied all that it knew of.
    caught_up: Mutex<Instant>,
    building: AtomicU64,
    /// Somebody wants it built anew.
    pub(crate) rebuild: Notify,
    recent: Mutex<Recent>,
    disk_bytes: AtomicU64,
    _lock: DirectoryLock,
}

impl Index {
    /// Opens the index in `dir`, or begins an empty one there.
    ///
    /// # Errors
    /// The directory cannot be used, or the engine refuses. A damaged database is no error: it is begun anew.
    pub fn open(dir: &Path) -> Result<Arc<Self>, OpenError> {
        let of_directory = |source| OpenError::Directory { path: dir.to_owned(), source };
        disk::create_dir_durably(dir).map_err(of_directory)?;
        let lock = DirectoryLock::acquire(dir, "a dgfs index")?;
        let generation = read_generation(dir).map_err(of_directory)?;
        remove_others(dir, generation).map_err(of_directory)?;
        let path = database(dir, generation);
        let (store, graph) = match open_loaded(&path) {
            Ok(opened) => opened,
            Err(error) if error.is_lost() => {
                warn!(%error, "the index begins anew");
                remove_database(&path).map_err(of_directory)?;
                open_loaded(&path)?
            }
            Err(error) => return Err(error.into()),
        };
        info!(seq = %graph.applied.seq, inodes = graph.columns.live().len(), "index opened");
        let (applied, readers) = (graph.applied, store.readers());
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            writer: Mutex::new(Writer { store, generation }),
            disk_bytes: AtomicU64::new(readers.disk_bytes()),
            shared: RwLock::new(Shared { graph, readers }),
            cache: ResultCache::default(),
            applied: watch::Sender::new(applied),
            generation: AtomicU64::new(generation),
            wanted: AtomicU64::new(0),
            hurry: Notify::new(),
            change_waits: AtomicBool::new(false),
            head: AtomicU64::new(applied.seq.0),
            caught_up: Mutex::new(Instant::now()),
            building: AtomicU64::new(NOT_BUILDING),
            rebuild: Notify::new(),
            recent: Mutex::default(),
            _lock: lock,
        }))
    }

    /// Up to where it is.
    #[must_use]
    pub fn applied(&self) -> Applied {
        *self.applied.borrow()
    }

    /// The seq of the last event and its digest; none when nothing was ever applied.
    #[must_use]
    pub fn last_event(&self) -> Option<(Seq, u64)> {
        let writer = self.writer.lock();
        let seq = writer.store.applied().seq;
        (writer.store.applied().stamp > 0).then(|| (seq, writer.store.digest()))
    }

    /// The generation that counts: whoever follows the graph by stamps begins anew with another one, because what was freed
    /// meanwhile is known by its absence only.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Where it lies; those who follow it may keep a file of their own there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Applies events that follow one another; those that it has are passed over.
    ///
    /// # Errors
    /// Those of the engine; nothing was applied then.
    pub fn apply(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let applied = writer.store.applied().seq;
        let new: Vec<&Event> = events.iter().filter(|event| event.seq > applied).collect();
        let Some(last) = new.last() else { return Ok(()) };
        let mut steps = Vec::with_capacity(new.len() * 2);
        for event in &new {
            steps_of_event(event, &mut steps);
        }
        let mark = Mark { seq: last.seq, at: last.at, digest: digest(last) };
        let steps = writer.store.prepare(steps, Some(mark))?;
        self.publish(&mut writer, &steps, new)
    }

    /// Takes over what taggers found; what was found in an inode that is gone is passed over.
    ///
    /// # Errors
    /// Those of the engine; nothing was taken over then.
    pub fn put_findings(&self, findings: &[Findings]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let steps = writer.store.prepare_findings(findings)?;
        self.publish(&mut writer, &steps, Vec::new())
    }

    /// Takes over the hash of a content that taggers did not read to its end; of data that have changed since, nothing happens.
    ///
    /// # Errors
    /// Those of the engine; nothing was taken over then.
    pub fn put_whole_hash(&self, ino: Ino, data_version: u64, hash: ContentHash) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let steps = writer.store.prepare_whole_hash(ino, data_version, hash)?;
        self.publish(&mut writer, &steps, Vec::new())
    }

    fn publish(&self, writer: &mut Writer, steps: &[Step], events: Vec<&Event>) -> Result<(), StoreError> {
        self.change_waits.store(true, Ordering::Release);
        let mut shared = self.shared.write();
        self.change_waits.store(false, Ordering::Release);
        let applied = writer.store.commit()?;
        let before = Before::of(&events, &shared.graph);
        for step in steps {
            shared.graph.apply(step);
        }
        shared.graph.applied = applied;
        let told = remembered(events, before, &shared.graph);
        drop(shared);
        // Before the announcement: whoever hears of the seq finds the events that led to it.
        self.recent.lock().extend(told);
        self.announce(applied);
        Ok(())
    }

    fn announce(&self, applied: Applied) {
        self.head.fetch_max(applied.seq.0, Ordering::AcqRel);
        self.applied.send_replace(applied);
    }

    /// Events behind `after` that are still remembered; `None` when some behind it are not.
    pub(crate) fn recent_after(&self, after: Seq, limit: usize) -> Option<Vec<Remembered>> {
        let recent = self.recent.lock();
        recent.after(after, self.applied().seq, limit)
    }

    /// Hands the graph and its tables, at one seq, to `work`. It must not wait for anything: writers wait for it.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Shared) -> T) -> T {
        work(&self.shared.read())
    }

    /// Readers of the tables, for those who follow the graph: see [`Readers::changes_after`].
    #[must_use]
    pub fn readers(&self) -> Readers {
        self.shared.read().readers.clone()
    }

    /// Waits until it is at `seq`.
    pub async fn wait_for(&self, seq: Seq) {
        let mut applied = self.applied.subscribe();
        if applied.borrow_and_update().seq >= seq {
            return;
        }
        self.wanted.fetch_max(seq.0, Ordering::AcqRel);
        self.hurry.notify_one();
        // The sender lives in `self`, so the wait ends with the seq only.
        let _ = applied.wait_for(|applied| applied.seq >= seq).await;
    }

    /// Hears of every change of the graph.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// Does somebody wait for more than there is?
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > self.applied().seq.0
    }

    /// The log's end, as last heard.
    pub(crate) fn hear_head(&self, head: Seq) {
        if self.lag() == 0 {
            *self.caught_up.lock() = Instant::now();
        }
        self.head.store(head.0, Ordering::Release);
    }

    /// Events that are not applied yet, as far as is known.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.head.load(Ordering::Acquire).saturating_sub(self.applied().seq.0)
    }

    /// For how long it has not applied all that it knows of.
    #[must_use]
    pub fn behind_for(&self) -> Duration {
        if self.lag() == 0 { Duration::ZERO } else { self.caught_up.lock().elapsed() }
    }

    /// How far a rebuild is: inodes read; none: there is none under way.
    pub(crate) fn set_building(&self, inodes: Option<u64>) {
        self.building.store(inodes.unwrap_or(NOT_BUILDING), Ordering::Release);
    }

    /// Inodes that a rebuild under way has read.
    #[must_use]
    pub fn building(&self) -> Option<u64> {
        Some(self.building.load(Ordering::Acquire)).filter(|inodes| *inodes != NOT_BUILDING)
    }

    /// An empty database for a rebuild: the generation after the current one.
    ///
    /// # Errors
    /// Those of the engine and the directory.
    pub(crate) fn begin_generation(&self) -> Result<(Store, u64), OpenError> {
        let generation = self.writer.lock().generation + 1;
        let path = database(&self.dir, generation);
        remove_database(&path).map_err(|source| OpenError::Directory { path: self.dir.clone(), source })?;
        Ok((Store::open(&path)?, generation))
    }

    /// Replaces tables and graph by those of a newer generation, with what taggers found in the old one.
    ///
    /// # Errors
    /// Those of the engine and the directory; the old ones stay then.
    pub(crate) fn install(&self, mut store: Store, generation: u64) -> Result<(), OpenError> {
        let mut writer = self.writer.lock();
        store.prepare_findings_of(writer.store.path())?;
        store.commit()?;
        store.skip_to_stamp(writer.store.applied().stamp)?;
        let graph = store.load()?;
        let of_directory = |source| OpenError::Directory { path: self.dir.clone(), source };
        disk::write_atomically(&self.dir.join(CURRENT), generation.to_string().as_bytes()).map_err(of_directory)?;
        let (applied, readers) = (store.applied(), store.readers());
        let old = std::mem::replace(&mut *writer, Writer { store, generation });
        *self.shared.write() = Shared { graph, readers };
        self.generation.store(generation, Ordering::Release);
        self.cache.clear();
        self.recent.lock().clear();
        self.announce(applied);
        let path = old.store.path().to_owned();
        drop(old);
        if let Err(error) = remove_database(&path) {
            warn!(%error, path = %path.display(), "an old index database is left; the next start removes it");
        }
        Ok(())
    }

    /// How far it is, and how large.
    #[must_use]
    pub fn status(&self) -> IndexStatus {
        let building = self.building();
        let shared = self.shared.read();
        let graph = &shared.graph;
        self.disk_bytes.store(shared.readers.disk_bytes(), Ordering::Release);
        IndexStatus {
            seq: graph.applied.seq,
            head: Seq(self.head.load(Ordering::Acquire)),
            building,
            inodes: graph.columns.live().len(),
            tags: graph.tags.len(),
            edges: graph.tags.pairs() + graph.words.pairs(),
            jobs: 0,
            failed: shared.readers.failed().unwrap_or(0),
            memory_bytes: graph.memory_bytes(),
            disk_bytes: self.disk_bytes.load(Ordering::Acquire),
            neo4j: None,
            applied_at: graph.applied.at,
        }
    }
}

fn open_loaded(path: &Path) -> Result<(Store, Graph), StoreError> {
    let store = Store::open(path)?;
    let graph = store.load()?;
    Ok((store, graph))
}

fn database(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("graph-{generation}.sqlite"))
}

/// The generation that counts; the first one where nothing says so, or what says so is damaged.
fn read_generation(dir: &Path) -> io::Result<u64> {
    match std::fs::read_to_string(dir.join(CURRENT)) {
        Ok(text) => Ok(text.trim().parse().unwrap_or(1)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}

/// Removes databases of other generations: rebuilds that were not finished, and old ones that were left.
fn remove_others(dir: &Path, generation: u64) -> io::Result<()> {
    let current = database(dir, generation);
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_database = path.extension().is_some_and(|extension| extension == "sqlite");
        if is_database && path != current {
            remove_database(&path)?;
        }
    }
    Ok(())
}

fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", ""] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::remove_file(PathBuf::from(file)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
