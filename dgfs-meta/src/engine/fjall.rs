//! The embedded engine: one fjall keyspace in a directory of this machine.
//!
//! Never knows what a row means and never talks to a network. Always true: a
//! batch, the epoch and the batch's number are one entry of fjall's journal; its
//! bytes have reached `write(2)` before a commit answers, so killing the process
//! loses nothing that was answered; a [`Durability::Synced`] commit has also been
//! through `fdatasync`. Futures are ready at their first poll, except those that
//! wait for the disk.

mod facts;
mod files;
mod journal;
mod mark;
mod room;
mod salvage;
#[cfg(test)]
mod tests;

pub use self::room::free_bytes_min;
pub(crate) use self::salvage::{aside, salvage_rows};

use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::Mutex;
use tracing::debug;

use dgfs_proto::ids::Epoch;
use dgfs_proto::limits::WRITER_LEASE_MS;

use self::files::{holds_anything, io_error, making_dir, remove_leftover, sync_parent};
use self::journal::{damaged, journals};
use self::mark::Mark;
use self::room::Room;
use super::{Batch, Durability, Engine, EngineError, EngineFuture, RowKey, RowRange, Table, WriterLease};

/// Blocks read from disk that stay in memory: enough for the hot part of a few million rows.
const BLOCK_CACHE_BYTES: u64 = 32 << 20;
/// Journal bytes kept at most; the smallest that fjall takes.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Open table files: far below the usual limit of 1024.
const FILES_MAX: usize = 256;
/// One thread flushes while the other compacts.
const THREADS: usize = 2;
const KEYSPACE: &str = "rows";
/// The row of epoch and last batch. Table numbers begin at 1, so no row has this key.
const WRITER_KEY: [u8; 1] = [0];
const WRITER_VALUE_VERSION: u8 = 1;

/// An engine that lives in a directory. Owns it: a second opening is refused.
pub struct FjallEngine {
    store: Arc<Store>,
}

struct Store {
    dir: PathBuf,
    db: Database,
    rows: Keyspace,
    writer: Mutex<Writer>,
    /// A sync failed: what the page cache holds may differ from the disk, so nothing more is written.
    sync_failed: AtomicBool,
    calls: AtomicU64,
    lease_time: Duration,
    room: Room,
}

/// What tests set to other values.
pub(super) struct Limits {
    pub(super) lease_time: Duration,
    /// `None`: by the size of the disk.
    pub(super) free_bytes_min: Option<u64>,
}

/// What the reserved row says, and who writes in this process.
struct Writer {
    epoch: u64,
    last_batch: u64,
    holder: Option<(String, Instant)>,
}

impl FjallEngine {
    /// Makes an empty engine in `dir`, which must be absent or empty.
    /// A crash in the middle leaves `dir` as it was.
    ///
    /// # Errors
    /// `Refused` when something is there already; `NoSpace` or `Unavailable` when the disk refuses.
    pub fn create(dir: &Path) -> Result<Self, EngineError> {
        if holds_anything(dir)? {
            return Err(EngineError::Refused(format!(
                "{} is not empty: give a new directory for the metadata, or open what is there",
                dir.display()
            )));
        }
        let making = making_dir(dir);
        remove_leftover(&making)?;
        let (db, rows) = open_database(&making)?;
        rows.insert(WRITER_KEY, encode_writer(0, 0)).map_err(|error| explain(&making, error))?;
        db.persist(PersistMode::SyncAll).map_err(|error| explain(&making, error))?;
        drop(rows);
        drop(db);
        std::fs::rename(&making, dir).map_err(|error| io_error("rename the new metadata directory to", dir, &error))?;
        sync_parent(dir)?;
        Self::open(dir)
    }

