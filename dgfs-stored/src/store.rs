//! The store of one directory: put, get, drop, sync.
//!
//! Never knows who calls or why. Always: an acknowledged version reads back
//! exactly or is refused; a `Synced` put survives a power cut; locks are taken in
//! the order stripe → gate → the rest, and held for one record's copy at most.

mod copy;
mod list;
mod put;
mod recompress;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dgfs_proto::chunk::{DataRange, VersionId};
use dgfs_proto::ids::{ChunkId, ServerId, Uuid};
use dgfs_proto::limits::CHUNK_BYTES_MAX;
use dgfs_proto::status::Status;
use dgfs_runtime::clock::Clock;
use dgfs_runtime::disk::{self, DirectoryLock, LockError};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use crate::cache::Record;
use crate::damage::Report;
use crate::group_sync::{GroupSync, SyncFailed};
use crate::health::Health;
use crate::identity::{Identity, IdentityError};
use crate::index::{Entry, State};
use crate::maintain::Maintenance;
use crate::measures::Measures;
use crate::pieces;
use crate::progress::Progress;
use crate::read::{Fault, Shelf};
use crate::record::Place;
use crate::recover;
use crate::segment::{SEGMENT_BYTES, Segments};
use crate::space::{Space, Usage};
use crate::tend::Tending;
use crate::uses::journal::Journal;
use crate::uses::totals::Totals;
use crate::uses::{Used, Uses};

pub use self::copy::Whole;
pub use self::list::Held;
pub(crate) use self::put::pack_body;
pub(crate) use self::recompress::Recompressed;

/// Locks that order the changes of one chunk.
const STRIPES: usize = 64;
/// Memory for decoded records unless configured.
const CACHE_BYTES_DEFAULT: usize = 32 << 20;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Its directory; made where missing.
    pub directory: PathBuf,
    /// Bytes of the disk kept back for deletes and compaction; none is 64 MiB or 1 % of the disk, the smaller one.
    pub reserve_bytes: Option<u64>,
    /// Memory for decoded records.
    pub cache_bytes: usize,
    /// Bytes of a segment file; smaller ones are for tests.
    pub segment_bytes: u32,
    /// Checkpoints, hole punching and compaction run by themselves on a thread of the store.
    pub maintain: bool,
    /// Puts are answered once they are synced (in a cluster), so that a damaged record was lost, wherever it is.
    pub puts_are_synced: bool,
    /// Gets and puts are counted by chunk; false only to measure what that costs.
    pub count_uses: bool,
    /// Tells the time.
    pub clock: Clock,
}