    /// Opens what `create` made, also after a crash.
    ///
    /// # Errors
    /// `Refused` when there is none, another process has it or it is of a newer format;
    /// `Damaged` when its files do not make sense; `Unavailable` when they cannot be read.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        Self::open_with(dir, Limits { lease_time: Duration::from_millis(WRITER_LEASE_MS), free_bytes_min: None })
    }

    pub(super) fn open_with(dir: &Path, limits: Limits) -> Result<Self, EngineError> {
        if !holds_anything(dir)? {
            return Err(EngineError::Refused(format!(
                "{} holds no metadata: check the path, or make a volume with dgfs format",
                dir.display()
            )));
        }
        if !dir.join("version").exists() {
            return Err(EngineError::Refused(format!("{} is not a metadata directory of DGFS", dir.display())));
        }
        // Small files' bytes and all names lie here: nobody else's to read.
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))
            .map_err(|error| EngineError::Refused(format!("make {} private: {error}", dir.display())))?;
        journal::check(dir)?;
        let (db, rows) = open_database(dir)?;
        let stored = rows.get(WRITER_KEY).map_err(|error| explain(dir, error))?;
        let (epoch, last_batch) = decode_writer(dir, stored.as_deref())?;
        facts::keep(dir, &rows);
        let writer = Mutex::new(Writer { epoch, last_batch, holder: None });
        let store = Store {
            dir: dir.to_owned(),
            db,
            rows,
            writer,
            sync_failed: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            lease_time: limits.lease_time,
            room: Room::new(limits.free_bytes_min),
        };
        Ok(Self { store: Arc::new(store) })
    }

    fn now<T, F>(&self, work: F) -> EngineFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, EngineError> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            store.calls.fetch_add(1, Ordering::Relaxed);
            work(&store)
        })
    }
}

impl Engine for FjallEngine {
    fn acquire(&self, holder: String) -> EngineFuture<Option<WriterLease>> {
        self.now(move |store| store.acquire(holder))
    }

    fn renew(&self, epoch: Epoch) -> EngineFuture<()> {
        self.now(move |store| store.renew(epoch))
    }

    fn release(&self, epoch: Epoch) -> EngineFuture<()> {
        self.now(move |store| store.release(epoch))
    }

    fn load(&self, keys: Vec<RowKey>) -> EngineFuture<Vec<Option<Vec<u8>>>> {
        self.now(move |store| store.load(&keys))
    }

    fn list(&self, range: RowRange) -> EngineFuture<Vec<(RowKey, Vec<u8>)>> {
        self.now(move |store| store.list(range))
    }

    fn partitions(&self, table: Table, from: u64, limit: usize) -> EngineFuture<Vec<u64>> {
        self.now(move |store| store.partitions(table, from, limit))
    }

    fn commit(&self, epoch: Epoch, batch: Batch, durability: Durability) -> EngineFuture<()> {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            store.calls.fetch_add(1, Ordering::Relaxed);
            store.commit(epoch, batch)?;
            match durability {
                Durability::Handed => Ok(()),
                Durability::Synced => sync_aside(store).await,
            }
        })
    }

    fn sync(&self) -> EngineFuture<()> {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            store.calls.fetch_add(1, Ordering::Relaxed);
            sync_aside(store).await
        })
    }

    fn has_room(&self) -> bool {
        self.store.room.may_grow(&self.store.dir)
    }

    fn describe(&self) -> String {
        "fjall (embedded)".to_owned()
    }

    fn calls(&self) -> u64 {
        self.store.calls.load(Ordering::Relaxed)
    }
}

impl Store {
    fn acquire(&self, holder: String) -> Result<Option<WriterLease>, EngineError> {
        let mut writer = self.writer.lock();
        let now = Instant::now();
        if writer.holder.as_ref().is_some_and(|(other, until)| *other != holder && *until > now) {
            return Ok(None);
        }
        self.refuse_after_failure()?;
        let epoch = writer.epoch.saturating_add(1);
        let mut change = self.db.batch().durability(Some(PersistMode::Buffer));
        change.insert(&self.rows, WRITER_KEY, encode_writer(epoch, writer.last_batch));
        change.commit().map_err(|error| explain(&self.dir, error))?;
        writer.epoch = epoch;
        writer.holder = Some((holder, now + self.lease_time));
        Ok(Some(WriterLease { epoch: Epoch(epoch), last_batch: writer.last_batch }))
    }

    fn renew(&self, epoch: Epoch) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        check_epoch(&writer, epoch)?;
        if let Some((_, until)) = writer.holder.as_mut() {
            *until = Instant::now() + self.lease_time;
        }
        Ok(())
    }

    fn release(&self, epoch: Epoch) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        check_epoch(&writer, epoch)?;
        writer.holder = None;
        Ok(())
    }

    fn load(&self, keys: &[RowKey]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        // One snapshot, so that the rows belong together.
        let snapshot = self.db.snapshot();
        keys.iter()
            .map(|key| {
                let value = snapshot.get(&self.rows, encode_key(*key)).map_err(|error| explain(&self.dir, error))?;
                Ok(value.map(|value| value.to_vec()))
            })
            .collect()
    }

    fn list(&self, range: RowRange) -> Result<Vec<(RowKey, Vec<u8>)>, EngineError> {
        if range.from > range.to {
            return Ok(Vec::new());
        }
        let key = |sort| RowKey { table: range.table, partition: range.partition, sort };
        let bounds = encode_key(key(range.from))..=encode_key(key(range.to));
        self.rows
            .range(bounds)
            .take(range.limit)
            .map(|entry| {
                let (stored, value) = entry.into_inner().map_err(|error| explain(&self.dir, error))?;
                let (_, sort) = self.decode_key(&stored)?;
                Ok((key(sort), value.to_vec()))
            })
            .collect()
    }

    fn partitions(&self, table: Table, from: u64, limit: usize) -> Result<Vec<u64>, EngineError> {
        let mut found = Vec::new();
        let mut next = Some(from);
        while let Some(partition) = next
            && found.len() < limit
        {
            let first = encode_key(RowKey { table, partition, sort: 0 });
            let last = encode_key(RowKey { table, partition: u64::MAX, sort: u64::MAX });
            let Some(entry) = self.rows.range(first..=last).next() else { break };
            let stored = entry.key().map_err(|error| explain(&self.dir, error))?;
            let (partition, _) = self.decode_key(&stored)?;
            found.push(partition);
            next = partition.checked_add(1);
        }
        Ok(found)
    }

    fn commit(&self, epoch: Epoch, batch: Batch) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        check_epoch(&writer, epoch)?;
        if batch.number == writer.last_batch {
            return Ok(());
        }
        if Some(batch.number) != writer.last_batch.checked_add(1) {
            return Err(EngineError::Regressed { at: writer.last_batch, expected: batch.number.saturating_sub(1) });
        }
        self.refuse_after_failure()?;
        self.room.check(&self.dir)?;
        let mut change = self.db.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in batch.rows {
            match value {
                Some(value) => change.insert(&self.rows, encode_key(key), value),
                None => change.remove(&self.rows, encode_key(key)),
            }
        }
        change.insert(&self.rows, WRITER_KEY, encode_writer(writer.epoch, batch.number));
        change.commit().map_err(|error| explain(&self.dir, error))?;
        writer.last_batch = batch.number;
        if let Some((_, until)) = writer.holder.as_mut() {
            *until = Instant::now() + self.lease_time;
        }
        Ok(())
    }

    /// Syncs every journal file by descriptors of its own. `Database::persist` would hold the journal's
    /// lock through `fdatasync` and so stop every commit for that long. It is enough: a commit's bytes are
    /// in a journal file before it answers; a journal that fjall closes meanwhile is synced by
    /// fjall before the next one begins, and one that it removes has been synced as tables.
    fn sync(&self) -> Result<(), EngineError> {
        self.refuse_after_failure()?;
        let number = self.writer.lock().last_batch;
        let outcome = journals(&self.dir).and_then(|all| {
            for (_, path) in &all {
                match File::open(path) {
                    Ok(file) => file.sync_data()?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some((journal, _)) = all.last()
                && let Err(error) = (Mark { journal: *journal, number }).write(&self.dir)
            {
                debug!(%error, "what was synced is not noted: damage of the journal may go unnoticed");
            }
            Ok(())
        });
        outcome.map_err(|error| {
            self.sync_failed.store(true, Ordering::Release);
            io_error("sync the metadata journal in", &self.dir, &error)
        })
    }

    fn refuse_after_failure(&self) -> Result<(), EngineError> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(explain(&self.dir, fjall::Error::Poisoned));
        }
        Ok(())
    }

    fn decode_key(&self, key: &[u8]) -> Result<(u64, u64), EngineError> {
        let numbers = key
            .split_first_chunk::<1>()
            .and_then(|(_, rest)| rest.split_first_chunk::<8>())
            .and_then(|(partition, rest)| Some((*partition, <[u8; 8]>::try_from(rest).ok()?)));
        match numbers {
            Some((partition, sort)) => Ok((u64::from_be_bytes(partition), u64::from_be_bytes(sort))),
            None => Err(damaged(&self.dir, &format!("it holds a key of {} bytes", key.len()))),
        }
    }
}