impl StoreOptions {
    /// The defaults for `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            reserve_bytes: None,
            cache_bytes: CACHE_BYTES_DEFAULT,
            segment_bytes: SEGMENT_BYTES,
            maintain: true,
            puts_are_synced: false,
            count_uses: true,
            clock: Clock::real(),
        }
    }
}

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its identity is missing, damaged or of a newer format.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The file system refused.
    #[error("{step} in {}: {source}", directory.display())]
    Io {
        /// What was done.
        step: &'static str,
        /// Where.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index could be neither opened nor rebuilt.
    #[error("rebuild the chunk index in {}: {reason}; free disk space or mend the disk, then start again", directory.display())]
    Index {
        /// Where.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) put_bytes: AtomicU64,
    pub(crate) get_bytes: AtomicU64,
    pub(crate) checksum_errors: AtomicU64,
}

/// Chunk versions in one directory.
pub struct Store {
    pub(crate) options: StoreOptions,
    pub(crate) shelf: Shelf,
    /// Held for reading from the reservation of a record's place until its entry is set, so that a
    /// checkpoint, which takes it for writing, knows every entry below its position.
    pub(crate) gate: RwLock<()>,
    stripes: [Mutex<()>; STRIPES],
    pub(crate) sync: Arc<GroupSync>,
    pub(crate) space: Space,
    pub(crate) usage: Mutex<Usage>,
    /// Versions that were found damaged and not yet replaced by a good copy.
    pub(crate) damaged: Mutex<BTreeSet<VersionId>>,
    /// Versions dropped in the table whose records are not yet marked so on the disk.
    pub(crate) dropped: Mutex<Vec<(VersionId, State)>>,
    /// Places whose record was written anew elsewhere, and is not yet marked dead.
    pub(crate) replaced: Mutex<Vec<(VersionId, Place)>>,
    pub(crate) numbers: Numbers,
    pub(crate) uses: Uses,
    pub(crate) totals: Totals,
    pub(crate) health: Arc<Health>,
    pub(crate) measures: Measures,
    pub(crate) tending: Tending,
    /// What it does for its copies and those of others.
    pub(crate) upkeep: Progress,
    pub(crate) maintenance: Maintenance,
    identity: Mutex<Identity>,
    report: Report,
    mended: Vec<String>,
    // Released last.
    _lock: DirectoryLock,
}

impl Store {
    /// Opens or makes the store; reads what was written since the last checkpoint, and rebuilds
    /// the index where it is damaged. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do.
    pub fn open(options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        let directory = options.directory.clone();
        let failed = |step| {
            let directory = directory.clone();
            move |source| OpenError::Io { step, directory, source }
        };
        disk::create_dir_durably(&directory).map_err(failed("make the directory"))?;
        let lock = DirectoryLock::acquire(&directory, "a dgfs storage daemon")?;
        let segment_directory = directory.join("segments");
        disk::create_dir_durably(&segment_directory).map_err(failed("make the segments directory"))?;
        let health = Arc::new(Health::new());
        let segments = Segments::open(segment_directory, options.segment_bytes, Arc::clone(&health));
        let segments = segments.map_err(failed("open the segments"))?;
        let fresh = segments.numbers().map_err(failed("list the segments"))?.is_empty();
        let mut mended = Vec::new();
        let identity = Identity::open(&directory, fresh, &mut mended)?;
        let space = Space::new(&directory, options.reserve_bytes).map_err(failed("ask for the disk's size"))?;
        let recovered = recover::recover(&options, segments, identity.salt)?;
        let shelf = recovered.shelf;
        let sync = {
            let (syncer, health) = (shelf.segments.syncer(), Arc::clone(&health));
            GroupSync::new(Box::new(move || health.sync(|| syncer.sync())))
        };
        let (journal, uses) = Journal::open(&directory);
        let store = Arc::new(Self {
            uses,
            totals: Totals::default(),
            health,
            measures: Measures::new(),
            tending: Tending::new(journal),
            upkeep: Progress::default(),
            maintenance: Maintenance::new(recovered.generation, recovered.listed),
            shelf,
            gate: RwLock::new(()),
            stripes: std::array::from_fn(|_| Mutex::new(())),
            sync,
            space,
            usage: Mutex::new(recovered.usage),
            damaged: Mutex::new(recovered.report.not_whole()),
            dropped: Mutex::new(recovered.dropped),
            replaced: Mutex::new(recovered.replaced),
            numbers: Numbers::default(),
            identity: Mutex::new(identity),
            report: recovered.report,
            mended: mended.into_iter().chain(recovered.mended).collect(),
            options,
            _lock: lock,
        });
        // What was replayed or marked dead must not be looked at again after the next crash.
        store.checkpoint().map_err(|reason| OpenError::Index { directory, reason })?;
        store.measure();
        if store.options.maintain {
            Self::start_maintenance(&store);
            Self::start_tending(&store);
        }
        Ok(store)
    }

    /// Ends it in order: a last checkpoint, so that the next start has nothing to replay. Blocks.
    pub fn close(&self) {
        self.stop_maintenance();
        self.stop_tending();
        if let Err(reason) = self.checkpoint() {
            tracing::warn!(%reason, "the last checkpoint failed; the next start will read the end of the segments again");
        }
        self.seal_list();
        self.save_uses();
    }

    /// The name on its disk.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.identity.lock().uuid
    }

    /// Its number in the cluster, once it joined.
    #[must_use]
    pub fn server(&self) -> Option<ServerId> {
        self.identity.lock().server
    }

    /// Writes the number given by the cluster to its disk. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_server(&self, server: ServerId) -> Result<(), IdentityError> {
        let mut identity = self.identity.lock();
        if identity.server == Some(server) {
            return Ok(());
        }
        let changed = Identity { server: Some(server), ..*identity };
        changed.write(&self.options.directory)?;
        *identity = changed;
        Ok(())
    }

    /// Is this version held whole, as far as its record's head and those of its sources say?
    #[must_use]
    pub fn has(&self, id: VersionId) -> bool {
        let live = matches!(self.shelf.table.get(id), Ok(Some(entry)) if entry.state == State::Live);
        live && self.shelf.record(id).is_ok_and(|record| {
            record.manifest.sources.iter().all(|source| {
                let source = VersionId { chunk: id.chunk, version: source.version };
                matches!(self.shelf.table.get(source), Ok(Some(entry)) if entry.state != State::Dead)
            })
        })
    }

    /// `len` bytes of a version from `offset`, zeros where it has no data.
    ///
    /// # Errors
    /// `NoVersion`, `Corrupt`, `Io`, and `Malformed` when the range passes the largest chunk.
    pub fn get(&self, id: VersionId, offset: u32, len: u32) -> Result<Bytes, Status> {
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > CHUNK_BYTES_MAX) {
            return Err(Status::Malformed);
        }
        let answer = self
            .with_live(id, |record| Ok((self.shelf.read_range(id, record, offset, len)?, record.manifest.allocated())));
        self.numbers.gets.fetch_add(1, Ordering::Relaxed);
        let (bytes, allocated) = answer.map_err(|fault| self.refuse(id, &fault))?;
        self.numbers.get_bytes.fetch_add(u64::from(len), Ordering::Relaxed);
        self.count_use(id.chunk, allocated, Used::Read(u64::from(len)));
        Ok(bytes)
    }

    /// Reads a version whole and checks it.
    ///
    /// # Errors
    /// `NoVersion`, `Corrupt`, `Io`.
    pub fn verify(&self, id: VersionId) -> Result<(), Status> {
        let check = |record: &Record| {
            for piece in &record.manifest.pieces {
                self.shelf.read_range(id, record, piece.offset, piece.len)?;
            }
            Ok(())
        };
        self.with_live(id, check).map_err(|fault| self.refuse(id, &fault))
    }

    /// The ranges of a version with data, sorted.
    ///
    /// # Errors
    /// `NoVersion`, `Corrupt`, `Io`.
    pub fn extents(&self, id: VersionId) -> Result<Vec<DataRange>, Status> {
        let record = self.live_record(id).map_err(|fault| self.refuse(id, &fault))?;
        Ok(pieces::ranges(&record.manifest.pieces))
    }

    pub(crate) fn live_record(&self, id: VersionId) -> Result<Arc<Record>, Fault> {
        self.shelf.record(id).and_then(|record| if record.is_live() { Ok(record) } else { Err(Fault::NoVersion) })
    }

    /// Runs `read` on the record of a live version; again when the version was written anew meanwhile, for what an old record shows
    /// of others may be gone.
    pub(crate) fn with_live<T>(&self, id: VersionId, read: impl Fn(&Record) -> Result<T, Fault>) -> Result<T, Fault> {
        let record = self.live_record(id)?;
        match read(&record) {
            Err(Fault::Corrupt(..) | Fault::NoSource(_)) if self.is_elsewhere(id, record.place) => {
                self.shelf.cache.remove(id);
                read(&*self.live_record(id)?)
            }
            answer => answer,
        }
    }

    fn is_elsewhere(&self, id: VersionId, place: Place) -> bool {
        matches!(self.shelf.table.get(id), Ok(Some(entry)) if entry.place != place)
    }

    /// Logs and counts a fault, and says what the caller is told.
    pub(crate) fn refuse(&self, id: VersionId, fault: &Fault) -> Status {
        let (chunk, version) = (id.chunk, id.version);
        match fault {
            Fault::NoVersion => return Status::NoVersion,
            // A record punched while it was read: the version had been dropped.
            Fault::Corrupt(..) | Fault::NoSource(_) if self.is_gone(id) => return Status::NoVersion,
            Fault::Corrupt(place, reason) => {
                tracing::error!(%chunk, %version, segment = place.segment, offset = place.offset, reason, "damaged bytes refused");
            }
            Fault::NoSource(source) => {
                tracing::error!(%chunk, %version, source = %source.version, "data of another version that this one shows are missing");
            }
            Fault::Moved(record) => {
                tracing::warn!(%chunk, %version, record = %record.version, "a record is not where the index says")
            }
            Fault::Io(error) => tracing::error!(%chunk, %version, %error, "the disk refused a read"),
            Fault::Index(error) => {
                tracing::error!(%chunk, %version, %error, "restart the daemon: it will rebuild its index");
                self.forget_checkpoint();
            }
        }
        if matches!(fault, Fault::Corrupt(..) | Fault::NoSource(_)) {
            self.numbers.checksum_errors.fetch_add(1, Ordering::Relaxed);
            self.note_damaged(id);
        }
        self.count_use(id.chunk, 0, Used::Failed);
        fault.status()
    }

    fn is_gone(&self, id: VersionId) -> bool {
        !matches!(self.shelf.table.get(id), Ok(Some(Entry { state: State::Live, .. })) | Err(_))
    }

    /// Waits until everything put before is on the disk. Blocks.
    ///
    /// # Errors
    /// `Io` when the sync fails, now or before.
    pub fn sync_blocking(&self) -> Result<(), Status> {
        self.sync.wait_blocking().map_err(|SyncFailed| Status::Io)
    }

    /// Waits until everything put before is on the disk; the disk is waited for on a blocking thread.
    ///
    /// # Errors
    /// `Io` when the sync fails, now or before.
    pub async fn sync(&self) -> Result<(), Status> {
        self.sync.wait().await.map_err(|SyncFailed| Status::Io)
    }

    /// Drops versions; those not held are passed over. May wait for a checkpoint. Blocks.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn drop_versions(&self, ids: &[VersionId]) -> Result<(), Status> {
        let mut chunks: BTreeMap<ChunkId, BTreeSet<VersionId>> = BTreeMap::new();
        for id in ids {
            chunks.entry(id.chunk).or_default().insert(*id);
        }
        for (chunk, ids) in chunks {
            if let Err(fault) = self.drop_of_chunk(chunk, &ids) {
                let first = ids.first().copied();
                return Err(first.map_or(Status::Io, |id| self.refuse(id, &fault)));
            }
        }
        self.relieve();
        Ok(())
    }

    pub(crate) fn drop_of_chunk(&self, chunk: ChunkId, ids: &BTreeSet<VersionId>) -> Result<(), Fault> {
        let _stripe = self.stripe(chunk).lock();
        let settled = self.shelf.settle(chunk, ids)?;
        if let Some((id, fault)) = &settled.fault {
            self.refuse(*id, fault);
        }
        let mut usage = self.usage.lock();
        let mut dropped = self.dropped.lock();
        for (id, old, new) in &settled.changed {
            usage.change(Some(old), Some(new));
            dropped.push((*id, new.state));
        }
        if !settled.is_held {
            self.uses.remove(chunk);
        }
        Ok(())
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    pub(crate) fn stripe(&self, chunk: ChunkId) -> &Mutex<()> {
        let number = (chunk.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize;
        let [first, ..] = &self.stripes;
        self.stripes.get(number).unwrap_or(first)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.options.clock.monotonic_ms()
    }

    pub(crate) fn now(&self) -> u64 {
        self.options.clock.wall_ms() / 1000
    }

    /// Moves a version's record in the accounts and the table. The caller holds its stripe.
    pub(crate) fn relocate(&self, id: VersionId, old: &Entry, place: Place) {
        let new = Entry { place, ..*old };
        self.usage.lock().change(Some(old), Some(&new));
        self.shelf.table.set(id, Some(new));
        self.shelf.cache.remove(id);
    }
}