/// Waits for the disk on a blocking thread when a runtime is there, else on this one.
async fn sync_aside(store: Arc<Store>) -> Result<(), EngineError> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return store.sync();
    };
    match runtime.spawn_blocking(move || store.sync()).await {
        Ok(outcome) => outcome,
        Err(error) => Err(EngineError::Unavailable(format!("the sync of the metadata was cut short: {error}"))),
    }
}

fn check_epoch(writer: &Writer, epoch: Epoch) -> Result<(), EngineError> {
    if epoch.0 < writer.epoch {
        return Err(EngineError::Fenced { newer: Epoch(writer.epoch) });
    }
    if epoch.0 > writer.epoch {
        // An epoch this engine never gave: it is not the history the writer knows.
        return Err(EngineError::Regressed { at: writer.last_batch, expected: writer.last_batch });
    }
    Ok(())
}

fn encode_key(key: RowKey) -> [u8; 17] {
    let mut bytes = [0; 17];
    let (table, rest) = bytes.split_at_mut(1);
    let (partition, sort) = rest.split_at_mut(8);
    table.copy_from_slice(&[key.table as u8]);
    partition.copy_from_slice(&key.partition.to_be_bytes());
    sort.copy_from_slice(&key.sort.to_be_bytes());
    bytes
}

fn encode_writer(epoch: u64, last_batch: u64) -> Vec<u8> {
    let mut bytes = vec![WRITER_VALUE_VERSION];
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&last_batch.to_be_bytes());
    bytes
}

fn decode_writer(dir: &Path, bytes: Option<&[u8]>) -> Result<(u64, u64), EngineError> {
    let damaged = || damaged(dir, "its writer row makes no sense");
    let (version, rest) = bytes.and_then(<[u8]>::split_first).ok_or_else(damaged)?;
    if *version > WRITER_VALUE_VERSION {
        return Err(EngineError::Refused(format!(
            "the metadata in {} has layout {version}; this dgfs knows {WRITER_VALUE_VERSION}: use a newer dgfs",
            dir.display()
        )));
    }
    let (epoch, last_batch) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let last_batch = <[u8; 8]>::try_from(last_batch).map_err(|_| damaged())?;
    Ok((u64::from_be_bytes(*epoch), u64::from_be_bytes(last_batch)))
}

fn open_database(dir: &Path) -> Result<(Database, Keyspace), EngineError> {
    let open = || {
        let db = Database::builder(dir)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(FILES_MAX))
            .worker_threads(THREADS)
            .open()?;
        let memtable = room::memtable_bytes(dir);
        let rows = db.keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(memtable))?;
        Ok((db, rows))
    };
    // Bytes of a damaged disk must not end the process.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(outcome) => outcome.map_err(|error| explain(dir, error)),
        Err(_) => Err(damaged(dir, "its files make no sense")),
    }
}

fn explain(dir: &Path, error: fjall::Error) -> EngineError {
    let at = dir.display();
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            // What the system did not say, fjall found: a length or a name that makes no sense.
            let nonsense = error.raw_os_error().is_none() && error.kind() != io::ErrorKind::StorageFull;
            if nonsense || error.kind() == io::ErrorKind::NotFound {
                return damaged(dir, &error.to_string());
            }
            io_error("read or write the metadata in", dir, &error)
        }
        fjall::Error::Locked => EngineError::Refused(format!(
            "the metadata in {at} is in use by another process: stop it first (dgfs status shows who mounts)"
        )),
        fjall::Error::InvalidVersion(version) => EngineError::Refused(format!(
            "the metadata in {at} has the engine format {}; this dgfs knows 3: use the dgfs that wrote it, or a newer one",
            version.map_or_else(|| "of an unknown version".to_owned(), |version| version.to_string())
        )),
        fjall::Error::Poisoned => EngineError::Damaged(format!(
            "an earlier write in {at} failed, so nothing more is written: mend the disk and start dgfs again, it recovers by itself"
        )),
        other => damaged(dir, &other.to_string()),
    }
}

/// Moves everything from the journal to tables, as a long life does.
#[cfg(test)]
pub(crate) fn flush_for_tests(dir: &Path) {
    let (_db, rows) = open_database(dir).unwrap();
    rows.rotate_memtable_and_wait().unwrap();
}
